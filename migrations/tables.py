"""Tables that SQLite cannot alter: rebuilt with another definition, and nothing else of them changed.

    def upgrade() -> None:
        rebuild_table("products", {"CHECK (price > 0)": "CHECK (price >= 0)"}, values={"price": "price * 100"})

SQLite has no ALTER TABLE for a type or a CHECK constraint. This follows the twelve steps that its manual recommends
instead (https://www.sqlite.org/lang_altertable.html#otheralter): a new table from the old one's stored SQL, its rows
copied, the old one dropped, the new one renamed, its indexes and triggers made again as they were stored. The highest
id that was ever used is kept as well, so that AUTOINCREMENT uses none again.

Dropping a table whose rows others refer to is only possible while foreign keys are not enforced, and these can be
switched only outside a transaction. So `env.py` does both ends: it switches them off before the one transaction of all
migrations begins, and has SQLite check every reference before that commits.

Alembic's batch mode is no alternative, as `references.py` says: it makes the table from what can be reflected, without
triggers, AUTOINCREMENT and the highest id. Nor is an edit of ``sqlite_schema`` by ``PRAGMA writable_schema``, which the
manual reserves for changes that no stored row can contradict.
"""

from collections.abc import Mapping

import sqlalchemy as sa
from alembic import op


def rebuild_table(table: str, replacements: Mapping[str, str], *, values: Mapping[str, str] | None = None) -> None:
    """Give a table of SQLite another definition: its stored SQL, with each text replaced that is a key.

    Columns keep their values, or get those of the expressions that ``values`` has for them, which may name any column
    of the old table; a column that is new has its default otherwise. Raises ``ValueError`` for a text that does not
    occur exactly once: the table is not the one that the migration was written for.
    """
    new = f"new_{table}"
    definition, parts = _stored(table)
    before = set(_columns(table))
    _execute(
        _replaced(definition, {_beginning(definition, table): f"CREATE TABLE {_quoted(new)} ("} | {**replacements})
    )
    expressions = {name: _quoted(name) for name in _columns(new) if name in before} | {**(values or {})}
    names = ", ".join(map(_quoted, expressions))
    _execute(
        f"INSERT INTO {_quoted(new)} ({names}) SELECT {', '.join(expressions.values())} FROM {_quoted(table)}"  # noqa: S608 -- names and expressions of a migration
    )
    highest = _highest_id(table)
    _execute(f"DROP TABLE {_quoted(table)}")
    _execute(f"ALTER TABLE {_quoted(new)} RENAME TO {_quoted(table)}")
    _keep_highest_id(table, highest)
    for statement in parts:
        _execute(statement)


def _stored(table: str) -> tuple[str, list[str]]:
    """The SQL of a table, and that of its indexes and triggers; an index of a constraint has none."""
    rows = op.get_bind().execute(
        sa.text("SELECT type, sql FROM sqlite_schema WHERE tbl_name = :table AND sql IS NOT NULL ORDER BY rowid"),
        {"table": table},
    )
    found = [(row.type, row.sql) for row in rows]
    (definition,) = [sql for kind, sql in found if kind == "table"]
    return definition, [sql for kind, sql in found if kind != "table"]


def _beginning(definition: str, table: str) -> str:
    """How the stored SQL begins: SQLite quotes the name of a table that was renamed."""
    for name in (table, _quoted(table), f'"{table}"'):
        if definition.startswith(beginning := f"CREATE TABLE {name} ("):
            return beginning
    raise ValueError(f"the definition of {table} does not begin as expected: {definition[:80]}")


def _replaced(definition: str, replacements: Mapping[str, str]) -> str:
    for old, new in replacements.items():
        if definition.count(old) != 1:
            raise ValueError(f"{old!r} occurs {definition.count(old)} times, not once, in {definition}")
        definition = definition.replace(old, new)
    return definition


def _columns(table: str) -> list[str]:
    return list(op.get_bind().scalars(sa.text("SELECT name FROM pragma_table_info(:table)"), {"table": table}))


def _highest_id(table: str) -> int | None:
    """The highest id that was ever used; None where the table does not count, or never had a row."""
    highest: int | None = op.get_bind().scalar(
        sa.text("SELECT seq FROM sqlite_sequence WHERE name = :table"), {"table": table}
    )
    return highest


def _keep_highest_id(table: str, highest: int | None) -> None:
    # The copy counted to the highest id that is there, and the row that counts follows the name of its table.
    if highest is not None:
        parameters = {"table": table, "highest": highest}
        op.get_bind().execute(sa.text("DELETE FROM sqlite_sequence WHERE name = :table"), parameters)
        op.get_bind().execute(sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES (:table, :highest)"), parameters)


def _execute(statement: str) -> None:
    # Not as text, in which a colon begins a parameter.
    op.get_bind().exec_driver_sql(statement)


def _quoted(name: str) -> str:
    return op.get_bind().dialect.identifier_preparer.quote(name)
