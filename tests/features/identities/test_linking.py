"""Linking and unlinking identities, which never takes the last way in."""

from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask
from sqlalchemy import select

from app.core.audit import AuditEvent
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.identities.models import ExternalIdentity
from app.features.passwords.service import sign_reset
from tests.conftest import API, Caller, body_of, code_of
from tests.features.identities.conftest import SHOP, Browse, Browser, Offer, error_of, outcome
from tests.issuer import Issuer

DAVE: dict[str, Any] = {"sub": "1001", "email": "dave@example.com", "email_verified": True}


def begin(browser: Browser, caller: Caller, return_to: str = "/docs") -> str:
    """Where a browser goes to link an identity to the caller's account; it keeps the cookie."""
    headers = {"Authorization": f"Bearer {caller.token}"}
    answer = browser.client.post(f"{API}/auth/oidc/company/link", json={"return_to": return_to}, headers=headers)
    assert answer.status_code == 200, answer.text
    return str(body_of(answer)["authorization_url"])


def link(browser: Browser, caller: Caller, **claims: Any) -> None:
    """Link an identity to the caller's account."""
    answer = browser.come_back(**browser.issuer.grant(begin(browser, caller), **claims))
    assert outcome(answer) == ("/docs", {"linked": "company"})


def log_in(browser: Browser, **claims: Any) -> Caller:
    """A person who has logged in with the provider."""
    _, told = outcome(browser.log_in(**claims))
    token = body_of(browser.refresh(told["csrf_token"]))["access_token"]
    return Caller(browser.app, token, body_of(Caller(browser.app, token).get("/users/me"))["id"])


def identities(caller: Caller) -> list[dict[str, Any]]:
    """The identities of a caller."""
    items: list[dict[str, Any]] = body_of(caller.get("/auth/identities"))["items"]
    return items


class TestLinking:
    def test_lets_in_who_could_not_be_told_before(self, offer: Offer, browse: Browse, bob: Caller) -> None:
        shop = offer(trusted=False)
        link(browse(shop), bob.on(shop), sub="1001", email="other@example.com")

        assert log_in(browse(shop), sub="1001").user_id == bob.user_id

    def test_is_listed(self, shop: Flask, browser: Browser, issuer: Issuer, bob: Caller, carol: Caller) -> None:
        link(browser, bob.on(shop), **DAVE)

        (found,) = identities(bob.on(shop))
        assert {name: found[name] for name in ("provider", "issuer", "email")} == {
            "provider": "company",
            "issuer": issuer.url,
            "email": "dave@example.com",
        }
        assert identities(carol.on(shop)) == []
        # Where the provider is no longer offered, it is told by its issuer alone.
        assert identities(bob)[0]["provider"] is None

    def test_can_return_to_the_shop(self, shop: Flask, browser: Browser, issuer: Issuer, bob: Caller) -> None:
        parameters = issuer.grant(begin(browser, bob.on(shop), SHOP), **DAVE)

        assert outcome(browser.come_back(**parameters)) == (SHOP, {"linked": "company"})

    def test_twice_is_linking_once(self, shop: Flask, browser: Browser, bob: Caller) -> None:
        for _ in range(2):
            link(browser, bob.on(shop), **DAVE)

        assert len(identities(bob.on(shop))) == 1

    def test_opens_no_session(self, shop: Flask, browser: Browser, bob: Caller) -> None:
        link(browser, bob.on(shop), **DAVE)

        assert body_of(bob.get("/auth/sessions"))["meta"]["total"] == 1
        assert browser.cookie("catalog_refresh", "/api/v1/auth") is None

    def test_needs_a_person(self, shop: Flask, browser: Browser, anonymous: Caller) -> None:
        assert anonymous.on(shop).post("/auth/oidc/company/link", {}).status_code == 401
        assert anonymous.on(shop).get("/auth/identities").status_code == 401

    def test_needs_a_provider_that_is_offered(self, shop: Flask, bob: Caller) -> None:
        assert bob.on(shop).post("/auth/oidc/other/link", {}).status_code == 404

    def test_refuses_an_identity_of_another_account(
        self, shop: Flask, browse: Browse, bob: Caller, carol: Caller
    ) -> None:
        link(browse(shop), bob.on(shop), **DAVE)
        other = browse(shop)

        answer = other.come_back(**other.issuer.grant(begin(other, carol.on(shop)), **DAVE))

        assert error_of(answer) == "identity_taken"
        assert identities(carol.on(shop)) == []
        assert log_in(browse(shop), **DAVE).user_id == bob.user_id

    def test_needs_the_session_that_began_it(self, shop: Flask, browser: Browser, issuer: Issuer, bob: Caller) -> None:
        parameters = issuer.grant(begin(browser, bob.on(shop)), **DAVE)
        bob.post("/auth/logout")

        assert error_of(browser.come_back(**parameters)) == "session_ended"
        with shop.app_context(), unit_of_work(reading=True):
            assert db.session.scalar(select(ExternalIdentity.id)) is None

    def test_needs_the_browser_that_began_it(
        self, shop: Flask, browser: Browser, browse: Browse, issuer: Issuer, bob: Caller
    ) -> None:
        # An attacker who lets a victim link the attacker's identity.
        parameters = issuer.grant(begin(browse(shop), bob.on(shop)), **DAVE)

        assert code_of(browser.come_back(**parameters)) == "state_invalid"

    def test_keeps_secrets_out_of_the_url_that_a_script_reads(self, shop: Flask, browser: Browser, bob: Caller) -> None:
        url = begin(browser, bob.on(shop))

        assert "code_verifier" not in urlsplit(url).query


class TestUnlinking:
    def test_ends_that_way_in(self, shop: Flask, browser: Browser, browse: Browse, bob: Caller) -> None:
        link(browser, bob.on(shop), sub="1001", email="other@example.com")
        (found,) = identities(bob.on(shop))

        assert bob.on(shop).delete(f"/auth/identities/{found['id']}", if_match=None).status_code == 204

        assert identities(bob.on(shop)) == []
        assert error_of(browse(shop).log_in(sub="1001", email="other@example.com")) == "email_unverified"
        assert bob.on(shop).delete(f"/auth/identities/{found['id']}", if_match=None).status_code == 404

    def test_ends_the_sessions_that_it_opened_and_not_the_one_that_asks(
        self, shop: Flask, browser: Browser, browse: Browse, bob: Caller
    ) -> None:
        link(browser, bob.on(shop), **DAVE)
        phone, laptop = (log_in(browse(shop), **DAVE) for _ in range(2))
        (found,) = identities(phone)

        assert laptop.delete(f"/auth/identities/{found['id']}", if_match=None).status_code == 204

        assert phone.get("/users/me").status_code == 401
        assert laptop.get("/users/me").status_code == 200
        assert bob.on(shop).get("/users/me").status_code == 200

    def test_never_takes_the_last_way_in(self, shop: Flask, browser: Browser) -> None:
        dave = log_in(browser, **DAVE)
        (found,) = identities(dave)

        answer = dave.delete(f"/auth/identities/{found['id']}", if_match=None)

        assert (answer.status_code, code_of(answer)) == (409, "last_way_in")
        assert len(identities(dave)) == 1

    def test_leaves_another_identity_as_the_way_in(self, shop: Flask, browser: Browser, browse: Browse) -> None:
        dave = log_in(browser, **DAVE)
        link(browse(shop), dave, sub="1002")
        first, second = sorted(each["id"] for each in identities(dave))

        assert dave.delete(f"/auth/identities/{first}", if_match=None).status_code == 204
        assert code_of(dave.delete(f"/auth/identities/{second}", if_match=None)) == "last_way_in"

    def test_does_not_count_an_identity_of_a_provider_that_is_not_offered(self, shop: Flask, browser: Browser) -> None:
        dave = log_in(browser, **DAVE)
        with shop.app_context(), unit_of_work():
            db.session.add(ExternalIdentity(user_id=dave.user_id, issuer="https://gone.example", subject="1"))
        (found,) = (each for each in identities(dave) if each["provider"] == "company")

        assert code_of(dave.delete(f"/auth/identities/{found['id']}", if_match=None)) == "last_way_in"

    def test_is_for_ones_own(self, shop: Flask, browser: Browser, bob: Caller, root: Caller) -> None:
        link(browser, bob.on(shop), **DAVE)
        (found,) = identities(bob.on(shop))

        assert root.on(shop).delete(f"/auth/identities/{found['id']}", if_match=None).status_code == 404

    def test_is_in_the_trail(self, shop: Flask, browser: Browser, issuer: Issuer, bob: Caller) -> None:
        link(browser, bob.on(shop), **DAVE)
        (found,) = identities(bob.on(shop))
        bob.on(shop).delete(f"/auth/identities/{found['id']}", if_match=None)

        with shop.app_context(), unit_of_work(reading=True):
            (event,) = db.session.scalars(select(AuditEvent).where(AuditEvent.action == "identity.unlinked"))
            told = {"identity_id": found["id"], "issuer": issuer.url}
            assert (event.actor_id, event.resource_id, event.before, event.after) == (
                *(bob.user_id, bob.user_id),
                *(told, None),
            )


class TestAnAccountWithoutPassword:
    @pytest.mark.parametrize("password", ["x", "correct horse battery"])
    def test_cannot_log_in_with_one(self, shop: Flask, browser: Browser, password: str) -> None:
        log_in(browser, **DAVE)
        login = {"email": "dave@example.com", "password": password}

        wrong = Caller(shop).post("/auth/login", login)
        unknown = Caller(shop).post("/auth/login", login | {"email": "nobody@example.com"})

        assert code_of(wrong) == code_of(unknown) == "login_failed"

    def test_has_none_to_change(self, browser: Browser) -> None:
        dave = log_in(browser, **DAVE)
        change = {"current_password": "x", "new_password": "staple battery horse"}

        answer = dave.post("/auth/password", change)

        assert code_of(answer) == "current_password_wrong"

    def test_gets_one_by_mail_which_ends_its_sessions(self, shop: Flask, browser: Browser, browse: Browse) -> None:
        dave = log_in(browser, **DAVE)
        with shop.app_context():
            token = sign_reset(dave.user_id or 0, 0, "dave@example.com", keys=shop.config["SECRET_KEYS"])
        confirmed = Caller(shop).post(
            "/auth/password-reset/confirm", {"token": token, "new_password": "staple battery horse"}
        )

        assert confirmed.status_code == 204
        assert dave.get("/users/me").status_code == 401
        login = {"email": "dave@example.com", "password": "staple battery horse"}
        assert Caller(shop).post("/auth/login", login).status_code == 200
        again = log_in(browse(shop), **DAVE)
        (found,) = identities(again)
        assert again.delete(f"/auth/identities/{found['id']}", if_match=None).status_code == 204


class TestWhatEndsSessions:
    def test_ends_those_of_providers_too(self, shop: Flask, browser: Browser, browse: Browse, root: Caller) -> None:
        dave = log_in(browser, **DAVE)
        assert dave.delete("/auth/sessions", if_match=None).status_code == 204
        assert dave.get("/users/me").status_code == 401

        dave = log_in(browse(shop), **DAVE)
        assert root.delete(f"/users/{dave.user_id}").status_code == 204
        assert dave.get("/users/me").status_code == 401
