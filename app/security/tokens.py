"""Tokens: issues and verifies the JSON Web Tokens of a session (RFC 7519)."""

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
#: Seconds by which the clocks of two machines may differ.
LEEWAY = 30
#: Verified tokens per process whose signature is not verified again.
MAX_CACHED_TOKENS = 1000
#: A NumericDate must be before the year 10,000, which Python's dates cannot represent.
END_OF_DATES = 253_402_300_800


_CLAIMS = JWTClaimsRegistry(
    leeway=LEEWAY,
    iss={"essential": True, "value": ISSUER},
    aud={"essential": True, "value": AUDIENCE},
)


class TokenKind(StrEnum):
    """The use of a token, which is its ``type`` claim."""

    ACCESS = "access"
    REFRESH = "refresh"


class TokenInvalid(Unauthenticated):
    """The token was not issued by this service, is malformed, or is of another kind."""


class TokenExpired(Unauthenticated):
    """The token has expired."""


@dataclass(frozen=True)
class Claims:
    """The verified claims of a token. They identify user and session; permissions are read from the database.

    A token of an app also names its client, and the scopes that it asked for; the database may allow fewer.
    """

    user_id: int
    session_id: int
    token_id: str
    issued_at: datetime
    expires_at: datetime
    client_id: int | None = None
    scopes: frozenset[str] = frozenset()


def issue_access_token(*, user_id: int, session_id: int, role: Role) -> str:
    """A short-lived token for the user and the session; ``role`` informs clients, and is never read here."""
    token: str = create_access_token(
        identity=str(user_id), additional_claims={"sid": str(session_id), "role": role.value}
    )
    return token


def issue_refresh_token(
    *, user_id: int, session_id: int, token_id: str, issued_at: datetime, expires_at: datetime
) -> str:
    """A long-lived token, valid for one exchange. The same arguments result in the same token."""
    claims = {"sid": str(session_id), "jti": token_id, "iat": issued_at, "exp": expires_at}
    token: str = create_refresh_token(identity=str(user_id), additional_claims=claims)
    return token


def read_token(token: str, kind: TokenKind, ring: KeyRing) -> Claims:
    """The claims of ``token``, verified as RFC 8725 says; raises ``TokenInvalid`` and ``TokenExpired``."""
    claims = _verify(token, kind, ring)
    if claims.expires_at.timestamp() <= clock.now().timestamp() - LEEWAY:
        raise TokenExpired
    return claims


@lru_cache(maxsize=MAX_CACHED_TOKENS)
def _verify(token: str, kind: TokenKind, ring: KeyRing) -> Claims:
    """The verified claims of ``token``; cached, because everything but its expiry stays valid. Refusals are not cached.

    flask-jwt-extended, which issues the tokens, does not verify them: it accepts one without ``type`` as an access
    token, and PyJWT beneath it parses the key again for each token.
    """
    try:
        claims = orjson.loads(_content(token, ring))
        _CLAIMS.validate(claims)
        return _claims(claims, kind)
    except ExpiredTokenError:
        raise TokenExpired from None
    except (JoseError, KeyError, ValueError, TypeError, AttributeError, RecursionError):
        # All but JoseError and KeyError come from claims of unexpected types, in the libraries or here.
        raise TokenInvalid from None


def _content(token: str, ring: KeyRing) -> bytes:
    """The payload of a token that a key of the ring has signed (RFC 7515)."""
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
    # One canonical spelling, so that no user or session has two.
    return isinstance(name, str) and re.fullmatch(r"[1-9][0-9]{0,17}", name, re.ASCII) is not None


def _is_date(number: object) -> bool:
    """Whether this is a NumericDate (RFC 7519 section 2) that Python's datetime can represent."""
    return isinstance(number, int | float) and not isinstance(number, bool) and 0 <= number < END_OF_DATES
