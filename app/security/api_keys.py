"""API keys: ``cat_<id>_<secret><crc32>``. Secret scanners recognise the form, and the database stores a hash.

The checksum only saves a query for a mistyped key. The secret has 184 random bits, so that a plain SHA-256 of it is
enough: neither a salt nor a slow hash is needed. The secrets of OAuth clients have the same form with another prefix.
"""

import hashlib
import hmac
import re
import secrets
import zlib
from dataclasses import dataclass
from functools import cache

PREFIX = "cat"
#: Of the secret of an OAuth client.
CLIENT_PREFIX = "cas"
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZabcdefghjkmnpqrstvwxyz"
_SECRET_LENGTH = 32


@dataclass(frozen=True)
class ParsedKey:
    """A key whose form and checksum are valid; only the database can say whether it exists."""

    key_id: int
    secret_hash: str


def make_secret() -> str:
    """A new random secret."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(_SECRET_LENGTH))


def format_key(key_id: int, secret: str, *, prefix: str = PREFIX) -> str:
    """The key that its holder gets: prefix, id, secret and checksum."""
    body = f"{prefix}_{key_id}_{secret}"
    return f"{body}{_checksum(body)}"


def parse_key(text: str, *, prefix: str = PREFIX) -> ParsedKey | None:
    """The id and the secret's hash of a well-formed key with a valid checksum, else None."""
    match = _pattern(prefix).fullmatch(text)
    if match is None:
        return None
    key_id, secret, checksum = match.groups()
    if not hmac.compare_digest(_checksum(f"{prefix}_{key_id}_{secret}"), checksum):
        return None
    return ParsedKey(int(key_id), hash_secret(secret))


def hash_secret(secret: str) -> str:
    """The hash of a secret, as the database stores it: 64 hexadecimal digits."""
    return hashlib.sha256(secret.encode()).hexdigest()


def fingerprint_of(secret_hash: str) -> str:
    """What a token says of the secret that it was issued for: 16 hexadecimal digits, of which no secret follows."""
    return hashlib.sha256(f"token:{secret_hash}".encode()).hexdigest()[:16]


@cache
def _pattern(prefix: str) -> re.Pattern[str]:
    return re.compile(rf"{prefix}_([1-9][0-9]{{0,17}})_([{_ALPHABET}]{{{_SECRET_LENGTH}}})([0-9a-f]{{8}})")


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"
