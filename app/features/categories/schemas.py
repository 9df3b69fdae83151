"""Wire shapes of categories."""

from collections.abc import Mapping
from typing import Any

import marshmallow as ma

from app.features.categories.models import KEYS
from app.features.categories.service import LISTING
from app.web import fields
from app.web.schemas import BodySchema, Order, Schema, SearchQuerySchema

NAME: dict[str, Any] = {"max_length": 120, "example": "Outdoor furniture"}
SLUG: dict[str, Any] = {"max_length": 140, "pattern": r"^[a-z0-9]+(-[a-z0-9]+)*$", "example": "outdoor-furniture"}

EXTERNAL_ID: dict[str, Any] = {"max_length": 128, "allow_none": True, "example": "erp-12"}


class CategorySchema(Schema):
    """A category."""

    id = fields.Integer(dump_only=True, example=7)
    name = fields.Text(**NAME)
    slug = fields.Text(**SLUG)
    external_id = fields.Text(**EXTERNAL_ID)
    parent_id = fields.Integer(allow_none=True, example=3)
    created_at = fields.Moment(dump_only=True)
    updated_at = fields.Moment(dump_only=True)
    version = fields.Integer(dump_only=True, example=1)


class CategoryCreateSchema(BodySchema):
    """The members of a category; without a slug, a new one gets one from its name and an existing one keeps its own."""

    NOT_IN_EXAMPLE = tuple(KEYS)

    name = fields.Text(required=True, **NAME)
    slug = fields.Text(**SLUG)
    external_id = fields.Text(load_default=None, **EXTERNAL_ID)
    parent_id = fields.Integer(allow_none=True, load_default=None, example=None)


class CategoryUpdateSchema(BodySchema):
    """The members of a category to change; a null parent makes it a root."""

    NOT_IN_EXAMPLE = tuple(KEYS)

    name = fields.Text(**NAME)
    slug = fields.Text(**SLUG)
    external_id = fields.Text(**EXTERNAL_ID)
    parent_id = fields.Integer(allow_none=True)


class CategoryQuerySchema(SearchQuerySchema):
    """Filters and sorting of categories."""

    sort_by = fields.Choice(list(LISTING.sorts), name="CategorySort", load_default="name")
    order = fields.Choice(Order, load_default="asc")
    id = fields.Values(fields.QueryInteger())
    parent_id = fields.Values(fields.QueryInteger(), note="Only the direct children of this category.")
    below = fields.Values(fields.QueryInteger(), note="This category and its descendants.")
    slug = fields.Values(fields.Text(**SLUG))
    external_id = fields.Values(fields.Text(max_length=128, example="erp-12"))
    created_since = fields.Moment(note="Created at this time or later.")
    updated_since = fields.Moment(note="Updated at this time or later.")
    tree = fields.QueryBoolean(note="The whole tree, nested and sorted by name; not with other parameters.")

    @ma.validates_schema(pass_original=True)
    def _refuse_parameters_beside_tree(self, data: Mapping[str, Any], original: Mapping[str, Any], **_: Any) -> None:
        if data.get("tree") and len(original) > 1:
            message = fields.Message("tree_stands_alone", "The tree is whole; send no other parameters with it.")
            raise ma.ValidationError([message], "tree")
