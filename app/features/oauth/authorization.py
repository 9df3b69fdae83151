"""Authorization requests, which apps send people with (RFC 6749 section 4.1.1): what is valid, and where answers go."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from authlib.oauth2.rfc6749.errors import (
    InvalidRequestError,
    InvalidScopeError,
    OAuth2Error,
    UnsupportedResponseTypeError,
)
from authlib.oauth2.rfc6749.util import scope_to_list
from authlib.oidc.core.errors import InteractionRequiredError

from app.core.errors import Malformed
from app.extensions import db
from app.features.oauth_clients.models import OAuthClient
from app.security.permissions import SCOPES, Permission
from app.security.tokens import APP_PREFIX

_CLIENT_ID = re.compile(rf"{APP_PREFIX}_([1-9][0-9]{{0,17}})", re.ASCII)
#: A SHA-256 in base64url (RFC 7636 section 4.2).
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
#: A loopback address with a port; what follows is compared.
_LOOPBACK = re.compile(r"(http://(?:127\.0\.0\.1|\[::1\])):([0-9]{1,5})", re.ASCII)
_MAX_PORT = 65_535


class ClientUnknown(Malformed):
    """The app that sent you here is not registered at this server: its client_id is missing or unknown."""


class RedirectUriUnregistered(Malformed):
    """The app that sent you here wants you back at an address that is not registered for it (redirect_uri)."""


@dataclass(frozen=True, kw_only=True)
class AuthorizationRequest:
    """What an app asks a person for. Its answer goes to ``redirect_uri`` with ``state``."""

    client: OAuthClient
    redirect_uri: str
    state: str | None
    #: In the order of the permissions.
    scopes: tuple[Permission, ...]
    code_challenge: str

    @property
    def destination(self) -> str:
        """Where the answer leads, for people: the host, or else the scheme that an app on their device answers to."""
        parts = urlsplit(self.redirect_uri)
        if parts.scheme not in {"https", "http"} or parts.hostname is None:
            # What looks like a host there is none: `com.example.app://bank.example/` leads to that app.
            return f"{parts.scheme}:"
        # Not the netloc, whose user information can look like another host.
        return f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname

    @property
    def is_local(self) -> bool:
        """Whether the answer goes to an app on the person's device, and not to a site."""
        return urlsplit(self.redirect_uri).scheme != "https"

    def response_uri(self, *, issuer: str, **members: str) -> str:
        """Where to send the browser with the members of a response: the app's address with `state` and `iss`."""
        return add_response(self.redirect_uri, members, state=self.state, issuer=issuer)


def read_authorization_request(parameters: Mapping[str, str]) -> AuthorizationRequest:
    """The request with these parameters; empty ones count as missing.

    Refuses an unknown client (``ClientUnknown``) and an address that it has not registered
    (``RedirectUriUnregistered``), to which no browser may be sent. Every other fault is an ``OAuth2Error`` for the app,
    with its ``redirect_uri`` and ``state``.
    """
    given = {name: text for name, text in parameters.items() if text}
    client = _find_client(given.get("client_id", ""))
    redirect_uri, state = given.get("redirect_uri", ""), given.get("state")
    if not is_registered(redirect_uri, client.redirect_uris):
        raise RedirectUriUnregistered
    try:
        _require_code_flow(given)
        return AuthorizationRequest(
            client=client,
            redirect_uri=redirect_uri,
            state=state,
            scopes=_read_scopes(given.get("scope"), client),
            code_challenge=_read_challenge(given),
        )
    except OAuth2Error as fault:
        fault.redirect_uri, fault.state = redirect_uri, state
        raise


def is_registered(redirect_uri: str, registered: Iterable[str]) -> bool:
    """Whether an address is one of those that are registered: the same characters (RFC 9700 section 4.1.3).

    Only the port of a loopback address may differ, because the system gives an app any that is free (RFC 8252
    section 7.3).
    """
    return _without_port(redirect_uri) in map(_without_port, registered)


def add_response(redirect_uri: str, members: Mapping[str, str], *, state: str | None, issuer: str) -> str:
    """A registered address with the members of a response in its query, among them `iss` (RFC 9207).

    What is registered stays as it is, character by character; Authlib's function would encode its query anew.
    """
    response = {**members, **({} if state is None else {"state": state}), "iss": issuer}
    return f"{redirect_uri}{'&' if '?' in redirect_uri else '?'}{urlencode(response)}"


def _find_client(client_id: str) -> OAuthClient:
    named = _CLIENT_ID.fullmatch(client_id)
    client = db.session.get(OAuthClient, int(named[1])) if named else None
    if client is None:
        raise ClientUnknown
    return client


def _without_port(uri: str) -> str:
    found = _LOOPBACK.match(uri)
    return f"{found[1]}{uri[found.end() :]}" if found and int(found[2]) <= _MAX_PORT else uri


def _require_code_flow(given: Mapping[str, str]) -> None:
    response_type = given.get("response_type")
    if response_type is None:
        raise InvalidRequestError("response_type is missing.")
    if response_type != "code":
        raise UnsupportedResponseTypeError(response_type, "response_type must be code.")
    if "none" in given.get("prompt", "").split():
        raise InteractionRequiredError("People are asked at every authorization.")


def _read_scopes(scope: str | None, client: OAuthClient) -> tuple[Permission, ...]:
    """The scopes that are asked for, or all of the client's; never others."""
    asked = frozenset(client.scopes if scope is None else scope_to_list(scope))
    if not asked or not asked <= frozenset(client.scopes) & frozenset(SCOPES):
        raise InvalidScopeError("The client may ask for its own scopes only.")
    return tuple(permission for permission in SCOPES if permission in asked)


def _read_challenge(given: Mapping[str, str]) -> str:
    challenge = given.get("code_challenge")
    if challenge is None:
        raise InvalidRequestError("code_challenge is missing: PKCE is required.")
    # Without a method it is plain (RFC 7636 section 4.3), which protects no code that is seen with its request.
    if given.get("code_challenge_method") != "S256":
        raise InvalidRequestError("code_challenge_method must be S256.")
    if not _CHALLENGE.fullmatch(challenge):
        raise InvalidRequestError("code_challenge must be a SHA-256 in base64url.")
    return challenge
