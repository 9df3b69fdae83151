"""Tokens: issue and read the JSON Web Tokens of a session."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any

import orjson
from flask_jwt_extended import create_access_token, create_refresh_token
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jws import extract_compact, validate_compact
from joserfc.jwt import JWTClaimsRegistry

from app.core import clock
from app.core.errors import Unauthenticated
from app.security.keys import KeyRing
from app.security.permissions import Role

ISSUER = AUDIENCE = "catalog-api"
#: Clocks of two machines may differ by this many seconds.
LEEWAY = 30
#: Tokens whose signature is not verified again at each request.
MAX_CACHED_TOKENS = 1000
#: The end of the year 9999.
LAST_SECOND = 253_402_300_800


_CLAIMS = JWTClaimsRegistry(
    leeway=LEEWAY,
    iss={"essential": True, "value": ISSUER},
    aud={"essential": True, "value": AUDIENCE},
)


class TokenKind(StrEnum):
    """What a token is good for."""

    ACCESS = "access"
    REFRESH = "refresh"


class TokenInvalid(Unauthenticated):
    """The token is not one of ours, is damaged, or is of another kind."""


class TokenExpired(Unauthenticated):
    """The token has expired."""


@dataclass(frozen=True)
class Claims:
    """What a token of ours says, its signature verified. Authority is the database's: the token only names."""

    user_id: int
    session_id: int
    token_id: str
    issued_at: datetime
    expires_at: datetime


def issue_access_token(*, user_id: int, session_id: int, role: Role) -> str:
    """A short-lived token that names the user and the session; ``role`` is for clients to read."""
    token: str = create_access_token(
        identity=str(user_id), additional_claims={"sid": str(session_id), "role": role.value}
    )
    return token


def issue_refresh_token(
    *, user_id: int, session_id: int, token_id: str, issued_at: datetime, expires_at: datetime
) -> str:
    """A long-lived token, good for one exchange. The same arguments make the same token."""
    claims = {"sid": str(session_id), "jti": token_id, "iat": issued_at, "exp": expires_at}
    token: str = create_refresh_token(identity=str(user_id), additional_claims=claims)
    return token


def read_token(token: str, kind: TokenKind, ring: KeyRing) -> Claims:
    """What ``token`` says, when a key of the ring signed it and every claim is there and right (RFC 8725)."""
    claims = _verify(token, kind, ring)
    if claims.expires_at.timestamp() <= clock.now().timestamp() - LEEWAY:
        raise TokenExpired
    return claims


@lru_cache(maxsize=MAX_CACHED_TOKENS)
def _verify(token: str, kind: TokenKind, ring: KeyRing) -> Claims:
    """What ``token`` says; remembered, since all but its expiry stays as it is. Bad tokens are not.

    flask-jwt-extended, which issues them, takes one without ``type`` for an access token, and PyJWT under it examines
    the key anew for each.
    """
    try:
        claims = orjson.loads(_content(token, ring))
        _CLAIMS.validate(claims)
        return _claims(claims, kind)
    except ExpiredTokenError:
        raise TokenExpired from None
    except (JoseError, KeyError, ValueError, TypeError, AttributeError, RecursionError):
        # All but the first two are what wrong types get out of the libraries.
        raise TokenInvalid from None


def _content(token: str, ring: KeyRing) -> bytes:
    """What a key of the ring has signed (RFC 7515)."""
    signed = extract_compact(token.encode())
    for key in ring.candidates(signed.protected.get("kid")):
        if validate_compact(signed, key.verifies, registry=key.registry):
            return signed.payload
    raise TokenInvalid


def _claims(payload: dict[str, Any], kind: TokenKind) -> Claims:
    subject, session, token_id = payload["sub"], payload["sid"], payload["jti"]
    issued_at, expires_at = payload["iat"], payload["exp"]
    if payload["type"] != kind or not (_is_id(subject) and _is_id(session) and isinstance(token_id, str)):
        raise TokenInvalid
    if not (_is_date(issued_at) and _is_date(expires_at)):
        raise TokenInvalid
    return Claims(
        user_id=int(subject),
        session_id=int(session),
        token_id=token_id,
        issued_at=datetime.fromtimestamp(issued_at, UTC),
        expires_at=datetime.fromtimestamp(expires_at, UTC),
    )


def _is_id(name: object) -> bool:
    # One spelling for each, so that nobody has two.
    return isinstance(name, str) and re.fullmatch(r"[1-9][0-9]{0,17}", name, re.ASCII) is not None


def _is_date(number: object) -> bool:
    """Whether this is a NumericDate (RFC 7519 section 2) before the year 10,000, where Python's dates end."""
    return isinstance(number, int | float) and not isinstance(number, bool) and 0 <= number < LAST_SECOND
