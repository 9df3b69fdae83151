"""The keys that tokens are signed and verified with, each for exactly one algorithm (RFC 8725 section 3.1).

With secrets alone tokens are HS256. With key files they are ES256 or EdDSA, named by ``kid`` (the RFC 7638 thumbprint),
and other services can verify them with what /.well-known/jwks.json says.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from joserfc.errors import UnsupportedAlgorithmError
from joserfc.jwa import JWSAlgModel
from joserfc.jwk import ECKey, OctKey, OKPKey
from joserfc.jws import JWSRegistry


class KeyUnusable(Exception):
    """A key file is not a P-256 or Ed25519 key in PEM."""


class OneAlgorithm(JWSRegistry):
    """Takes tokens of one algorithm; its default takes those that RFC 9864 has not given a new name."""

    def get_alg(self, name: str) -> JWSAlgModel:
        """The algorithm of a token; raises ``UnsupportedAlgorithmError`` for every other."""
        if name not in (self.allowed or ()):
            raise UnsupportedAlgorithmError(name)
        return self.algorithms[name]


@dataclass(frozen=True)
class Key:
    """A key that verifies tokens: of one algorithm, named by ``kid`` unless it is a shared secret."""

    algorithm: str
    verifies: OctKey | ECKey | OKPKey
    kid: str | None = None
    signs: Any = None

    @cached_property
    def registry(self) -> JWSRegistry:
        """What joserfc may verify with it."""
        return OneAlgorithm(algorithms=[self.algorithm])


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
    shared = tuple(Key("HS256", OctKey.import_key(value), signs=value) for value in (secret, *previous_secrets))
    files = read_key_files(key_files)
    if files:
        # The present secret signs nothing then; tokens of the secrets before are good until they expire.
        return KeyRing(files[0], files + shared[1:])
    return KeyRing(shared[0], shared)


def read_key_files(contents: Sequence[bytes]) -> tuple[Key, ...]:
    """The keys of these PEM files, of which the first signs; raises ``KeyUnusable``."""
    return tuple(_read(content, must_sign=index == 0) for index, content in enumerate(contents))


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
        return _asymmetric("EdDSA", OKPKey.import_key(public), private)
    if isinstance(public, EllipticCurvePublicKey) and isinstance(public.curve, SECP256R1):
        return _asymmetric("ES256", ECKey.import_key(public), private)
    raise KeyUnusable("must be a P-256 or Ed25519 key")


def _asymmetric(algorithm: str, key: ECKey | OKPKey, private: Any) -> Key:
    return Key(algorithm, key, key.thumbprint(), private)


def _public_member(key: Key) -> dict[str, Any]:
    return {**key.verifies.as_dict(private=False), "kid": key.kid, "alg": key.algorithm, "use": "sig"}
