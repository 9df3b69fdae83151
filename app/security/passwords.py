"""Passwords: argon2id, one hash at a time per worker, and the same time whether or not there is an account."""

import secrets
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import BoundedSemaphore

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from app.core.errors import Fault, Invalid, Unavailable

#: In characters.
MIN_PASSWORD_LENGTH = 8
#: In UTF-8, which bounds the cost of hashing per request.
MAX_PASSWORD_BYTES = 1024

# OWASP Password Storage Cheat Sheet: argon2id with 19 MiB, two passes, one lane.
_hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
# A random salt and digest, which no password has.
_salt, _digest = (b64encode(secrets.token_bytes(size)).decode().rstrip("=") for size in (16, 32))
_dummy_hash = f"$argon2id$v=19$m={_hasher.memory_cost},t={_hasher.time_cost},p=1${_salt}${_digest}"

#: A worker hashes one password at a time.
_slots = BoundedSemaphore(1)
#: The longest wait for the slot. It is short because a waiting request occupies a thread that reads need too.
MAX_WAIT_SECONDS = 0.5


class HashingBusy(Unavailable):
    """Too many passwords are being hashed at the moment; try again shortly."""


class PasswordTooCommon(Invalid):
    """This password is among the most common ones; choose another."""


def hash_password(password: str) -> str:
    """The argon2id hash of ``password``, with its parameters and salt; raises ``HashingBusy``."""
    with _hashing_slot():
        return _hasher.hash(password)


def verify_password(password: str, password_hash: str | None) -> bool:
    """Whether ``password_hash`` is of ``password``; raises ``HashingBusy``.

    Without a hash it verifies a dummy one and returns False: the duration must not reveal whether there is an account.
    """
    try:
        with _hashing_slot():
            _hasher.verify(password_hash or _dummy_hash, password)
    except (VerifyMismatchError, InvalidHashError):
        return False
    return bool(password_hash)


def needs_rehash(password_hash: str) -> bool:
    """Whether a hash has other parameters than the current ones."""
    return _hasher.check_needs_rehash(password_hash)


def require_uncommon(password: str, *, pointer: str) -> None:
    """Refuse a common password, which attackers try first (NIST SP 800-63B section 5.1.1.2)."""
    if password.casefold() in _common_passwords():
        sentence, code = PasswordTooCommon.sentence(), PasswordTooCommon.code()
        raise PasswordTooCommon(Fault(sentence, code, pointer=pointer))


@contextmanager
def _hashing_slot() -> Iterator[None]:
    if not _slots.acquire(timeout=MAX_WAIT_SECONDS):
        raise HashingBusy
    try:
        yield
    finally:
        _slots.release()


@cache
def _common_passwords() -> frozenset[str]:
    # Loaded at the first use: the library's lists are megabytes, which most workers never need.
    from zxcvbn.frequency_lists import FREQUENCY_LISTS  # noqa: PLC0415 -- as said above

    return frozenset(FREQUENCY_LISTS["passwords"])
