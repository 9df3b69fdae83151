"""Access: reads the credentials of a request, finds their principal, and checks its permission.

The identity is loaded by a function that the factory passes in, so that this module knows no feature.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from flask import Flask, current_app, g, request
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from app.core.audit import Origin, origin
from app.core.breaker import breaker
from app.core.changelog import LOG_TAIL, LogPosition, tail_of, values_of
from app.core.errors import Forbidden, Malformed, Unauthenticated, Unavailable
from app.core.fastsql import Prepared
from app.core.transactions import begin_without_waiting, unit_of_work
from app.security.api_keys import ParsedKey, parse_key
from app.security.identity import ANONYMOUS, Identity
from app.security.keys import KeyRing
from app.security.networks import client_of
from app.security.permissions import CATALOG_READS, Permission
from app.security.tokens import (
    Claims,
    KeyClaims,
    TokenExpired,
    TokenInvalid,
    TokenKind,
    read_access_token,
    read_token,
)
from app.web.cookies import read_refresh_cookie

Credentials = Claims | KeyClaims | ParsedKey
#: API keys that this process has verified. Only the rate limiter reads them: each request verifies its key in the
#: database again, so that a revoked key fails at once.
_verified_keys: dict[ParsedKey, None] = {}
MAX_VERIFIED_KEYS = 10_000
#: Before the access token in a subprotocol of a WebSocket.
BEARER = "bearer."

_LOG = Prepared(select(LOG_TAIL))

LoadIdentity = Callable[[Credentials, LogPosition | None], Identity | None]
MarkSeen = Callable[[Identity], None]


class AmbiguousCredentials(Malformed):
    """Authorization and X-API-Key do not name the same principal; send one of them."""


class CredentialsMissing(Unauthenticated):
    """Credentials are required: send Authorization: Bearer with an access token."""


class CredentialsInvalid(Unauthenticated):
    """These credentials are invalid, expired or revoked."""


class PermissionDenied(Forbidden):
    """Your role does not allow this operation."""

    members = {"permission": str | None}


#: What is refused where an operation needs credentials.
REFUSALS = (
    AmbiguousCredentials,
    CredentialsMissing,
    CredentialsInvalid,
    TokenInvalid,
    TokenExpired,
    Unauthenticated,
    PermissionDenied,
)


@dataclass(frozen=True)
class Access:
    """Who may call an operation: holders of a permission, holders of a refresh token, or, with neither, anyone."""

    permission: Permission | None = None
    token: TokenKind | None = None

    @property
    def is_public(self) -> bool:
        """Whether the operation needs no credentials."""
        return self.token is None


def init_app(app: Flask, *, load_identity: LoadIdentity, mark_seen: MarkSeen) -> None:
    """Register the functions that load an identity and that store the last use of its credentials."""
    app.extensions["load_identity"] = load_identity
    app.extensions["mark_seen"] = mark_seen


def authorize(access: Access, position: LogPosition | None = None) -> Identity:
    """The identity of the request, with permission to call the operation.

    With a position it has what the log of changes has after it, unless the request needs no credentials.

    Raises `AmbiguousCredentials` (400) for credentials of two principals, `Unauthenticated` (401) for bad or missing
    ones, and `PermissionDenied` (403). Sets ``g.identity`` and the origin of audit entries.
    """
    g.access = access
    identity = ANONYMOUS if access.is_public else _identify(access, position)
    if access.permission is not None and not identity.can(access.permission):
        raise PermissionDenied(permission=access.permission.value)
    act_as(identity)
    return identity


def act_as(identity: Identity) -> None:
    """Let the request at hand be that of ``identity``: sets ``g.identity`` and the origin of audit entries."""
    g.identity = identity
    before = origin.get()
    principal = (identity.user_id, identity.session_id, identity.api_key_id)
    origin.set(Origin(*principal, request_id=before.request_id, address=before.address))


def authorize_again() -> Identity:
    """The identity of the request at hand as it is now; for a response that goes on long after `authorize`.

    Raises what `authorize` does: the token may have expired, the session or the key been revoked, the role changed.
    """
    for name in ("credentials", "key_beside_token"):
        g.pop(name, None)
    return authorize(g.access)


def remember_use(identity: Identity) -> None:
    """Store the last use of the credentials, where the stored one is outdated (``is_unseen``).

    It has a transaction of its own, which may fail without failing the response: it waits for no other writer, and the
    next request retries it.
    """
    if not identity.is_unseen:
        return
    mark_seen: MarkSeen = current_app.extensions["mark_seen"]
    with contextlib.suppress(SQLAlchemyError, Unavailable), unit_of_work(guard=breaker):
        begin_without_waiting()
        mark_seen(identity)


def current_identity() -> Identity:
    """The identity that `authorize` admitted; before that, or for a public operation, an anonymous one."""
    identity: Identity = g.get("identity", ANONYMOUS)
    return identity


def current_claims() -> Claims:
    """The claims of this request's refresh token."""
    claims: Claims = g.claims
    return claims


def principal_key() -> str:
    """The rate limiter's key: whom a token that we signed names, an API key verified in this process, or the address.

    It does not query the database. An unverified API key counts for its address: otherwise a client that invents keys
    would get a new bucket with each, or exhaust the bucket of another client's key. An app has a bucket of its own for
    each person, so that it cannot exhaust the person's; a token of a key counts for the key.
    """
    try:
        credentials = _read_credentials(TokenKind.ACCESS)
    except (Unauthenticated, Malformed):
        return address_key()
    if isinstance(credentials, Claims):
        client = "" if credentials.client_id is None else f"app:{credentials.client_id}:"
        return f"{client}user:{credentials.user_id}"
    if isinstance(credentials, KeyClaims) or (credentials is not None and credentials in _verified_keys):
        return f"key:{credentials.key_id}"
    return address_key()


def address_key() -> str:
    """The rate limiter's key for the client's address: an IPv4 address, or the /64 of an IPv6 one.

    It is the peer of the socket, or the entry of X-Forwarded-For that TRUSTED_PROXIES selects.
    """
    return f"address:{client_of(request.remote_addr or 'unknown')}"


def _identify(access: Access, position: LogPosition | None) -> Identity:
    credentials = _read_credentials(access.token or TokenKind.ACCESS)
    if credentials is None:
        return _anonymous_reader(access, position)
    if access.token is TokenKind.REFRESH:
        _admit_refresh_token(credentials)
        return ANONYMOUS
    identity = _load_identity(credentials, position)
    if identity is None:
        raise CredentialsInvalid
    if isinstance(credentials, ParsedKey):
        _note_verified(credentials)
    else:
        _require_same_user(identity.user_id)
    return identity


def _anonymous_reader(access: Access, position: LogPosition | None) -> Identity:
    if access.permission in CATALOG_READS and current_app.config["CATALOG_PUBLIC_READ"]:
        found = None if position is None else _LOG.one_or_none(values_of(position)).log
        return Identity(permissions=CATALOG_READS, log=tail_of(position, found))
    raise CredentialsMissing


def _admit_refresh_token(credentials: Credentials) -> None:
    if not isinstance(credentials, Claims):
        # No key has what this needs: a session of its own.
        raise PermissionDenied(permission=None)
    _require_same_user(credentials.user_id)
    # The exchange itself checks, in one UPDATE, whether this token is still valid.
    g.claims = credentials


def _note_verified(key: ParsedKey) -> None:
    _verified_keys[key] = None
    if len(_verified_keys) > MAX_VERIFIED_KEYS:
        _verified_keys.clear()


def _require_same_user(user_id: int | None) -> None:
    """Refuse an API key beside a token, unless it is a valid key of the same user. The token's rights count."""
    key: ParsedKey | None = g.get("key_beside_token")
    if key is None:
        return
    owner = _load_identity(key)
    if owner is None or owner.user_id != user_id:
        raise AmbiguousCredentials


def _load_identity(credentials: Credentials, position: LogPosition | None = None) -> Identity | None:
    load_identity: LoadIdentity = current_app.extensions["load_identity"]
    return load_identity(credentials, position)


def _read_credentials(kind: TokenKind) -> Credentials | None:
    """The request's credentials, decoded once per request and kind; None when it has none."""
    decoded: dict[TokenKind, Credentials | Unauthenticated | Malformed | None] = g.setdefault("credentials", {})
    if kind not in decoded:
        try:
            decoded[kind] = _decode_credentials(kind)
        except (Unauthenticated, Malformed) as refusal:
            decoded[kind] = refusal
    credentials = decoded[kind]
    if isinstance(credentials, Unauthenticated | Malformed):
        raise credentials
    return credentials


def _decode_credentials(kind: TokenKind) -> Credentials | None:
    header, api_key = request.headers.get("Authorization"), request.headers.get("X-API-Key")
    if header is None and "Sec-WebSocket-Protocol" in request.headers:
        header = _bearer_of_protocols(request.headers["Sec-WebSocket-Protocol"])
    if header is not None and api_key is not None:
        return _decode_both(header, api_key, kind)
    if api_key is not None:
        return _decode_key(api_key)
    if header is None:
        cookie = read_refresh_cookie() if kind is TokenKind.REFRESH else None
        return _read(cookie, kind) if cookie else None
    return _read(_bearer_token(header), kind)


def _decode_both(header: str, api_key: str, kind: TokenKind) -> Credentials:
    """The credentials of a request with both headers: those of Authorization.

    Generated clients may send the same credentials in both headers, or an empty X-API-Key. A different key is stored in
    ``g.key_beside_token``, because only `_require_same_user` may query the database.
    """
    if not api_key.strip():
        return _read(_bearer_token(header), kind)
    if header.partition(" ")[2].strip() == api_key.strip():
        token = _bearer_token(header)
        return parse_key(token) or _read(token, kind)
    try:
        claims = _read(_bearer_token(header), kind)
    except TokenInvalid:
        raise AmbiguousCredentials from None
    g.key_beside_token = parse_key(api_key)
    if g.key_beside_token is None:
        raise AmbiguousCredentials
    return claims


def _read(token: str, kind: TokenKind) -> Claims | KeyClaims:
    if kind is TokenKind.ACCESS:
        return read_access_token(token, _ring(), current_app.config["ISSUER"])
    return read_token(token, kind, _ring())


def _decode_key(text: str) -> ParsedKey:
    key = parse_key(text)
    if key is None:
        raise CredentialsInvalid
    return key


def _bearer_token(header: str) -> str:
    # RFC 9110 section 11.1: the scheme's name is case-insensitive.
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise TokenInvalid
    return token.strip()


def _bearer_of_protocols(header: str) -> str | None:
    """What Authorization would be: a browser's WebSocket can state nothing but subprotocols, so one is the token."""
    tokens = [name.strip().removeprefix(BEARER) for name in header.split(",") if name.strip().startswith(BEARER)]
    return f"Bearer {tokens[0]}" if tokens else None


def _ring() -> KeyRing:
    ring: KeyRing = current_app.extensions["key_ring"]
    return ring
