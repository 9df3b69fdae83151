"""Rows that are inserted past the mapper, in a third of its time, and recorded as if it had."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from sqlalchemy import FromClause, Insert, bindparam, insert, inspect, select
from sqlalchemy.orm import Mapper

from app.core.changes import record_creation
from app.core.fastsql.prepared import Prepared
from app.core.fastsql.shapes import public_columns
from app.core.feed import Published
from app.core.transactions import connection, is_fast, run
from app.extensions import db

#: Makes the INSERT of what belongs to a new row, from a table or CTE that has it as its only row.
Along = Callable[[FromClause], Insert]


def insert_row(
    model: type[Published], values: Mapping[str, Any], *, along: Along | None = None, **parameters: Any
) -> Any:
    """Insert a row of ``model``: what it has that answers tell, as a tuple with names, or as an object.

    ``values`` are for its columns, of which the database sets none but the key. ``along``, with these ``parameters``,
    inserts what belongs to it and is not read now: on PostgreSQL in the same statement. The audit trail and the change
    feed have the row as created. Raises ``IntegrityError``.
    """
    if is_fast():
        takes_along = connection().dialect.name == "postgresql"
        insertion = _insertion(inspect(model), tuple(values), along if takes_along else None)
        row = insertion.one_or_none({_parameter(name): value for name, value in values.items()} | parameters)
        record_creation(model, row)
    else:
        takes_along = False
        row = model(**values)
        db.session.add(row)
        db.session.flush()
        # What the database made of the values, as RETURNING gives it.
        db.session.refresh(row)
    if along is not None and not takes_along:
        table = inspect(model).local_table
        run(along(select(table).where(table.c.id == row.id).cte("made")), parameters)
    return row


@cache
def _insertion(mapper: Mapper[Any], names: tuple[str, ...], along: Along | None) -> Prepared:
    parameters = {name: bindparam(_parameter(name), None, mapper.columns[name].type) for name in names}
    made = insert(mapper.entity).values(parameters).returning(*public_columns(mapper.entity))
    if along is None:
        return Prepared(made)
    rows = made.cte("made")
    return Prepared(select(rows).add_cte(along(rows).cte("along")))


def _parameter(column: str) -> str:
    # SQLAlchemy keeps a column's own name for the values that it makes itself.
    return f"new_{column}"
