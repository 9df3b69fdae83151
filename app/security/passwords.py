"""Passwords: hashed with argon2id, verified in the same time whether or not there is an account."""

import secrets

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

#: In bytes of UTF-8. The upper bound keeps a request from buying much hashing.
SHORTEST, LONGEST = 8, 1024

# OWASP Password Storage Cheat Sheet: argon2id with 19 MiB, two passes, one lane.
_hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_nobodys_hash = _hasher.hash(secrets.token_hex(16))


def hash_password(password: str) -> str:
    """The argon2id hash of ``password``, with its parameters and salt."""
    return _hasher.hash(password)


def verify_password(password: str, password_hash: str | None) -> bool:
    """Whether ``password`` made ``password_hash``. Without one the work is done all the same and the answer is no."""
    try:
        _hasher.verify(password_hash or _nobodys_hash, password)
    except (VerifyMismatchError, InvalidHashError):
        return False
    return password_hash is not None
