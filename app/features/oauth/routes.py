"""Routes of the endpoints of OAuth 2 for clients, and of what a person has let them do."""

from typing import Any
from urllib.parse import unquote_plus

from flask import Flask, Response, current_app, request
from sqlalchemy import Select

from app.core.errors import NotFound
from app.features.auth.routes import client
from app.features.oauth.errors import (
    InvalidClient,
    InvalidGrant,
    InvalidRequest,
    InvalidScope,
    OauthUnavailable,
    UnauthorizedClient,
    UnsupportedGrantType,
    UnsupportedTokenType,
)
from app.features.oauth.schemas import (
    GrantQuerySchema,
    GrantSchema,
    IntrospectionSchema,
    OAuthTokenSchema,
    PresentedTokenFormSchema,
    TokenFormSchema,
)
from app.features.oauth.server import FormRequest, Sender, Server
from app.features.sessions import service as sessions
from app.features.sessions.models import UserSession
from app.security.keys import KeyRing
from app.security.permissions import Permission
from app.security.tokens import Issuer
from app.web.access import current_identity
from app.web.body import JSON
from app.web.contract import Blueprint, answers_oauth, lists, public, refuses, requires, returns, takes_form
from app.web.output import dump, to_json

blueprint = Blueprint("oauth", __name__, url_prefix="/oauth", about="Tokens for programs, and for apps of others.")

#: The longest lifetime of an access token, in seconds: other services may accept it until then.
MAX_LIFETIME = 900


def init_app(app: Flask, ring: KeyRing) -> None:
    """Make the authorization server, if this server knows its own name."""
    config = app.config
    if config["ISSUER"] is not None:
        issuer = Issuer(config["ISSUER"], ring, min(config["ACCESS_TOKEN_TTL"], MAX_LIFETIME))
        server = Server(issuer, lifetime=config["REFRESH_TOKEN_TTL"], grace=config["REFRESH_GRACE"])
        app.extensions["oauth_server"] = server


@blueprint.post("/token")
@public
@takes_form(TokenFormSchema)
@answers_oauth
@returns(OAuthTokenSchema)
@refuses(
    InvalidRequest,
    InvalidClient,
    InvalidGrant,
    UnauthorizedClient,
    UnsupportedGrantType,
    InvalidScope,
    OauthUnavailable,
)
def issue_token(data: dict[str, str]) -> Response:
    """Get tokens: for an API key, for the code that a person's browser has brought, or for a refresh token."""
    tokens = current_server().create_token_response(_read(data))
    response = Response(to_json(dump(OAuthTokenSchema, tokens)), mimetype=JSON)
    # RFC 6749 section 5.1 asks for both.
    response.headers.extend({"Cache-Control": "no-store", "Pragma": "no-cache"})
    return response


@blueprint.post("/revoke")
@public
@takes_form(PresentedTokenFormSchema)
@answers_oauth
@returns(status=200)
@refuses(InvalidRequest, InvalidClient, InvalidGrant, UnsupportedTokenType, OauthUnavailable)
def revoke_token(data: dict[str, str]) -> None:
    """Give a token back, which ends all that the person has let the app do. One that works no more is no error."""
    current_server().create_endpoint_response("revocation", _read(data))


@blueprint.post("/introspect")
@public
@takes_form(PresentedTokenFormSchema)
@answers_oauth
@returns(IntrospectionSchema)
@refuses(InvalidRequest, InvalidClient, OauthUnavailable)
def introspect_token(data: dict[str, str]) -> Any:
    """Ask what a token allows now: one of your own, or with a key that may read clients any."""
    return current_server().create_endpoint_response("introspection", _read(data))


@blueprint.get("/grants")
@requires(Permission.ACCOUNT_MANAGE)
@lists(GrantSchema, GrantQuerySchema, sessions.LISTING)
def list_grants() -> Select[UserSession]:
    """List what you have let apps do."""
    return sessions.grants_of(current_identity().user_id or 0)


@blueprint.delete("/grants/<id:grant_id>")
@requires(Permission.ACCOUNT_MANAGE)
@returns(status=204)
@refuses(NotFound)
def end_grant(grant_id: int) -> None:
    """End what you have let an app do; its tokens are refused from the next request on."""
    sessions.end_grant(grant_id, user_id=current_identity().user_id or 0)


def current_server() -> Server:
    """The authorization server; refuses (``OauthUnavailable``) where there is none."""
    server: Server | None = current_app.extensions.get("oauth_server")
    if server is None:
        raise OauthUnavailable
    return server


def _read(form: dict[str, str]) -> FormRequest:
    sender = Sender(uri=f"{current_server().issuer.name}{request.path}", **client())
    return FormRequest(sender, form, _basic_credentials())


def _basic_credentials() -> tuple[str, str] | None:
    """The client's id and secret in Authorization, which are form-encoded there (RFC 6749 section 2.3.1).

    Another scheme authenticates no client, and is ignored, as it is by every operation that needs no token.
    """
    header = request.headers.get("Authorization", "")
    if header.partition(" ")[0].lower() != "basic":
        return None
    # Werkzeug does not expect other characters in base64.
    credentials = request.authorization if header.isascii() else None
    if credentials is None:
        raise InvalidClient
    return unquote_plus(credentials.username or ""), unquote_plus(credentials.password or "")
