"""Signatures of messages by the Standard Webhooks specification, and secrets that are stored encrypted.

The specification: github.com/standard-webhooks/standard-webhooks, version 1.0.0.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

#: What a secret begins with, so that one in the wrong place is recognised.
SECRET_PREFIX = "whsec_"  # noqa: S105 -- the specification's prefix
#: Of a secret, in bytes: the specification asks for 24 to 64.
SECRET_BYTES = 32


class SecretUnreadable(Exception):
    """A stored secret was encrypted with a key that is not among those of the settings any more."""


def make_secret() -> str:
    """A new secret, ``whsec_`` and base64, as receivers store it."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def signed_headers(
    *, message_id: str, sent_at: datetime, body: bytes, signing_secrets: Iterable[str]
) -> Mapping[str, str]:
    """The three headers of a message; it has one signature for each secret, of which a receiver needs one to fit."""
    timestamp = int(sent_at.timestamp())
    content = f"{message_id}.{timestamp}.".encode() + body
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(_signature(secret, content) for secret in signing_secrets),
    }


def _signature(secret: str, content: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    return f"v1,{base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()}"


def encrypt(text: str, keys: Sequence[str]) -> str:
    """A secret as it is stored, encrypted with the last of the application's keys (SECRET_KEY)."""
    return _cipher(keys).encrypt(text.encode()).decode()


def decrypt(token: str, keys: Sequence[str]) -> str:
    """A stored secret; raises ``SecretUnreadable`` where none of the keys encrypted it."""
    try:
        return _cipher(keys).decrypt(token).decode()
    except InvalidToken:
        raise SecretUnreadable from None


def _cipher(keys: Sequence[str]) -> MultiFernet:
    # The last key signs cursors, and so it encrypts; MultiFernet encrypts with its first.
    return MultiFernet([Fernet(_derived(key)) for key in reversed(keys)])


def _derived(key: str) -> bytes:
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"catalog: stored secrets").derive(key.encode())
    return base64.urlsafe_b64encode(derived)
