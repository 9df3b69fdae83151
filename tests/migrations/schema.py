"""The schema of a database, to compare one with another."""

import re
from typing import Any

from sqlalchemy import text

from app.extensions import db

#: A reference that was added with its column, which SQLite then keeps in the column's definition.
INLINE = re.compile(r"(?P<column>\w+)(?P<type> .+) CONSTRAINT (?P<name>fk_\w+) REFERENCES (?P<referred>.+)")


def parts_of(sql: str) -> list[str]:
    """The columns and constraints of a CREATE TABLE, whose order is no part of the schema; else the whole."""
    if not sql.startswith("CREATE TABLE"):
        return [" ".join(sql.split())]
    head, _, body = sql.partition("(")
    # SQLite quotes the name of a table that was renamed.
    parts = [" ".join(head.replace('"', "").split())]
    for part in split_list(body[: body.rindex(")")]):
        # SQLite adds to a table only such a generated column as it does not store.
        part = re.sub(r"(GENERATED ALWAYS AS .+) STORED$", r"\1", part)  # noqa: PLW2901 -- one form of both
        if inline := INLINE.fullmatch(part):
            parts += [
                inline.expand(r"\g<column>\g<type>"),
                inline.expand(r"CONSTRAINT \g<name> FOREIGN KEY(\g<column>) REFERENCES \g<referred>"),
            ]
        else:
            parts.append(part)
    return sorted(parts)


def split_list(text_of_list: str) -> list[str]:
    """The members of a list in SQL, at the commas that no parenthesis encloses."""
    members, depth = [""], 0
    for character in text_of_list:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and not depth:
            members.append("")
        else:
            members[-1] += character
    return [" ".join(member.split()) for member in members]


def schema() -> dict[str, Any]:
    """Everything that the database says of its schema, in an order of its own."""
    with db.engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            made = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
            lines = {name: parts_of(sql) for name, sql in made}
        else:
            columns = text(
                "SELECT table_name || '.' || column_name, data_type, character_maximum_length, numeric_precision,"
                " numeric_scale, is_nullable, column_default, collation_name"
                " FROM information_schema.columns WHERE table_schema = 'public'"
            )
            rules = text(
                "SELECT conname, conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint"
                " WHERE connamespace = 'public'::regnamespace"
            )
            indexes = text("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'")
            found = [row for query in (columns, rules, indexes) for row in connection.execute(query)]
            lines = {f"{row[0]} {row[1]}": [str(part) for part in row] for row in found}
    return {name: parts for name, parts in lines.items() if "alembic_version" not in f"{name} {parts}"}
