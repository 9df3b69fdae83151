"""What is no login: forged and foreign tokens, other people's responses, and providers that do not respond."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from flask import Flask
from sqlalchemy import select

from app.clients import oidc
from app.core import clock
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.sessions.models import UserSession
from app.features.users.models import User
from tests.conftest import API, Caller, code_of, on_one_database
from tests.features.identities.conftest import Browse, Browser, Offer, error_of, outcome
from tests.issuer import CLIENT_ID, CLIENT_SECRET, RSA_KEYS, Issuer, new_key

DAVE: dict[str, Any] = {"sub": "1001", "email": "dave@example.com", "email_verified": True}
Sign = Callable[[dict[str, Any], dict[str, Any]], str]

pytestmark = on_one_database


def require_nothing_happened(app: Flask) -> None:
    """No account and no session were made."""
    with app.app_context(), unit_of_work(reading=True):
        assert db.session.scalar(select(User.id)) is None
        assert db.session.scalar(select(UserSession.id)) is None


def encoded(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class TestTheState:
    @pytest.mark.parametrize("state", ["", "wrong", "\u00e4", "x" * 200])
    def test_must_be_that_of_the_browser(self, browser: Browser, issuer: Issuer, state: str) -> None:
        parameters = issuer.grant(browser.begin().headers["Location"], **DAVE)

        answer = browser.come_back(**parameters | {"state": state})

        assert answer.status_code in {400, 422}
        assert "Location" not in answer.headers
        assert issuer.counted("/token") == 0
        # The attempt goes on: another site must not be able to end it.
        assert outcome(browser.come_back(**parameters))[1].keys() == {"csrf_token"}

    def test_of_another_browser_is_none(self, browser: Browser, browse: Browse, shop: Flask, issuer: Issuer) -> None:
        # An attacker who lets a victim finish the attacker's login (RFC 9700 section 4.7).
        attacker = browse(shop)
        parameters = issuer.grant(attacker.begin().headers["Location"], **DAVE)
        browser.begin()

        assert code_of(browser.come_back(**parameters)) == "state_invalid"
        assert browser.cookie("catalog_refresh", "/api/v1/auth") is None
        require_nothing_happened(shop)

    def test_is_needed_with_its_cookie(self, browser: Browser, issuer: Issuer) -> None:
        parameters = issuer.grant(browser.begin().headers["Location"], **DAVE)
        browser.client.delete_cookie("catalog_oidc", path="/api/v1/auth/oidc")

        answer = browser.come_back(**parameters)

        assert (answer.status_code, code_of(answer)) == (400, "state_invalid")
        assert issuer.counted("/token") == 0

    def test_does_not_excuse_an_error(self, browser: Browser) -> None:
        browser.begin()

        assert code_of(browser.come_back(error="access_denied", state="wrong")) == "state_invalid"

    @pytest.mark.parametrize("cookie", ["", "x", "eyJ9.x.y", "eyJwcm92aWRlciI6ImNvbXBhbnkifQ.aSIm4A.c2ln"])
    def test_is_signed(self, browser: Browser, cookie: str) -> None:
        browser.client.set_cookie("catalog_oidc", cookie, path="/api/v1/auth/oidc")

        assert code_of(browser.come_back(state="x", code="x")) == "state_invalid"

    def test_is_of_one_provider(self, browser: Browser, offer: Offer, browse: Browse, issuer: Issuer) -> None:
        parameters = issuer.grant(browser.begin().headers["Location"], **DAVE)
        other = browse(offer(name="other"))
        cookie = browser.cookie("catalog_oidc", "/api/v1/auth/oidc")
        other.client.set_cookie("catalog_oidc", cookie or "", path="/api/v1/auth/oidc")

        assert code_of(other.come_back("other", **parameters)) == "state_invalid"

    def test_ends_after_ten_minutes(self, browser: Browser, issuer: Issuer) -> None:
        parameters = issuer.grant(browser.begin().headers["Location"], **DAVE)
        cookie = browser.cookie("catalog_oidc", "/api/v1/auth/oidc")

        with time_machine.travel(clock.now() + timedelta(seconds=602)):
            # A browser would have forgotten it.
            browser.client.set_cookie("catalog_oidc", cookie or "", path="/api/v1/auth/oidc")
            assert code_of(browser.come_back(**parameters)) == "state_invalid"

    def test_lives_on_when_the_secret_key_is_rotated(
        self, browser: Browser, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        parameters = issuer.grant(browser.begin().headers["Location"], **DAVE)
        monkeypatch.setitem(browser.app.config, "SECRET_KEYS", ("s" * 32, "n" * 32))

        assert outcome(browser.come_back(**parameters))[1].keys() == {"csrf_token"}


class TestTheIssuerOfAResponse:
    def test_must_be_the_one_that_was_asked(self, browser: Browser, issuer: Issuer) -> None:
        parameters = issuer.grant(browser.begin().headers["Location"], **DAVE)

        answer = browser.come_back(**parameters, iss="https://evil.example")

        # RFC 9700 section 4.4: the code must not go to another provider.
        assert error_of(answer) == "issuer_mismatch"
        assert issuer.counted("/token") == 0

    def test_must_be_named_by_a_provider_that_promises_it(self, browser: Browser, issuer: Issuer) -> None:
        issuer.metadata["authorization_response_iss_parameter_supported"] = True

        assert error_of(browser.log_in(**DAVE)) == "issuer_mismatch"
        parameters = issuer.grant(browser.begin().headers["Location"], **DAVE)
        assert outcome(browser.come_back(**parameters, iss=issuer.url))[1].keys() == {"csrf_token"}

    def test_must_be_right_in_an_error_too(self, browser: Browser) -> None:
        _, asked = outcome(browser.begin())

        answer = browser.come_back(state=asked["state"], error="access_denied", iss="https://evil.example")

        assert error_of(answer) == "issuer_mismatch"


class TestTheClaims:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"nonce": "another"},
            {"nonce": None},
            {"nonce": 7},
            {"aud": "another"},
            {"aud": ["another"]},
            {"aud": None},
            {"aud": []},
            {"aud": {"catalog:1": 1}},
            {"aud": ["catalog:1", "another"]},
            {"aud": ["catalog:1", "another"], "azp": "another"},
            {"azp": "another"},
            {"iss": "https://evil.example"},
            {"iss": None},
            {"iss": ["x"]},
            {"sub": None},
            {"sub": ""},
            {"sub": 1001},
            {"sub": "x" * 256},
            {"sub": "a\u0000b"},
            {"sid": 7},
            {"sid": "x" * 256},
            {"exp": None},
            {"exp": "tomorrow"},
            {"exp": True},
            {"exp": -1},
            {"iat": None},
            {"iat": "now"},
            {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"},
            {"at_hash": 7},
            {"amr": "pwd"},
        ],
    )
    def test_must_be_for_this_login(self, browser: Browser, wrong: dict[str, Any]) -> None:
        answer = browser.log_in(**DAVE | wrong)

        assert error_of(answer) == "id_token_invalid"
        assert browser.cookie("catalog_oidc", "/api/v1/auth/oidc") is None
        require_nothing_happened(browser.app)

    @pytest.mark.parametrize(("name", "seconds"), [("exp", -31), ("iat", 40), ("nbf", 40)])
    def test_must_be_timely(self, browser: Browser, name: str, seconds: int) -> None:
        claims = DAVE | {name: int(time.time()) + seconds}

        assert error_of(browser.log_in(**claims)) == "id_token_invalid"

    @pytest.mark.parametrize(
        "right",
        [
            {"aud": [CLIENT_ID]},
            {"aud": [CLIENT_ID, "another"], "azp": CLIENT_ID},
            {"azp": CLIENT_ID},
            {"at_hash": encoded(hashlib.sha256(b"acc-ess").digest()[:16])},
            {"amr": ["pwd"]},
            {"sid": "x" * 255},
            # Clocks differ.
            {"exp": int(time.time()) + 3600, "iat": int(time.time()) + 20},
        ],
    )
    def test_may_say_more(self, browser: Browser, right: dict[str, Any]) -> None:
        assert outcome(browser.log_in(**DAVE | right))[1].keys() == {"csrf_token"}


class TestTheSignature:
    def signed_otherwise(self, issuer: Issuer, kind: str) -> Sign:
        """A way to sign that is none."""
        own, public = RSA_KEYS["rsa-1"], RSA_KEYS["rsa-1"].as_pem(private=False)
        foreign = {**RSA_KEYS["rsa-2"].as_dict(private=True), "kid": "rsa-1"}

        def none(claims: dict[str, Any], _: object) -> str:
            return f"{encoded({'alg': 'none', 'kid': own.kid})}.{encoded(claims)}."

        def as_secret(secret: bytes) -> Sign:
            def sign(claims: dict[str, Any], _: object) -> str:
                signed = f"{encoded({'alg': 'HS256', 'kid': own.kid})}.{encoded(claims)}"
                return f"{signed}.{encoded(hmac.digest(secret, signed.encode(), 'sha256'))}"

            return sign

        def jwk(claims: dict[str, Any], _: object) -> str:
            shown = RSA_KEYS["rsa-2"].as_dict(private=False)
            return issuer.signed(claims, {"jwk": shown, "kid": None}, key=RSA_KEYS["rsa-2"])

        return {
            "none": none,
            "the public key as a secret": as_secret(public),
            "the client's secret": as_secret(CLIENT_SECRET.encode()),
            "another key with the name of ours": lambda claims, _: issuer.signed(
                claims, {"kid": "rsa-1"}, key=type(own).import_key(foreign)
            ),
            "a key that it brings along": jwk,
            "another algorithm of the key": lambda claims, _: issuer.signed(claims, {"alg": "PS256"}),
            "another kind of token": lambda claims, _: issuer.signed(claims, {"typ": "logout+jwt"}),
            "nothing": lambda *_: "x.y.z",
            "changed claims": lambda claims, _: _with_claims(issuer.signed(claims, {}), claims | {"sub": "1"}),
            "no object": lambda *_: _with_claims(issuer.signed({}, {}), []),
        }[kind]

    @pytest.mark.parametrize(
        "kind",
        [
            "none",
            "the client's secret",
            "the public key as a secret",
            "another key with the name of ours",
            "a key that it brings along",
            "another algorithm of the key",
            "another kind of token",
            "nothing",
            "changed claims",
            "no object",
        ],
    )
    def test_must_be_of_a_key_that_is_published(self, browser: Browser, issuer: Issuer, kind: str) -> None:
        issuer.sign = self.signed_otherwise(issuer, kind)

        assert error_of(browser.log_in(**DAVE)) == "id_token_invalid"
        require_nothing_happened(browser.app)

    @pytest.mark.parametrize(
        ("kind", "algorithm", "hashed_by"),
        [
            ("EC", "ES256", "sha256"),
            ("OKP", "EdDSA", "sha512"),
            ("OKP", "Ed25519", "sha512"),
            ("RSA", "RS256", "sha256"),
        ],
    )
    def test_may_be_of_any_algorithm_with_a_public_key(
        self, browser: Browser, issuer: Issuer, kind: str, algorithm: str, hashed_by: str
    ) -> None:
        issuer.algorithm = algorithm
        issuer.metadata["id_token_signing_alg_values_supported"] = ["RS256", algorithm]
        issuer.rotate(new_key(kind, "rsa-2"))
        digest = hashlib.new(hashed_by, b"acc-ess").digest()

        answer = browser.log_in(**DAVE, at_hash=encoded(digest[: len(digest) // 2]))

        assert outcome(answer)[1].keys() == {"csrf_token"}

    def test_must_be_of_an_algorithm_that_the_provider_names(self, browser: Browser, issuer: Issuer) -> None:
        issuer.metadata["id_token_signing_alg_values_supported"] = ["ES256"]

        assert error_of(browser.log_in(**DAVE)) == "id_token_invalid"

    def test_may_be_of_a_key_without_a_name(self, browser: Browser, issuer: Issuer) -> None:
        issuer.sign = lambda claims, _: issuer.signed(claims, {"kid": None})

        assert outcome(browser.log_in(**DAVE))[1].keys() == {"csrf_token"}

    def test_may_be_of_one_key_among_many_that_are_not_understood(self, browser: Browser, issuer: Issuer) -> None:
        keys = [
            {"kty": "AKP", "alg": "ML-DSA-65", "pub": "x"},
            {"kty": "RSA", "n": "!", "e": "AQAB", "kid": "rsa-1"},
            {"kty": "RSA", "use": "enc", **RSA_KEYS["rsa-2"].as_dict(private=False) | {"use": "enc"}},
            "no key",
            RSA_KEYS["rsa-1"].as_dict(private=False),
        ]
        issuer.fail("/jwks", 200, {"keys": keys})

        assert outcome(browser.log_in(**DAVE))[1].keys() == {"csrf_token"}

    @pytest.mark.parametrize("use", [{"use": "enc"}, {"alg": "RS512"}])
    def test_is_not_of_a_key_for_something_else(self, browser: Browser, issuer: Issuer, use: dict[str, str]) -> None:
        issuer.fail("/jwks", 200, {"keys": [RSA_KEYS["rsa-1"].as_dict(private=False) | use]})

        assert error_of(browser.log_in(**DAVE)) == "id_token_invalid"


class TestNewKeys:
    def test_are_fetched_once_for_a_token_that_names_them(self, browser: Browser, issuer: Issuer) -> None:
        browser.log_in(**DAVE)
        issuer.rotate(RSA_KEYS["rsa-2"])

        for _ in range(3):
            assert outcome(browser.log_in(**DAVE))[1].keys() == {"csrf_token"}
        assert issuer.counted("/jwks") == 2

    def test_are_asked_for_once_in_half_a_minute(self, browser: Browser, issuer: Issuer) -> None:
        issuer.sign = lambda claims, _: issuer.signed(claims, {"kid": "unknown"})

        assert [error_of(browser.log_in(**DAVE)) for _ in range(4)] == ["id_token_invalid"] * 4
        assert issuer.counted("/jwks") == 2

    def test_are_asked_for_again_after_it(
        self, browser: Browser, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(oidc, "RENEWAL_INTERVAL", 0)
        issuer.sign = lambda claims, _: issuer.signed(claims, {"kid": "unknown"})

        for _ in range(4):
            browser.log_in(**DAVE)

        assert issuer.counted("/jwks") == 1 + 4

    def test_are_not_asked_for_because_a_signature_is_wrong(self, browser: Browser, issuer: Issuer) -> None:
        issuer.sign = lambda claims, _: _with_claims(issuer.signed(claims, {}), claims | {"sub": "1"})

        browser.log_in(**DAVE)

        assert issuer.counted("/jwks") == 1


class TestTheTokenResponse:
    @pytest.mark.parametrize(
        ("status", "body", "error"),
        [
            (400, {"error": "invalid_grant"}, "login_refused"),
            (401, {"error": "invalid_client"}, "login_refused"),
            (400, {"error": "x" * 500}, "provider_unavailable"),
            (400, b"no JSON", "provider_unavailable"),
            (403, {"error": "invalid_grant"}, "provider_unavailable"),
            (429, {"error": "slow_down"}, "provider_unavailable"),
            (500, {"error": "server_error"}, "provider_unavailable"),
            (302, {}, "provider_unavailable"),
            (200, b"no JSON", "provider_unavailable"),
            (200, [], "provider_unavailable"),
            (200, {}, "provider_unavailable"),
            (200, {"id_token": "x"}, "provider_unavailable"),
            (200, {"id_token": 7, "access_token": "x"}, "id_token_invalid"),
            (200, {"id_token": "x" * 100_000, "access_token": "x"}, "provider_unavailable"),
        ],
    )
    def test_that_is_none_is_no_login(
        self, browser: Browser, issuer: Issuer, status: int, body: Any, error: str
    ) -> None:
        issuer.fail("/token", status, body)

        assert error_of(browser.log_in(**DAVE)) == error
        # It is sent once: the code is spent.
        assert issuer.counted("/token") == 1
        require_nothing_happened(browser.app)

    def test_comes_after_credentials_in_the_header_or_in_the_form(self, browser: Browser, issuer: Issuer) -> None:
        issuer.metadata["token_endpoint_auth_methods_supported"] = ["private_key_jwt", "client_secret_post"]

        assert outcome(browser.log_in(**DAVE))[1].keys() == {"csrf_token"}
        ((_, headers, body),) = [seen for seen in issuer.requests if seen[0] == "/token"]
        assert "authorization" not in headers
        assert "client_secret=s3cret%2Fwith%2Bsigns" in body

    def test_may_need_credentials_that_we_do_not_have(self, browser: Browser, issuer: Issuer) -> None:
        issuer.metadata["token_endpoint_auth_methods_supported"] = ["private_key_jwt"]

        assert code_of(browser.begin()) == "provider_unavailable"


class TestUserInfo:
    def test_says_what_the_id_token_does_not(self, browser: Browser, issuer: Issuer) -> None:
        issuer.userinfo = {"email": "dave@example.com", "email_verified": True}

        assert outcome(browser.log_in(sub="1001"))[1].keys() == {"csrf_token"}

    def test_is_not_asked_otherwise(self, browser: Browser, issuer: Issuer) -> None:
        browser.log_in(**DAVE)

        assert issuer.counted("/userinfo") == 0

    def test_of_another_person_is_none(self, browser: Browser, issuer: Issuer) -> None:
        issuer.userinfo = {"sub": "1002", "email": "dave@example.com", "email_verified": True}

        assert error_of(browser.log_in(sub="1001")) == "id_token_invalid"

    def test_verifies_its_own_address(self, browser: Browser, issuer: Issuer) -> None:
        issuer.userinfo = {"email": "dave@example.com"}

        assert error_of(browser.log_in(sub="1001", email_verified=True)) == "email_unverified"

    def test_changes_nothing_that_the_id_token_says(self, browser: Browser, issuer: Issuer) -> None:
        issuer.userinfo = {"email": "dave@example.com", "email_verified": True, "iss": "x", "sub": "1001"}

        assert error_of(browser.log_in(sub="1001", email="eve@example.com")) == "email_unverified"

    def test_that_does_not_respond_is_no_login(self, browser: Browser, issuer: Issuer) -> None:
        issuer.fail("/userinfo")

        assert error_of(browser.log_in(sub="1001")) == "provider_unavailable"


class TestAProviderThatIsDown:
    @pytest.mark.parametrize("path", ["/jwks", "/token"])
    def test_costs_its_own_logins(self, browser: Browser, issuer: Issuer, path: str) -> None:
        issuer.fail(path)

        assert error_of(browser.log_in(**DAVE)) == "provider_unavailable"
        assert Caller(browser.app).get("//health").status_code == 200

    def test_is_left_alone_after_some_failures(self, browser: Browser, issuer: Issuer) -> None:
        issuer.fail("/.well-known/openid-configuration")

        for _ in range(10):
            assert code_of(browser.begin()) == "provider_unavailable"

        assert issuer.counted("/.well-known/openid-configuration") == oidc.MAX_FAILURES

    def test_and_hangs_is_not_waited_for(
        self, browser: Browser, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(oidc, "MAX_SECONDS", 0.3)
        browser.log_in(**DAVE)
        issuer.fail("/token", 200, {}, seconds=2)

        started = time.monotonic()
        assert error_of(browser.log_in(**DAVE)) == "provider_unavailable"
        assert time.monotonic() - started < 1

    def test_logs_people_in_by_what_it_published_before(
        self, browser: Browser, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(oidc, "LIFETIME", 0)
        browser.log_in(**DAVE)
        issuer.fail("/.well-known/openid-configuration")
        issuer.fail("/jwks")

        assert outcome(browser.log_in(**DAVE))[1].keys() == {"csrf_token"}

    @pytest.mark.parametrize(
        "metadata",
        [
            {"issuer": "https://evil.example"},
            {"issuer": None},
            {"authorization_endpoint": None},
            {"authorization_endpoint": "http://evil.example/authorize"},
            {"authorization_endpoint": "javascript:alert(1)"},
            {"authorization_endpoint": ["x"]},
            {"token_endpoint": "http://10.0.0.1/token"},
            {"token_endpoint": None},
            {"jwks_uri": None},
            {"jwks_uri": "file:///etc/passwd"},
            {"userinfo_endpoint": "http://evil.example"},
            {"token_endpoint_auth_methods_supported": 7},
            {"id_token_signing_alg_values_supported": 7},
        ],
    )
    def test_so_is_one_whose_document_is_wrong(
        self, browser: Browser, issuer: Issuer, metadata: dict[str, Any]
    ) -> None:
        issuer.metadata = metadata

        assert code_of(browser.begin()) == "provider_unavailable"

    @pytest.mark.parametrize("document", [b"", b"no JSON", [], b"{" + b" " * 100_000 + b"}"])
    def test_so_is_one_that_publishes_nonsense(self, browser: Browser, issuer: Issuer, document: Any) -> None:
        issuer.fail("/.well-known/openid-configuration", 200, document)

        assert code_of(browser.begin()) == "provider_unavailable"

    def test_so_is_one_in_our_own_network_that_no_setting_allows(
        self, app_with: Callable[..., Flask], shop: Flask, browse: Browse, issuer: Issuer
    ) -> None:
        offered = shop.extensions["oidc"]["company"].provider
        browser = browse(app_with(oidc_providers={"company": offered}))

        assert code_of(browser.begin()) == "provider_unavailable"
        assert issuer.requests == []


def _with_claims(token: str, claims: Any) -> str:
    header, _, signature = token.split(".")
    return f"{header}.{encoded(claims)}.{signature}"


def test_an_untrue_path_is_no_provider(browser: Browser) -> None:
    assert browser.get(f"{API}/auth/oidc/COMPANY").status_code == 404
    assert browser.get(f"{API}/auth/oidc/company%2F..").status_code == 404
