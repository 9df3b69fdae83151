"""Facets by attributes, of which there are as many as clients make: values with counts, or the ends of a range."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, ClassVar

from sqlalchemy import Select, func, literal, select

from app.core.membership import ValueList, among, is_one_of
from app.core.model import big_integer
from app.features.attributes.models import AttributeType
from app.features.facets.counting import (
    MAX_VALUES,
    Count,
    Filters,
    Found,
    Sold,
    Value,
    commonest,
    counted,
    number_of_products,
    with_chosen,
)
from app.features.product_types.rules import Definition
from app.features.products.filtering import FILTER, Sought
from app.features.products.models import Product
from app.features.products.values import VALUES

#: How many attributes are shown beside those that are filtered by, those of the commonest values first.
MAX_ATTRIBUTES = 20

#: The types that are shown by the least and the greatest value.
RANGED = frozenset({AttributeType.INTEGER, AttributeType.DECIMAL, AttributeType.DATE})

_LEAST, _GREATEST = "least", "greatest"


@dataclass(frozen=True, eq=False)
class Attributes:
    """Counts by some attributes, under one name: either of those that are not filtered by, or of one that is."""

    name: str
    definitions: tuple[Definition, ...]
    sought: Sought | None = None
    #: The filters that choose among the values, and the columns of the products that are counted.
    filters: ClassVar[tuple[str, ...]] = (FILTER,)
    columns: ClassVar[tuple[Any, ...]] = (Product.id, Product.kind)

    def others(self, filters: Filters) -> Filters:
        """The filters but its own."""
        if self.sought is None:
            return filters
        left = tuple(one for one in filters[FILTER] if one is not self.sought)
        return {name: value for name, value in filters.items() if name != FILTER} | ({FILTER: left} if left else {})

    def count(self, found: Found, _filters: Filters) -> Iterator[Select[Any]]:
        """The statements that count the products that are found; two of them may count the same value."""
        by_count = [each.id for each in self.definitions if each.type not in RANGED]
        if by_count:
            yield from self._count_values(found, by_count)
        by_range = [each.id for each in self.definitions if each.type in RANGED]
        if by_range:
            yield from self._find_ends(found, by_range)

    def _count_values(self, found: Found, ids: Sequence[int]) -> Iterator[Select[Any]]:
        values = found.values(_values_of(ids, "text"))
        grouped = select(values.c.attribute_id, values.c.text, number_of_products())
        by_value = grouped.group_by(values.c.attribute_id, values.c.text).cte(f"by_value_{self.name}")
        place = func.row_number().over(
            partition_by=by_value.c.attribute_id, order_by=(by_value.c.products.desc(), by_value.c.text)
        )
        ranked = select(by_value, place.label("place")).subquery()
        yield counted(self.name, ranked.c.attribute_id, ranked.c.text, ranked.c.products).where(
            ranked.c.place <= MAX_VALUES
        )
        if self.sought is not None:
            yield counted(self.name, *by_value.c).where(among(by_value.c.text, self.sought.texts))

    def _find_ends(self, found: Found, ids: Sequence[int]) -> Iterator[Select[Any]]:
        values = found.values(_values_of(ids, "number"))
        ends = {_LEAST: func.min(values.c.number), _GREATEST: func.max(values.c.number)}
        grouped = select(
            values.c.attribute_id,
            number_of_products(),
            *(end.label(name) for name, end in ends.items()),
        )
        by_attribute = grouped.group_by(values.c.attribute_id).cte(f"ends_{self.name}")
        for name in ends:
            end = by_attribute.c[name]
            yield counted(self.name, by_attribute.c.attribute_id, literal(name), by_attribute.c.products, end)

    def show(self, counts: Iterable[Count]) -> Iterator[tuple[int, dict[str, Any]]]:
        """The attributes that products have, or that are filtered by, as an answer has them; each with its weight."""
        by_id: dict[int, list[Count]] = {}
        for one in counts:
            by_id.setdefault(one.number, []).append(one)
        for definition in self.definitions:
            found = by_id.get(definition.id, [])
            if found or self.sought is not None:
                yield max((one.count for one in found), default=0), self._shown(definition, found)

    def _shown(self, definition: Definition, found: Sequence[Count]) -> dict[str, Any]:
        head = {"code": definition.code, "label": definition.label, "unit": definition.unit, "type": definition.type}
        if definition.type in RANGED:
            ends = {one.text: _value_at(one.place, definition.type) for one in found}
            return {**head, "values": [], "min": ends.get(_LEAST), "max": ends.get(_GREATEST)}
        chosen = self.sought.texts if self.sought is not None else ()
        values = [
            {
                "value": one.text,
                "label": definition.choices.get(one.text, one.text),
                "count": one.count,
                "selected": is_chosen,
            }
            for one, is_chosen in commonest(with_chosen(_alone(found), chosen), lambda one: one.text in chosen)
        ]
        return {**head, "values": values, "min": None, "max": None}


def facets_of(definitions: Mapping[str, Definition], filters: Filters) -> Iterator[Attributes]:
    """The facets by attributes: one of all that are not filtered by, and one of each that is."""
    sought = {one.code: one for one in filters.get(FILTER, ())}
    others = [each for each in definitions.values() if each.filterable and each.code not in sought]
    if others:
        yield Attributes("attributes", tuple(others))
    # By their numbers, because PostgreSQL cuts a long name in a statement off.
    for number, code in enumerate(sorted(sought.keys() & definitions.keys())):
        yield Attributes(f"{FILTER}_{number}", (definitions[code],), sought[code])


def show_all(shown: Iterable[tuple[bool, int, dict[str, Any]]]) -> list[dict[str, Any]]:
    """The attributes of an answer: those that are filtered by, and of the others the commonest, by weight and code."""
    ranked = sorted(shown, key=lambda one: (not one[0], -one[1], one[2]["code"]))
    chosen = sum(is_chosen for is_chosen, _, _ in ranked)
    return [attribute for _, _, attribute in ranked[: chosen + MAX_ATTRIBUTES]]


def _values_of(ids: Sequence[int], column: str) -> Value:
    """The values of some attributes, of a row that is sold."""

    def make(_sold: Sold) -> Any:
        is_of_these = is_one_of(VALUES.c.attribute_id, literal(sorted(ids), ValueList(big_integer)))
        columns = (VALUES.c.product_id, VALUES.c.attribute_id, VALUES.c[column])
        values = select(*columns).where(is_of_these).subquery()
        return (values.c.attribute_id.label("attribute_id"), values.c[column].label(column)), values

    return make


def _alone(counts: Sequence[Count]) -> Sequence[Count]:
    """The same without the attribute, which all of them are of."""
    return [Count(0, one.text, one.count) for one in counts]


def _value_at(place: float | None, type_: AttributeType) -> Any:
    if place is None:
        return None
    if type_ is AttributeType.DATE:
        return date.fromordinal(int(place)).isoformat()
    return int(place) if type_ is AttributeType.INTEGER or place == int(place) else place
