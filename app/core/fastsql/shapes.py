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
from app.core.reads import Reads, is_primary_key, kind_of, stating

#: Of one collection, more than clients use; beyond, the cache is cleared.
MAX_SHAPES = 1000

Made = TypeVar("Made")
T = TypeVar("T", int, str)

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

    prepared = memoize(rows, ("find", key), make)
    with stating() as reads:
        row = prepared.one_or_none({"value": value})
    if reads is not None:
        _state_rows(reads, prepared, rows, () if row is None else [row.id])
    if row is None:
        raise NotFound
    return row


def find_rows(rows: Select[Any], key: InstrumentedAttribute[T], values: Iterable[T]) -> Mapping[T, Any]:
    """Those of ``rows`` whose ``key`` is among the values, to read and not to change, by key; at most one statement."""

    def make() -> Prepared:
        sought = bindparam("values", None, ValueList(key.type))
        return Prepared(rows.with_only_columns(*public_columns(_entity(rows))).where(is_one_of(key, sought)))

    wanted = sorted(set(values))
    if not wanted:
        return {}
    prepared = memoize(rows, ("find all", key), make)
    with stating() as reads:
        found = prepared.all({"values": wanted})
    if reads is not None:
        is_id = is_primary_key(key, _entity(rows))
        _state_rows(reads, prepared, rows, [int(one) for one in wanted] if is_id else ())
    return {getattr(row, key.key): row for row in found}


def public_columns(model: type[Any]) -> Sequence[Column[Any]]:
    """The columns of a model that responses may show: all but derived and secret ones, unless these say otherwise."""
    mapper: Mapper[Any] = inspect(model)
    return [column for column in mapper.columns if column.info.get("shown", column.info.get("audited", True))]


def columns_named(rows: Select[Any], names: Sequence[str]) -> Sequence[Column[Any]] | None:
    """The columns of ``rows`` with these names; None when one of them is no column."""
    columns = inspect(_entity(rows)).columns
    return [columns[name] for name in names] if set(names).issubset(columns.keys()) else None


def _state_rows(reads: Reads, prepared: Prepared, rows: Select[Any], ids: Sequence[int]) -> None:
    """State that of the collection's own rows those with ``ids`` alone were read; without any, that all may have been.

    Where the conditions of the collection compare a row with others of its kind, all are read.
    """
    kind = kind_of(_entity(rows))
    if ids and kind in prepared.extent.once:
        reads.add(prepared.extent.beside(kind))
        reads.add_rows(kind, ids)
    else:
        reads.add(prepared.extent)


def _entity(rows: Select[Any]) -> type[Any]:
    entity: type[Any] = rows.column_descriptions[0]["entity"]
    return entity
