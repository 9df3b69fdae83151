"""Statements that write many products at once: on PostgreSQL the rows are one JSON parameter (`upserts.table_of`)."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, TableValuedAlias, bindparam, literal, update
from sqlalchemy.types import TypeEngine

from app.core.membership import ValueList, is_one_of
from app.core.model import big_integer
from app.core.upserts import insert_unless_there, table_of
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
    created = insert_unless_there(PRODUCTS, rows, PRODUCTS.c.sku, PRODUCTS.c.id)
    return {} if created is None else {row.sku: row.id for row in created}


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
    return table_of({name: _type_of(name) for name in rows[0]}, rows)


def _type_of(name: str) -> TypeEngine[Any]:
    return PRODUCTS.c.id.type if name == _ID else PRODUCTS.c[name].type
