"""Facets: how many of the products found there are by category, price, tag, stock and status.

One statement reads the products once and counts them in every way, so that all counts are of the same moment.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import CTE, Select, Text, case, cast, func, literal, select, true, union_all

from app.core.listing import Listing, filter_candidates
from app.core.model import big_integer, ordered_text
from app.core.money import CURRENCY, MIN_AMOUNT, max_amount, minor_unit
from app.core.transactions import run
from app.extensions import db
from app.features.categories.models import Category
from app.features.products.models import Product, ProductStatus, is_in_stock

#: How many categories and tags an answer has, the commonest first: a catalogue may have thousands.
MAX_VALUES = 50

#: The price bands begin at 0 and at these: 1, 2, 5, 10, 20, 50 and so on, which serves every currency.
EDGES = [Decimal(digit).scaleb(exponent) for exponent in range(10) for digit in (1, 2, 5)]


@dataclass(frozen=True, order=True)
class Count:
    """How many products there are of one value, which is a number or a text or both."""

    number: int
    text: str
    count: int


def count_facets(
    rows: Select[Product], listing: Listing, *, search: str | None = None, **filters: Any
) -> dict[str, Any]:
    """How many products, by each facet, a list of ``rows`` with this search and these filters shows.

    Prices are counted only where the filters leave one currency: amounts of several cannot be compared.
    """
    currencies = filters.get(CURRENCY, ())
    only = currencies[0] if len(currencies) == 1 else None
    facets = _count(filter_candidates(rows, listing, search, filters), only)
    if not facets["total"] and (fallback := listing.fallback_for(search)):
        return count_facets(rows, fallback, search=search, **filters)
    return facets


def price_band(number: int, currency: str) -> tuple[Decimal, Decimal]:
    """The least and the greatest amount of a price band, in the minor units of a currency."""
    least = EDGES[number - 1] if number else MIN_AMOUNT
    return least, EDGES[number] - minor_unit(currency) if number < len(EDGES) else max_amount(currency)


def _count(rows: Select[Product], currency: str | None) -> dict[str, Any]:
    counts = _counts_of(rows, with_prices=currency is not None)
    return {
        "category": [{"id": one.number, "name": one.text, "count": one.count} for one in _ranked(counts["category"])],
        "tag": [{"value": one.text, "count": one.count} for one in _ranked(counts["tag"])],
        "price": [_in_band(one, currency) for one in sorted(counts["price"])] if currency else [],
        **_totals(counts["status"]),
    }


def _totals(by_status: list[Count]) -> dict[str, Any]:
    stock: Counter[bool] = Counter()
    status: Counter[str] = Counter()
    for one in by_status:
        stock[bool(one.number)] += one.count
        status[one.text] += one.count
    return {
        "total": stock.total(),
        "stock": {"in_stock": stock[True], "out_of_stock": stock[False]},
        "status": {known.value: status[known] for known in ProductStatus},
    }


def _counts_of(rows: Select[Product], *, with_prices: bool) -> Mapping[str, list[Count]]:
    """The counts of each facet, read in one statement; those by status are split by stock."""
    members = (Product.category_id, Product.price, Product.tags, Product.status)
    found = rows.with_only_columns(*members, case((is_in_stock(), 1), else_=0).label("in_stock")).cte("found")
    by_price = [_by_price(found)] if with_prices else []
    counted = union_all(_by_category(found), _by_tag(found), _by_status(found), *by_price)
    counts: dict[str, list[Count]] = defaultdict(list)
    for facet, number, text, count in run(counted):
        counts[facet].append(Count(number, text, count))
    return counts


def _in_band(prices: Count, currency: str) -> dict[str, Any]:
    low, high = price_band(prices.number, currency)
    return {"min_price": low, "max_price": high, CURRENCY: currency, "count": prices.count}


def _ranked(counts: list[Count]) -> list[Count]:
    """The counts, the largest first; among equal ones, by number and text."""
    return sorted(counts, key=lambda one: (-one.count, one.number, one.text))


def _by_category(found: CTE) -> Select[Any]:
    count = func.count().label("products")
    ranked = select(found.c.category_id, count).group_by(found.c.category_id)
    commonest = ranked.order_by(count.desc(), found.c.category_id).limit(MAX_VALUES).subquery()
    named = _counted("category", commonest.c.category_id, Category.name, commonest.c.products)
    return named.join_from(commonest, Category, Category.id == commonest.c.category_id)


def _by_price(found: CTE) -> Select[Any]:
    band = case(*((found.c.price < edge, number) for number, edge in enumerate(EDGES)), else_=len(EDGES))
    counted = select(band.label("band"), func.count().label("products")).select_from(found).group_by("band").subquery()
    return _counted("price", counted.c.band, literal(""), counted.c.products)


def _by_tag(found: CTE) -> Select[Any]:
    spread = func.jsonb_array_elements_text if db.engine.dialect.name == "postgresql" else func.json_each
    tags = spread(found.c.tags).table_valued("value")
    # By code point on both databases: where two tags are as common and only one fits, both must choose the same.
    tag, count = cast(tags.c.value, ordered_text(50)).label("tag"), func.count().label("products")
    ranked = select(tag, count).select_from(found.join(tags, true())).group_by("tag")
    commonest = ranked.order_by(count.desc(), tag).limit(MAX_VALUES).subquery()
    return _counted("tag", literal(0), commonest.c.tag, commonest.c.products)


def _by_status(found: CTE) -> Select[Any]:
    return _counted("status", found.c.in_stock, found.c.status, func.count()).group_by(found.c.in_stock, found.c.status)


def _counted(facet: str, number: Any, text: Any, count: Any) -> Select[Any]:
    """A part of the union: the name of the facet and the members of a `Count`."""
    return select(literal(facet), cast(number, big_integer), cast(text, Text), count)
