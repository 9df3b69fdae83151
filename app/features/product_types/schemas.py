"""Wire shapes of product types."""

from typing import Any

from app.features.attributes.schemas import CODE as ATTRIBUTE_CODE
from app.features.product_types.models import KEYS, MAX_ATTRIBUTES
from app.features.product_types.service import LISTING
from app.web import fields
from app.web.objects import Objects
from app.web.schemas import BodySchema, Order, PatchSchema, Schema, SearchQuerySchema

CODE: dict[str, Any] = {**ATTRIBUTE_CODE, "example": "armchair"}
LABEL: dict[str, Any] = {"max_length": 120, "example": "Armchair"}
LISTED_CODE: dict[str, Any] = {**ATTRIBUTE_CODE, "example": "colour"}
REQUIRED: dict[str, Any] = {"note": "Whether an active product needs a value.", "example": True}
IS_OPTION: dict[str, Any] = {
    "note": "Whether the variants of a product differ by it; not for attributes of the type `choices`.",
    "example": False,
}


class TypeAttributeSchema(Schema):
    """An attribute that products of a type have, and its place among the others, from 0."""

    code = fields.Text(**LISTED_CODE)
    position = fields.Integer(minimum=0, maximum=MAX_ATTRIBUTES - 1, dump_only=True, example=0)
    required = fields.Boolean(**REQUIRED)
    is_option = fields.Boolean(**IS_OPTION)


class ListedAttributeSchema(BodySchema):
    """An attribute that products of a type have."""

    code = fields.Text(required=True, **LISTED_CODE)
    required = fields.Boolean(load_default=False, **REQUIRED)
    is_option = fields.Boolean(load_default=False, **IS_OPTION)


class ProductTypeSchema(Schema):
    """A kind of product."""

    id = fields.Integer(dump_only=True, example=3)
    code = fields.Text(**CODE)
    label = fields.Text(**LABEL)
    attributes = fields.Nested(TypeAttributeSchema, many=True)
    created_at = fields.Moment(dump_only=True)
    updated_at = fields.Moment(dump_only=True)
    version = fields.Integer(dump_only=True, example=1)


class ProductTypeReplaceSchema(BodySchema):
    """The whole of a product type; its code stays, and may be stated as it is."""

    NOT_IN_EXAMPLE = tuple(KEYS)

    code = fields.Text(**CODE)
    label = fields.Text(required=True, **LABEL)
    attributes = Objects(
        ListedAttributeSchema,
        unique="code",
        max_items=MAX_ATTRIBUTES,
        load_default=list,
        note="In the order in which they are shown, each once.",
        example=[{"code": "colour", "required": True}],
    )


class ProductTypeCreateSchema(ProductTypeReplaceSchema):
    """A new product type."""

    NOT_IN_EXAMPLE = ()

    code = fields.Text(required=True, note="Names it, and stays.", **CODE)


class ProductTypeUpdateSchema(PatchSchema, ProductTypeReplaceSchema):
    """The members of a product type to change; `attributes` replaces the whole list."""


class ProductTypeQuerySchema(SearchQuerySchema):
    """Filters and sorting of product types."""

    sort_by = fields.Choice(list(LISTING.sorts), name="ProductTypeSort", load_default="label")
    order = fields.Choice(Order, load_default="asc")
    id = fields.Values(fields.QueryInteger())
    code = fields.Values(fields.Text(**CODE))
    created_since = fields.Moment(note="Created at this time or later.")
    updated_since = fields.Moment(note="Updated at this time or later.")
