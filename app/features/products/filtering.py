"""Filters by attributes: what the texts of a query mean, and which rows of the index of values they find."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import ColumnElement, FromClause, Select, and_, or_, select

from app.core.errors import Fault, Invalid
from app.core.membership import among, is_one_of
from app.features.attributes.models import AttributeInvalid, AttributeType, AttributeUnknown
from app.features.attributes.values import canonical, describe
from app.features.product_types.rules import Definition, find_definitions
from app.features.products.models import Product
from app.features.products.values import VALUES

#: The filter, as the query schema and the listing name it: pairs of a code and its pieces, and then `Sought`.
FILTER = "attr"
MAX_FILTERS = 6

#: The types whose values have an order, of which a range is a part.
_ORDERED = frozenset({AttributeType.INTEGER, AttributeType.DECIMAL, AttributeType.DATE})

Filters = Mapping[str, Any]
#: A text by itself, or the two ends of a range, of which one may be empty.
Piece = tuple[str, ...]
Range = tuple[float | None, float | None]


_TAGGED = select(VALUES.c.product_id).where(VALUES.c.attribute_id.is_(None))


class AttributeNotFilterable(Invalid):
    """Products are not filtered by this attribute."""


class RangeUnfit(Invalid):
    r"""Only numbers and dates have ranges, with a value at one end at least; a dot in a text is written `\.` there."""


@dataclass(frozen=True, order=True)
class Sought:
    """The values of one attribute, of which a row needs one: texts, and ranges of which both ends are included."""

    code: str
    attribute_id: int
    texts: tuple[str, ...]
    ranges: tuple[Range, ...]


def resolve(filters: Filters) -> Filters:
    """The filters, with those by attributes as `Sought`; at most one statement.

    Raises ``AttributeUnknown``, ``AttributeNotFilterable``, ``AttributeInvalid`` and ``RangeUnfit`` as faults of their
    parameters.
    """
    if FILTER not in filters:
        return filters
    stated: Mapping[str, Sequence[Piece]] = dict(filters[FILTER])
    known = find_definitions(stated.keys())
    found: list[Sought] = []
    faults: list[Fault] = []
    for code, pieces in stated.items():
        try:
            found.append(_read(code, pieces, known.get(code)))
        except Invalid as refusal:
            faults += refusal.faults
    if faults:
        raise Invalid(*faults)
    return {**filters, FILTER: tuple(found)}


def rows_with(sought: Sequence[Sought]) -> tuple[FromClause, Select[Any]]:
    """The rows of the index that are of one product which has a value of each; the first table, and a SELECT from it.

    A product of several chosen values may be found more than once.
    """
    first, *others = (VALUES.alias() for _ in sought)
    source: Any = first
    for other in others:
        source = source.join(other, other.c.product_id == first.c.product_id)
    meets = (_meets(table, one) for table, one in zip((first, *others), sought, strict=True))
    return first, select(first.c.product_id).select_from(source).where(*meets)


def has_values(product_id: Any, sought: Sequence[Sought]) -> Iterator[ColumnElement[bool]]:
    """The conditions that the product with this id has a value of each, looked up by the product."""
    for one in sought:
        table = VALUES.alias()
        yield select(table.c.product_id).where(table.c.product_id == product_id, _meets(table, one)).exists()


def has_tag(_tags: Any, tag: Any) -> ColumnElement[bool]:
    """Whether a product has a tag."""
    return Product.id.in_(_TAGGED.where(VALUES.c.text == tag))


def has_any_tag(_tags: Any, tags: Any) -> ColumnElement[bool]:
    """Whether a product has one of the tags of a `ValueList`."""
    return Product.id.in_(_TAGGED.where(is_one_of(VALUES.c.text, tags)))


def _meets(table: FromClause, sought: Sought) -> ColumnElement[bool]:
    alternatives = [_is_within(table.c.number, *ends) for ends in sought.ranges]
    if len(sought.texts) == 1:
        alternatives.append(table.c.text == sought.texts[0])
    elif sought.texts:
        alternatives.append(among(table.c.text, sought.texts))
    return and_(table.c.attribute_id == sought.attribute_id, or_(*alternatives))


def _is_within(number: Any, low: float | None, high: float | None) -> ColumnElement[bool]:
    conditions = [] if low is None else [number >= low]
    return and_(*conditions, *([] if high is None else [number <= high]))


def _read(code: str, pieces: Sequence[Piece], definition: Definition | None) -> Sought:
    if definition is None:
        raise _fault(code, AttributeUnknown)
    if not definition.filterable:
        raise _fault(code, AttributeNotFilterable)
    texts = {canonical(_value_of(piece[0], definition)) for piece in pieces if len(piece) == 1}
    ranges = [_range_of(piece, definition) for piece in pieces if len(piece) > 1]
    return Sought(code, definition.id, tuple(sorted(texts)), tuple(ranges))


def _range_of(ends: Piece, definition: Definition) -> Range:
    if definition.type not in _ORDERED or not any(ends):
        raise _fault(definition.code, RangeUnfit)
    low, high = (definition.place_of(_value_of(end, definition)) if end else None for end in ends)
    return low, high


def _value_of(text: str, definition: Definition) -> Any:
    """The value that a text stands for, as JSON has it."""
    value: Any = text
    if definition.type in {AttributeType.INTEGER, AttributeType.DECIMAL, AttributeType.BOOLEAN}:
        value = _from_json(text)
    if not definition.fits([value] if definition.type is AttributeType.CHOICES else value):
        sentence = describe(definition.type, definition.allowed)
        raise Invalid(Fault(sentence, AttributeInvalid.code(), parameter=_parameter(definition.code)))
    return value


def _from_json(text: str) -> Any:
    try:
        return orjson.loads(text) if text == text.strip() else None
    except orjson.JSONDecodeError:
        return None


def _fault(code: str, refusal: type[Invalid]) -> Invalid:
    return Invalid(Fault(refusal.sentence(), refusal.code(), parameter=_parameter(code)))


def _parameter(code: str) -> str:
    return f"{FILTER}.{code}"
