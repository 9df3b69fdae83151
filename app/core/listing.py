"""The one way to filter, sort and paginate a collection.

A collection declares a `Listing` next to its use case; what the client asked for arrives as `Criteria`. Numbered pages
count and use OFFSET; cursor pages compare rows and count nothing, so that page 4,000 costs what page 1 does.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

import orjson
from itsdangerous import BadData, URLSafeSerializer
from sqlalchemy import ColumnElement, Select, and_, func, literal, select, true, tuple_
from sqlalchemy.orm import InstrumentedAttribute

from app.core.database import UNPREPARED
from app.core.errors import Fault, Invalid
from app.core.model import Money, UtcDateTime
from app.core.text import fold
from app.extensions import db

#: The sorting of numbered pages by how well a row fits the search, where a collection tells that.
RELEVANCE = "relevance"


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a collection can be filtered and sorted by. The tie breaker ends every ordering, in the same direction.

    ``relevance`` is a number, the greater the better a row fits the search. ``lenient`` makes the listing that is
    tried where a search finds nothing, if the database has one.
    """

    sorts: Mapping[str, InstrumentedAttribute[Any]]
    tie_breaker: InstrumentedAttribute[int]
    filters: Mapping[str, Callable[[Any], ColumnElement[bool]]] = field(default_factory=dict)
    search: Callable[[str], ColumnElement[bool]] | None = None
    #: The column that makes a tree of the collection, which then can also be read as one.
    parent: InstrumentedAttribute[Any] | None = None
    relevance: Callable[[str], ColumnElement[Any]] | None = None
    lenient: "Callable[[], Listing | None] | None" = None

    def otherwise(self, search: str | None) -> "Listing | None":
        """The listing to try where nothing is found."""
        return self.lenient() if search is not None and self.lenient is not None else None

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
    """One numbered page and the number of rows of the whole collection."""

    items: Sequence[Any]
    total: int


@dataclass(frozen=True)
class CursorPage:
    """One page of a walk, and the cursor of the next unless this is the last."""

    items: Sequence[Any]
    next_cursor: str | None


class CursorInvalid(Invalid):
    """The cursor was not issued for this query; start again with an empty one."""

    def __init__(self) -> None:
        super().__init__(Fault(self.sentence(), self.code(), parameter="cursor"))


def read_page(rows: Select[Any], listing: Listing, criteria: Criteria) -> NumberedPage:
    """One numbered page of ``rows``; a page beyond the end is empty."""
    matching = narrow(rows, listing, search=criteria.search, filters=criteria.filters)
    total = db.session.scalar(_count(matching)) or 0
    if not total and (lenient := listing.otherwise(criteria.search)):
        return read_page(rows, lenient, criteria)
    offset = (criteria.page - 1) * criteria.per_page
    if offset >= total:
        return NumberedPage([], total)
    page = _order(matching, listing, criteria).limit(criteria.per_page).offset(offset)
    return NumberedPage(db.session.scalars(page).all(), total)


def read_cursor(rows: Select[Any], listing: Listing, criteria: Criteria, *, secret: str, scope: str) -> CursorPage:
    """One page of a walk through ``rows``. ``scope`` names the collection: a cursor of another is refused."""
    seal = URLSafeSerializer(secret, salt=f"cursor:{scope}", signer_kwargs={"digest_method": hashlib.sha256})
    matching = narrow(rows, listing, search=criteria.search, filters=criteria.filters)
    if criteria.cursor:
        matching = matching.where(_after(_unseal(seal, criteria), listing, criteria))
    # One row more than asked tells whether there is another page.
    page = _order(matching, listing, criteria).limit(criteria.per_page + 1)
    items = db.session.scalars(page).all()
    if len(items) <= criteria.per_page:
        return CursorPage(items, None)
    last = items[criteria.per_page - 1]
    position = [_to_wire(getattr(last, column.key)) for column in (_column(listing, criteria), listing.tie_breaker)]
    return CursorPage(items[: criteria.per_page], str(seal.dumps([criteria.fingerprint(), *position])))


def read_tree(rows: Select[Any], listing: Listing, criteria: Criteria) -> Sequence[Any]:
    """All of ``rows``, in their order; `nest` makes a tree of them."""
    return db.session.scalars(_order(rows, listing, criteria)).all()


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


def narrow(rows: Select[Any], listing: Listing, *, search: str | None, filters: Mapping[str, Any]) -> Select[Any]:
    """Those of ``rows`` that meet the filters and the search."""
    narrowed = rows.where(*listing.conditions(filters, search))
    if search is None or listing.search is None:
        return narrowed
    # What to do first depends on how common the words are, so PostgreSQL must plan for these and not for any.
    return narrowed.execution_options(**UNPREPARED)


def _count(rows: Select[Any]) -> Select[int]:
    count = select(func.count()).select_from(rows.order_by(None).subquery())
    return count.execution_options(**rows.get_execution_options())


def _column(listing: Listing, criteria: Criteria) -> InstrumentedAttribute[Any]:
    return listing.sorts[criteria.sort_by]


def _order(rows: Select[Any], listing: Listing, criteria: Criteria) -> Select[Any]:
    if criteria.sort_by == RELEVANCE and listing.relevance is not None and criteria.search is not None:
        by: ColumnElement[Any] | InstrumentedAttribute[Any] = listing.relevance(criteria.search)
    else:
        by = _column(listing, criteria)
    columns = dict.fromkeys((by, listing.tie_breaker))
    return rows.order_by(*(column.desc() if criteria.descending else column.asc() for column in columns))


def _after(position: list[Any], listing: Listing, criteria: Criteria) -> ColumnElement[bool]:
    # A row comparison is one range of the index; the spelled-out OR reads every row before the position.
    columns = (_column(listing, criteria), listing.tie_breaker)
    values = (literal(_from_wire(value, column), column.type) for value, column in zip(position, columns, strict=True))
    here, there = tuple_(*columns), tuple_(*values)
    return here < there if criteria.descending else here > there


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
