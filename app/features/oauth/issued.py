"""Tokens that were issued, as a client presents them again: to refresh, to revoke, or to ask about."""

from dataclasses import dataclass
from typing import Any

from authlib.oauth2.rfc6749 import ClientMixin

from app.core.errors import Unauthenticated
from app.extensions import db
from app.features.auth.service import load_identity
from app.features.oauth.grants import find_session
from app.features.sessions.models import RefreshToken, UserSession
from app.security.api_keys import PREFIX
from app.security.tokens import APP_PREFIX, Claims, Issuer, KeyClaims, TokenKind, read_access_token, read_token


@dataclass(frozen=True)
class IssuedToken:
    """A token that this server issued to a client and that has not expired; whether it still works is another matter.

    ``session`` is that of a refresh token.
    """

    client_id: str
    claims: Claims | KeyClaims
    session: UserSession | None = None

    def check_client(self, client: ClientMixin) -> bool:
        """Whether it was issued to this client."""
        return bool(client.get_client_id() == self.client_id)

    def get_scope(self) -> str:
        """What the person has agreed to, of a refresh token."""
        return " ".join((self.session.scopes if self.session is not None else None) or ())

    def is_expired(self) -> bool:
        """Never: what has expired is not found."""
        return False

    def is_revoked(self) -> bool:
        """Whether nothing can be done with it any more."""
        return self.describe() is None

    def describe(self) -> dict[str, Any] | None:
        """What it allows now, by the names of RFC 7662 section 2.2; None where it is of no use any more."""
        named = {
            "client_id": self.client_id,
            "sub": str(self.claims.user_id) if isinstance(self.claims, Claims) else self.client_id,
            "jti": self.claims.token_id,
            "iat": int(self.claims.issued_at.timestamp()),
            "exp": int(self.claims.expires_at.timestamp()),
        }
        if self.session is not None:
            token = db.session.get(RefreshToken, self.claims.token_id)
            return {**named, "scope": self.get_scope()} if token is not None and token.used_at is None else None
        identity = load_identity(self.claims)
        if identity is None:
            return None
        return {**named, "scope": " ".join(sorted(identity.permissions)), "token_type": "Bearer"}


def find_token(text: str, issuer: Issuer) -> IssuedToken | None:
    """The token of a client; None for any other text, also for the tokens of a person's own login."""
    try:
        claims = read_access_token(text, issuer.ring, issuer.name)
    except Unauthenticated:
        return find_refresh_token(text, issuer)
    if isinstance(claims, KeyClaims):
        return IssuedToken(f"{PREFIX}_{claims.key_id}", claims)
    return None if claims.client_id is None else IssuedToken(f"{APP_PREFIX}_{claims.client_id}", claims)


def find_refresh_token(text: str, issuer: Issuer) -> IssuedToken | None:
    """The refresh token of an app, whose grant has not ended."""
    try:
        claims = read_token(text, TokenKind.GRANT, issuer.ring)
    except Unauthenticated:
        return None
    session = find_session(claims)
    if session is None:
        return None
    return IssuedToken(session.client.client_id, claims, session)
