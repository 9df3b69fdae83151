"""Passwords: how they are hashed, and that guessing tells nothing."""

import time
from collections.abc import Callable

import pytest
from argon2 import extract_parameters
from argon2.low_level import Type

from app.security import passwords
from app.security.passwords import (
    MAX_PASSWORD_BYTES,
    MIN_PASSWORD_LENGTH,
    PasswordTooCommon,
    hash_password,
    needs_rehash,
    require_uncommon,
    verify_password,
)
from tests.conftest import PASSWORD


def quickest(work: Callable[[], object]) -> float:
    """The least seconds of processor time that some work takes; other processes do not count."""
    times = []
    for _ in range(5):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return min(times)


class TestHash:
    def test_is_argon2id_as_owasp_has_it(self, password_hash: str) -> None:
        parameters = extract_parameters(password_hash)

        assert parameters.type is Type.ID
        assert (parameters.memory_cost, parameters.time_cost, parameters.parallelism) == (19 * 1024, 2, 1)
        assert (parameters.salt_len, parameters.hash_len) == (16, 32)

    def test_has_a_salt_of_its_own(self, password_hash: str) -> None:
        assert hash_password(PASSWORD) != password_hash

    def test_fits_its_column(self, password_hash: str) -> None:
        assert len(password_hash) <= 255


class TestVerify:
    def test_knows_the_password(self, password_hash: str) -> None:
        assert verify_password(PASSWORD, password_hash)

    @pytest.mark.parametrize("password", ["", "wrong", PASSWORD + "\x00", PASSWORD[:-1], PASSWORD.title()])
    def test_refuses_another(self, password_hash: str, password: str) -> None:
        assert not verify_password(password, password_hash)

    @pytest.mark.parametrize("damaged", ["", "plain", "$2b$12$abcdefghijklmnopqrstuv"])
    def test_refuses_what_is_no_hash(self, damaged: str) -> None:
        assert not verify_password(PASSWORD, damaged)

    def test_refuses_everything_where_there_is_no_account(self) -> None:
        assert not verify_password(PASSWORD, None)

    def test_does_the_work_where_there_is_no_account(self, password_hash: str) -> None:
        known = quickest(lambda: verify_password("wrong", password_hash))
        unknown = quickest(lambda: verify_password("wrong", None))

        assert known / 2 < unknown < known * 2

    def test_reads_every_byte_of_the_longest(self) -> None:
        longest = "x" * MAX_PASSWORD_BYTES

        assert not verify_password(f"{longest[:-1]}y", hash_password(longest))

    def test_does_the_work_of_the_hashes_that_are_made(self) -> None:
        assert not needs_rehash(passwords._dummy_hash)


class TestRequireUncommon:
    @pytest.mark.parametrize("password", ["password", "PassWord1", "12345678", "ſunshine", "mercede1"])
    def test_refuses_what_attackers_try_first(self, password: str) -> None:
        with pytest.raises(PasswordTooCommon):
            require_uncommon(password, pointer="/password")

    @pytest.mark.parametrize("password", [PASSWORD, "password\n", "12345678\npassword", "password\x00", "\ud800" * 8])
    def test_takes_another(self, password: str) -> None:
        require_uncommon(password, pointer="/password")


class TestBounds:
    def test_are_those_of_the_promise(self) -> None:
        assert (MIN_PASSWORD_LENGTH, MAX_PASSWORD_BYTES) == (8, 1024)
