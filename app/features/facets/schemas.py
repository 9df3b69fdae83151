"""Wire shapes of facets."""

from collections.abc import Mapping
from typing import Any

from app.features.attributes.models import AttributeType
from app.features.products.models import ProductStatus
from app.features.products.schemas import TAG
from app.web import fields
from app.web.schemas import Schema


class End(fields.Field):
    """The end of a range: a number, a date, or null; for responses."""

    def describe(self) -> Mapping[str, Any]:
        """The JSON Schema, which has several types."""
        return {**self.metadata, "type": ["number", "string", "null"]}


class CountSchema(Schema):
    """How many products a list shows if this value is chosen instead of the facet's present ones."""

    count = fields.Integer(minimum=0, example=31)
    selected = fields.Boolean(note="Whether the filters of this request choose this value.", example=False)


class CategoryCountSchema(CountSchema):
    """How many products are filed directly under a category, which `category_id` chooses."""

    id = fields.Integer(dump_only=True, example=7)
    name = fields.Text(max_length=120, example="Chairs")


class BrandCountSchema(CountSchema):
    """How many products are of a brand, which `brand_id` chooses."""

    id = fields.Integer(dump_only=True, example=3)
    name = fields.Text(max_length=120, example="Oakworks")


class TagCountSchema(CountSchema):
    """How many products have a tag, which `tag` chooses."""

    value = fields.Text(**TAG)


class PriceCountSchema(CountSchema):
    """How many products cost from `min_price` to `max_price`, both included, in the currency of the filter.

    The band is selected where the filters `min_price` and `max_price` let it pass whole.
    """

    min_price = fields.Money(example="100.00")
    max_price = fields.Money(example="199.99")


class StockCountSchema(CountSchema):
    """How many products are in stock, or are not, which `in_stock` chooses."""

    value = fields.Boolean(example=True)


class StatusCountSchema(CountSchema):
    """How many products have a status, which `status` chooses."""

    value = fields.Choice(ProductStatus, example="active")


class AttributeValueCountSchema(CountSchema):
    """How many products have a value of an attribute, which `attr.` with the code of the attribute chooses."""

    value = fields.Text(max_length=200, note="As the filter takes it.", example="oak")
    label = fields.Text(max_length=200, note="Of a choice; of others the value.", example="Oak")


class AttributeFacetSchema(Schema):
    """The values that products have of an attribute: each with its count, or of numbers and dates the ends."""

    code = fields.Text(max_length=63, example="material")
    label = fields.Text(max_length=120, example="Material")
    unit = fields.Text(max_length=20, allow_none=True, example="cm")
    type = fields.Choice(AttributeType, example="choice")
    values = fields.Nested(
        AttributeValueCountSchema, many=True, note="The commonest 50 and those that are selected; empty of a range."
    )
    min = End(note="The least value, of a number or a date that any product has.", example=40)
    max = End(note="The greatest value.", example=220)


class FacetsSchema(Schema):
    """How many products there are, and of which kinds.

    Each facet is counted with all filters but its own, so that what else could be chosen is shown with its count. The
    commonest 50 categories, brands and tags are listed, commonest first, and those that are selected, also where no
    product has them. `below` narrows every facet. A product with variants counts for a price, a stock or a value of an
    attribute where one active variant has it and meets the other filters of these, so that it can count more than once.
    """

    total = fields.Integer(minimum=0, note="As the list with all filters has.", example=42)
    category = fields.Nested(CategoryCountSchema, many=True, note="Empty for those who may not read categories.")
    brand = fields.Nested(BrandCountSchema, many=True, note="Empty for those who may not read brands.")
    tag = fields.Nested(TagCountSchema, many=True)
    price = fields.Nested(
        PriceCountSchema,
        many=True,
        note="Where the filter `currency` has one value: the bands that have products, the cheapest first, and where"
        " both `min_price` and `max_price` are given, all bands between them. Otherwise empty: amounts of different"
        " currencies cannot be compared.",
    )
    stock = fields.Nested(StockCountSchema, many=True, note="Both values, `true` first.")
    status = fields.Nested(StatusCountSchema, many=True, note="Every status.")
    attributes = fields.Nested(
        AttributeFacetSchema,
        many=True,
        note="Filterable attributes that products have: those that are filtered by, and 20 others, of which the"
        " commonest values have most products. Empty for those who may not read types.",
    )
