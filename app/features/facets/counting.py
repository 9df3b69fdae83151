"""What facets are counted by: the products that are found, and the values that these are sold with."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import CTE, Float, FromClause, Label, Select, Text, case, cast, func, literal, null, select, union_all
from sqlalchemy.orm import aliased

from app.core.model import big_integer
from app.features.products import listing
from app.features.products.models import Product, ProductKind, is_in_stock

#: How many values a facet has beside the chosen ones, the commonest first: there may be thousands.
MAX_VALUES = 50

Filters = Mapping[str, Any]

#: Whether a row can be bought, as 1 or 0.
IN_STOCK = case((is_in_stock(), 1), else_=0).label("in_stock")


@dataclass(frozen=True)
class Count:
    """How many products there are of one value, which is a number or a text or both; ``place`` is that of a number."""

    number: int
    text: str
    count: int
    place: float | None = None


@dataclass(frozen=True)
class Sold:
    """The columns of a row that is sold."""

    id: Any
    price: Any
    in_stock: Any


#: Makes the columns of a value of such a row, and the table that has them where it is not the row itself.
Value = Callable[[Sold], tuple[Sequence[Label[Any]], FromClause | None]]


@dataclass(frozen=True)
class Found:
    """The products that a list with some filters shows: a table of their ids, kinds and the columns of facets."""

    rows: CTE
    filters: Filters

    def values(self, value: Value) -> FromClause:
        """A row for each of the products and each value that it is sold with.

        A parent has those of its active variants that meet the filters, each once.
        """
        rows = self.rows.c
        columns, source = value(Sold(rows.id, rows.get("price"), rows.get("in_stock")))
        itself = _through(select(*columns).select_from(self.rows), source, rows.id)
        if not listing.shows_parents(self.filters):
            return itself.subquery()
        return union_all(itself.where(rows.kind != ProductKind.PARENT), self._of_variants(value)).subquery()

    def _of_variants(self, value: Value) -> Select[Any]:
        variant, rows = aliased(Product), self.rows.c
        columns, source = value(Sold(variant.id, variant.price, case((is_in_stock(of=variant), 1), else_=0)))
        found = select(rows.id.label("listed"), *columns).join_from(self.rows, variant, variant.parent_id == rows.id)
        met = found.where(rows.kind == ProductKind.PARENT, *listing.is_active_and_meets(variant, self.filters))
        once = _through(met, source, variant.id).distinct().subquery()
        return select(*(column for column in once.c if column.key != "listed"))


def _through(rows: Select[Any], source: FromClause | None, product_id: Any) -> Select[Any]:
    return rows if source is None else rows.join(source, source.c.product_id == product_id)


def number_of_products() -> Label[int]:
    """The number of products of a group."""
    return func.count().label("products")


def counted(facet: str, number: Any, text: Any, count: Any, place: Any = None) -> Select[Any]:
    """A part of the union: the name of the facet and the members of a `Count`."""
    place = cast(null() if place is None else place, Float(53))
    return select(literal(facet), cast(number, big_integer), cast(text, Text), count, place)


def commonest(counts: Iterable[Count], is_chosen: Callable[[Count], bool]) -> list[tuple[Count, bool]]:
    """The commonest counts and the chosen ones, the largest first; among equal ones, by number and text."""
    ranked = sorted(counts, key=lambda one: (-one.count, one.number, one.text))
    marked = [(one, is_chosen(one)) for one in ranked]
    return [(one, chosen) for place, (one, chosen) in enumerate(marked) if chosen or place < MAX_VALUES]


def with_chosen(counts: Sequence[Count], texts: Iterable[str]) -> Sequence[Count]:
    """The counts, and those of chosen texts that no product has."""
    there = {one.text for one in counts}
    return [*counts, *(Count(0, text, 0) for text in texts if text not in there)]
