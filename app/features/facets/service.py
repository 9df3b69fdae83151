"""Facets: how many of the products found there are by category, brand, tag, price, stock, status and attributes.

Each facet is counted without the filters that choose among its own values: a count says what a list shows where its
value is chosen instead. One statement counts them all, so that all counts are of the same moment. (decision 36) What
they depend on is stated for each facet by itself (decision 42).
"""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from sqlalchemy import Label, Select, and_, case, func, literal, select, true, union_all

from app.core.listing import Listing, OneOf, Search, chosen_scopes, filter_candidates, find_scopes
from app.core.membership import among
from app.core.money import CURRENCY, MIN_AMOUNT, max_amount, minor_unit
from app.core.reads import Reads, extent_of, kind_of, stating
from app.core.transactions import run
from app.extensions import db
from app.features.brands.models import Brand
from app.features.categories.models import Category
from app.features.facets.attributes import Attributes, facets_of, show_all
from app.features.facets.counting import (
    IN_STOCK,
    MAX_VALUES,
    Count,
    Filters,
    Found,
    Sold,
    commonest,
    counted,
    number_of_products,
    with_chosen,
)
from app.features.product_types.rules import all_definitions
from app.features.products import listing as products
from app.features.products.models import Product, ProductStatus
from app.features.products.values import VALUES
from app.security.identity import Identity
from app.security.permissions import Permission

#: The price bands begin at 0 and at these: 1, 2, 5, 10, 20, 50 and so on, which serves every currency.
EDGES = [Decimal(digit).scaleb(exponent) for exponent in range(10) for digit in (1, 2, 5)]

#: The products that meet all filters, counted by status.
FOUND = "found"


@dataclass(frozen=True, eq=False)
class Facet(ABC):
    """A way to count products by a column. ``filters`` are those of the list that choose among its values."""

    name: str
    filters: tuple[str, ...]
    #: The columns of the products that are counted.
    columns: tuple[Any, ...]

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

    def others(self, filters: Filters) -> Filters:
        """The filters but its own."""
        return {name: value for name, value in filters.items() if name not in self.filters}

    @abstractmethod
    def count(self, found: Found, filters: Filters) -> Iterator[Select[Any]]:
        """The statements that count the products that are found; two of them may count the same value."""

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

    def count(self, found: Found, filters: Filters) -> Iterator[Select[Any]]:
        """The commonest rows, and the chosen ones that exist."""
        [column], row = self.columns, self.referred
        key = found.rows.c[column.key].label("id")
        by_id = select(key, number_of_products()).group_by(key).cte(f"by_{self.name}")
        named = select(by_id.c.id, row.name, by_id.c.products).join_from(by_id, row, row.id == by_id.c.id)
        yield counted(self.name, *_commonest_of(named, by_id.c.products, by_id.c.id))
        if chosen := self.chosen(filters):
            all_of = counted(self.name, row.id, row.name, func.coalesce(by_id.c.products, 0))
            yield all_of.join_from(row, by_id, by_id.c.id == row.id, isouter=True).where(OneOf(row.id)(chosen))

    def show(self, counts: Sequence[Count], filters: Filters) -> list[dict[str, Any]]:
        """The rows by id and name, the commonest first."""
        chosen = self.chosen(filters)
        return [
            {"id": one.number, "name": one.text, "count": one.count, "selected": is_chosen}
            for one, is_chosen in commonest(counts, lambda one: one.number in chosen)
        ]


@dataclass(frozen=True, eq=False)
class Tags(Facet):
    """Counts by tags, which the index of values has: a product counts for each that it has."""

    def count(self, found: Found, filters: Filters) -> Iterator[Select[Any]]:
        """The commonest tags, and the chosen ones that products have."""
        is_of_product = and_(VALUES.c.product_id == found.rows.c.id, VALUES.c.attribute_id.is_(None))
        tags = select(VALUES.c.text.label("tag"), number_of_products()).join_from(found.rows, VALUES, is_of_product)
        by_tag = tags.group_by(VALUES.c.text).cte(f"by_{self.name}")
        yield counted(self.name, literal(0), *_commonest_of(select(by_tag), by_tag.c.products, by_tag.c.tag))
        if chosen := self.chosen(filters):
            yield counted(self.name, literal(0), *by_tag.c).where(among(by_tag.c.tag, chosen))

    def show(self, counts: Sequence[Count], filters: Filters) -> list[dict[str, Any]]:
        """The tags, the commonest first."""
        chosen = self.chosen(filters)
        return [
            {"value": one.text, "count": one.count, "selected": is_chosen}
            for one, is_chosen in commonest(with_chosen(counts, chosen), lambda one: one.text in chosen)
        ]


@dataclass(frozen=True, eq=False)
class Prices(Facet):
    """Counts by price bands, where the filters leave one currency: amounts of several cannot be compared."""

    def own(self, filters: Filters) -> Filters:
        """None without such a currency: then every facet is of these prices."""
        return super().own(filters) if _only_currency(filters) else {}

    def count(self, found: Found, filters: Filters) -> Iterator[Select[Any]]:
        """The bands that have products."""
        if _only_currency(filters):
            bands = found.values(_band_of)
            yield counted(self.name, bands.c.band, literal(""), func.count()).group_by(bands.c.band)

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

    def show(self, counts: Sequence[Count], filters: Filters) -> list[dict[str, Any]]:
        """The values, in their own order."""
        by_value = {self.value_of(one): one.count for one in counts}
        chosen = self.chosen(filters)
        return [{"value": value, "count": by_value.get(value, 0), "selected": value in chosen} for value in self.values]

    @abstractmethod
    def value_of(self, count: Count) -> Any:
        """The value that is counted."""


@dataclass(frozen=True, eq=False)
class Stock(Choices):
    """Counts by whether what is sold is in stock; a parent can count for both."""

    def count(self, found: Found, _filters: Filters) -> Iterator[Select[Any]]:
        """The values that products have."""
        stocks = found.values(_stock_of)
        yield counted(self.name, stocks.c.in_stock, literal(""), func.count()).group_by(stocks.c.in_stock)

    def value_of(self, count: Count) -> bool:
        """Whether the products are in stock."""
        return bool(count.number)


@dataclass(frozen=True, eq=False)
class Statuses(Choices):
    """Counts by status."""

    def source(self, filters: Filters) -> str:
        """Where it is not filtered, the products found, which are counted by status in any case."""
        return self.name if self.chosen(filters) else FOUND

    def count(self, found: Found, filters: Filters) -> Iterator[Select[Any]]:
        """The values that products have, where it is filtered."""
        if self.chosen(filters):
            yield _by_status(self.name, found)

    def value_of(self, count: Count) -> str:
        """The status."""
        return count.text


FACETS: tuple[Facet, ...] = (
    References("category", ("category_id",), (Product.category_id,), Category, Permission.CATEGORIES_READ),
    References("brand", ("brand_id",), (Product.brand_id,), Brand, Permission.BRANDS_READ),
    Tags("tag", ("tag",), (Product.id,)),
    Prices("price", ("min_price", "max_price"), (Product.id, Product.kind, Product.price)),
    Stock("stock", ("in_stock",), (Product.id, Product.kind, IN_STOCK), (True, False)),
    Statuses("status", ("status",), (Product.status,), tuple(ProductStatus)),
)

#: Counts by the name of their facet; under ``FOUND`` those of what meets all filters.
Counts = defaultdict[str, list[Count]]
#: Makes the set of products that a list with these filters shows, with these columns.
Find = Callable[[Filters, Sequence[Any]], Select[Any]]


def count_facets(
    rows: Select[Product], listing: Listing, *, identity: Identity, search: str | None = None, **filters: Any
) -> dict[str, Any]:
    """How many products a list of ``rows`` with this search and these filters shows, and how many by each facet.

    A facet of rows that ``identity`` may not read is empty. A facet's counts are of the list without the facet's own
    filters. Prices are counted only where the filters leave one currency. Raises what `Listing.resolved` raises.
    """
    resolved = listing.resolved(filters)
    definitions = all_definitions() if identity.can(Permission.TYPES_READ) else {}
    query = _Query(rows, listing, search, resolved, tuple(facets_of(definitions, resolved)))
    counts = query.read()
    if not counts[FOUND] and (fallback := listing.fallback_for(search)):
        counts = _merge(counts, replace(query, listing=fallback).read())
    shown = {
        facet.name: facet.show(counts[facet.source(resolved)], resolved) if facet.is_readable(identity) else []
        for facet in FACETS
    }
    attributes = show_all(
        (facet.sought is not None, *one) for facet in query.attributes for one in facet.show(counts[facet.name])
    )
    return {"total": sum(one.count for one in counts[FOUND]), **shown, "attributes": attributes}


def price_band(number: int, currency: str) -> tuple[Decimal, Decimal]:
    """The least and the greatest amount of a price band, in the minor units of a currency."""
    least = EDGES[number - 1] if number else MIN_AMOUNT
    return least, EDGES[number] - minor_unit(currency) if number < len(EDGES) else max_amount(currency)


@dataclass(frozen=True)
class _Query:
    """What is counted: the rows of a list with its search and its filters, by the facets of every list and others."""

    rows: Select[Product]
    listing: Listing
    search: str | None
    filters: Filters
    attributes: Sequence[Attributes]

    @property
    def facets(self) -> Sequence[Facet | Attributes]:
        """All of them."""
        return [*FACETS, *self.attributes]

    @property
    def owners(self) -> Sequence[Facet | Attributes]:
        """The facets that are filtered by, each of which is counted without its own filters."""
        static = (facet for facet in FACETS if facet.chosen(self.filters))
        return [*static, *(facet for facet in self.attributes if facet.sought is not None)]

    def read(self) -> Counts:
        """The counts of all facets, read in one statement."""
        counts: Counts = defaultdict(list)
        # A value that is chosen and common is counted twice.
        for facet, *count in dict.fromkeys(map(tuple, self._execute())):
            counts[facet].append(Count(*count))
        return counts

    def _execute(self) -> Sequence[Any]:
        statement = union_all(*self._parts(self._find()))
        if self.search is not None:
            return run(statement).all()
        with stating() as reads:
            found = run(statement).all()
            if reads is not None:
                self._state(reads)
        return found

    def _state(self, reads: Reads) -> None:
        """State what the counts depend on: the sets of products that are counted, and what is read beside these."""
        find, kind = self._find_each(None), kind_of(Product)
        # Found once, by the filters that hold for every set.
        own = {name for facet in FACETS for name in facet.filters}
        shared = {name: value for name, value in self.filters.items() if name not in own}
        scopes = find_scopes(self.rows, self.listing, shared)
        for _, filters, columns in self._sets():
            chosen = chosen_scopes(self.rows, self.listing, filters)
            # A variant is in the scopes of its parent, and the index of values is made of one column.
            is_by_id = any(column.key == Product.id.key for column in columns)
            read = (*columns, *((Product.parent_id, Product.attribute_words) if is_by_id else ()))
            reads.add(extent_of(find(filters, read)).within(kind, chosen or scopes))
        reads.add(extent_of(union_all(*self._parts(_find_nothing))).beside(kind))

    def _parts(self, find: Find) -> Iterator[Select[Any]]:
        """The statements that count, of which each reads products only as ``find`` finds them, and their variants."""
        sets = {
            facet: Found(find(filters, columns).cte(f"found_for_{facet.name}" if facet else FOUND), filters)
            for facet, filters, columns in self._sets()
        }
        yield _by_status(FOUND, sets[None])
        for facet in self.facets:
            yield from facet.count(sets.get(facet, sets[None]), self.filters)

    def _sets(self) -> Iterator[tuple[Facet | Attributes | None, Filters, Sequence[Any]]]:
        """The sets of products that are counted, each by some facets: what meets all filters, and all but one facet's.

        Each has its filters, and the columns that its facets need.
        """
        owners = self.owners
        others = [facet for facet in self.facets if facet not in owners]
        yield None, self.filters, _columns_of([*others, *(facet for facet in FACETS if facet.name == "status")])
        for facet in owners:
            yield facet, facet.others(self.filters), _columns_of([facet])

    def _find(self) -> Find:
        search = self.listing.search_for(self.search)
        # Read once for all facets, SQLite is as fast or faster. PostgreSQL is faster by a scan for each: it reads what
        # the other filters find by their indexes, and no more of it than the facet's column (measured in decision 36).
        if self.owners and db.engine.dialect.name == "sqlite":
            return self._find_in_one_set(search)
        return self._find_each(search)

    def _find_each(self, search: Search | None) -> Find:
        def find(filters: Filters, columns: Sequence[Any]) -> Select[Any]:
            return filter_candidates(self.rows, self.listing, search, filters).with_only_columns(*columns)

        return find

    def _find_in_one_set(self, search: Search | None) -> Find:
        """The same from one set of products, which has a column for each condition that not every set has."""
        owned = {name for facet in self.owners for name in facet.filters}
        joint = set(self.listing.together.names) if self.listing.together else set()
        taken = owned | (joint if owned & joint else set())
        shared = {name: value for name, value in self.filters.items() if name not in taken}
        conditions: dict[Hashable, Label[int]] = {}
        for _, filters, _ in self._sets():
            for part in _parts_of(filters, taken, joint):
                stated = {**part, "kind": self.filters.get("kind", products.LISTED)}
                met = case((and_(true(), *self.listing.conditions(stated)), 1), else_=0)
                conditions.setdefault(tuple(part.items()), met.label(f"passes_{len(conditions)}"))
        candidates = filter_candidates(self.rows, self.listing, search, shared)
        columns = _columns_of(self.facets)
        found = candidates.with_only_columns(*columns, *conditions.values()).cte("candidates")

        def find(filters: Filters, columns: Sequence[Any]) -> Select[Any]:
            passes = (found.c[conditions[tuple(part.items())].key] == 1 for part in _parts_of(filters, taken, joint))
            return select(*(found.c[column.key] for column in columns)).where(*passes)

        return find


def _parts_of(filters: Filters, names: Collection[str], joint: Collection[str]) -> Iterator[Filters]:
    """Those of the filters that are named, one by one, but those that are ``joint`` together."""
    together = {name: value for name, value in filters.items() if name in names and name in joint}
    if together:
        yield together
    yield from ({name: value} for name, value in filters.items() if name in names and name not in joint)


def _find_nothing(_filters: Filters, columns: Sequence[Any]) -> Select[Any]:
    """A row that is in no table, to see what is read beside the products."""
    return select(*(literal(None, column.type).label(column.key) for column in columns))


def _columns_of(facets: Collection[Facet | Attributes]) -> Sequence[Any]:
    # In the order of the facets, so that equal queries have equal SQL.
    return list({column.key: column for facet in facets for column in facet.columns}.values())


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


def _band_of(sold: Sold) -> tuple[Sequence[Label[Any]], None]:
    band = case(*((sold.price < edge, number) for number, edge in enumerate(EDGES)), else_=len(EDGES))
    return (band.label("band"),), None


def _stock_of(sold: Sold) -> tuple[Sequence[Label[Any]], None]:
    return (sold.in_stock.label("in_stock"),), None


def _commonest_of(ranked: Select[Any], count: Any, value: Any) -> Iterable[Any]:
    return ranked.order_by(count.desc(), value).limit(MAX_VALUES).subquery().c


def _by_status(name: str, found: Found) -> Select[Any]:
    status = found.rows.c[Product.status.key]
    return counted(name, literal(0), status, func.count()).select_from(found.rows).group_by(status)
