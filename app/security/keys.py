"""The keys that tokens are signed and verified with, each for exactly one algorithm (RFC 8725 section 3.1).

Without key files tokens are HS256, signed with a shared secret. With key files they are ES256 or EdDSA and name their
key by ``kid`` (the RFC 7638 thumbprint), so that other services can verify them with /.well-known/jwks.json.
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
    """Accepts the allowed algorithms only, without joserfc's warning that RFC 9864 deprecates the name ``EdDSA``."""

    def get_alg(self, name: str) -> JWSAlgModel:
        """The algorithm with this name; raises ``UnsupportedAlgorithmError`` unless it is allowed."""
        if name not in (self.allowed or ()):
            raise UnsupportedAlgorithmError(name)
        return self.algorithms[name]


@dataclass(frozen=True)
class Key:
    """A key that verifies tokens of one algorithm, and may sign them; a shared secret has no ``kid``."""

    algorithm: str
    verifies: OctKey | ECKey | OKPKey
    kid: str | None = None
    signs: Any = None

    @cached_property
    def private(self) -> OctKey | ECKey | OKPKey:
        """The key of joserfc that signs."""
        return type(self.verifies).import_key(self.signs)

    @cached_property
    def registry(self) -> JWSRegistry:
        """A registry of joserfc that is restricted to the key's algorithm."""
        return OneAlgorithm(algorithms=[self.algorithm])


@dataclass(frozen=True, eq=False)
class KeyRing:
    """The key that signs, and all keys that verify.

    Rings compare by identity, because `tokens` caches verified tokens by their ring.
    """

    signing: Key
    verifying: tuple[Key, ...]

    def candidates(self, kid: object) -> tuple[Key, ...]:
        """The verifying keys with this ``kid``; None finds the shared secrets. The token cannot choose an algorithm."""
        return tuple(key for key in self.verifying if key.kid == kid)

    def public_set(self) -> dict[str, Any] | None:
        """The JSON Web Key Set of the asymmetric keys (RFC 7517); None when there are none."""
        keys = [_public_member(key) for key in self.verifying if key.kid is not None]
        return {"keys": keys} if keys else None


def make_ring(*, secret: str, previous_secrets: Sequence[str], key_files: Sequence[bytes]) -> KeyRing:
    """The ring of these secrets and PEM files: the first file signs, or without files the secret.

    Previous secrets and further files only verify, so that keys can be rotated. A retired file may have only its public
    key. Raises ``KeyUnusable``.
    """
    shared = tuple(Key("HS256", OctKey.import_key(value), signs=value) for value in (secret, *previous_secrets))
    files = read_key_files(key_files)
    if files:
        # The current secret signs nothing then; tokens of previous secrets stay valid until they expire.
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
