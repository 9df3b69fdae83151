"""Wire shapes of OAuth clients."""

from typing import Any

from app.features.oauth_clients.models import ClientType
from app.features.oauth_clients.redirects import RedirectUri
from app.features.oauth_clients.service import LISTING
from app.security.permissions import SCOPES
from app.web import fields
from app.web.schemas import BodySchema, ListQuerySchema, Order, Schema

NAME: dict[str, Any] = {"max_length": 100, "example": "Price comparison"}


def _redirect_uris(**options: Any) -> fields.Items:
    note = "Compared character by character; of http on this machine the port may differ (RFC 8252)."
    example = ["https://prices.example/callback"]
    return fields.Items(RedirectUri(), min_items=1, max_items=20, note=note, example=example, **options)


def _scopes(**options: Any) -> fields.Items:
    scope = fields.Choice(SCOPES, name="Scope")
    note = "The most that it may ask for."
    example = ["products:read", "categories:read"]
    return fields.Items(scope, min_items=1, max_items=len(SCOPES), note=note, example=example, **options)


class OAuthClientSchema(Schema):
    """An app of a third party, without its secret."""

    id = fields.Integer(dump_only=True, example=12)
    client_id = fields.Text(max_length=30, dump_only=True, note="Its name in requests of its own.", example="app_12")
    name = fields.Text(**NAME)
    type = fields.Choice(ClientType, dump_only=True, example="confidential")
    redirect_uris = _redirect_uris()
    scopes = _scopes()
    last_four = fields.Text(
        max_length=4, dump_only=True, allow_none=True, note="The last characters of its secret.", example="Xk4Q"
    )
    previous_until = fields.Moment(dump_only=True, allow_none=True, note="Until when the previous secret works too.")
    created_at = fields.Moment(dump_only=True)
    updated_at = fields.Moment(dump_only=True)
    version = fields.Integer(dump_only=True, example=1)


class NewOAuthClientSchema(OAuthClientSchema):
    """A client with its secret, which is shown only once."""

    client_secret = fields.Text(
        max_length=100,
        dump_only=True,
        allow_none=True,
        secret=True,
        note="Save it: only its hash is stored here. Null for a public client, which has none.",
        example="cas_12_...",
    )


class OAuthClientCreateSchema(BodySchema):
    """A new client; its scopes must be permissions that you have."""

    name = fields.Text(required=True, **NAME)
    type = fields.Choice(
        ClientType,
        required=True,
        note="`confidential` for a server that keeps a secret, `public` for a page or an app on a device.",
        example="confidential",
    )
    redirect_uris = _redirect_uris(required=True)
    scopes = _scopes(required=True)


class OAuthClientUpdateSchema(BodySchema):
    """The members of a client to change. Fewer scopes hold at once, also for what people have agreed to before."""

    name = fields.Text(**NAME)
    redirect_uris = _redirect_uris()
    scopes = _scopes()


class OAuthClientRotateSchema(BodySchema):
    """How long the current secret works beside the new one."""

    overlap_seconds = fields.Integer(minimum=0, maximum=7 * 24 * 3600, load_default=0, example=3600)


class OAuthClientQuerySchema(ListQuerySchema):
    """Sorting of clients."""

    sort_by = fields.Choice(list(LISTING.sorts), name="OAuthClientSort", load_default="created_at")
    order = fields.Choice(Order, load_default="desc")
