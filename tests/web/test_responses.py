"""What of a response goes over the wire (RFC 9110)."""

from collections import Counter
from typing import Any

import pytest
from flask import Flask
from itsdangerous import URLSafeTimedSerializer

from tests.conftest import Caller

CONTENT = {"content-type", "content-length", "content-encoding", "content-language", "last-modified"}


@pytest.fixture
def backend() -> str:
    """The headers do not depend on the database."""
    return "sqlite"


def names(answer: Any) -> set[str]:
    return {name.lower() for name, _ in answer.headers}


@pytest.fixture
def product(alice: Caller, make_product: Any) -> str:
    return f"/products/{make_product()['id']}"


class TestNotModified:
    @pytest.mark.parametrize("path", ["/products", "product", "//docs", "//openapi.json"])
    def test_says_nothing_of_the_content(self, bob: Caller, product: str, path: str) -> None:
        path = product if path == "product" else path
        tag = bob.get(path).headers["ETag"]

        answer = bob.get(path, headers={"If-None-Match": tag})

        # Section 15.4.5: what a cache holds already could only be contradicted.
        assert (answer.status_code, answer.data, answer.headers["ETag"]) == (304, b"", tag)
        assert names(answer) & CONTENT == set()


class TestNoContent:
    def test_says_nothing_of_the_content(self, root: Caller, product: str) -> None:
        answer = root.call("DELETE", product, headers={"If-Match": "*"})

        assert (answer.status_code, answer.data) == (204, b"")
        assert names(answer) & CONTENT == set()


class TestHead:
    @pytest.mark.parametrize("path", ["/products", "product", "/nothing", "//livez", "//docs", "//openapi.json"])
    def test_has_the_headers_of_get_and_no_content(self, bob: Caller, product: str, path: str) -> None:
        path = product if path == "product" else path
        whole = bob.get(path)

        answer = bob.call("HEAD", path)

        assert (answer.status_code, answer.data) == (whole.status_code, b"")
        assert names(answer) == names(whole)
        if answer.status_code == 200:  # problems hold the id of their request
            assert answer.headers["Content-Length"] == str(len(whole.data))


class TestHeaders:
    @pytest.mark.parametrize("path", ["/products", "product", "/nothing", "//livez", "//readyz", "//docs", "//metrics"])
    @pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "OPTIONS"])
    def test_are_sent_once(self, bob: Caller, product: str, method: str, path: str) -> None:
        answer = bob.call(method, product if path == "product" else path)

        assert [name for name, times in Counter(name.lower() for name, _ in answer.headers).items() if times > 1] == []

    @pytest.mark.parametrize("path", ["/products", "/users/me", "//livez", "/nothing"])
    def test_set_no_cookie(self, app: Flask, bob: Caller, path: str) -> None:
        # What Flask itself would take for a session.
        signer = URLSafeTimedSerializer(
            app.config["SECRET_KEY"], "cookie-session", signer_kwargs={"key_derivation": "hmac"}
        )

        answer = bob.get(path, headers={"Cookie": f"session={signer.dumps({'user': 1})}; other=1"})

        assert "Set-Cookie" not in answer.headers
        assert "Cookie" not in answer.headers.get("Vary", "")
