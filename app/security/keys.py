"""The keys that tokens are signed and verified with, each for exactly one algorithm (RFC 8725 section 3.1).

With secrets alone tokens are HS256. With key files they are ES256 or EdDSA, named by ``kid`` (the RFC 7638 thumbprint),
and other services can verify them with what /.well-known/jwks.json says.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from joserfc.jwk import ECKey, OKPKey


class KeyUnusable(Exception):
    """A key file is not a P-256 or Ed25519 key in PEM."""


@dataclass(frozen=True)
class Key:
    """A key that verifies tokens: of one algorithm, named by ``kid`` unless it is a shared secret."""

    algorithm: str
    verifies: Any
    kid: str | None = None
    signs: Any = None


@dataclass(frozen=True, eq=False)
class KeyRing:
    """The key that signs, and all that verify. No two are the same, which is what remembered tokens rely on."""

    signing: Key
    verifying: tuple[Key, ...]

    def candidates(self, kid: object) -> tuple[Key, ...]:
        """The keys that a token with this ``kid`` can have been signed with; few, and none by the token's choice."""
        return tuple(key for key in self.verifying if key.kid == kid)

    def public_set(self) -> dict[str, Any] | None:
        """The JSON Web Key Set of the asymmetric keys (RFC 7517), or None when there are none."""
        keys = [_public_member(key) for key in self.verifying if key.kid is not None]
        return {"keys": keys} if keys else None


def make_ring(*, secret: str, previous_secrets: Sequence[str], key_files: Sequence[bytes]) -> KeyRing:
    """The ring of these secrets and PEM files: the first file signs where there is one, else the secret.

    Previous secrets and further files verify only: they are being rotated out. A retired file may be a public key.
    """
    shared = tuple(Key("HS256", value, signs=value) for value in (secret, *previous_secrets))
    files = tuple(_read(content, must_sign=index == 0) for index, content in enumerate(key_files))
    if files:
        # The present secret signs nothing then; tokens of the secrets before are good until they expire.
        return KeyRing(files[0], files + shared[1:])
    return KeyRing(shared[0], shared)


def _read(pem: bytes, *, must_sign: bool) -> Key:
    try:
        private: Any = None
        if b"PRIVATE KEY" in pem:
            private = load_pem_private_key(pem, password=None)
        public = private.public_key() if private else load_pem_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyUnusable("is not a key in PEM without a passphrase") from error
    if must_sign and not isinstance(private, EllipticCurvePrivateKey | Ed25519PrivateKey):
        raise KeyUnusable("must begin with a private key that signs")
    if isinstance(public, Ed25519PublicKey):
        return Key("EdDSA", public, _thumbprint(pem, OKPKey), private)
    if isinstance(public, EllipticCurvePublicKey) and isinstance(public.curve, SECP256R1):
        return Key("ES256", public, _thumbprint(pem, ECKey), private)
    raise KeyUnusable("must be a P-256 or Ed25519 key")


def _thumbprint(pem: bytes, kind: type[ECKey] | type[OKPKey]) -> str:
    return kind.import_key(pem).thumbprint()


def _public_member(key: Key) -> dict[str, Any]:
    kind = OKPKey if key.algorithm == "EdDSA" else ECKey
    described = dict(kind.import_key(key.verifies).as_dict(private=False))
    return {**described, "kid": key.kid, "alg": key.algorithm, "use": "sig"}
