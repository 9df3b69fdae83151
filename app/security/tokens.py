"""Tokens: issues and verifies JSON Web Tokens (RFC 7519): those of sessions, and the access tokens of OAuth 2.

The tokens of sessions are for this API alone. Those of OAuth 2 are `at+jwt` (RFC 9068): an app of a third party gets
them for a person, and an API key for itself. Neither is ever taken for the other: `typ` says which one it is, and each
has an issuer and claims of its own.
"""

import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache, lru_cache
from typing import Any

import orjson
from flask_jwt_extended import create_access_token, create_refresh_token
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jws import extract_compact, validate_compact
from joserfc.jwt import ClaimsOption, JWTClaimsRegistry, encode

from app.core import clock
from app.core.errors import Unauthenticated
from app.security.api_keys import PREFIX as KEY_PREFIX
from app.security.keys import KeyRing
from app.security.permissions import Role

ISSUER = AUDIENCE = "catalog-api"
#: Seconds by which the clocks of two machines may differ.
LEEWAY = 30
#: Verified tokens per process whose signature is not verified again.
MAX_CACHED_TOKENS = 1000
#: A NumericDate must be before the year 10,000, which Python's dates cannot represent.
END_OF_DATES = 253_402_300_800
#: The ``typ`` of an access token of OAuth 2; those of sessions have another.
AT_JWT = "at+jwt"
#: What the `client_id` of an OAuth client begins with; that of an API key, which is a client too, begins as the key.
APP_PREFIX = "app"


_CLAIMS = JWTClaimsRegistry(
    leeway=LEEWAY,
    iss={"essential": True, "value": ISSUER},
    aud={"essential": True, "value": AUDIENCE},
)


class TokenKind(StrEnum):
    """The use of a token, which is its ``type`` claim."""

    ACCESS = "access"
    REFRESH = "refresh"
    #: Refreshes the tokens of an app. It differs from REFRESH because a server of the release before, which knows
    #: nothing of apps, would exchange such a token for all rights of the person.
    GRANT = "grant"


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


@dataclass(frozen=True)
class KeyClaims:
    """The verified claims of a token that an API key got for itself, with those of its scopes that it asked for.

    ``fingerprint`` is that of the secret which it was issued for: the token ends with it.
    """

    key_id: int
    fingerprint: str
    token_id: str
    issued_at: datetime
    expires_at: datetime
    scopes: frozenset[str]


@dataclass(frozen=True)
class Issuer:
    """Who issues the access tokens of OAuth 2, for itself as their audience, and for how many seconds."""

    name: str
    ring: KeyRing
    lifetime: int

    def issue_to_app(self, *, user_id: int, session_id: int, client_id: int, scopes: Iterable[str]) -> str:
        """A token with which an app acts for a user; the session is what the user has let it do."""
        client = {"client_id": f"{APP_PREFIX}_{client_id}", "sid": str(session_id)}
        return self._issue(sub=str(user_id), scopes=scopes, **client)

    def issue_to_key(self, *, key_id: int, fingerprint: str, scopes: Iterable[str]) -> str:
        """A token of an API key, which is its own subject (RFC 9068 section 2.2)."""
        name = f"{KEY_PREFIX}_{key_id}"
        return self._issue(sub=name, client_id=name, scopes=scopes, key_fingerprint=fingerprint)

    def _issue(self, *, scopes: Iterable[str], **claims: str) -> str:
        key, now = self.ring.signing, clock.now().replace(microsecond=0)
        header = {"alg": key.algorithm, "typ": AT_JWT, **({"kid": key.kid} if key.kid else {})}
        lifetime = {"iat": now, "exp": now + timedelta(seconds=self.lifetime)}
        names = {"iss": self.name, "aud": self.name, "jti": str(uuid.uuid4()), "scope": " ".join(sorted(scopes))}
        return encode(header, {**claims, **names, **lifetime}, key.private, registry=key.registry)


def issue_access_token(*, user_id: int, session_id: int, role: Role) -> str:
    """A short-lived token for the user and the session; ``role`` informs clients, and is never read here."""
    token: str = create_access_token(
        identity=str(user_id), additional_claims={"sid": str(session_id), "role": role.value}
    )
    return token


def issue_refresh_token(
    *,
    user_id: int,
    session_id: int,
    token_id: str,
    issued_at: datetime,
    expires_at: datetime,
    kind: TokenKind = TokenKind.REFRESH,
) -> str:
    """A long-lived token, valid for one exchange. The same arguments result in the same token."""
    claims = {"sid": str(session_id), "jti": token_id, "iat": issued_at, "exp": expires_at, "type": kind}
    token: str = create_refresh_token(identity=str(user_id), additional_claims=claims)
    return token


def read_token(token: str, kind: TokenKind, ring: KeyRing) -> Claims:
    """The claims of a session's token, verified as RFC 8725 says; raises ``TokenInvalid`` and ``TokenExpired``."""
    claims = _verify(token, kind, ring, None)
    _require_unexpired(claims)
    if isinstance(claims, KeyClaims):
        raise TokenInvalid
    return claims


def read_access_token(token: str, ring: KeyRing, issuer: str | None) -> Claims | KeyClaims:
    """The claims of an access token, of a session or of OAuth 2 by ``issuer``; raises what `read_token` does."""
    claims = _verify(token, TokenKind.ACCESS, ring, issuer)
    _require_unexpired(claims)
    return claims


def _require_unexpired(claims: Claims | KeyClaims) -> None:
    if claims.expires_at.timestamp() <= clock.now().timestamp() - LEEWAY:
        raise TokenExpired


@lru_cache(maxsize=MAX_CACHED_TOKENS)
def _verify(token: str, kind: TokenKind, ring: KeyRing, issuer: str | None) -> Claims | KeyClaims:
    """The verified claims of ``token``; cached, because everything but its expiry stays valid. Refusals are not cached.

    flask-jwt-extended, which issues the tokens, does not verify them: it accepts one without ``type`` as an access
    token, and PyJWT beneath it parses the key again for each token. Without an ``issuer`` none of OAuth 2 is valid.
    """
    try:
        typ, content = _content(token, ring)
        claims = orjson.loads(content)
        if typ == AT_JWT:
            if issuer is None:
                raise TokenInvalid
            _claims_of(issuer).validate(claims)
            return _oauth_claims(claims)
        _CLAIMS.validate(claims)
        return _claims(claims, kind)
    except ExpiredTokenError:
        raise TokenExpired from None
    except (JoseError, KeyError, ValueError, TypeError, AttributeError, RecursionError):
        # All but JoseError and KeyError come from claims of unexpected types, in the libraries or here.
        raise TokenInvalid from None


def _content(token: str, ring: KeyRing) -> tuple[object, bytes]:
    """The ``typ`` and the payload of a token that a key of the ring has signed (RFC 7515)."""
    signed = extract_compact(token.encode())
    for key in ring.candidates(signed.protected.get("kid")):
        if validate_compact(signed, key.verifies, registry=key.registry):
            return signed.protected.get("typ"), signed.payload
    raise TokenInvalid


@cache
def _claims_of(issuer: str) -> JWTClaimsRegistry:
    name: ClaimsOption = {"essential": True, "value": issuer}
    return JWTClaimsRegistry(leeway=LEEWAY, iss=name, aud=name)


def _claims(payload: dict[str, Any], kind: TokenKind) -> Claims:
    subject, session = payload["sub"], payload["sid"]
    if payload["type"] != kind or not (_is_id(subject) and _is_id(session)):
        raise TokenInvalid
    return Claims(user_id=int(subject), session_id=int(session), **_origin(payload))


def _oauth_claims(payload: dict[str, Any]) -> Claims | KeyClaims:
    subject, client, scope = payload["sub"], payload["client_id"], payload["scope"]
    origin = {**_origin(payload), "scopes": frozenset(scope.split(" "))}
    prefix, _, number = client.partition("_")
    if not _is_id(number):
        raise TokenInvalid
    if prefix == KEY_PREFIX and subject == client and isinstance(payload["key_fingerprint"], str):
        return KeyClaims(key_id=int(number), fingerprint=payload["key_fingerprint"], **origin)
    session = payload["sid"]
    if prefix != APP_PREFIX or not (_is_id(subject) and _is_id(session)):
        raise TokenInvalid
    return Claims(user_id=int(subject), session_id=int(session), client_id=int(number), **origin)


def _origin(payload: dict[str, Any]) -> dict[str, Any]:
    """What the claims of each kind have: the token's id and its dates."""
    token_id, issued_at, expires_at = payload["jti"], payload["iat"], payload["exp"]
    if not (isinstance(token_id, str) and _is_date(issued_at) and _is_date(expires_at)):
        raise TokenInvalid
    return {
        "token_id": token_id,
        "issued_at": datetime.fromtimestamp(issued_at, UTC),
        "expires_at": datetime.fromtimestamp(expires_at, UTC),
    }


def _is_id(name: object) -> bool:
    # One canonical spelling, so that no user or session has two.
    return isinstance(name, str) and re.fullmatch(r"[1-9][0-9]{0,17}", name, re.ASCII) is not None


def _is_date(number: object) -> bool:
    """Whether this is a NumericDate (RFC 7519 section 2) that Python's datetime can represent."""
    return isinstance(number, int | float) and not isinstance(number, bool) and 0 <= number < END_OF_DATES
