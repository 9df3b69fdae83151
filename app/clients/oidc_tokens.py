"""Keys and tokens of an identity provider (OpenID Connect Core 1.0, Back-Channel Logout 1.0).

`verify` checks a signature, and what it returns is for `check_id_token` or `check_logout_token`.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from authlib.oidc.core import CodeIDToken
from cryptography.exceptions import UnsupportedAlgorithm
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, Key, OctKey, RSAKey
from joserfc.jws import CompactSignature, extract_compact, validate_compact
from joserfc.jwt import JWTClaimsRegistry

from app.clients.oidc_settings import Provider
from app.core import clock
from app.security.keys import OneAlgorithm
from app.security.permissions import Role
from app.security.tokens import LEEWAY

#: Algorithms with a public key. HS256 would make the client secret, or a public key taken for one, sign tokens.
ALGORITHMS = frozenset(
    {
        *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
        *("ES256", "ES384", "ES512", "EdDSA", "Ed25519"),
    }
)
#: RFC 9864 names the algorithm anew; Authlib knows by the old name which hash `at_hash` is of.
_ALIASES = {"Ed25519": {"alg": "EdDSA"}}
#: NIST SP 800-131A: shorter RSA keys are not acceptable for signatures.
MIN_RSA_BITS = 2048
#: In characters: OpenID Connect Core 1.0 section 2 has it for a subject, and it is the length of the columns.
MAX_NAME_LENGTH = 255
#: Seconds: an older logout token is not taken, whatever expiry it has.
MAX_LOGOUT_AGE = 300
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"

#: What the libraries raise for a token or a key that is malformed; the last ones where a value has an unexpected type.
_ERRORS = (JoseError, UnsupportedAlgorithm, ValueError, TypeError, KeyError, AttributeError, RecursionError)


class KeyUnknown(ValueError):
    """No key that was published when the keys were read has signed the token."""


class AlgorithmUnknown(KeyUnknown):
    """The token is signed by an algorithm that the provider did not announce when its metadata was read."""


@dataclass(frozen=True, kw_only=True)
class Signed:
    """The content of a token whose signature was verified."""

    header: dict[str, Any]
    claims: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Person:
    """Who has logged in with a provider: the subject of its issuer, and what it says of them."""

    issuer: str
    subject: str
    #: As the provider spells it.
    email: str | None = None
    #: Whether the provider calls the address verified, by the JSON value true.
    has_verified_email: bool = False
    username: str | None = None
    #: None where the provider does not decide on it.
    role: Role | None = None
    #: The provider's id of its own session, which a logout token may name.
    provider_session: str | None = None


@dataclass(frozen=True, kw_only=True)
class LogoutToken:
    """What a provider says has ended: a session of its own (``sid``), or all of a person (``subject``), or both."""

    issuer: str
    subject: str | None
    provider_session: str | None
    issued_at: datetime


def import_keys(described: Any) -> tuple[Key, ...]:
    """The public keys for signatures in a JWK Set (RFC 7517), without those that are not understood.

    Raises ``ValueError`` for what is no JWK Set.
    """
    if not isinstance(described, dict) or not isinstance(described.get("keys"), list):
        raise ValueError("it is no JWK Set")  # noqa: TRY004 -- the caller catches ValueError, which bad keys raise too
    return tuple(_usable_keys(described["keys"]))


def verify(token: str, keys: Sequence[Key], algorithms: Collection[str]) -> Signed:
    """The content of ``token`` (RFC 7515), which one of ``keys`` has signed.

    The token chooses neither the algorithm, which must be one of ``algorithms`` and the key's own, nor a key that it
    brings along. Raises ``KeyUnknown`` where the provider may have a newer key that fits, ``AlgorithmUnknown`` where
    it may have announced the algorithm since, and ``ValueError``.
    """
    try:
        signed = extract_compact(token.encode())
        header, claims = dict(signed.protected), orjson.loads(signed.payload)
        algorithm, kid = header.get("alg"), header.get("kid")
    except _ERRORS:
        raise ValueError("it is no signed token") from None
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise ValueError("it is signed by another algorithm")
    if algorithm not in algorithms:
        raise AlgorithmUnknown("it is signed by an algorithm that was not announced")
    candidates = [key for key in keys if kid is None or key.kid == kid]
    if any(_has_signed(key, signed, algorithm) for key in candidates):
        return Signed(header=header, claims=claims)
    if kid is None or not candidates:
        raise KeyUnknown("it is signed by an unknown key")
    raise ValueError("its signature is wrong")


def check_id_token(signed: Signed, provider: Provider, *, nonce: str, access_token: str) -> dict[str, Any]:
    """The claims of an ID token, checked as OpenID Connect Core 1.0 section 3.1.3.7 says; raises ``ValueError``."""
    try:
        return _id_token_claims(signed, provider, nonce=nonce, access_token=access_token)
    except _ERRORS as error:
        # The messages name a claim, and no value.
        raise ValueError(str(error)) from None


def check_logout_token(signed: Signed, provider: Provider) -> LogoutToken:
    """What a logout token ends, checked as Back-Channel Logout 1.0 section 2.6 says; raises ``ValueError``."""
    try:
        return _logout_token(signed, provider)
    except _ERRORS as error:
        raise ValueError(str(error)) from None


def read_person(claims: Mapping[str, Any], provider: Provider) -> Person:
    """The person that the claims of a provider describe."""
    email, username = claims.get("email"), claims.get("preferred_username")
    return Person(
        issuer=provider.issuer,
        subject=claims["sub"],
        email=email if isinstance(email, str) else None,
        # Some providers have the text "true" there, which is the JSON value of none.
        has_verified_email=claims.get("email_verified") is True,
        username=username if isinstance(username, str) else None,
        role=_role(claims.get(provider.role_claim), provider) if provider.role_claim else None,
        provider_session=claims.get("sid"),
    )


def _role(claimed: object, provider: Provider) -> Role:
    """The most powerful of the roles that the values of a claim are mapped to; without one, the least."""
    values = claimed if isinstance(claimed, list) else [claimed]
    roles = {provider.roles[value] for value in values if isinstance(value, str) and value in provider.roles}
    return max(roles, key=list(Role).index, default=Role.USER)


def _id_token_claims(signed: Signed, provider: Provider, *, nonce: str, access_token: str) -> dict[str, Any]:
    if signed.header.get("typ", "JWT") != "JWT":
        # RFC 8725 section 3.11: a token of another kind, such as a logout token, is none of these.
        raise ValueError("it is of another type")
    options = {
        "iss": {"essential": True, "value": provider.issuer},
        "aud": {"essential": True, "value": provider.client_id},
        "sub": {"essential": True},
    }
    params = {"nonce": nonce, "client_id": provider.client_id, "access_token": access_token}
    claims = CodeIDToken(signed.claims, signed.header | _ALIASES.get(signed.header["alg"], {}), options, params)
    claims.validate(now=int(clock.now().timestamp()), leeway=LEEWAY)
    _require_names(claims["sub"], claims.get("sid"))
    return dict(claims)


def _logout_token(signed: Signed, provider: Provider) -> LogoutToken:
    claims, now = signed.claims, int(clock.now().timestamp())
    if str(signed.header.get("typ", "JWT")).lower().removeprefix("application/") not in {"jwt", "logout+jwt"}:
        raise ValueError("it is of another type")
    registry = JWTClaimsRegistry(
        now,
        LEEWAY,
        iss={"essential": True, "value": provider.issuer},
        aud={"essential": True, "value": provider.client_id},
        iat={"essential": True},
        jti={"essential": True},
    )
    registry.validate(claims)
    subject, session = claims.get("sub"), claims.get("sid")
    if now - claims["iat"] > MAX_LOGOUT_AGE:
        raise ValueError("it is too old")
    # With a nonce it would be an ID token.
    if "nonce" in claims or not isinstance(claims["events"][LOGOUT_EVENT], dict):
        raise ValueError("it is no logout token")
    if subject is None and session is None:
        raise ValueError("it names neither a person nor a session")
    _require_names(subject, session)
    issued_at = datetime.fromtimestamp(claims["iat"], UTC)
    return LogoutToken(issuer=provider.issuer, subject=subject, provider_session=session, issued_at=issued_at)


def _require_names(*values: object) -> None:
    for value in values:
        if value is None:
            continue
        if not isinstance(value, str) or not value or len(value) > MAX_NAME_LENGTH or not value.isprintable():
            raise ValueError("its subject or session is no name")


def _usable_keys(described: Sequence[Any]) -> Iterator[Key]:
    for members in described:
        try:
            key = JWKRegistry.import_key(members)
            if key.get("use", "sig") != "sig" or isinstance(key, OctKey):
                continue
            if isinstance(key, RSAKey) and key.public_key.key_size < MIN_RSA_BITS:
                continue
        except _ERRORS:
            # RFC 7517 section 5: a set may have keys of kinds that are not understood.
            continue
        yield key


def _has_signed(key: Key, signed: CompactSignature, algorithm: str) -> bool:
    if key.alg not in {None, algorithm}:
        return False
    try:
        return validate_compact(signed, key, registry=OneAlgorithm(algorithms=[algorithm]))
    except _ERRORS:
        # A key of another type, or of another curve.
        return False
