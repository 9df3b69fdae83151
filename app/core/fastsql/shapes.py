"""Statements that are compiled once for each shape of a query and executed with the values of each request.

To compile a statement takes longer than to execute it. The caller says what its shape is: the values that SQL has as
parameters are not part of it.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import Column, Select, bindparam, inspect
from sqlalchemy.orm import InstrumentedAttribute, Mapper

from app.core.errors import NotFound
from app.core.fastsql.prepared import Prepared
from app.core.membership import ValueList, is_one_of

#: Of one collection, more than clients use; beyond, the cache is cleared.
MAX_SHAPES = 1000

Made = TypeVar("Made")

# By collection: what was made for one that is created for a request goes with it.
_cache: WeakKeyDictionary[Select[Any], dict[Hashable, Any]] = WeakKeyDictionary()


def memoize(rows: Select[Any], shape: Hashable, make: Callable[[], Made]) -> Made:
    """The result of ``make`` for ``rows``, cached by shape."""
    cached = _cache.setdefault(rows, {})
    try:
        made: Made = cached[shape]
    except KeyError:
        made = make()
        if len(cached) >= MAX_SHAPES:
            cached.clear()
        cached[shape] = made
    return made


def find_row(rows: Select[Any], key: Any, value: Any) -> Any:
    """The one of ``rows`` with this value of ``key``, to read and not to change; ``NotFound`` when there is none.

    ``key`` is a unique column, or the expression of a unique index; the same object each time.
    """

    def make() -> Prepared:
        return Prepared(rows.with_only_columns(*public_columns(_entity(rows))).where(key == bindparam("value", None)))

    row = memoize(rows, ("find", key), make).one_or_none({"value": value})
    if row is None:
        raise NotFound
    return row


def find_rows(rows: Select[Any], key: InstrumentedAttribute[int], values: Iterable[int]) -> Mapping[int, Any]:
    """Those of ``rows`` whose ``key`` is among the values, to read and not to change, by key; at most one statement."""

    def make() -> Prepared:
        sought = bindparam("values", None, ValueList(key.type))
        return Prepared(rows.with_only_columns(*public_columns(_entity(rows))).where(is_one_of(key, sought)))

    wanted = sorted(set(values))
    found = memoize(rows, ("find all", key), make).all({"values": wanted}) if wanted else ()
    return {getattr(row, key.key): row for row in found}


def public_columns(model: type[Any]) -> Sequence[Column[Any]]:
    """The columns of a model that responses may show: all but derived and secret ones."""
    mapper: Mapper[Any] = inspect(model)
    return [column for column in mapper.columns if column.info.get("audited", True)]


def columns_named(rows: Select[Any], names: Sequence[str]) -> Sequence[Column[Any]] | None:
    """The columns of ``rows`` with these names; None when one of them is no column."""
    columns = inspect(_entity(rows)).columns
    return [columns[name] for name in names] if set(names).issubset(columns.keys()) else None


def _entity(rows: Select[Any]) -> type[Any]:
    entity: type[Any] = rows.column_descriptions[0]["entity"]
    return entity
