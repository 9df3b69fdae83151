"""Providers that attack: documents and tokens made to break the server, and claims about other people."""

import base64
import json
from typing import Any

import pytest

from tests.conftest import Caller, body_of, code_of, on_one_database
from tests.features.identities.conftest import Browser, error_of
from tests.issuer import Issuer

DISCOVERY = "/.well-known/openid-configuration"
#: 30 kB of JSON that a parser goes down into until it has no stack.
DEEP = [b"[" * 30_000, b'{"a":' * 6_000, b'{"error":' + b"[" * 30_000]

pytestmark = on_one_database


@pytest.mark.parametrize("body", DEEP)
class TestADeepDocument:
    @pytest.mark.parametrize("status", [200, 400])
    @pytest.mark.parametrize("path", ["/token", "/jwks", "/userinfo"])
    def test_fails_the_login_alone(self, browser: Browser, issuer: Issuer, path: str, status: int, body: bytes) -> None:
        issuer.fail(path, status, body)

        assert error_of(browser.log_in(sub="1001")) == "provider_unavailable"

    def test_is_no_discovery_document(self, browser: Browser, issuer: Issuer, body: bytes) -> None:
        issuer.fail(DISCOVERY, 200, body)

        assert code_of(browser.begin()) == "provider_unavailable"


class TestADocumentOfWrongTypes:
    @pytest.mark.parametrize("value", [7, True, "https://id.example:99999/", "https://id.example:0/"])
    @pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint"])
    def test_is_none(self, browser: Browser, issuer: Issuer, name: str, value: Any) -> None:
        issuer.metadata = {name: value}

        assert code_of(browser.begin()) == "provider_unavailable"


class TestALogoutToken:
    @pytest.mark.parametrize("algorithm", [[], ["RS256"], {"a": 1}, None, 7])
    def test_needs_an_algorithm_that_is_a_name(self, browser: Browser, algorithm: Any) -> None:
        # Anybody can send one: it is read before its signature is verified.
        header = base64.urlsafe_b64encode(json.dumps({"alg": algorithm}).encode()).rstrip(b"=").decode()

        answer = Caller(browser.app).call(
            "POST", "/auth/oidc/company/backchannel-logout", data={"logout_token": f"{header}.e30.c2ln"}
        )

        assert (answer.status_code, body_of(answer)["code"]) == (400, "logout_token_invalid")
