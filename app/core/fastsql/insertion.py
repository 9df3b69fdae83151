"""Rows that are inserted without the mapper, in a third of its time, and recorded all the same."""

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

#: Makes the INSERT of a row that belongs to a new one, from a table or CTE that has the new one as its only row.
Along = Callable[[FromClause], Insert]


def insert_row(
    model: type[Published], values: Mapping[str, Any], *, along: Along | None = None, **parameters: Any
) -> Any:
    """Insert a row of ``model`` and return its public columns, as a tuple with names, or the object.

    ``values`` are for its columns, of which the database sets none but the key. ``along``, with these ``parameters``,
    inserts a row of another table that belongs to it: on PostgreSQL in the same statement. The audit trail and the
    change feed record the row as created. Raises ``IntegrityError``.
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
        # The values as the database stored them, as RETURNING gives them.
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
