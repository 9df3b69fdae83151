"""Passwords: hashed with argon2id, bounded per worker, verified in the same time whether or not there is an account."""

import secrets
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import BoundedSemaphore

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from app.core.errors import Fault, Invalid, Unavailable

#: In bytes of UTF-8. The upper bound keeps a request from buying much hashing.
SHORTEST, LONGEST = 8, 1024

# OWASP Password Storage Cheat Sheet: argon2id with 19 MiB, two passes, one lane.
_hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
# A salt and a digest that no password was hashed for.
_salt, _digest = (b64encode(secrets.token_bytes(size)).decode().rstrip("=") for size in (16, 32))
_nobodys_hash = f"$argon2id$v=19$m={_hasher.memory_cost},t={_hasher.time_cost},p=1${_salt}${_digest}"

#: One password at a time is hashed in a worker, and another waits for its turn no longer than this many seconds: it
#: holds a thread meanwhile, and reads need threads too.
_turns = BoundedSemaphore(1)
LONGEST_WAIT = 0.5


class HashingBusy(Unavailable):
    """Too many passwords are being hashed at this moment; try again shortly."""


class PasswordTooCommon(Invalid):
    """This password is among the most common ones; choose another."""


def hash_password(password: str) -> str:
    """The argon2id hash of ``password``, with its parameters and salt. May be ``HashingBusy``."""
    with _turn():
        return _hasher.hash(password)


def verify_password(password: str, password_hash: str | None) -> bool:
    """Whether ``password`` made ``password_hash``. Without one the work is done all the same and the answer is no."""
    try:
        with _turn():
            _hasher.verify(password_hash or _nobodys_hash, password)
    except (VerifyMismatchError, InvalidHashError):
        return False
    return password_hash is not None


def needs_rehash(password_hash: str) -> bool:
    """Whether a hash was made with other parameters than today's."""
    return _hasher.check_needs_rehash(password_hash)


def require_uncommon(password: str, *, pointer: str) -> None:
    """Refuse a password that attackers try first (NIST SP 800-63B section 5.1.1.2)."""
    if password.casefold() in _common_passwords():
        sentence, code = PasswordTooCommon.sentence(), PasswordTooCommon.code()
        raise PasswordTooCommon(Fault(sentence, code, pointer=pointer))


@contextmanager
def _turn() -> Iterator[None]:
    if not _turns.acquire(timeout=LONGEST_WAIT):
        raise HashingBusy
    try:
        yield
    finally:
        _turns.release()


@cache
def _common_passwords() -> frozenset[str]:
    # The library's lists are megabytes, which a worker that is never given a new password does not need.
    from zxcvbn.frequency_lists import FREQUENCY_LISTS  # noqa: PLC0415

    return frozenset(FREQUENCY_LISTS["passwords"])
