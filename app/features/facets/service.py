"""Facets: how many of the products found there are by category, brand, tag, price, stock and status.

Each facet is counted without the filters that choose among its own values: a count says what a list shows where its
value is chosen instead. One statement counts them all, so that all counts are of the same moment. (decision 36) What
they depend on is stated for each facet by itself (decision 42).
"""

from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    CTE,
    CompoundSelect,
    Label,
    Select,
    Text,
    and_,
    case,
    cast,
    func,
    literal,
    select,
    true,
    union_all,
)

from app.core.listing import Listing, OneOf, Search, chosen_scopes, filter_candidates, find_scopes
from app.core.membership import among
from app.core.model import big_integer, ordered_text
from app.core.money import CURRENCY, MIN_AMOUNT, max_amount, minor_unit
from app.core.reads import Reads, extent_of, kind_of, stating
from app.core.transactions import run
from app.extensions import db
from app.features.brands.models import Brand
from app.features.categories.models import Category
from app.features.products.models import Product, ProductStatus, is_in_stock
from app.security.identity import Identity
from app.security.permissions import Permission

#: How many categories and tags an answer has beside the chosen ones, the commonest first: there may be thousands.
MAX_VALUES = 50

#: The price bands begin at 0 and at these: 1, 2, 5, 10, 20, 50 and so on, which serves every currency.
EDGES = [Decimal(digit).scaleb(exponent) for exponent in range(10) for digit in (1, 2, 5)]

#: The products that meet all filters, counted by stock and status.
FOUND = "found"
IN_STOCK = case((is_in_stock(), 1), else_=0).label("in_stock")

Filters = Mapping[str, Any]


@dataclass(frozen=True, order=True)
class Count:
    """How many products there are of one value, which is a number or a text or both."""

    number: int
    text: str
    count: int


@dataclass(frozen=True, eq=False)
class Facet(ABC):
    """A way to count products by a column. ``filters`` are those of the list that choose among its values."""

    name: str
    filters: tuple[str, ...]
    column: Any

    def own(self, filters: Filters) -> Filters:
        """Those of the filters that choose among its values."""
        return {name: filters[name] for name in self.filters if name in filters}

    def chosen(self, filters: Filters) -> tuple[Any, ...]:
        """The values of its own filters."""
        stated = self.own(filters).values()
        return tuple(one for values in stated for one in (values if isinstance(values, tuple) else (values,)))

    def is_readable(self, _identity: Identity) -> bool:
        """Whether the caller may see it."""
        return True

    def source(self, _filters: Filters) -> str:
        """The name of the counts that it shows."""
        return self.name

    @abstractmethod
    def count(self, found: CTE, filters: Filters) -> Iterator[Select[Any]]:
        """The statements that count the products of ``found``; two of them may count the same value."""

    @abstractmethod
    def show(self, counts: Sequence[Count], filters: Filters) -> list[dict[str, Any]]:
        """The values with their counts, as an answer has them."""


@dataclass(frozen=True, eq=False)
class References(Facet):
    """Counts by a column that refers to rows with a name."""

    referred: type[Any]
    permission: Permission

    def is_readable(self, identity: Identity) -> bool:
        """Whether the caller may read the rows that are named."""
        return identity.can(self.permission)

    def count(self, found: CTE, filters: Filters) -> Iterator[Select[Any]]:
        """The commonest rows, and the chosen ones that exist."""
        key, row = found.c[self.column.key].label("id"), self.referred
        by_id = select(key, _products()).group_by(key).cte(f"by_{self.name}")
        named = select(by_id.c.id, row.name, by_id.c.products).join_from(by_id, row, row.id == by_id.c.id)
        yield _counted(self.name, *_commonest_of(named, by_id.c.products, by_id.c.id))
        if chosen := self.chosen(filters):
            counted = _counted(self.name, row.id, row.name, func.coalesce(by_id.c.products, 0))
            yield counted.join_from(row, by_id, by_id.c.id == row.id, isouter=True).where(OneOf(row.id)(chosen))

    def show(self, counts: Sequence[Count], filters: Filters) -> list[dict[str, Any]]:
        """The rows by id and name, the commonest first."""
        chosen = self.chosen(filters)
        return [
            {"id": one.number, "name": one.text, "count": one.count, "selected": is_chosen}
            for one, is_chosen in _commonest(counts, lambda one: one.number in chosen)
        ]


@dataclass(frozen=True, eq=False)
class Tags(Facet):
    """Counts by the items of a JSON array of texts: a product counts for each that it has."""

    def count(self, found: CTE, filters: Filters) -> Iterator[Select[Any]]:
        """The commonest tags, and the chosen ones that products have."""
        spread = func.jsonb_array_elements_text if db.engine.dialect.name == "postgresql" else func.json_each
        tags = spread(found.c[self.column.key]).table_valued("value")
        # By code point on both databases: where two tags are as common and only one fits, both must choose the same.
        tag = cast(tags.c.value, ordered_text(50)).label("tag")
        by_tag = select(tag, _products()).select_from(found.join(tags, true())).group_by("tag").cte(f"by_{self.name}")
        yield _counted(self.name, literal(0), *_commonest_of(select(by_tag), by_tag.c.products, by_tag.c.tag))
        if chosen := self.chosen(filters):
            yield _counted(self.name, literal(0), *by_tag.c).where(among(by_tag.c.tag, chosen))

    def show(self, counts: Sequence[Count], filters: Filters) -> list[dict[str, Any]]:
        """The tags, the commonest first."""
        chosen, counted = self.chosen(filters), {one.text for one in counts}
        empty = [Count(0, tag, 0) for tag in chosen if tag not in counted]
        return [
            {"value": one.text, "count": one.count, "selected": is_chosen}
            for one, is_chosen in _commonest([*counts, *empty], lambda one: one.text in chosen)
        ]


@dataclass(frozen=True, eq=False)
class Prices(Facet):
    """Counts by price bands, where the filters leave one currency: amounts of several cannot be compared."""

    def own(self, filters: Filters) -> Filters:
        """None without such a currency: then every facet is of these prices."""
        return super().own(filters) if _only_currency(filters) else {}

    def count(self, found: CTE, filters: Filters) -> Iterator[Select[Any]]:
        """The bands that have products."""
        if _only_currency(filters):
            price = found.c[self.column.key]
            band = case(*((price < edge, number) for number, edge in enumerate(EDGES)), else_=len(EDGES))
            counted = select(band.label("band"), _products()).select_from(found).group_by("band").subquery()
            yield _counted(self.name, counted.c.band, literal(""), counted.c.products)

    def show(self, counts: Sequence[Count], filters: Filters) -> list[dict[str, Any]]:
        """The bands, the cheapest first; between a least and a greatest price the empty ones too."""
        if (currency := _only_currency(filters)) is None:
            return []
        chosen = self._chosen_bands(filters, currency)
        is_closed = len(self.chosen(filters)) == len(self.filters)
        products = {one.number: one.count for one in counts}
        return [
            _in_band(number, currency) | {"count": products.get(number, 0), "selected": number in chosen}
            for number in sorted(products.keys() | (chosen if is_closed else set()))
        ]

    def _chosen_bands(self, filters: Filters, currency: str) -> set[int]:
        """The bands that the filters let pass whole."""
        if not self.chosen(filters):
            return set()
        low, high = self.filters
        least, most = filters.get(low, MIN_AMOUNT), filters.get(high, max_amount(currency))
        bands = {number: price_band(number, currency) for number in range(len(EDGES) + 1)}
        return {number for number, band in bands.items() if least <= band[0] and band[1] <= most}


@dataclass(frozen=True, eq=False)
class Choices(Facet):
    """Counts by one of few values, which are all listed."""

    values: Sequence[Any]
    value_of: Callable[[Count], Any]

    def source(self, filters: Filters) -> str:
        """Where it is not filtered, the products found, which are counted by stock and status in any case."""
        return self.name if self.chosen(filters) else FOUND

    def count(self, found: CTE, filters: Filters) -> Iterator[Select[Any]]:
        """The values that products have, where it is filtered."""
        if self.chosen(filters):
            yield _by_stock_and_status(self.name, found, self)

    def show(self, counts: Sequence[Count], filters: Filters) -> list[dict[str, Any]]:
        """The values, in their own order."""
        products: Counter[Any] = Counter()
        for one in counts:
            products[self.value_of(one)] += one.count
        chosen = self.chosen(filters)
        return [{"value": value, "count": products[value], "selected": value in chosen} for value in self.values]


FACETS: tuple[Facet, ...] = (
    References("category", ("category_id",), Product.category_id, Category, Permission.CATEGORIES_READ),
    References("brand", ("brand_id",), Product.brand_id, Brand, Permission.BRANDS_READ),
    Tags("tag", ("tag",), Product.tags),
    Prices("price", ("min_price", "max_price"), Product.price),
    Choices("stock", ("in_stock",), IN_STOCK, (True, False), lambda one: bool(one.number)),
    Choices("status", ("status",), Product.status, tuple(ProductStatus), lambda one: one.text),
)
_TOTALS = tuple(facet for facet in FACETS if isinstance(facet, Choices))

#: Counts by the name of their facet; under ``FOUND`` those of what meets all filters.
Counts = defaultdict[str, list[Count]]
#: Makes the set of products that meet all filters but the facet's own, with the columns of some facets.
Find = Callable[[Facet | None, Collection[Facet]], Select[Any]]


def count_facets(
    rows: Select[Product], listing: Listing, *, identity: Identity, search: str | None = None, **filters: Any
) -> dict[str, Any]:
    """How many products a list of ``rows`` with this search and these filters shows, and how many by each facet.

    A facet of rows that ``identity`` may not read is empty. A facet's counts are of the list without the facet's own
    filters. Prices are counted only where the filters leave one currency.
    """
    filters = dict(listing.resolved(filters))
    counts = _read_counts(rows, listing, search, filters)
    if not counts[FOUND] and (fallback := listing.fallback_for(search)):
        counts = _merge(counts, _read_counts(rows, fallback, search, filters))
    shown = {
        facet.name: facet.show(counts[facet.source(filters)], filters) if facet.is_readable(identity) else []
        for facet in FACETS
    }
    return {"total": sum(one.count for one in counts[FOUND]), **shown}


def price_band(number: int, currency: str) -> tuple[Decimal, Decimal]:
    """The least and the greatest amount of a price band, in the minor units of a currency."""
    least = EDGES[number - 1] if number else MIN_AMOUNT
    return least, EDGES[number] - minor_unit(currency) if number < len(EDGES) else max_amount(currency)


def _read_counts(rows: Select[Product], listing: Listing, search: str | None, filters: Filters) -> Counts:
    """The counts of all facets, read in one statement."""
    counts: Counts = defaultdict(list)
    statement = _count_all(rows, listing, search, filters)
    # A value that is chosen and common is counted twice.
    for facet, *count in dict.fromkeys(map(tuple, _execute(statement, rows, listing, search, filters))):
        counts[facet].append(Count(*count))
    return counts


def _execute(
    statement: CompoundSelect[Any], rows: Select[Product], listing: Listing, search: str | None, filters: Filters
) -> Sequence[Any]:
    if search is not None:
        return run(statement).all()
    with stating() as reads:
        counted = run(statement).all()
        if reads is not None:
            _state(reads, rows, listing, filters)
    return counted


def _state(reads: Reads, rows: Select[Product], listing: Listing, filters: Filters) -> None:
    """State what the counts depend on: the sets of products that are counted, and what is read beside these."""
    find, kind = _find_each(rows, listing, None, filters), kind_of(Product)
    # Found once, by the filters that hold for every set.
    own = {name for facet in FACETS for name in facet.filters}
    scopes = find_scopes(rows, listing, {name: value for name, value in filters.items() if name not in own})
    for facet, shown in _sets(filters):
        chosen = chosen_scopes(rows, listing, _filters_for(facet, filters))
        reads.add(extent_of(find(facet, shown)).within(kind, chosen or scopes))
    reads.add(extent_of(union_all(*_count_parts(_find_nothing, filters))))


def _count_all(rows: Select[Product], listing: Listing, search: str | None, filters: Filters) -> CompoundSelect[Any]:
    chosen = [facet for facet in FACETS if facet.chosen(filters)]
    # Read once for all facets, SQLite is as fast or faster. PostgreSQL is faster by a scan for each: it reads what the
    # other filters find by their indexes, and no more of it than the facet's column (measured in decision 36).
    # Filters of which one row must meet all cannot be taken apart.
    joint = filters.keys() & (listing.together.names if listing.together else ())
    is_read_once = bool(chosen) and db.engine.dialect.name == "sqlite" and len(joint) < 2
    find = (_find_in_one_set if is_read_once else _find_each)(rows, listing, listing.search_for(search), filters)
    return union_all(*_count_parts(find, filters))


def _count_parts(find: Find, filters: Filters) -> list[Select[Any]]:
    """The statements that count, of which each reads products only as ``find`` finds them."""
    sets = {
        facet: find(facet, shown).cte(f"found_for_{facet.name}" if facet else FOUND) for facet, shown in _sets(filters)
    }
    parts = [_by_stock_and_status(FOUND, sets[None], *_TOTALS)]
    for facet in FACETS:
        parts += facet.count(sets.get(facet, sets[None]), filters)
    return parts


def _sets(filters: Filters) -> Iterator[tuple[Facet | None, Collection[Facet]]]:
    """The sets of products that are counted, each by some facets: what meets all filters, and all but one facet's."""
    chosen = [facet for facet in FACETS if facet.chosen(filters)]
    yield None, {*(facet for facet in FACETS if facet not in chosen), *_TOTALS}
    for facet in chosen:
        yield facet, {facet}


def _filters_for(facet: Facet | None, filters: Filters) -> Filters:
    own = facet.filters if facet else ()
    return {name: value for name, value in filters.items() if name not in own}


def _find_nothing(_facet: Facet | None, shown: Collection[Facet]) -> Select[Any]:
    """A row that is in no table, to see what is read beside the products."""
    return select(*(literal(None, column.type).label(column.key) for column in _columns_of(shown)))


def _find_each(rows: Select[Product], listing: Listing, search: Search | None, filters: Filters) -> Find:
    def find(facet: Facet | None, shown: Collection[Facet]) -> Select[Any]:
        return filter_candidates(rows, listing, search, _filters_for(facet, filters)).with_only_columns(
            *_columns_of(shown)
        )

    return find


def _find_in_one_set(rows: Select[Product], listing: Listing, search: Search | None, filters: Filters) -> Find:
    conditions = {facet: facet.own(filters) for facet in FACETS if facet.chosen(filters)}
    shared = {name: value for name, value in filters.items() if not any(name in own for own in conditions.values())}
    passes = [
        case((and_(*listing.conditions(own)), 1), else_=0).label(f"passes_{facet.name}")
        for facet, own in conditions.items()
    ]
    candidates = filter_candidates(rows, listing, search, shared)
    products = candidates.with_only_columns(*_columns_of(FACETS), *passes).cte("candidates")

    def find(facet: Facet | None, shown: Collection[Facet]) -> Select[Any]:
        columns = (products.c[column.key] for column in _columns_of(shown))
        return select(*columns).where(
            *(products.c[f"passes_{other.name}"] == 1 for other in conditions if other is not facet)
        )

    return find


def _columns_of(facets: Collection[Facet]) -> list[Any]:
    # In the order of the facets, so that equal queries have equal SQL.
    return [facet.column for facet in FACETS if facet in facets]


def _merge(exact: Counts, similar: Counts) -> Counts:
    """Of each value the exact count, or what similar words find where that is 0: the list does the same for each."""
    merged: Counts = defaultdict(list)
    for facet in exact.keys() | similar.keys():
        found = [one for one in exact[facet] if one.count]
        by_value = {(one.number, one.text): one for one in (*exact[facet], *similar[facet], *found)}
        merged[facet].extend(by_value.values())
    return merged


def _only_currency(filters: Filters) -> str | None:
    currencies = filters.get(CURRENCY, ())
    return currencies[0] if len(currencies) == 1 else None


def _in_band(number: int, currency: str) -> dict[str, Any]:
    low, high = price_band(number, currency)
    return {"min_price": low, "max_price": high, CURRENCY: currency}


def _commonest(counts: Iterable[Count], is_chosen: Callable[[Count], bool]) -> list[tuple[Count, bool]]:
    """The commonest counts and the chosen ones, the largest first; among equal ones, by number and text."""
    ranked = sorted(counts, key=lambda one: (-one.count, one.number, one.text))
    marked = [(one, is_chosen(one)) for one in ranked]
    return [(one, chosen) for place, (one, chosen) in enumerate(marked) if chosen or place < MAX_VALUES]


def _commonest_of(ranked: Select[Any], count: Any, value: Any) -> Iterable[Any]:
    return ranked.order_by(count.desc(), value).limit(MAX_VALUES).subquery().c


def _by_stock_and_status(name: str, found: CTE, *facets: Choices) -> Select[Any]:
    """The counts by one of the two, or by both: the number is of the stock, the text of the status."""
    columns = {facet.column.key: found.c[facet.column.key] for facet in facets}
    number, text = columns.get(IN_STOCK.key, literal(0)), columns.get(Product.status.key, literal(""))
    return _counted(name, number, text, func.count()).select_from(found).group_by(*columns.values())


def _products() -> Label[int]:
    return func.count().label("products")


def _counted(facet: str, number: Any, text: Any, count: Any) -> Select[Any]:
    """A part of the union: the name of the facet and the members of a `Count`."""
    return select(literal(facet), cast(number, big_integer), cast(text, Text), count)
