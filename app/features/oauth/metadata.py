"""The metadata of the authorization server (RFC 8414), by which clients find its endpoints."""

from typing import Any

from flask import Response

from app.features.oauth.errors import OauthUnavailable
from app.features.oauth.routes import current_server
from app.features.oauth.server import METHODS, WITH_SECRET
from app.security.permissions import SCOPES
from app.web import fields
from app.web.body import JSON
from app.web.contract import Blueprint, public, refuses, returns
from app.web.output import dump, to_json
from app.web.schemas import Schema

blueprint = Blueprint("oauth_metadata", __name__, tag="oauth")


def _texts(example: list[str]) -> fields.Items:
    return fields.Items(fields.Text(max_length=64, example=example[0]), max_items=100, example=example)


def _url(path: str, **options: Any) -> fields.Text:
    return fields.Text(max_length=2000, example=f"https://catalog.example{path}", **options)


class AuthorizationServerSchema(Schema):
    """The authorization server, by the names of RFC 8414."""

    issuer = _url("", note="The `iss` of its tokens, and of its answers to browsers (RFC 9207).")
    authorization_endpoint = _url("/api/v1/oauth/authorize")
    token_endpoint = _url("/api/v1/oauth/token")
    revocation_endpoint = _url("/api/v1/oauth/revoke")
    introspection_endpoint = _url("/api/v1/oauth/introspect")
    jwks_uri = _url(
        "/.well-known/jwks.json", schema={"x-optional": True}, note="Not while tokens are signed with a shared secret."
    )
    service_documentation = _url("/docs")
    scopes_supported = _texts([scope.value for scope in SCOPES])
    response_types_supported = _texts(["code"])
    response_modes_supported = _texts(["query"])
    grant_types_supported = _texts(["authorization_code", "refresh_token", "client_credentials"])
    code_challenge_methods_supported = _texts(["S256"])
    token_endpoint_auth_methods_supported = _texts(METHODS)
    revocation_endpoint_auth_methods_supported = _texts(METHODS)
    introspection_endpoint_auth_methods_supported = _texts(WITH_SECRET)
    authorization_response_iss_parameter_supported = fields.Boolean(example=True)


@blueprint.get("/.well-known/oauth-authorization-server")
@public
@returns(AuthorizationServerSchema)
@refuses(OauthUnavailable)
def read_authorization_server() -> Response:
    """Read how to get tokens of OAuth 2 here (RFC 8414)."""
    issuer = current_server().issuer
    oauth = f"{issuer.name}/api/v1/oauth"
    described = {
        "issuer": issuer.name,
        "authorization_endpoint": f"{oauth}/authorize",
        "token_endpoint": f"{oauth}/token",
        "revocation_endpoint": f"{oauth}/revoke",
        "introspection_endpoint": f"{oauth}/introspect",
        "service_documentation": f"{issuer.name}/docs",
        "scopes_supported": [scope.value for scope in SCOPES],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": METHODS,
        "revocation_endpoint_auth_methods_supported": METHODS,
        "introspection_endpoint_auth_methods_supported": WITH_SECRET,
        "authorization_response_iss_parameter_supported": True,
    }
    if issuer.ring.public_set() is not None:
        described["jwks_uri"] = f"{issuer.name}/.well-known/jwks.json"
    response = Response(to_json(dump(AuthorizationServerSchema, described)), mimetype=JSON)
    response.headers["Cache-Control"] = "public, max-age=300"
    return response
