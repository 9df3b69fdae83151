"""INSERT ... ON CONFLICT, and many rows as one parameter: what each database spells in its own way.

On PostgreSQL the rows are one JSON parameter, which the database spreads: with one parameter for each value of a
thousand rows, the driver takes longer to count them than PostgreSQL does to insert them. That of SQLite does not count.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import FromClause, Result, Table, TableValuedAlias, Text, cast, column, func, literal, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

from app.core.model import Money
from app.extensions import Model, db

Insertion = postgresql.Insert | sqlite.Insert

_INSERTS: Mapping[str, Callable[[Any], Insertion]] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}


def insert_into(table: type[Model] | FromClause, *, dialect: str | None = None) -> Insertion:
    """An INSERT that takes ON CONFLICT, in the named dialect or else in that of the application's database."""
    return _INSERTS[dialect or db.engine.dialect.name](table)


def insert_unless_there(table: Table, rows: Sequence[Mapping[str, Any]], *returning: Any) -> Result[Any] | None:
    """Insert rows, which have the same columns, but for those that violate a unique index; None for no rows.

    Where another transaction is inserting one of them, this waits for it.
    """
    if not rows:
        return None
    statement: Any = insert_into(table).on_conflict_do_nothing()
    if returning:
        statement = statement.returning(*returning)
    if db.engine.dialect.name != "postgresql":
        return db.session.execute(statement, list(rows))
    spread = table_of({name: table.c[name].type for name in rows[0]}, rows)
    return db.session.execute(statement.from_select(list(rows[0]), select(spread)))


def table_of(types: Mapping[str, TypeEngine[Any]], rows: Sequence[Mapping[str, Any]]) -> TableValuedAlias:
    """Rows as a table of PostgreSQL, with these columns; the values are those that JSON has, or texts for them.

    Raises ``ValueError`` for an amount that would have to be rounded: JSON bypasses the type, which refuses that.
    """
    exact, dialect = Money().process_bind_param, db.engine.dialect
    amounts = [name for name, kind in types.items() if isinstance(kind, Money)]
    exactly = [{**row, **{name: exact(row[name], dialect) for name in amounts}} for row in rows] if amounts else rows
    content = literal(orjson.dumps(exactly, default=str).decode(), Text)
    spread = func.jsonb_to_recordset(cast(content, JSONB))
    return spread.table_valued(*(column(name, kind) for name, kind in types.items())).render_derived(with_types=True)
