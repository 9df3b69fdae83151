"""The authorization server: Authlib's protocol over our clients, sessions and tokens (decision 59).

Authlib checks the requests in the order of the RFCs. It returns what is answered, and its errors become refusals.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import (
    AuthorizationServer,
    InvalidGrantError,
    OAuth2Request,
    UnsupportedTokenTypeError,
    scope_to_list,
)
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant, ClientCredentialsGrant, RefreshTokenGrant
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc7662 import IntrospectionEndpoint

from app.core.errors import NotFound
from app.features.oauth import codes
from app.features.oauth.clients import AppClient, KeyClient, find_client
from app.features.oauth.errors import InvalidRequest, InvalidScope, refuse
from app.features.oauth.grants import Grant, find_active_user
from app.features.oauth.issued import IssuedToken, find_refresh_token, find_token
from app.features.oauth.models import AuthorizationCode
from app.features.sessions import service as sessions
from app.features.sessions.models import RefreshTokenReused, RefreshTokenUsed, SessionEnded
from app.security.permissions import GRANTS, SCOPES, Permission, Role
from app.security.tokens import Claims, Issuer, KeyClaims, TokenKind, issue_refresh_token

BASIC, POST, NONE = "client_secret_basic", "client_secret_post", "none"
#: How clients authenticate that have a secret, and how all do.
WITH_SECRET, METHODS = [BASIC, POST], [BASIC, POST, NONE]


@dataclass(frozen=True, kw_only=True)
class Sender:
    """Who sends a request: the URL that it is sent to, by this server's own name, the device and the address."""

    uri: str
    device: str
    address: str


class FormRequest(OAuth2Request):
    """A request by form. ``basic`` are the client's id and secret that came in Authorization instead."""

    def __init__(self, sender: Sender, form: Mapping[str, str], basic: tuple[str, str] | None) -> None:
        super().__init__("POST", sender.uri)
        if basic is not None:
            if "client_secret" in form or form.get("client_id", basic[0]) != basic[0]:
                # RFC 6749 section 2.3: one way to authenticate in each request.
                raise InvalidRequest
            # Else a client whose secret is wrong could go on as one that has none.
            form = {name: value for name, value in form.items() if name != "client_id"}
        self.sender, self.basic = sender, basic
        self.payload = BasicOAuth2Payload(form)

    @property
    def form(self) -> Mapping[str, str]:
        """The parameters."""
        form: Mapping[str, str] = self.payload.data
        return form


class Server(AuthorizationServer):
    """The endpoints of one application. Refresh tokens live ``lifetime`` seconds from one use to the next."""

    def __init__(self, issuer: Issuer, *, lifetime: int, grace: int) -> None:
        super().__init__(scopes_supported=[str(scope) for scope in SCOPES])
        self.issuer, self.lifetime, self.grace = issuer, lifetime, grace
        self.register_client_auth_method(BASIC, _authenticate_by_header)
        self.register_grant(KeyGrant)
        self.register_grant(CodeGrant, [S256(required=True)])
        self.register_grant(RefreshGrant)
        self.register_endpoint(Revocation)
        self.register_endpoint(Introspection)
        self.register_token_generator("default", self.issue_tokens)

    def issue_tokens(
        self, *, client: AppClient | KeyClient, user: Grant | None, scope: str | None, **_: Any
    ) -> dict[str, Any]:
        """The answer of the token endpoint (RFC 6749 section 5.1); its `scope` may be less than was asked for."""
        if isinstance(client, KeyClient):
            scopes = _scopes_of_key(client, scope)
            access_token = self.issuer.issue_to_key(key_id=client.key_id, fingerprint=client.fingerprint, scopes=scopes)
            return self._describe(access_token, scopes)
        if user is None:
            raise AssertionError("an app acts for a person")
        scopes = _scopes_of_app(client, user, scope)
        access_token = self.issuer.issue_to_app(
            user_id=user.user_id, session_id=user.session.id, client_id=client.row.id, scopes=scopes
        )
        refresh_token = issue_refresh_token(
            user_id=user.user_id,
            session_id=user.session.id,
            token_id=user.token.id,
            issued_at=user.token.issued_at,
            expires_at=user.token.expires_at,
            kind=TokenKind.GRANT,
        )
        return {**self._describe(access_token, scopes), "refresh_token": refresh_token}

    def query_client(self, client_id: str) -> AppClient | KeyClient | None:
        """The client of this name."""
        return find_client(client_id)

    def save_token(self, token: Mapping[str, Any], request: FormRequest) -> None:
        """Nothing: what has to be stored of a token is stored before it is issued."""

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Nothing: signals have no receivers here."""

    def create_oauth2_request(self, request: FormRequest) -> FormRequest:
        """The request itself."""
        return request

    def handle_response(self, _status: int, body: Any, _headers: Any) -> Any:
        """The body alone: the rest is declared by the view."""
        return body

    def handle_error_response(self, _request: FormRequest, error: OAuth2Error) -> NoReturn:
        """Raise the refusal for an error."""
        refuse(error)

    def _describe(self, access_token: str, scopes: frozenset[str]) -> dict[str, Any]:
        return {
            "access_token": access_token,
            "token_type": "Bearer",
            "expires_in": self.issuer.lifetime,
            "scope": " ".join(sorted(scopes)),
        }


class KeyGrant(ClientCredentialsGrant):
    """An API key gets a token for itself."""

    TOKEN_ENDPOINT_AUTH_METHODS = WITH_SECRET


class CodeGrant(AuthorizationCodeGrant):
    """An app gets tokens for the code that a person's browser has brought."""

    TOKEN_ENDPOINT_AUTH_METHODS = METHODS

    def query_authorization_code(self, code: str, client: AppClient) -> AuthorizationCode | None:
        """The code, if it is one of this client."""
        return codes.find_code(code, client_id=client.row.id)

    def authenticate_user(self, authorization_code: AuthorizationCode) -> Grant:
        """The grant that the code is exchanged for, after all else has been checked."""
        sender = self.request.sender
        return codes.exchange_code(
            authorization_code, device=sender.device, address=sender.address, lifetime=self.server.lifetime
        )

    def delete_authorization_code(self, authorization_code: AuthorizationCode) -> None:
        """Nothing: its second use must be noticed."""


class S256(CodeChallenge):
    """PKCE (RFC 7636) by S256 alone: every code has a challenge, so every exchange needs the verifier."""

    def get_authorization_code_challenge_method(self, _authorization_code: AuthorizationCode) -> str:
        """The one that is accepted."""
        return "S256"


class RefreshGrant(RefreshTokenGrant):
    """An app exchanges its refresh token, which works once, for new tokens."""

    TOKEN_ENDPOINT_AUTH_METHODS = METHODS
    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, refresh_token: str) -> IssuedToken | None:
        """The refresh token, if its grant has not ended."""
        return find_refresh_token(refresh_token, self.server.issuer)

    def authenticate_user(self, refresh_token: IssuedToken) -> Grant:
        """The grant, extended by the exchange; of a token that was used before, its end."""
        claims, session = refresh_token.claims, refresh_token.session
        user = find_active_user(claims.user_id) if isinstance(claims, Claims) else None
        if session is None or user is None or isinstance(claims, KeyClaims):
            raise InvalidGrantError
        try:
            token = sessions.exchange_token(
                claims,
                address=self.request.sender.address,
                lifetime=self.server.lifetime,
                grace=self.server.grace,
                client_id=session.client_id,
            )
        except (SessionEnded, RefreshTokenUsed, RefreshTokenReused):
            raise InvalidGrantError from None
        return Grant(user_id=user.id, role=Role(user.role), session=session, token=token)

    def revoke_old_credential(self, refresh_token: IssuedToken) -> None:
        """Nothing: the exchange has done it."""


class Revocation(RevocationEndpoint):
    """A client gives a token back (RFC 7009), and with it what the person has let it do."""

    CLIENT_AUTH_METHODS = METHODS

    def query_token(self, token_string: str, _token_type_hint: str | None) -> IssuedToken | None:
        """The token, of whichever kind."""
        return find_token(token_string, self.server.issuer)

    def revoke_token(self, token: IssuedToken, _request: FormRequest) -> None:
        """End the grant. The tokens of keys are not stored, so none of them can be revoked alone."""
        claims = token.claims
        if isinstance(claims, KeyClaims):
            raise UnsupportedTokenTypeError
        with contextlib.suppress(NotFound):
            sessions.end_grant(claims.session_id, user_id=claims.user_id, action="grant.revoked")


class Introspection(IntrospectionEndpoint):
    """A client asks what a token of its own allows now (RFC 7662); keys that may read clients ask about any."""

    CLIENT_AUTH_METHODS = WITH_SECRET

    def query_token(self, token_string: str, _token_type_hint: str | None) -> IssuedToken | None:
        """The token, of whichever kind."""
        return find_token(token_string, self.server.issuer)

    def check_permission(self, token: IssuedToken, client: AppClient | KeyClient, _request: FormRequest) -> bool:
        """Whether this client may know about it."""
        return token.check_client(client) or (
            isinstance(client, KeyClient)
            and Permission.OAUTH_CLIENTS_READ in client.scopes
            and Permission.OAUTH_CLIENTS_READ in client.granted
        )

    def introspect_token(self, token: IssuedToken) -> dict[str, Any]:
        """What it allows."""
        name = self.server.issuer.name
        return {"iss": name, "aud": name, **(token.describe() or {"active": False})}


def _authenticate_by_header(_query_client: object, request: FormRequest) -> AppClient | KeyClient | None:
    if request.basic is None:
        return None
    client_id, secret = request.basic
    client = find_client(client_id)
    return client if client is not None and client.check_client_secret(secret) else None


def _scopes_of_key(client: KeyClient, scope: str | None) -> frozenset[str]:
    asked = frozenset(scope_to_list(scope) or client.scopes)
    if not asked <= {*client.scopes}:
        raise InvalidScope
    return _require_some(asked & client.granted)


def _scopes_of_app(client: AppClient, grant: Grant, scope: str | None) -> frozenset[str]:
    asked = frozenset(scope_to_list(scope) or ())
    return _require_some(asked.intersection(grant.session.scopes or (), client.scopes) & GRANTS[grant.role])


def _require_some(scopes: frozenset[str]) -> frozenset[str]:
    if not scopes:
        raise InvalidScope
    return scopes
