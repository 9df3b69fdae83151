"""The rules of product types for the attributes of products: plain values, read from the rows of both."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import Select, select

from app.core.errors import Fault, pointer_to
from app.core.fastsql import find_rows
from app.core.transactions import run
from app.features.attributes import values
from app.features.attributes.models import Attribute, AttributeInvalid, AttributeType, AttributeUnknown
from app.features.product_types.models import ProductType

#: The member of a product that has the values, in pointers.
MEMBER = "attributes"

# One object for all requests, because compiled statements are cached by it.
_TYPES = select(ProductType)
_ATTRIBUTES = select(Attribute)
_DEFINITIONS = select(
    Attribute.id,
    Attribute.code,
    Attribute.type,
    Attribute.label,
    Attribute.unit,
    Attribute.choices,
    Attribute.filterable,
    Attribute.searchable,
)


@dataclass(frozen=True)
class Definition:
    """An attribute: which values it has, and how products are found by them. ``choices`` are labels by code."""

    id: int
    code: str
    type: AttributeType
    label: str
    unit: str | None
    choices: Mapping[str, str]
    filterable: bool
    searchable: bool

    @property
    def allowed(self) -> values.Allowed:
        """What it allows beside its type."""
        most = values.MAX_FILTERABLE_LENGTH if self.filterable else values.MAX_TEXT_LENGTH
        return values.Allowed(self.choices, most)

    def fits(self, value: Any) -> bool:
        """Whether a JSON value is one that the attribute can have; null is not."""
        return values.fits(value, self.type, self.allowed)

    def fault_of(self, value: Any) -> Fault | None:
        """Why a JSON value does not fit; None where it does."""
        if self.fits(value):
            return None
        sentence = values.describe(self.type, self.allowed)
        return Fault(sentence, AttributeInvalid.code(), pointer=pointer_to(MEMBER, self.code))

    def index(self, value: Any) -> Sequence[tuple[str, float | None]]:
        """What a value is found by: a text, and of a number or a date its place among the others as well.

        There is a pair for each chosen code of a list. Empty where the value does not fit, or nothing is filtered by
        the attribute.
        """
        if not self.filterable or not self.fits(value):
            return []
        return [(values.canonical(one), self.place_of(one)) for one in (value if isinstance(value, list) else [value])]

    def words(self, value: Any) -> str:
        """What a search reads of a value: the labels of choices. Empty where it does not fit, or is not searched."""
        if not self.searchable or not self.fits(value):
            return ""
        texts = [values.canonical(one) for one in (value if isinstance(value, list) else [value])]
        return " ".join(self.choices.get(text, text) for text in texts)

    def place_of(self, value: Any) -> float | None:
        """Where a value that fits is among the others of a number or a date; None for other types."""
        if self.type is AttributeType.DATE:
            return float(date.fromisoformat(value).toordinal())
        return float(value) if self.type in {AttributeType.INTEGER, AttributeType.DECIMAL} else None


@dataclass(frozen=True)
class Rules:
    """A product type: its attributes by code, in its order.

    ``required`` are those that an active product needs, without the ``options``, by which variants differ.
    """

    id: int
    code: str
    definitions: Mapping[str, Definition]
    required: frozenset[str]
    options: Sequence[str]

    def faults_of(self, attributes: Mapping[str, Any]) -> list[Fault]:
        """A fault for each attribute that the type does not list, and for each value that does not fit."""
        faults = (self._fault_of(code, value) for code, value in attributes.items())
        return [fault for fault in faults if fault is not None]

    def missing(self, stated: Collection[str]) -> list[str]:
        """The codes of required attributes that are not among the stated, in the type's order."""
        return [code for code in self.definitions if code in self.required and code not in stated]

    def _fault_of(self, code: str, value: Any) -> Fault | None:
        definition = self.definitions.get(code)
        if definition is not None:
            return definition.fault_of(value)
        return Fault(
            "The type of this product has no such attribute.", AttributeUnknown.code(), pointer=pointer_to(MEMBER, code)
        )


def find_rules(type_ids: Collection[int]) -> Mapping[int, Rules]:
    """The rules of product types, by id, without unknown ones; two statements at most."""
    types = find_rows(_TYPES, ProductType.id, type_ids)
    definitions = find_definitions({listed["code"] for found in types.values() for listed in found.attributes})
    return {type_id: _rules_of(found, definitions) for type_id, found in types.items()}


def find_definitions(codes: Collection[str]) -> Mapping[str, Definition]:
    """The attributes with one of these codes, by code; one statement at most."""
    found = find_rows(_ATTRIBUTES, Attribute.code, codes)
    return {row.code: _definition_of(row) for row in found.values()}


def all_definitions() -> Mapping[str, Definition]:
    """Every attribute, by code, in the order of the codes; one statement."""
    return _definitions_in(_DEFINITIONS.order_by(Attribute.code))


def _definitions_in(rows: Select[*tuple[Any, ...]]) -> Mapping[str, Definition]:
    return {row.code: _definition_of(row) for row in run(rows)}


def _definition_of(row: Any) -> Definition:
    return Definition(
        id=row.id,
        code=row.code,
        type=AttributeType(row.type),
        label=row.label,
        unit=row.unit,
        choices={choice["code"]: choice["label"] for choice in row.choices},
        filterable=row.filterable,
        searchable=row.searchable,
    )


def _rules_of(found: Any, definitions: Mapping[str, Definition]) -> Rules:
    listed = [each for each in found.attributes if each["code"] in definitions]
    return Rules(
        id=found.id,
        code=found.code,
        definitions={each["code"]: definitions[each["code"]] for each in listed},
        required=frozenset(each["code"] for each in listed if each["required"] and not each["is_option"]),
        options=[each["code"] for each in listed if each["is_option"]],
    )
