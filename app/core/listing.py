"""The one way to filter, sort and paginate a collection.

A collection declares a `Listing` next to its use case; the client's request arrives as `Criteria`. Numbered pages
count, up to a limit, and use OFFSET; cursor pages compare rows (keyset pagination) and count nothing, so that page
4,000 costs what page 1 does. Rows come as plain tuples where the requested members are columns, and otherwise as
objects of the model.
"""

import hashlib
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from enum import Enum
from functools import cached_property
from operator import and_ as both
from operator import eq
from typing import Any

import orjson
from itsdangerous import BadData, URLSafeSerializer
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    ColumnElement,
    Row,
    Select,
    and_,
    any_,
    bindparam,
    func,
    literal,
    select,
    true,
    tuple_,
)
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.elements import BooleanClauseList
from sqlalchemy.types import TypeEngine

from app.core.errors import Fault, Invalid
from app.core.fastsql import Prepared, columns_named, memoize
from app.core.membership import ValueList, is_found_by, is_one_of
from app.core.model import Money, UtcDateTime
from app.core.reads import Extent, extent_of, gathered, is_key_of_published_rows, kind_of, stating
from app.core.text import fold
from app.core.topics import scope_of
from app.core.transactions import run
from app.extensions import db

#: The sorting of numbered pages by how well a row fits the search, where a collection can compute that.
RELEVANCE = "relevance"

# The parameters of a position: the value of the sort column, and of the tie breaker.
_POSITION = ("position", "position_id")

#: A page depends on the rows that refer to one of so many at most; with more, it costs less to depend on all rows.
MAX_SCOPES = 4

#: The same where they are found by a query: of a branch of a tree, a page that depended on all rows would seldom last.
MAX_FOUND_SCOPES = 64

#: Rows that are counted for a numbered page; a total beyond is said to be at least this.
MAX_COUNTED = 10_000


@dataclass(frozen=True)
class Compare:
    """A filter whose SQL is the same for every value: ``compare`` of the column and the value."""

    column: InstrumentedAttribute[Any]
    compare: Callable[[Any, Any], ColumnElement[bool]]

    def __call__(self, value: Any) -> ColumnElement[bool]:
        """The condition for a value, or for a parameter that stands for one."""
        return self.compare(self.column, value)

    def shape(self, _value: Any) -> Hashable:
        """What of a value determines the SQL: nothing."""
        return None

    def stand_in(self, name: str, _value: Any) -> Any:
        """A parameter to be called with instead of a value."""
        return bindparam(name, None)

    def bound(self, value: Any) -> Any:
        """What the parameter is bound to for a value."""
        return value


@dataclass(frozen=True)
class OneOf:
    """A filter for any of several values, which come as a sorted tuple of distinct ones.

    One value is compared by ``compare``, so that its SQL is that of an equality. Several are one parameter, which
    ``compare_any`` compares the column with: the SQL is the same however many they are. ``item`` is the type of a value
    that is not of the column's type.
    """

    column: InstrumentedAttribute[Any]
    compare: Callable[[Any, Any], ColumnElement[bool]] = eq
    compare_any: Callable[[Any, Any], ColumnElement[bool]] = is_one_of
    item: TypeEngine[Any] | None = None

    def __call__(self, values: Any) -> ColumnElement[bool]:
        """The condition for a tuple of values, or for a parameter that stands for several."""
        if not isinstance(values, tuple):
            return self.compare_any(self.column, values)
        if len(values) == 1:
            return self.compare(self.column, values[0])
        return self.compare_any(self.column, literal(values, self._type))

    def shape(self, values: tuple[Any, ...]) -> Hashable:
        """What of the values determines the SQL: whether there are several."""
        return len(values) > 1

    def stand_in(self, name: str, values: tuple[Any, ...]) -> Any:
        """A parameter for several values, or a tuple of a parameter for one."""
        return bindparam(name, None, self._type) if len(values) > 1 else (bindparam(name, None),)

    def bound(self, values: tuple[Any, ...]) -> Any:
        """What the parameter is bound to."""
        return values if len(values) > 1 else values[0]

    @property
    def _type(self) -> ValueList:
        return ValueList(self.item or self.column.type)


@dataclass(frozen=True)
class Search:
    """What a search comes to in SQL: the condition that a row meets, and, of a ranked one, how well a row fits.

    ``relevance`` makes a number, the greater the better.
    """

    condition: ColumnElement[bool]
    relevance: Callable[[], ColumnElement[Any]] | None = None


@dataclass(frozen=True)
class Together:
    """Filters of which one row must meet all that are stated, where a listed row stands for several.

    ``condition`` makes the condition of a listed row, from all filters of the request.
    """

    names: Collection[str]
    condition: Callable[[Mapping[str, Any]], ColumnElement[bool]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Listing:
    """What a collection can be filtered and sorted by. The tie breaker ends every ordering, in the same direction.

    ``search`` makes a `Search` of the words, and may ask the database for it. Where it ``is_ranked``, these have a
    relevance. ``fallback`` makes the listing that is used where a search finds nothing, if the database supports it;
    it compares at most ``max_similar`` rows.
    """

    sorts: Mapping[str, InstrumentedAttribute[Any]]
    tie_breaker: InstrumentedAttribute[int]
    filters: Mapping[str, Callable[[Any], ColumnElement[bool]]] = field(default_factory=dict)
    search: Callable[[str], Search] | None = None
    is_ranked: bool = False
    #: The column that makes a tree of the collection, which then can also be read as one.
    parent: InstrumentedAttribute[Any] | None = None
    fallback: "Callable[[], Listing | None] | None" = None
    max_similar: int | None = None
    together: Together | None = None
    #: Reads in the filters of a request what only the database knows; raises ``Invalid`` for what it does not.
    resolve: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None

    def resolved(self, filters: Mapping[str, Any]) -> Mapping[str, Any]:
        """The filters of a request as the conditions take them; raises ``Invalid``."""
        return self.resolve(filters) if self.resolve is not None else filters

    @property
    def max_counted(self) -> int:
        """How many rows are counted, and how many of those that a search finds are ranked, at most."""
        return self.max_similar or MAX_COUNTED

    def fallback_for(self, search: str | None) -> "Listing | None":
        """The listing to use where a search finds nothing."""
        return self.fallback() if search is not None and self.fallback is not None else None

    def conditions(self, filters: Mapping[str, Any], search: str | None = None) -> list[ColumnElement[bool]]:
        """The conditions that a matching row meets."""
        found = self.search_for(search)
        joint = self.together.names if self.together else ()
        conditions = [self.filters[name](value) for name, value in filters.items() if name not in joint]
        if self.together is not None and any(name in filters for name in joint):
            conditions.append(self.together.condition(filters))
        return [*conditions, found.condition] if found else conditions

    def search_for(self, search: str | None) -> Search | None:
        """What a search comes to; None where there is none."""
        return self.search(search) if search is not None and self.search is not None else None


@dataclass(frozen=True, kw_only=True)
class Criteria:
    """What a client requests of a collection, validated. ``cursor`` is None for numbered pages and "" for the first."""

    sort_by: str
    descending: bool
    per_page: int
    page: int = 1
    cursor: str | None = None
    search: str | None = None
    filters: Mapping[str, Any] = field(default_factory=dict)

    def fingerprint(self) -> str:
        """What a cursor is bound to: everything that decides which rows come in which order."""
        decisive = [self.sort_by, self.descending, self.search, sorted(self.filters.items())]
        return hashlib.sha256(orjson.dumps(decisive, default=str)).hexdigest()[:16]


@dataclass(frozen=True)
class NumberedPage:
    """One numbered page, and the number of rows of the whole collection: at least so many, where it is not exact."""

    items: Sequence[Any]
    total: int
    has_more: bool = False
    total_is_exact: bool = True


@dataclass(frozen=True)
class CursorPage:
    """One page by keyset, and the cursor of the next; None for the last."""

    items: Sequence[Any]
    next_cursor: str | None


class CursorInvalid(Invalid):
    """The cursor was not issued for this query; start again with an empty one."""

    def __init__(self) -> None:
        super().__init__(Fault(self.sentence(), self.code(), parameter="cursor"))


def read_page(rows: Select[Any], listing: Listing, criteria: Criteria, members: Sequence[str] = ()) -> NumberedPage:
    """One numbered page of ``rows``, with ``members`` of each at least; a page beyond the end is empty."""
    query = _ListQuery.of_page(rows, listing, criteria, members)
    offset = (criteria.page - 1) * criteria.per_page
    # One row more than the page shows whether there is another page; one more than the limit, that there are more rows.
    max_counted, limit = listing.max_counted, criteria.per_page + 1
    if query.is_counted_first:
        total = query.found
        found = query.fetch_page(_page, limit=limit, offset=offset) if total else ()
    else:
        counted = {"max_rows": max_counted + 1}
        found = query.fetch_page(_page_with_total, limit=limit, offset=offset, **counted)
        total = found[0][-1] if found else query.fetch(_total_alone, **counted)[0][-1] if offset else 0
    if not total and (fallback := listing.fallback_for(criteria.search)):
        return read_page(rows, fallback, criteria, members)
    items, has_more = query.items(found[: criteria.per_page]), len(found) > criteria.per_page
    if items and not has_more and not query.is_truncated:
        return NumberedPage(items, offset + len(items))
    if total <= max_counted:
        return NumberedPage(items, total, has_more)
    return NumberedPage(items, max(max_counted, offset + len(found)), has_more, total_is_exact=False)


def read_keyset_page(
    rows: Select[Any],
    listing: Listing,
    criteria: Criteria,
    members: Sequence[str] = (),
    *,
    keys: Sequence[str],
    scope: str,
) -> CursorPage:
    """One page of ``rows`` by keyset. ``scope`` names the collection: a cursor of another is refused.

    The last of ``keys`` signs the next cursor; each of them verifies.
    """
    serializer = URLSafeSerializer(list(keys), salt=f"cursor:{scope}", signer_kwargs={"digest_method": hashlib.sha256})
    columns = (_column(listing, criteria), listing.tie_breaker)
    names = [column.key for column in columns]
    query = _ListQuery.of_page(rows, listing, criteria, [*members, *names] if members else ())
    position = zip(_POSITION, _load_cursor(serializer, criteria), columns, strict=True) if criteria.cursor else ()
    after = {name: _from_wire(value, column) for name, value, column in position}
    if query.is_counted_first and not query.found:
        return CursorPage((), None)
    # One row more than the page shows whether there is another page.
    found = query.fetch_page(_rows_after if after else _first_rows, limit=criteria.per_page + 1, **after)
    items = query.items(found[: criteria.per_page])
    if len(found) <= criteria.per_page:
        return CursorPage(items, None)
    last = [_to_wire(getattr(items[-1], name)) for name in names]
    return CursorPage(items, str(serializer.dumps([criteria.fingerprint(), *last])))


def read_tree(rows: Select[Any], listing: Listing, criteria: Criteria, members: Sequence[str] = ()) -> Sequence[Any]:
    """All of ``rows``, in their order; `nest` makes a tree of them."""
    query = _ListQuery(rows, listing, criteria, tuple(members))
    return query.items(query.fetch(_ordered))


@dataclass(frozen=True)
class _ListQuery:
    """One query of a collection: its rows, listing and criteria, and how it is compiled and executed."""

    rows: Select[Any]
    listing: Listing
    criteria: Criteria
    members: tuple[str, ...]

    @classmethod
    def of_page(cls, rows: Select[Any], listing: Listing, criteria: Criteria, members: Sequence[str]) -> "_ListQuery":
        """The query of a page. It reads the ids as well: the page depends on the rows that it shows."""
        names = [*members, listing.tie_breaker.key] if members else ()
        return cls(rows, listing, criteria, tuple(dict.fromkeys(names)))

    def fetch_page(self, make: Callable[["_ListQuery"], Select[Any]], **values: Any) -> Sequence[Row[Any]]:
        """The rows of a page, and one more if there is one, as `fetch`; gathers what the page depends on.

        That is every change of the rows that it shows; and of others what decides which rows match, and their order.
        """
        reads = gathered()
        if reads is None:
            return self.fetch(make, **values)
        # Before the block, because a search may take statements of its own.
        extent, kind = self.extent, kind_of(self.entity)
        if kind in extent.once:
            extent = extent.within(kind, self.scopes)
        with stating():
            found = self.fetch(make, **values)
        reads.add(extent)
        shown = self.items(found[: self.criteria.per_page])
        reads.add_rows(kind, [getattr(row, self.listing.tie_breaker.key) for row in shown])
        return found

    def fetch(self, make: Callable[["_ListQuery"], Select[Any]], **values: Any) -> Sequence[Row[Any]]:
        """The rows of the statement that ``make`` makes, with ``values`` for its parameters."""
        shape, parameters = self._shape()
        if shape is None or not self.columns():
            execute = run if self.columns() else db.session.execute
            return execute(make(self), values).all()
        key = (make, self.listing, self.members, *shape)
        return memoize(self.rows, key, lambda: Prepared(make(self._parametrized()))).all({**parameters, **values})

    def columns(self) -> Sequence[Column[Any]] | None:
        """The columns that the members need; None when they need objects of the model."""
        if not self.members:
            return None
        return memoize(self.rows, ("columns", self.members), lambda: columns_named(self.rows, self.members))

    def items(self, found: Sequence[Row[Any]]) -> Sequence[Any]:
        """The rows, as tuples with names or as objects."""
        return found if self.columns() else [row[0] for row in found]

    @property
    def is_counted_first(self) -> bool:
        """Whether the rows are counted before they are fetched (decision 25).

        PostgreSQL cannot estimate how many rows have some words. Where it expects many, it scans the index of the order
        and filters each row: the whole index, when there are few or none.
        """
        return self.criteria.search is not None and db.engine.dialect.name == "postgresql"

    @property
    def entity(self) -> type[Any]:
        """The model of the rows."""
        return _entity_of(self.rows)

    @property
    def extent(self) -> Extent:
        """What decides which rows match, and their order."""
        shape, _ = self._shape()
        if shape is not None:
            key = ("extent", self.listing, *shape)
            return memoize(self.rows, key, lambda: extent_of(_matching_ids(self._parametrized())))
        extent = extent_of(_matching_ids(self))
        return extent.with_any_change_of(kind_of(self.entity)) if self.is_chosen_from else extent

    @property
    def scopes(self) -> Sequence[str]:
        """The scopes of the topics within which all matching rows are; empty for all rows."""
        query = self.rows, self.listing, self.criteria.filters
        return chosen_scopes(*query) or (() if self.is_chosen_from else find_scopes(*query))

    @property
    def is_chosen_from(self) -> bool:
        """Whether the database chooses any of more rows than are compared: after any change it may choose others."""
        return self.listing.max_similar is not None or self.is_truncated

    @cached_property
    def found(self) -> int:
        """How many rows a search finds, counted to one more than ``max_counted``."""
        ids = _ids(self.filtered, self.listing, self.listing.max_counted + 1).subquery()
        return int(run(select(func.count()).select_from(ids)).scalar_one())

    @property
    def is_truncated(self) -> bool:
        """Whether a search finds more rows than are ranked or compared."""
        if not self.is_counted_first or self.found <= self.listing.max_counted:
            return False
        return self.listing.max_similar is not None or self.criteria.sort_by == RELEVANCE

    @cached_property
    def search(self) -> Search | None:
        """What the search comes to; made once, because it may take a statement."""
        return self.listing.search_for(self.criteria.search)

    @cached_property
    def filtered(self) -> Select[Any]:
        """The rows that meet the filters and the search."""
        rows = self.rows.where(*self.listing.conditions(self.criteria.filters))
        return rows.where(self.search.condition) if self.search else rows

    @cached_property
    def matching(self) -> Select[Any]:
        """The matching rows, without an order: looked up by their ids, where a search was counted first."""
        if not self.is_counted_first or (self.found > self.listing.max_counted and not self.is_truncated):
            return self.filtered
        return self.rows.where(_is_among(self.filtered, self.listing))

    def _shape(self) -> tuple[tuple[Hashable, ...] | None, dict[str, Any]]:
        """What determines the SQL, or None where each query has its own; and the values of its parameters."""
        decisive, parameters = [], {}
        for name, value in self.criteria.filters.items():
            condition = self.listing.filters[name]
            if isinstance(condition, Compare | OneOf):
                decisive.append((name, condition.shape(value)))
                parameters[name] = condition.bound(value)
            elif _is_of_closed_set(value):
                decisive.append((name, value))
            else:
                return None, {}
        if self.criteria.search is not None:
            return None, {}
        return (self.criteria.sort_by, self.criteria.descending, *decisive), parameters

    def _parametrized(self) -> "_ListQuery":
        stand_ins = {
            name: condition.stand_in(name, value)
            for name, value in self.criteria.filters.items()
            if isinstance(condition := self.listing.filters[name], Compare | OneOf)
        }
        return replace(self, criteria=replace(self.criteria, filters={**self.criteria.filters, **stand_ins}))


def _is_of_closed_set(value: Any) -> bool:
    """Whether there are few such values, so that each can have SQL of its own."""
    return all(isinstance(one, bool | Enum) for one in (value if isinstance(value, tuple) else (value,)))


def nest(items: Sequence[dict[str, Any]], parent: str) -> list[dict[str, Any]]:
    """The roots among ``items``; each item gets its ``children``, those whose ``parent`` it is, in the order given."""
    by_id = {item["id"]: item for item in items}
    roots: list[dict[str, Any]] = []
    for item in items:
        item.setdefault("children", [])
        above = by_id.get(item[parent])
        (roots if above is None else above.setdefault("children", [])).append(item)
    return roots


def contains_words(column: InstrumentedAttribute[str]) -> Callable[[str], Search]:
    """The search for rows whose folded column contains every word; wildcards of LIKE are characters like any other."""
    return lambda words: Search(and_(true(), *(column.contains(word, autoescape=True) for word in fold(words).split())))


def filter_candidates(
    rows: Select[Any], listing: Listing, search: Search | None, filters: Mapping[str, Any]
) -> Select[Any]:
    """Those of ``rows`` that meet the filters and the search; of a fallback listing, ``max_similar`` at most."""
    filtered = rows.where(*listing.conditions(filters), *([search.condition] if search else []))
    return rows.where(_is_among(filtered, listing)) if listing.max_similar else filtered


def chosen_scopes(rows: Select[Any], listing: Listing, filters: Mapping[str, Any]) -> Sequence[str]:
    """The scopes of topics in which those of ``rows`` are that meet the filters, as one of these chooses them.

    Empty for all rows.
    """
    for name, values in filters.items():
        if isinstance(condition := listing.filters[name], OneOf) and len(values) <= MAX_SCOPES:
            is_equality = condition.compare is eq and condition.compare_any is is_one_of
            if is_equality and is_key_of_published_rows(condition.column, _entity_of(rows)):
                return [scope_of(condition.column.key, value) for value in values]
    return ()


def find_scopes(rows: Select[Any], listing: Listing, filters: Mapping[str, Any]) -> Sequence[str]:
    """The same, as a query within a condition finds them, which takes a statement of its own.

    The statement of the rows has the same query in it: what this one reads, that one depends on already.
    """
    for condition in (*_conditions_of(rows), *listing.conditions(filters)):
        if isinstance(condition, is_found_by):
            column, query = condition.clauses
            if is_key_of_published_rows(column, _entity_of(rows)):
                with stating():
                    found = run(query.element.limit(MAX_FOUND_SCOPES + 1)).scalars().all()
                if len(found) <= MAX_FOUND_SCOPES:
                    return [scope_of(str(column.key), each) for each in found]
    return ()


def _conditions_of(rows: Select[Any]) -> Iterable[Any]:
    """The conditions of which each row meets every one."""
    condition = rows.whereclause
    if isinstance(condition, BooleanClauseList) and condition.operator is both:
        return condition.clauses
    return (condition,)


def _entity_of(rows: Select[Any]) -> type[Any]:
    entity: type[Any] = rows.column_descriptions[0]["entity"]
    return entity


def _ids(rows: Select[Any], listing: Listing, max_rows: int) -> Select[int]:
    # A materialized CTE is planned for all rows, and nevertheless read only as far as the LIMIT outside needs. A LIMIT
    # within it would let PostgreSQL scan the table until enough rows match. Without a name, because a statement can
    # have several.
    ids = rows.with_only_columns(listing.tie_breaker.label("id"), maintain_column_froms=True)
    return select(ids.cte().prefix_with("MATERIALIZED").c.id).limit(max_rows)


def _is_among(rows: Select[Any], listing: Listing) -> ColumnElement[bool]:
    # An array: PostgreSQL expects few values and looks each up. For a subquery it might scan the index of the order.
    ids = _ids(rows, listing, listing.max_counted).scalar_subquery()
    return listing.tie_breaker == any_(func.array(ids, type_=ARRAY(BigInteger)))


def _page(query: _ListQuery) -> Select[Any]:
    return _first_rows(query).offset(bindparam("offset", None, BigInteger))


def _page_with_total(query: _ListQuery) -> Select[Any]:
    return _page(query).add_columns(_count(query.matching).scalar_subquery().label("total"))


def _total_alone(query: _ListQuery) -> Select[Any]:
    return _count(query.matching)


def _first_rows(query: _ListQuery) -> Select[Any]:
    return _ordered(query).limit(bindparam("limit", None, BigInteger))


def _rows_after(query: _ListQuery) -> Select[Any]:
    # A row comparison is one range of the index; the spelled-out OR reads every row before the position.
    columns = (_column(query.listing, query.criteria), query.listing.tie_breaker)
    here = tuple_(*columns)
    there = tuple_(*(bindparam(name, None, column.type) for name, column in zip(_POSITION, columns, strict=True)))
    return _first_rows(query).where(here < there if query.criteria.descending else here > there)


def _ordered(query: _ListQuery) -> Select[Any]:
    ordered = _order(query)
    columns = query.columns()
    return ordered.with_only_columns(*columns) if columns else ordered


def _matching_ids(query: _ListQuery) -> Select[int]:
    return _order(query).with_only_columns(query.listing.tie_breaker, maintain_column_froms=True)


def _count(rows: Select[Any]) -> Select[int]:
    counted = (
        rows.with_only_columns(true(), maintain_column_froms=True)
        .limit(bindparam("max_rows", None, BigInteger))
        .subquery()
    )
    return select(func.count()).select_from(counted)


def _column(listing: Listing, criteria: Criteria) -> InstrumentedAttribute[Any]:
    return listing.sorts[criteria.sort_by]


def _order(query: _ListQuery) -> Select[Any]:
    listing, criteria = query.listing, query.criteria
    by: ColumnElement[Any] | InstrumentedAttribute[Any]
    if criteria.sort_by == RELEVANCE and query.search is not None and query.search.relevance is not None:
        by = query.search.relevance()
    else:
        by = _column(listing, criteria)
    columns = dict.fromkeys((by, listing.tie_breaker))
    return query.matching.order_by(*(column.desc() if criteria.descending else column.asc() for column in columns))


def _load_cursor(serializer: URLSafeSerializer, criteria: Criteria) -> list[Any]:
    position: list[Any]
    try:
        fingerprint, *position = serializer.loads(criteria.cursor or "")
    except (BadData, ValueError):
        raise CursorInvalid from None
    if fingerprint != criteria.fingerprint():
        raise CursorInvalid
    return position


def _to_wire(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value


def _from_wire(value: Any, column: InstrumentedAttribute[Any]) -> Any:
    if isinstance(column.type, UtcDateTime):
        return datetime.fromisoformat(value)
    return Decimal(value) if isinstance(column.type, Money) else value
