"""Wire shapes of attributes."""

from typing import Any

from app.features.attributes.models import KEYS, MAX_CHOICES, MAX_CODE_LENGTH, AttributeType
from app.features.attributes.service import LISTING
from app.web import fields
from app.web.objects import Objects
from app.web.schemas import BodySchema, Order, PatchSchema, Schema, SearchQuerySchema

CODE: dict[str, Any] = {
    "max_length": MAX_CODE_LENGTH,
    "pattern": rf"^[a-z][a-z0-9_]{{0,{MAX_CODE_LENGTH - 1}}}$",
    "example": "board_thickness",
}
LABEL: dict[str, Any] = {"max_length": 120, "example": "Board thickness"}
UNIT: dict[str, Any] = {
    "max_length": 20,
    "allow_none": True,
    "note": "What its values are measured in.",
    "example": "mm",
}
FILTERABLE: dict[str, Any] = {
    "note": "Whether products are filtered by it; its texts then have at most 200 characters, and else 1,000.",
    "example": True,
}
SEARCHABLE: dict[str, Any] = {"note": "Whether a search for products reads its values.", "example": True}
CHOICES: dict[str, Any] = {
    "example": [{"code": "18", "label": "18 mm"}, {"code": "25", "label": "25 mm"}],
    "note": "At least one for the types `choice` and `choices`, with a code of its own each; empty for the others.",
}


class AttributeChoiceSchema(BodySchema):
    """A value that an attribute can have, and how it is shown."""

    code = fields.Code(required=True, max_length=MAX_CODE_LENGTH, example="18")
    label = fields.Text(required=True, max_length=120, example="18 mm")


class AttributeSchema(Schema):
    """What can be said of products."""

    id = fields.Integer(dump_only=True, example=3)
    code = fields.Text(**CODE)
    label = fields.Text(**LABEL)
    type = fields.Choice(AttributeType, example="choice")
    unit = fields.Text(**UNIT)
    choices = fields.Nested(AttributeChoiceSchema, many=True, **CHOICES)
    filterable = fields.Boolean(**FILTERABLE)
    searchable = fields.Boolean(**SEARCHABLE)
    created_at = fields.Moment(dump_only=True)
    updated_at = fields.Moment(dump_only=True)
    version = fields.Integer(dump_only=True, example=1)


class AttributeReplaceSchema(BodySchema):
    """The whole of an attribute; its code and its type stay, and may be stated as they are."""

    NOT_IN_EXAMPLE = tuple(KEYS)

    code = fields.Text(**CODE)
    label = fields.Text(required=True, **LABEL)
    type = fields.Choice(AttributeType, required=True, example="choice", note="Set at creation.")
    unit = fields.Text(load_default=None, **UNIT)
    choices = Objects(AttributeChoiceSchema, unique="code", max_items=MAX_CHOICES, load_default=list, **CHOICES)
    filterable = fields.Boolean(load_default=False, **FILTERABLE)
    searchable = fields.Boolean(load_default=False, **SEARCHABLE)


class AttributeCreateSchema(AttributeReplaceSchema):
    """A new attribute."""

    NOT_IN_EXAMPLE = ()

    code = fields.Text(required=True, note="Names it in products, and stays.", **CODE)


class AttributeUpdateSchema(PatchSchema, AttributeReplaceSchema):
    """The members of an attribute to change; its code and its type may be stated as they are."""


class AttributeQuerySchema(SearchQuerySchema):
    """Filters and sorting of attributes."""

    sort_by = fields.Choice(list(LISTING.sorts), name="AttributeSort", load_default="label")
    order = fields.Choice(Order, load_default="asc")
    id = fields.Values(fields.QueryInteger())
    code = fields.Values(fields.Text(**CODE))
    type = fields.Values(fields.Choice(AttributeType))
    filterable = fields.QueryBoolean()
    created_since = fields.Moment(note="Created at this time or later.")
    updated_since = fields.Moment(note="Updated at this time or later.")
