"""Access: which credentials came, who that is, and whether they may.

The identity is loaded by a function that the factory passes in, so that this module knows no feature.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flask import Flask, current_app, g, request

from app.core.errors import Forbidden, Malformed, Unauthenticated
from app.security.identity import ANONYMOUS, Identity
from app.security.permissions import CATALOG_READS, Permission
from app.security.tokens import Claims, TokenInvalid, TokenKind, read_token

LoadIdentity = Callable[[Claims], Identity | None]


class AmbiguousCredentials(Malformed):
    """Send either Authorization or X-API-Key, not both."""


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


def init_app(app: Flask, *, load_identity: LoadIdentity) -> None:
    """Fill the slot through which identities are loaded."""
    app.extensions["load_identity"] = load_identity


def admit(access: Access) -> Identity:
    """Who is asking, when they may: 400 for two kinds of credentials, 401 for bad or missing ones, 403 for the rest."""
    identity = ANONYMOUS if access.is_public else _identify(access)
    if access.permission is not None and not identity.can(access.permission):
        raise PermissionDenied(permission=access.permission.value)
    g.identity = identity
    return identity


def current_identity() -> Identity:
    """Who is asking, once the operation admitted them."""
    identity: Identity = g.get("identity", ANONYMOUS)
    return identity


def current_claims() -> Claims:
    """What the refresh token of this request says."""
    claims: Claims = g.claims
    return claims


def principal_key() -> str:
    """Whom to count requests by: the user of a token that we signed, else the client's address. Asks no database."""
    try:
        claims = _read_bearer(TokenKind.ACCESS)
    except (Unauthenticated, Malformed):
        claims = None
    return f"user:{claims.user_id}" if claims else address_key()


def address_key() -> str:
    """The client's address: the socket's, or as far back as TRUSTED_PROXIES reaches."""
    return f"address:{request.remote_addr or 'unknown'}"


def _identify(access: Access) -> Identity:
    claims = _read_bearer(access.token or TokenKind.ACCESS)
    if claims is None:
        if access.permission in CATALOG_READS and current_app.config["CATALOG_PUBLIC_READ"]:
            return Identity(permissions=CATALOG_READS)
        raise CredentialsMissing
    if access.token is TokenKind.REFRESH:
        # The exchange itself decides, in one UPDATE, whether this token is still good.
        g.claims = claims
        return ANONYMOUS
    load_identity: LoadIdentity = current_app.extensions["load_identity"]
    identity = load_identity(claims)
    if identity is None:
        raise CredentialsInvalid
    return identity


def _read_bearer(kind: TokenKind) -> Claims | None:
    """The claims of the request's bearer token, read once a request; None when no credentials came."""
    known: dict[TokenKind, Claims | Unauthenticated | None] = g.setdefault("bearer", {})
    if kind not in known:
        try:
            known[kind] = _decode_bearer(kind)
        except Unauthenticated as refusal:
            known[kind] = refusal
    claims = known[kind]
    if isinstance(claims, Unauthenticated):
        raise claims
    return claims


def _decode_bearer(kind: TokenKind) -> Claims | None:
    header, api_key = request.headers.get("Authorization"), request.headers.get("X-API-Key")
    if header is not None and api_key is not None:
        raise AmbiguousCredentials
    if api_key is not None:
        raise CredentialsInvalid
    if header is None:
        return None
    # RFC 9110 section 11.1: the scheme's name is case-insensitive.
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise TokenInvalid
    config = current_app.config
    keys: Sequence[str] = (config["JWT_SECRET_KEY"], *config["JWT_PREVIOUS_SECRET_KEYS"])
    return read_token(token.strip(), kind, keys)
