"""Wire shapes of API keys."""

from typing import Any

from app.features.api_keys.service import LISTING
from app.security.permissions import SCOPES
from app.web import fields
from app.web.schemas import BodySchema, ListQuerySchema, Order, Schema

NAME: dict[str, Any] = {"max_length": 100, "example": "Warehouse sync"}


def _scopes(**options: Any) -> fields.Items:
    scope = fields.Choice(SCOPES, name="Scope")
    return fields.Items(
        scope, min_items=1, max_items=len(SCOPES), example=["products:read", "categories:read"], **options
    )


class ApiKeySchema(Schema):
    """An API key, without its secret."""

    id = fields.Integer(dump_only=True, example=5)
    user_id = fields.Integer(dump_only=True, example=1)
    name = fields.Text(**NAME)
    prefix = fields.Text(max_length=30, dump_only=True, note="The first characters of the key.", example="cat_5_")
    client_id = fields.Text(
        max_length=30,
        dump_only=True,
        note="Its name as a client of `POST /oauth/token`, where the whole key is the `client_secret`.",
        example="cat_5",
    )
    last_four = fields.Text(max_length=4, dump_only=True, note="The last characters of its secret.", example="Xk4Q")
    scopes = _scopes()
    expires_at = fields.Moment(allow_none=True)
    previous_until = fields.Moment(dump_only=True, allow_none=True, note="Until when the previous secret works too.")
    last_used_at = fields.Moment(dump_only=True, allow_none=True, note="Accurate to one minute.")
    created_at = fields.Moment(dump_only=True)
    updated_at = fields.Moment(dump_only=True)
    version = fields.Integer(dump_only=True, example=1)


class NewApiKeySchema(ApiKeySchema):
    """An API key with its secret, which is shown only once."""

    key = fields.Text(
        max_length=100, dump_only=True, secret=True, note="Save it: only its hash is stored here.", example="cat_5_..."
    )


class ApiKeyCreateSchema(BodySchema):
    """A new key; its scopes must be permissions that you have."""

    name = fields.Text(required=True, **NAME)
    scopes = _scopes(required=True)
    expires_at = fields.Moment(allow_none=True, load_default=None, example="2099-12-31T23:59:59Z")


class ApiKeyUpdateSchema(BodySchema):
    """The members of a key to change."""

    name = fields.Text(**NAME)
    scopes = _scopes()
    expires_at = fields.Moment(allow_none=True, example="2099-12-31T23:59:59Z")


class ApiKeyRotateSchema(BodySchema):
    """How long the current secret works beside the new one."""

    overlap_seconds = fields.Integer(minimum=0, maximum=7 * 24 * 3600, load_default=0, example=3600)


class ApiKeyQuerySchema(ListQuerySchema):
    """Filters and sorting of keys."""

    sort_by = fields.Choice(list(LISTING.sorts), name="ApiKeySort", load_default="created_at")
    order = fields.Choice(Order, load_default="desc")
    user_id = fields.Values(fields.QueryInteger(), note="For administrators: the keys of this user.")
