"""The one way to filter, sort and paginate a collection.

A collection declares a `Listing` next to its use case; what the client asked for arrives as `Criteria`. Numbered pages
count, up to a limit, and use OFFSET; cursor pages compare rows and count nothing, so that page 4,000 costs what page 1
does. Rows come as plain tuples where the members that are wanted are columns, and as objects of the model otherwise.
"""

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from enum import Enum
from functools import cached_property
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
    select,
    true,
    tuple_,
)
from sqlalchemy.orm import InstrumentedAttribute

from app.core.errors import Fault, Invalid
from app.core.fastsql import Prepared, columns_named, memoize
from app.core.model import Money, UtcDateTime
from app.core.text import fold
from app.core.transactions import run
from app.extensions import db

#: The sorting of numbered pages by how well a row fits the search, where a collection tells that.
RELEVANCE = "relevance"

# The parameters of a position: the value of the sort column, and of the tie breaker.
_POSITION = ("position", "position_id")

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


@dataclass(frozen=True, kw_only=True, eq=False)
class Listing:
    """What a collection can be filtered and sorted by. The tie breaker ends every ordering, in the same direction.

    ``relevance`` is a number, the greater the better a row fits the search. ``fallback`` makes the listing that is
    tried where a search finds nothing, if the database has one; it considers no more than ``max_similar`` rows.
    """

    sorts: Mapping[str, InstrumentedAttribute[Any]]
    tie_breaker: InstrumentedAttribute[int]
    filters: Mapping[str, Callable[[Any], ColumnElement[bool]]] = field(default_factory=dict)
    search: Callable[[str], ColumnElement[bool]] | None = None
    #: The column that makes a tree of the collection, which then can also be read as one.
    parent: InstrumentedAttribute[Any] | None = None
    relevance: Callable[[str], ColumnElement[Any]] | None = None
    fallback: "Callable[[], Listing | None] | None" = None
    max_similar: int | None = None

    @property
    def most(self) -> int:
        """How many rows are counted, and how many of those that a search finds are ranked, at most."""
        return self.max_similar or MAX_COUNTED

    def fallback_for(self, search: str | None) -> "Listing | None":
        """The listing to try where nothing is found."""
        return self.fallback() if search is not None and self.fallback is not None else None

    def conditions(self, filters: Mapping[str, Any], search: str | None = None) -> list[ColumnElement[bool]]:
        """What a row must meet to be among those that were asked for."""
        conditions = [self.filters[name](value) for name, value in filters.items()]
        if search is not None and self.search is not None:
            conditions.append(self.search(search))
        return conditions


@dataclass(frozen=True, kw_only=True)
class Criteria:
    """What a client asked of a collection, validated. ``cursor`` is None for numbered pages and "" for the first."""

    sort_by: str
    descending: bool
    per_page: int
    page: int = 1
    cursor: str | None = None
    search: str | None = None
    filters: Mapping[str, Any] = field(default_factory=dict)

    def fingerprint(self) -> str:
        """What a cursor is bound to: everything that decides which rows come in which order."""
        asked = [self.sort_by, self.descending, self.search, sorted(self.filters.items())]
        return hashlib.sha256(orjson.dumps(asked, default=str)).hexdigest()[:16]


@dataclass(frozen=True)
class NumberedPage:
    """One numbered page and the number of rows of the whole collection, or of those at least where it was not told."""

    items: Sequence[Any]
    total: int
    has_more: bool = False
    total_is_exact: bool = True


@dataclass(frozen=True)
class CursorPage:
    """One page of a walk, and the cursor of the next unless this is the last."""

    items: Sequence[Any]
    next_cursor: str | None


class CursorInvalid(Invalid):
    """The cursor was not issued for this query; start again with an empty one."""

    def __init__(self) -> None:
        super().__init__(Fault(self.sentence(), self.code(), parameter="cursor"))


def read_page(rows: Select[Any], listing: Listing, criteria: Criteria, members: Sequence[str] = ()) -> NumberedPage:
    """One numbered page of ``rows``, with ``members`` of each at least; a page beyond the end is empty."""
    question = _ListQuery(rows, listing, criteria, tuple(members))
    offset = (criteria.page - 1) * criteria.per_page
    # One row more than asked tells whether there is another page, and one more than is counted that there are others.
    most, limit = listing.most, criteria.per_page + 1
    if question.is_counted_first:
        total = question.found
        found = question.ask(_page, limit=limit, offset=offset) if total else ()
    else:
        found = question.ask(_page_with_total, limit=limit, offset=offset, most=most + 1)
        total = found[0][-1] if found else question.ask(_total_alone, most=most + 1)[0][-1] if offset else 0
    if not total and (fallback := listing.fallback_for(criteria.search)):
        return read_page(rows, fallback, criteria, members)
    items, has_more = question.items(found[: criteria.per_page]), len(found) > criteria.per_page
    if items and not has_more and not question.is_truncated:
        return NumberedPage(items, offset + len(items))
    if total <= most:
        return NumberedPage(items, total, has_more)
    return NumberedPage(items, max(most, offset + len(found)), has_more, total_is_exact=False)


def read_keyset_page(
    rows: Select[Any],
    listing: Listing,
    criteria: Criteria,
    members: Sequence[str] = (),
    *,
    keys: Sequence[str],
    scope: str,
) -> CursorPage:
    """One page of a walk through ``rows``. ``scope`` names the collection: a cursor of another is refused.

    The last of ``keys`` signs the next cursor; any of them may have signed this one.
    """
    seal = URLSafeSerializer(list(keys), salt=f"cursor:{scope}", signer_kwargs={"digest_method": hashlib.sha256})
    columns = (_column(listing, criteria), listing.tie_breaker)
    names = [column.key for column in columns]
    question = _ListQuery(rows, listing, criteria, tuple(dict.fromkeys([*members, *names])) if members else ())
    position = zip(_POSITION, _unseal(seal, criteria), columns, strict=True) if criteria.cursor else ()
    after = {name: _from_wire(value, column) for name, value, column in position}
    if question.is_counted_first and not question.found:
        return CursorPage((), None)
    # One row more than asked tells whether there is another page.
    found = question.ask(_rows_after if after else _first_rows, limit=criteria.per_page + 1, **after)
    items = question.items(found[: criteria.per_page])
    if len(found) <= criteria.per_page:
        return CursorPage(items, None)
    last = [_to_wire(getattr(items[-1], name)) for name in names]
    return CursorPage(items, str(seal.dumps([criteria.fingerprint(), *last])))


def read_tree(rows: Select[Any], listing: Listing, criteria: Criteria, members: Sequence[str] = ()) -> Sequence[Any]:
    """All of ``rows``, in their order; `nest` makes a tree of them."""
    question = _ListQuery(rows, listing, criteria, tuple(members))
    return question.items(question.ask(_ordered))


@dataclass(frozen=True)
class _ListQuery:
    """What is asked of some rows, and how it is put to the database."""

    rows: Select[Any]
    listing: Listing
    criteria: Criteria
    members: tuple[str, ...]

    def ask(self, make: Callable[["_ListQuery"], Select[Any]], **values: Any) -> Sequence[Row[Any]]:
        """The answer to the statement that ``make`` makes, with ``values`` for its parameters."""
        shape, parameters = self._shape()
        if shape is None or not self.columns():
            execute = run if self.columns() else db.session.execute
            return execute(make(self), values).all()
        key = (make, self.listing, self.members, *shape)
        return memoize(self.rows, key, lambda: Prepared(make(self._parametrized()))).all({**parameters, **values})

    def columns(self) -> Sequence[Column[Any]] | None:
        """The columns that are enough; None when it takes whole objects."""
        if not self.members:
            return None
        return memoize(self.rows, ("columns", self.members), lambda: columns_named(self.rows, self.members))

    def items(self, found: Sequence[Row[Any]]) -> Sequence[Any]:
        """What was found, as tuples with names or as objects."""
        return found if self.columns() else [row[0] for row in found]

    @property
    def is_counted_first(self) -> bool:
        """Whether the rows are counted before they are asked for (decision 25).

        For PostgreSQL cannot know how many rows have some words. Where it expects many, it walks the order's index and
        looks at each row, and does so to the end when there are few or none.
        """
        return self.criteria.search is not None and db.engine.dialect.name == "postgresql"

    @cached_property
    def found(self) -> int:
        """How many rows a search finds, counted to one more than ``most``."""
        ids = _ids(narrow(*self._narrowed()), self.listing, self.listing.most + 1).subquery()
        return int(run(select(func.count()).select_from(ids)).scalar_one())

    @property
    def is_truncated(self) -> bool:
        """Whether a search finds more rows than are considered."""
        if not self.is_counted_first or self.found <= self.listing.most:
            return False
        return self.listing.max_similar is not None or self.criteria.sort_by == RELEVANCE

    @cached_property
    def matching(self) -> Select[Any]:
        """The rows that are asked for, in no order."""
        everything = narrow(*self._narrowed())
        if not self.is_counted_first or (self.found > self.listing.most and not self.is_truncated):
            return everything
        return self.rows.where(_is_among(everything, self.listing))

    def _narrowed(self) -> tuple[Select[Any], Listing, str | None, Mapping[str, Any]]:
        return self.rows, self.listing, self.criteria.search, self.criteria.filters

    def _shape(self) -> tuple[tuple[Hashable, ...] | None, dict[str, Any]]:
        """What decides the SQL, or None where each question has its own; and the values of its parameters."""
        filters = self.criteria.filters.items()
        parameters = {name: value for name, value in filters if isinstance(self.listing.filters[name], Compare)}
        decisive = tuple((name, value) for name, value in filters if name not in parameters)
        if self.criteria.search is not None or not all(isinstance(value, bool | Enum) for _, value in decisive):
            return None, {}
        return (self.criteria.sort_by, self.criteria.descending, decisive, tuple(parameters)), parameters

    def _parametrized(self) -> "_ListQuery":
        _, parameters = self._shape()
        stand_ins: dict[str, Any] = {name: bindparam(name, None) for name in parameters}
        return replace(self, criteria=replace(self.criteria, filters={**self.criteria.filters, **stand_ins}))


def nest(items: Sequence[dict[str, Any]], parent: str) -> list[dict[str, Any]]:
    """The roots among ``items``; each item gets its ``children``, those whose ``parent`` it is, in the order given."""
    by_id = {item["id"]: item for item in items}
    roots: list[dict[str, Any]] = []
    for item in items:
        item.setdefault("children", [])
        above = by_id.get(item[parent])
        (roots if above is None else above.setdefault("children", [])).append(item)
    return roots


def contains_words(column: InstrumentedAttribute[str], words: str) -> ColumnElement[bool]:
    """Whether a folded column contains every word; wildcards of LIKE are characters like any other."""
    return and_(true(), *(column.contains(word, autoescape=True) for word in fold(words).split()))


def narrow(rows: Select[Any], listing: Listing, search: str | None, filters: Mapping[str, Any]) -> Select[Any]:
    """Those of ``rows`` that meet the filters and the search."""
    return rows.where(*listing.conditions(filters, search))


def consider(rows: Select[Any], listing: Listing, search: str | None, filters: Mapping[str, Any]) -> Select[Any]:
    """Those of ``rows`` that meet the filters and the search; of a fallback listing, ``max_similar`` at most."""
    narrowed = narrow(rows, listing, search, filters)
    return rows.where(_is_among(narrowed, listing)) if listing.max_similar else narrowed


def _ids(rows: Select[Any], listing: Listing, most: int) -> Select[int]:
    # What is materialized is planned for all rows, and nevertheless read only as far as it is asked for. A LIMIT within
    # it would let PostgreSQL read the table until enough is found.
    ids = rows.with_only_columns(listing.tie_breaker.label("id"), maintain_column_froms=True)
    return select(ids.cte("matching").prefix_with("MATERIALIZED").c.id).limit(most)


def _is_among(rows: Select[Any], listing: Listing) -> ColumnElement[bool]:
    # An array, of which PostgreSQL expects few values, and so looks each up. For a subquery it might walk the order.
    ids = _ids(rows, listing, listing.most).scalar_subquery()
    return listing.tie_breaker == any_(func.array(ids, type_=ARRAY(BigInteger)))


def _page(question: _ListQuery) -> Select[Any]:
    return _first_rows(question).offset(bindparam("offset", None, BigInteger))


def _page_with_total(question: _ListQuery) -> Select[Any]:
    return _page(question).add_columns(_count(question.matching).scalar_subquery().label("total"))


def _total_alone(question: _ListQuery) -> Select[Any]:
    return _count(question.matching)


def _first_rows(question: _ListQuery) -> Select[Any]:
    return _ordered(question).limit(bindparam("limit", None, BigInteger))


def _rows_after(question: _ListQuery) -> Select[Any]:
    # A row comparison is one range of the index; the spelled-out OR reads every row before the position.
    columns = (_column(question.listing, question.criteria), question.listing.tie_breaker)
    here = tuple_(*columns)
    there = tuple_(*(bindparam(name, None, column.type) for name, column in zip(_POSITION, columns, strict=True)))
    return _first_rows(question).where(here < there if question.criteria.descending else here > there)


def _ordered(question: _ListQuery) -> Select[Any]:
    ordered = _order(question.matching, question.listing, question.criteria)
    columns = question.columns()
    return ordered.with_only_columns(*columns) if columns else ordered


def _count(rows: Select[Any]) -> Select[int]:
    counted = (
        rows.with_only_columns(true(), maintain_column_froms=True).limit(bindparam("most", None, BigInteger)).subquery()
    )
    return select(func.count()).select_from(counted)


def _column(listing: Listing, criteria: Criteria) -> InstrumentedAttribute[Any]:
    return listing.sorts[criteria.sort_by]


def _order(rows: Select[Any], listing: Listing, criteria: Criteria) -> Select[Any]:
    if criteria.sort_by == RELEVANCE and listing.relevance is not None and criteria.search is not None:
        by: ColumnElement[Any] | InstrumentedAttribute[Any] = listing.relevance(criteria.search)
    else:
        by = _column(listing, criteria)
    columns = dict.fromkeys((by, listing.tie_breaker))
    return rows.order_by(*(column.desc() if criteria.descending else column.asc() for column in columns))


def _unseal(seal: URLSafeSerializer, criteria: Criteria) -> list[Any]:
    position: list[Any]
    try:
        fingerprint, *position = seal.loads(criteria.cursor or "")
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
