"""Wire shapes of logins with identity providers."""

from collections.abc import Mapping
from typing import Any

import marshmallow as ma

from app.clients.oidc import current_providers
from app.features.auth.schemas import REFRESH_TOKEN_PLACE
from app.features.identities.attempts import DEFAULT_RETURN
from app.features.identities.service import LISTING
from app.web import fields
from app.web.schemas import BodySchema, FormSchema, ListQuerySchema, Order, ProtocolQuerySchema, QuerySchema, Schema

NAME: dict[str, Any] = {"max_length": 32, "pattern": "^[a-z0-9-]+$", "example": "company"}
#: Visible ASCII characters (RFC 6749 appendix A), which a provider's own values consist of.
VISIBLE = r"^[\u0020-\u007e]+$"
RETURN_TO: dict[str, Any] = {
    "max_length": 2000,
    "pattern": r"^[!-~]+$",
    "example": "/docs",
    "note": "The path of a page of this server, or exactly one of LOGIN_RETURN_URLS.",
}
SHA256_IN_BASE64 = r"^[A-Za-z0-9_-]{43}$"


class ProviderName(fields.Text):
    """The name of the provider that has an issuer; null where it is no longer among OIDC_PROVIDERS."""

    def write(self, value: Any, _beside: Any = None) -> str | None:
        """The name."""
        return next((name for name, client in current_providers().items() if client.provider.issuer == value), None)


class ProviderSchema(Schema):
    """An identity provider that people can log in with."""

    name = fields.Text(dump_only=True, required=True, **NAME)
    title = fields.Text(dump_only=True, required=True, max_length=80, note="What a button says.", example="Company")


class ProvidersSchema(Schema):
    """The identity providers that people can log in with."""

    items = fields.Nested(
        ProviderSchema, many=True, dump_only=True, required=True, example=[{"name": "company", "title": "Company"}]
    )


class LoginQuerySchema(QuerySchema):
    """How a login with a provider ends."""

    return_to = fields.Text(load_default=DEFAULT_RETURN, **RETURN_TO)
    mode = fields.Choice(
        ["cookie", "code"],
        name="LoginMode",
        load_default="cookie",
        note="Whether the browser gets the refresh token as a cookie, or an app a code that it exchanges for tokens.",
    )
    code_challenge = fields.Text(
        max_length=43,
        min_length=43,
        pattern=SHA256_IN_BASE64,
        note="With the mode `code`: the S256 challenge of the app's code_verifier (RFC 7636 section 4.2).",
        example="E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
    )

    @ma.validates_schema
    def _refuse_code_without_challenge(self, data: Mapping[str, Any], **_: Any) -> None:
        if (data.get("mode") == "code") != ("code_challenge" in data):
            message = fields.Message(
                "code_challenge_misplaced", "A challenge belongs to the mode code, and to no other."
            )
            raise ma.ValidationError([message], "code_challenge")


class CallbackQuerySchema(ProtocolQuerySchema):
    """What the provider sends with the browser (RFC 6749 section 4.1.2, RFC 9207)."""

    state = fields.Text(max_length=200, pattern=VISIBLE, note="The state of the attempt.")
    code = fields.Text(max_length=4096, pattern=VISIBLE, note="The authorization code.")
    iss = fields.Text(max_length=255, pattern=VISIBLE, note="The issuer of the response.")
    error = fields.Text(max_length=200, pattern=VISIBLE, note="Why there is no code.")


class ExchangeSchema(BodySchema):
    """The code of a login, and the verifier of its challenge."""

    code = fields.Text(
        required=True,
        min_length=43,
        max_length=43,
        pattern=SHA256_IN_BASE64,
        example="Yzk5d2ZkOGE3c2Q5ZjhhN3NkOWY4YTdzZDlmOGE3c2Q",
    )
    code_verifier = fields.Text(
        required=True,
        min_length=43,
        max_length=128,
        pattern=r"^[A-Za-z0-9._~-]{43,128}$",
        example="dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
    )
    refresh_token_in = fields.Choice(["body", "cookie"], **REFRESH_TOKEN_PLACE)


class LinkSchema(BodySchema):
    """How the linking of an identity ends."""

    return_to = fields.Text(load_default=DEFAULT_RETURN, **RETURN_TO)


class LinkingSchema(Schema):
    """Where the browser goes to link an identity."""

    authorization_url = fields.Text(
        dump_only=True,
        required=True,
        max_length=4096,
        pattern=VISIBLE,
        schema={"format": "uri"},
        example="https://id.example/authorize?response_type=code&client_id=catalog",
    )


class IdentitySchema(Schema):
    """An identity that you can log in with: who you are at a provider."""

    id = fields.Integer(dump_only=True, example=4)
    provider = ProviderName(
        dump_only=True,
        attribute="issuer",
        allow_none=True,
        note="Null of a provider that is no longer offered.",
        **NAME,
    )
    issuer = fields.Text(dump_only=True, max_length=255, example="https://id.example")
    email = fields.Text(
        dump_only=True,
        allow_none=True,
        max_length=254,
        note="The address there at the last login.",
        example="alice@example.com",
    )
    created_at = fields.Moment(dump_only=True)
    last_used_at = fields.Moment(dump_only=True)


class IdentityQuerySchema(ListQuerySchema):
    """Sorting of identities."""

    sort_by = fields.Choice(list(LISTING.sorts), name="IdentitySort", load_default="created_at")
    order = fields.Choice(Order, load_default="desc")


class LogoutFormSchema(FormSchema):
    """The logout token of a provider (OpenID Connect Back-Channel Logout 1.0 section 2.5)."""

    logout_token = fields.Text(
        required=True,
        max_length=12_000,
        pattern=r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$",
        example="eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUifQ.c2ln",
    )
