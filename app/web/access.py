"""Access: which credentials came, who that is, and whether they may.

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
from app.core.errors import Forbidden, Malformed, Unauthenticated, Unavailable
from app.core.fastsql import Prepared
from app.core.feed import CATALOGUE_VERSION
from app.core.transactions import begin_without_waiting, unit_of_work
from app.security.api_keys import ParsedKey, parse_key
from app.security.identity import ANONYMOUS, Identity
from app.security.keys import KeyRing
from app.security.networks import client_of
from app.security.permissions import CATALOG_READS, Permission
from app.security.tokens import Claims, TokenInvalid, TokenKind, read_token
from app.web.cookies import read_refresh_cookie

Credentials = Claims | ParsedKey
#: Keys that were verified here, for the limiter alone: whether a key is good is asked of the database each time.
_verified_keys: dict[ParsedKey, None] = {}
MAX_VERIFIED_KEYS = 10_000

_VERSION = Prepared(select(CATALOGUE_VERSION.label("version")))

LoadIdentity = Callable[[Credentials], Identity | None]
MarkSeen = Callable[[Identity], None]


class AmbiguousCredentials(Malformed):
    """Authorization and X-API-Key do not name the same principal; send one of them."""


class CredentialsMissing(Unauthenticated):
    """Credentials are required: send Authorization: Bearer with an access token."""


class CredentialsInvalid(Unauthenticated):
    """These credentials are not valid, or no longer."""


class PermissionDenied(Forbidden):
    """Your role does not allow this operation."""


@dataclass(frozen=True)
class Access:
    """Who may call an operation: holders of a permission, holders of a refresh token, or, with neither, anyone."""

    permission: Permission | None = None
    token: TokenKind | None = None

    @property
    def is_public(self) -> bool:
        """Whether no credentials are asked for."""
        return self.token is None


def init_app(app: Flask, *, load_identity: LoadIdentity, mark_seen: MarkSeen) -> None:
    """Fill the slots through which identities are loaded, and their credentials' last use is remembered."""
    app.extensions["load_identity"] = load_identity
    app.extensions["mark_seen"] = mark_seen


def authorize(access: Access) -> Identity:
    """Who is asking, when they may: 400 for credentials of two principals, 401 for bad or none, 403 for the rest."""
    identity = ANONYMOUS if access.is_public else _identify(access)
    if access.permission is not None and not identity.can(access.permission):
        raise PermissionDenied(permission=access.permission.value)
    g.identity = identity
    here = origin.get()
    whose = (identity.user_id, identity.session_id, identity.api_key_id)
    origin.set(Origin(*whose, request_id=here.request_id, address=here.address))
    return identity


def remember_use(identity: Identity) -> None:
    """Store that a credential was used, when that is worth storing: in a transaction of its own, which may fail.

    The answer does not wait for other writers; the next request tries again.
    """
    if not identity.is_unseen:
        return
    mark_seen: MarkSeen = current_app.extensions["mark_seen"]
    with contextlib.suppress(SQLAlchemyError, Unavailable), unit_of_work(guard=breaker):
        begin_without_waiting()
        mark_seen(identity)


def current_identity() -> Identity:
    """Who is asking, once the operation admitted them."""
    identity: Identity = g.get("identity", ANONYMOUS)
    return identity


def current_claims() -> Claims:
    """What the refresh token of this request says."""
    claims: Claims = g.claims
    return claims


def principal_key() -> str:
    """Whom to count requests by: the user of a token that we signed, a key that proved good here, else the address.

    Asks no database. A key that nobody has verified yet counts for its address: else whoever makes keys up would have a
    fresh bucket for each, or empty somebody else's.
    """
    try:
        credentials = _read_credentials(TokenKind.ACCESS)
    except (Unauthenticated, Malformed):
        return address_key()
    if isinstance(credentials, Claims):
        return f"user:{credentials.user_id}"
    if credentials is not None and credentials in _verified_keys:
        return f"key:{credentials.key_id}"
    return address_key()


def address_key() -> str:
    """The client's address, or an IPv6 client's /64: the socket's, or as far back as TRUSTED_PROXIES reaches."""
    return f"address:{client_of(request.remote_addr or 'unknown')}"


def _identify(access: Access) -> Identity:
    credentials = _read_credentials(access.token or TokenKind.ACCESS)
    if credentials is None:
        if access.permission in CATALOG_READS and current_app.config["CATALOG_PUBLIC_READ"]:
            return Identity(permissions=CATALOG_READS, catalogue_version=_VERSION.one_or_none().version)
        raise CredentialsMissing
    if access.token is TokenKind.REFRESH:
        if isinstance(credentials, ParsedKey):
            raise PermissionDenied
        _require_same_user(credentials.user_id)
        # The exchange itself decides, in one UPDATE, whether this token is still good.
        g.claims = credentials
        return ANONYMOUS
    load_identity: LoadIdentity = current_app.extensions["load_identity"]
    identity = load_identity(credentials)
    if identity is None:
        raise CredentialsInvalid
    if isinstance(credentials, Claims):
        _require_same_user(credentials.user_id)
    if isinstance(credentials, ParsedKey):
        _verified_keys[credentials] = None
        if len(_verified_keys) > MAX_VERIFIED_KEYS:
            _verified_keys.clear()
    return identity


def _require_same_user(user_id: int) -> None:
    """Refuse a key that came beside a token, unless it is a good key of the same user. The token's rights count."""
    key: ParsedKey | None = g.get("key_beside_token")
    if key is None:
        return
    load_identity: LoadIdentity = current_app.extensions["load_identity"]
    owner = load_identity(key)
    if owner is None or owner.user_id != user_id:
        raise AmbiguousCredentials


def _read_credentials(kind: TokenKind) -> Credentials | None:
    """The request's credentials, read once a request; None when none came."""
    known: dict[TokenKind, Credentials | Unauthenticated | Malformed | None] = g.setdefault("credentials", {})
    if kind not in known:
        try:
            known[kind] = _decode_credentials(kind)
        except (Unauthenticated, Malformed) as refusal:
            known[kind] = refusal
    credentials = known[kind]
    if isinstance(credentials, Unauthenticated | Malformed):
        raise credentials
    return credentials


def _decode_credentials(kind: TokenKind) -> Credentials | None:
    header, api_key = request.headers.get("Authorization"), request.headers.get("X-API-Key")
    if header is not None and api_key is not None:
        return _decode_both(header, api_key, kind)
    if api_key is not None:
        return _decode_key(api_key)
    if header is None:
        cookie = read_refresh_cookie() if kind is TokenKind.REFRESH else None
        return read_token(cookie, kind, _ring()) if cookie else None
    return read_token(_bearer_token(header), kind, _ring())


def _decode_both(header: str, api_key: str, kind: TokenKind) -> Credentials:
    """The token. Clients made by a generator may send what they have under both names, or a key that is empty.

    Another key is put aside for `_require_same_user`, which has to ask the database.
    """
    if not api_key.strip():
        return read_token(_bearer_token(header), kind, _ring())
    if header.partition(" ")[2].strip() == api_key.strip():
        token = _bearer_token(header)
        return parse_key(token) or read_token(token, kind, _ring())
    try:
        claims = read_token(_bearer_token(header), kind, _ring())
    except TokenInvalid:
        raise AmbiguousCredentials from None
    g.key_beside_token = parse_key(api_key)
    if g.key_beside_token is None:
        raise AmbiguousCredentials
    return claims


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


def _ring() -> KeyRing:
    ring: KeyRing = current_app.extensions["key_ring"]
    return ring
