"""Wire shapes of the endpoints of OAuth 2, by the names of the RFCs, and of grants."""

from typing import Any

from app.features.sessions.service import LISTING
from app.web import fields
from app.web.schemas import FormSchema, ListQuerySchema, Order, Schema

TOKEN: dict[str, Any] = {"max_length": 4096, "example": "eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJzdWIiOiI3In0.c2ln"}
SCOPE: dict[str, Any] = {"max_length": 2000, "example": "categories:read products:read"}
OPTIONAL: dict[str, Any] = {"schema": {"x-optional": True}}


class ClientFormSchema(FormSchema):
    """How a client authenticates, unless it does by HTTP Basic (RFC 6749 section 2.3.1)."""

    client_id = fields.Text(max_length=100, note="Of an app, or of an API key.", example="cat_5")
    client_secret = fields.Text(
        max_length=200,
        note="The secret of the app, or the whole API key. A public client sends none.",
        example="cat_5_...",
    )


class TokenFormSchema(ClientFormSchema):
    """A request for tokens. Which parameters it needs depends on `grant_type`."""

    NOT_IN_EXAMPLE = ("code", "redirect_uri", "code_verifier", "refresh_token")

    grant_type = fields.Text(
        required=True,
        max_length=100,
        note="`client_credentials`, `authorization_code` or `refresh_token`.",
        example="client_credentials",
    )
    scope = fields.Text(note="At most what was allowed, separated by blanks; without it, all of that.", **SCOPE)
    code = fields.Text(max_length=200, note="Of `authorization_code`.", example="q0Cc1iUT0rO1VyI6dZ6rYg")
    redirect_uri = fields.Text(
        max_length=2000,
        note="Of `authorization_code`: the one to which the code was sent.",
        example="https://prices.example/callback",
    )
    code_verifier = fields.Text(
        max_length=128,
        note="Of `authorization_code` (RFC 7636).",
        example="dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
    )
    refresh_token = fields.Text(note="Of `refresh_token`.", **TOKEN)


class OAuthTokenSchema(Schema):
    """An access token, and for an app that acts for a person a refresh token (RFC 6749 section 5.1)."""

    access_token = fields.Text(required=True, note="A JWT (RFC 9068).", **TOKEN)
    token_type = fields.Choice(["Bearer"], required=True, example="Bearer")
    expires_in = fields.Integer(required=True, note="The lifetime of the access token, in seconds.", example=900)
    scope = fields.Text(
        required=True,
        note="What it allows: less than was asked for, where the role of the person grants less.",
        **SCOPE,
    )
    refresh_token = fields.Text(note="Works once, like that of a login. Only for apps.", **TOKEN, **OPTIONAL)


class PresentedTokenFormSchema(ClientFormSchema):
    """A token, whichever it is."""

    token = fields.Text(required=True, **TOKEN)
    token_type_hint = fields.Text(
        max_length=100, note="`access_token` or `refresh_token`; both are looked for.", example="access_token"
    )


class IntrospectionSchema(Schema):
    """What a token allows now (RFC 7662 section 2.2); only `active`, where it is of no use, or not yours to know."""

    active = fields.Boolean(required=True, example=True)
    scope = fields.Text(min_length=0, note="What is left of its scopes.", **SCOPE, **OPTIONAL)
    client_id = fields.Text(max_length=100, example="app_12", **OPTIONAL)
    token_type = fields.Text(max_length=20, note="Of an access token.", example="Bearer", **OPTIONAL)
    sub = fields.Text(max_length=100, note="The id of the person, or the client's own.", example="7", **OPTIONAL)
    iss = fields.Text(max_length=2000, example="https://catalog.example", **OPTIONAL)
    aud = fields.Text(max_length=2000, example="https://catalog.example", **OPTIONAL)
    jti = fields.Text(max_length=64, example="6b6c6a9e-7c1f-4e4c-9d4f-0a3f5b2e1c7d", **OPTIONAL)
    iat = fields.Integer(note="In seconds since 1970.", example=1764583200, **OPTIONAL)
    exp = fields.Integer(note="In seconds since 1970.", example=1764584100, **OPTIONAL)


class GrantedClientSchema(Schema):
    """The app that a grant is for."""

    client_id = fields.Text(max_length=100, example="app_12")
    name = fields.Text(max_length=100, example="Price comparison")


class GrantSchema(Schema):
    """What you have let an app do."""

    id = fields.Integer(dump_only=True, example=40)
    client = fields.Nested(GrantedClientSchema)
    scopes = fields.Items(
        fields.Text(max_length=64, example="products:read"), max_items=100, example=["categories:read", "products:read"]
    )
    created_at = fields.Moment(dump_only=True)
    last_seen_at = fields.Moment(dump_only=True, note="Accurate to one minute.")
    expires_at = fields.Moment(dump_only=True, note="Unless the app comes again before.")


class GrantQuerySchema(ListQuerySchema):
    """Sorting of grants."""

    sort_by = fields.Choice(list(LISTING.sorts), name="SessionSort", load_default="last_seen_at")
    order = fields.Choice(Order, load_default="desc")
