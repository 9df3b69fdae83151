"""Statements that are made once for each shape of a question and asked with the values of each request.

To make a statement takes longer than to have it answered. What a shape is, whoever asks says: the values that SQL has
as parameters are not part of it.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import Column, Select, bindparam, inspect
from sqlalchemy.orm import InstrumentedAttribute, Mapper

from app.core.errors import NotFound
from app.core.fastsql.prepared import Prepared

#: More shapes of one collection than anybody asks for; beyond, they are made anew.
MAX_SHAPES = 1000

Made = TypeVar("Made")

# A collection that is declared once keeps what was made of it; one that is made for a request takes it along.
_made: WeakKeyDictionary[Select[Any], dict[Hashable, Any]] = WeakKeyDictionary()


def memoize(rows: Select[Any], shape: Hashable, make: Callable[[], Made]) -> Made:
    """What ``make`` makes of ``rows``; the same for the same shape."""
    known = _made.setdefault(rows, {})
    try:
        made: Made = known[shape]
    except KeyError:
        made = make()
        if len(known) >= MAX_SHAPES:
            known.clear()
        known[shape] = made
    return made


def find_row(rows: Select[Any], key: InstrumentedAttribute[int], value: int) -> Any:
    """The one of ``rows`` whose ``key`` this is, to read and not to change; ``NotFound`` when there is none."""

    def make() -> Prepared:
        return Prepared(rows.with_only_columns(*public_columns(_entity(rows))).where(key == bindparam("value", None)))

    row = memoize(rows, ("find", key), make).one_or_none({"value": value})
    if row is None:
        raise NotFound
    return row


def public_columns(model: type[Any]) -> Sequence[Column[Any]]:
    """The columns of a row that answers tell: all but derived and secret ones."""
    mapper: Mapper[Any] = inspect(model)
    return [column for column in mapper.columns if column.info.get("audited", True)]


def columns_named(rows: Select[Any], names: Sequence[str]) -> Sequence[Column[Any]] | None:
    """The columns of ``rows`` with these names; None when one of them is no column."""
    columns = inspect(_entity(rows)).columns
    return [columns[name] for name in names] if set(names).issubset(columns.keys()) else None


def _entity(rows: Select[Any]) -> type[Any]:
    entity: type[Any] = rows.column_descriptions[0]["entity"]
    return entity
