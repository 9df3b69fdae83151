"""Back-channel logout: an identity provider says which of its sessions have ended."""

import time
from typing import Any

import pytest
from flask import Flask

from tests.conftest import API, Caller, body_of, on_one_database
from tests.features.identities.conftest import APP, Browse, Browser, outcome
from tests.features.identities.test_linking import identities, log_in
from tests.features.identities.test_login import CHALLENGE, VERIFIER
from tests.issuer import CLIENT_ID, LOGOUT_EVENT, RSA_KEYS, Issuer

DAVE: dict[str, Any] = {"sub": "1001", "email": "dave@example.com", "email_verified": True}


def log_out(app: Flask, token: str, provider: str = "company") -> tuple[int, Any]:
    """What the provider is told."""
    answer = app.test_client().post(f"{API}/auth/oidc/{provider}/backchannel-logout", data={"logout_token": token})
    assert answer.headers["Cache-Control"] == "no-store"
    return answer.status_code, answer.get_json(silent=True)


def is_alive(caller: Caller) -> bool:
    return caller.get("/users/me").status_code == 200


class TestALogoutToken:
    def test_of_a_session_ends_what_it_opened(self, shop: Flask, browse: Browse, issuer: Issuer) -> None:
        phone, laptop = (log_in(browse(shop), **DAVE, sid=sid) for sid in ("s-1", "s-2"))

        assert log_out(shop, issuer.logout_token(sid="s-1")) == (200, None)

        assert (is_alive(phone), is_alive(laptop)) == (False, True)

    def test_of_a_person_ends_all_that_they_opened(
        self, shop: Flask, browse: Browse, issuer: Issuer, bob: Caller
    ) -> None:
        phone, laptop = (log_in(browse(shop), **DAVE, sid=sid) for sid in ("s-1", None))
        other = log_in(browse(shop), sub="1002", email="eve@example.com", email_verified=True)

        assert log_out(shop, issuer.logout_token(sub="1001")) == (200, None)

        assert [is_alive(each) for each in (phone, laptop, other, bob)] == [False, False, True, True]

    def test_of_both_ends_the_session(self, shop: Flask, browse: Browse, issuer: Issuer) -> None:
        phone, laptop = (log_in(browse(shop), **DAVE, sid=sid) for sid in ("s-1", "s-2"))

        log_out(shop, issuer.logout_token(sub="1001", sid="s-1"))

        assert (is_alive(phone), is_alive(laptop)) == (False, True)

    def test_of_both_ends_no_session_of_another_person(self, shop: Flask, browse: Browse, issuer: Issuer) -> None:
        phone = log_in(browse(shop), **DAVE, sid="s-1")
        log_in(browse(shop), sub="1002", email="eve@example.com", email_verified=True)

        log_out(shop, issuer.logout_token(sub="1002", sid="s-1"))

        assert is_alive(phone)

    def test_ends_refreshing_too(self, shop: Flask, browser: Browser, issuer: Issuer) -> None:
        _, told = outcome(browser.log_in(**DAVE, sid="s-1"))

        log_out(shop, issuer.logout_token(sid="s-1"))

        assert browser.refresh(told["csrf_token"]).status_code == 401

    def test_ends_a_code_that_is_not_yet_exchanged(self, shop: Flask, browser: Browser, issuer: Issuer) -> None:
        query = {"return_to": APP, "mode": "code", "code_challenge": CHALLENGE}
        _, told = outcome(browser.log_in(query=query, **DAVE, sid="s-1"))

        log_out(shop, issuer.logout_token(sid="s-1"))

        answer = Caller(shop).post("/auth/oidc/exchange", {"code": told["code"], "code_verifier": VERIFIER})
        assert body_of(answer)["code"] == "login_code_invalid"

    def test_that_is_sent_again_ends_no_later_session(self, shop: Flask, browse: Browse, issuer: Issuer) -> None:
        first = log_in(browse(shop), **DAVE)
        token = issuer.logout_token(sub="1001", iat=int(time.time()) - 60)
        log_out(shop, issuer.logout_token(sub="1001"))
        second = log_in(browse(shop), **DAVE)

        assert log_out(shop, token) == (200, None)

        assert (is_alive(first), is_alive(second)) == (False, True)

    def test_of_nobody_here_is_taken(self, shop: Flask, issuer: Issuer) -> None:
        assert log_out(shop, issuer.logout_token(sub="nobody")) == (200, None)
        assert log_out(shop, issuer.logout_token(sid="nothing")) == (200, None)

    def test_leaves_the_identity(self, shop: Flask, browse: Browse, issuer: Issuer) -> None:
        log_in(browse(shop), **DAVE, sid="s-1")

        log_out(shop, issuer.logout_token(sid="s-1"))

        assert len(identities(log_in(browse(shop), **DAVE))) == 1


@on_one_database
class TestARefusedToken:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"iss": "https://evil.example"},
            {"iss": None},
            {"aud": "another"},
            {"aud": None},
            {"iat": None},
            {"iat": int(time.time()) - 3600, "exp": int(time.time()) + 3600},
            {"iat": int(time.time()) + 3600},
            {"exp": int(time.time()) - 60},
            {"exp": "soon"},
            {"jti": None},
            {"jti": 7},
            {"events": None},
            {"events": {}},
            {"events": [LOGOUT_EVENT]},
            {"events": {LOGOUT_EVENT: True}},
            {"nonce": "n"},
            {"nonce": ""},
            {"sub": None},
            {"sub": 7},
            {"sub": ""},
            {"sid": 7},
            {"header": {"typ": "at+jwt"}},
            {"header": {"kid": "unknown"}},
            {"header": {"alg": "PS256"}},
            {"header": {"crit": ["b64"], "b64": False}},
        ],
    )
    def test_ends_nothing(self, shop: Flask, browse: Browse, issuer: Issuer, wrong: dict[str, Any]) -> None:
        phone = log_in(browse(shop), **DAVE)

        status, told = log_out(shop, issuer.logout_token(**{"sub": "1001", **wrong}))

        assert (status, told["error"]) == (400, "invalid_request")
        assert is_alive(phone)

    def test_of_another_key_ends_nothing(self, shop: Flask, browse: Browse, issuer: Issuer) -> None:
        phone = log_in(browse(shop), **DAVE)

        token = issuer.logout_token(sub="1001", header={"kid": "rsa-1"}, key=RSA_KEYS["rsa-2"])

        assert log_out(shop, token)[0] == 400
        assert is_alive(phone)

    def test_that_is_an_id_token_ends_nothing(self, shop: Flask, browse: Browse, issuer: Issuer) -> None:
        phone = log_in(browse(shop), **DAVE)
        now = int(time.time())
        claims = {"iss": issuer.url, "aud": CLIENT_ID, "sub": "1001", "iat": now, "exp": now + 60, "nonce": "n"}

        assert log_out(shop, issuer.signed(claims, {}))[0] == 400
        assert is_alive(phone)

    @pytest.mark.parametrize("header", [{"typ": None}, {"typ": "JWT"}, {"typ": "application/logout+jwt"}])
    def test_is_none_because_of_the_name_of_its_type(
        self, shop: Flask, issuer: Issuer, header: dict[str, str | None]
    ) -> None:
        assert log_out(shop, issuer.logout_token(sub="1001", header=header))[0] == 200

    @pytest.mark.parametrize("token", ["", "x", "x.y", "x.y.z", "x" * 20_000])
    def test_may_be_none_at_all(self, shop: Flask, token: str) -> None:
        assert log_out(shop, token)[0] in {400, 413}

    def test_may_be_for_a_provider_that_is_not_offered(self, shop: Flask, issuer: Issuer) -> None:
        assert log_out(shop, issuer.logout_token(sub="1001"), "other")[0] == 404

    def test_is_no_reason_to_ask_for_keys_again_and_again(self, shop: Flask, issuer: Issuer) -> None:
        for number in range(5):
            log_out(shop, issuer.logout_token(sub="1001", header={"kid": f"unknown-{number}"}))

        assert issuer.counted("/jwks") == 2

    def test_is_a_provider_that_is_down(self, shop: Flask, issuer: Issuer) -> None:
        token = issuer.logout_token(sub="1001")
        issuer.fail("/jwks")

        status, told = log_out(shop, token)

        assert (status, told["error"], told["code"]) == (503, "temporarily_unavailable", "provider_unavailable")
