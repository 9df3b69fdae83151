"""Wire shapes of brands."""

from typing import Any

from app.core.slugs import MAX_SLUG_LENGTH
from app.features.brands.models import KEYS
from app.features.brands.service import LISTING
from app.web import fields
from app.web.schemas import BodySchema, Order, PatchSchema, Schema, SearchQuerySchema

NAME: dict[str, Any] = {"max_length": 120, "example": "Oakworks"}
SLUG: dict[str, Any] = {
    "max_length": MAX_SLUG_LENGTH,
    "pattern": r"^[a-z0-9]+(-[a-z0-9]+)*$",
    "example": "oakworks",
}
#: An absolute URL of http or https (RFC 3986) with a host, and without a name and password before that.
WEBSITE: dict[str, Any] = {
    "max_length": 500,
    "allow_none": True,
    "pattern": r"^[Hh][Tt][Tt][Pp][Ss]?://[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?([/?#][!#-;=?-\[\]_a-z~]*)?$",
    "example": "https://oakworks.example/",
}
EXTERNAL_ID: dict[str, Any] = {"max_length": 128, "allow_none": True, "example": "erp-31"}


class BrandSchema(Schema):
    """A brand."""

    id = fields.Integer(dump_only=True, example=3)
    name = fields.Text(**NAME)
    slug = fields.Text(**SLUG)
    website = fields.Text(**WEBSITE)
    external_id = fields.Text(**EXTERNAL_ID)
    created_at = fields.Moment(dump_only=True)
    updated_at = fields.Moment(dump_only=True)
    version = fields.Integer(dump_only=True, example=1)


class BrandCreateSchema(BodySchema):
    """The members of a brand; without a slug, a new one gets one from its name and an existing one keeps its own."""

    NOT_IN_EXAMPLE = tuple(KEYS)

    name = fields.Text(required=True, **NAME)
    slug = fields.Text(**SLUG)
    website = fields.Text(load_default=None, note="An absolute URL of http or https.", **WEBSITE)
    external_id = fields.Text(load_default=None, **EXTERNAL_ID)


class BrandUpdateSchema(PatchSchema, BrandCreateSchema):
    """The members of a brand to change."""


class BrandQuerySchema(SearchQuerySchema):
    """Filters and sorting of brands."""

    sort_by = fields.Choice(list(LISTING.sorts), name="BrandSort", load_default="name")
    order = fields.Choice(Order, load_default="asc")
    id = fields.Values(fields.QueryInteger())
    slug = fields.Values(fields.Text(**SLUG))
    external_id = fields.Values(fields.Text(max_length=128, example="erp-31"))
    created_since = fields.Moment(note="Created at this time or later.")
    updated_since = fields.Moment(note="Updated at this time or later.")
