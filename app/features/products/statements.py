"""Statements that write many products at once.

On PostgreSQL the rows are one JSON parameter, which the database spreads: with one parameter for each value of a
thousand rows, the driver takes longer to count them than PostgreSQL does to insert them. That of SQLite does not count.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import ColumnElement, TableValuedAlias, Text, bindparam, cast, column, func, literal, select, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

from app.core.membership import ValueList, is_one_of
from app.core.model import Money, big_integer
from app.core.upserts import insert_into
from app.extensions import db
from app.features.products.models import PRODUCTS

Row = Mapping[str, Any]

#: The parameter with the id of a row.
_ID = "product_id"


def has_id(ids: Collection[int], of: Any = PRODUCTS.c.id) -> ColumnElement[bool]:
    """Whether the id of a product, or another column of ids, is one of these: one parameter, however many they are."""
    return is_one_of(of, literal(sorted(ids), ValueList(big_integer)))


def insert_rows(rows: Sequence[Row]) -> dict[str, int]:
    """Insert products, which have all columns but the id and are at least one; the ids of those that went in, by sku.

    One that has a key of another product is left out. Where another transaction is creating that one, this waits.
    """
    statement = insert_into(PRODUCTS).on_conflict_do_nothing().returning(PRODUCTS.c.sku, PRODUCTS.c.id)
    if _is_postgresql():
        created = db.session.execute(statement.from_select(list(rows[0]), select(_table_of(rows))))
    else:
        created = db.session.execute(statement, rows)
    return {row.sku: row.id for row in created}


def update_rows(rows: Mapping[int, Row], *, moment: datetime | None) -> None:
    """Write columns of products, the same ones of each, by their ids; ``moment`` is when they were updated, if so."""
    if not rows:
        return
    values = [{**row, _ID: product_id} for product_id, row in rows.items()]
    statement = update(PRODUCTS).values({} if moment is None else {"updated_at": moment})
    if _is_postgresql():
        table = _table_of(values)
        changed = {name: table.c[name] for name in values[0] if name != _ID}
        db.session.execute(statement.where(PRODUCTS.c.id == table.c[_ID]).values(changed))
    else:
        db.session.execute(statement.where(PRODUCTS.c.id == bindparam(_ID)), values)


def _is_postgresql() -> bool:
    return db.engine.dialect.name == "postgresql"


def _table_of(rows: Sequence[Row]) -> TableValuedAlias:
    """The rows as a table."""
    columns = [column(name, _type_of(name)) for name in rows[0]]
    amounts = [each.name for each in columns if isinstance(each.type, Money)]
    # JSON bypasses the column's type, which refuses an amount that PostgreSQL would round.
    exact, dialect = Money().process_bind_param, db.engine.dialect
    content = [{**row, **{name: exact(row[name], dialect) for name in amounts}} for row in rows]
    return (
        func.jsonb_to_recordset(cast(literal(orjson.dumps(content, default=str).decode(), Text), JSONB))
        .table_valued(*columns)
        .render_derived(with_types=True)
    )


def _type_of(name: str) -> TypeEngine[Any]:
    return PRODUCTS.c.id.type if name == _ID else PRODUCTS.c[name].type
