"""Deleting many rows without blocking other writers: in batches, each in a transaction of its own."""

import time
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import ColumnElement, UnaryExpression, bindparam, delete, inspect, select

from app.core.transactions import in_unit_of_work, run
from app.extensions import Model

#: Rows of one DELETE; some tens of milliseconds.
ROWS_PER_BATCH = 2000
#: In seconds, between two batches. A writer that waits for SQLite's lock retries after 1 to 100 ms.
MIN_PAUSE = 0.01


def delete_batch(
    model: type[Model],
    *conditions: ColumnElement[bool],
    order: ColumnElement[Any] | UnaryExpression[Any] | None = None,
    max_rows: int = ROWS_PER_BATCH,
) -> int:
    """Delete at most ``max_rows`` of the rows that meet the conditions, the first in an ``order``; their number.

    The keys are read first and deleted by value. Joined to a subquery, as one statement, they are a nested loop to a
    PostgreSQL whose statistics are from when the table was empty: 43 s for 2,000 of 50,000 rows.
    """
    key = inspect(model).primary_key
    keys = run(select(*key).where(*conditions).order_by(order).limit(max_rows)).all()
    if not keys:
        return 0
    # The conditions are repeated: PostgreSQL checks them again for a row whose lock the DELETE had to wait for.
    statement = delete(model.metadata.tables[model.__tablename__]).where(*conditions)
    if len(key) == 1:
        return run(statement.where(key[0].in_([value for (value,) in keys]))).rowcount
    names = [f"key_{column.name}" for column in key]
    one = statement.where(*(column == bindparam(name) for column, name in zip(key, names, strict=True)))
    return run(one, [dict(zip(names, row, strict=True)) for row in keys]).rowcount


def iter_batches(batch: Callable[[], int]) -> Iterator[int]:
    """Commit ``batch``, which deletes some rows and returns their number, until none is left; each of these numbers.

    After each batch other writers have as much time as it took.
    """
    number = None
    while number != 0:
        started = time.monotonic()
        number = in_unit_of_work(batch)
        yield number
        if number:
            time.sleep(max(MIN_PAUSE, time.monotonic() - started))
