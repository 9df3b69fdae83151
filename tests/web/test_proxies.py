"""Whose address a request has."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from structlog.testing import capture_logs

from app.web.proxies import read_address
from tests.conftest import Caller, code_of

AppWith = Callable[..., Flask]
PROXY = "127.0.0.1"
NO_ADDRESSES = [
    "",
    "unknown",
    "_hidden",
    "x" * 60,
    "203.0.113.9.7",
    "203.0.113.009",
    "1" * 60,
    ":",
    "[",
    "[]:80",
    "\xe9",
]


@pytest.fixture
def backend() -> str:
    """Addresses do not depend on the database."""
    return "sqlite"


class TestReadAddress:
    @pytest.mark.parametrize(
        ("entry", "address"),
        [
            ("203.0.113.9", "203.0.113.9"),
            (" 203.0.113.9 ", "203.0.113.9"),
            ("203.0.113.9:4711", "203.0.113.9"),
            ("2001:DB8::1", "2001:db8::1"),
            ("2001:0db8:0000:0000:0000:0000:0000:0001", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("fe80::1%eth0", "fe80::1"),
            (f"fe80::1%{'x' * 60}", "fe80::1"),
            ("::ffff:203.0.113.9", "203.0.113.9"),
        ],
    )
    def test_takes_what_proxies_write(self, entry: str, address: str) -> None:
        assert read_address(entry) == address

    @pytest.mark.parametrize("entry", NO_ADDRESSES)
    def test_takes_nothing_else(self, entry: str) -> None:
        assert read_address(entry) is None


class TestForwardedFor:
    @pytest.mark.parametrize("claimed", [*NO_ADDRESSES[1:], "203.0.113.9, unknown"])
    def test_that_names_no_address_leaves_the_sockets(self, app_with: AppWith, anonymous: Caller, claimed: str) -> None:
        behind = anonymous.on(app_with(log_level="INFO", trusted_proxies=1))

        with capture_logs() as lines:
            answer = behind.get("//livez", headers={"X-Forwarded-For": claimed})

        assert answer.status_code == 200
        assert [line["address"] for line in lines if line["event"] == "request"] == [PROXY]

    @pytest.mark.parametrize("claimed", ["x" * 60, f"fe80::1%{'x' * 60}"])
    def test_that_is_longer_than_an_address_refuses_no_login(
        self, app_with: AppWith, anonymous: Caller, claimed: str
    ) -> None:
        behind = anonymous.on(app_with(trusted_proxies=1))
        wrong: dict[str, Any] = {"email": "nobody@example.com", "password": "not-the-password"}

        answer = behind.post("/auth/login", json=wrong, headers={"X-Forwarded-For": claimed})

        assert (answer.status_code, code_of(answer)) == (401, "login_failed")
