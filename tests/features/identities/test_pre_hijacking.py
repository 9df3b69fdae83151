"""Accounts that a person has registered with the address of another person, to be there when that person comes.

The attacks are those of "Pre-hijacked accounts" (Sudhodanan and Paverd, USENIX Security 2022).
"""

from typing import Any

from flask import Flask
from sqlalchemy import select

from app.core.audit import AuditEvent
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.passwords.service import sign_reset
from app.features.users.models import User
from tests.conftest import API, PASSWORD, Caller, body_of
from tests.features.identities.conftest import Browse, Browser, error_of, outcome

EMAIL = "victim@example.com"
VICTIM: dict[str, Any] = {"sub": "2001", "email": EMAIL, "email_verified": True}
ATTACKER: dict[str, Any] = {"sub": "6666", "email": "eve@example.com", "email_verified": True}


def register(app: Flask) -> Caller:
    """The attacker, in an account with the victim's address."""
    assert (
        Caller(app).post("/auth/register", {"email": EMAIL, "username": "eve", "password": PASSWORD}).status_code == 201
    )
    pair = body_of(Caller(app).post("/auth/login", {"email": EMAIL, "password": PASSWORD}))
    return Caller(app, pair["access_token"])


def link(browser: Browser, caller: Caller, **claims: Any) -> None:
    headers = {"Authorization": f"Bearer {caller.token}"}
    begun = browser.client.post(f"{API}/auth/oidc/company/link", json={}, headers=headers)
    answer = browser.come_back(**browser.issuer.grant(body_of(begun)["authorization_url"], **claims))
    assert outcome(answer)[1] == {"linked": "company"}


def reset_password(app: Flask) -> None:
    """The victim finds the address taken, and answers the mail."""
    with app.app_context(), unit_of_work(reading=True):
        user_id, epoch = db.session.execute(select(User.id, User.epoch).where(User.email == EMAIL)).one()
    token = sign_reset(user_id, epoch, EMAIL, keys=app.config["SECRET_KEYS"])
    changed = Caller(app).post("/auth/password-reset/confirm", {"token": token, "new_password": f"{PASSWORD} 2"})
    assert changed.status_code == 204


def emails_behind(browser: Browser, **claims: Any) -> list[str]:
    """The addresses of the account that a login leads to."""
    _, told = outcome(browser.log_in(**claims))
    token = body_of(browser.refresh(told["csrf_token"]))["access_token"]
    return [body_of(Caller(browser.app, token).get("/users/me"))["email"]]


class TestAnIdentityOfTheAttacker:
    def test_leads_to_the_account_until_its_owner_has_come(self, shop: Flask, browse: Browse) -> None:
        link(browse(shop), register(shop), **ATTACKER)

        assert emails_behind(browse(shop), **ATTACKER) == [EMAIL]
        reset_password(shop)
        assert emails_behind(browse(shop), **ATTACKER) == ["eve@example.com"]

    def test_is_recorded_to_be_unlinked(self, shop: Flask, browse: Browse) -> None:
        link(browse(shop), register(shop), **ATTACKER)

        reset_password(shop)

        with shop.app_context(), unit_of_work(reading=True):
            actions = db.session.scalars(select(AuditEvent.action).order_by(AuditEvent.id)).all()
        assert {"password.reset", "identity.unlinked"} <= {*actions}


class TestAKeyOfTheAttacker:
    def test_works_until_the_owner_has_come(self, shop: Flask) -> None:
        key = body_of(register(shop).post("/api-keys", {"name": "Later", "scopes": ["products:read"]}))["key"]

        def use() -> int:
            return Caller(shop).get("/products", headers={"X-API-Key": key}).status_code

        assert use() == 200
        reset_password(shop)
        assert use() == 401


class TestTheOwner:
    def test_is_not_led_into_the_attackers_account(self, shop: Flask, browser: Browser) -> None:
        register(shop)

        assert error_of(browser.log_in(**VICTIM)) == "identity_unknown"

    def test_can_log_in_with_the_provider_after_the_reset(self, shop: Flask, browser: Browser) -> None:
        register(shop)
        reset_password(shop)

        assert emails_behind(browser, **VICTIM) == [EMAIL]

    def test_keeps_what_is_theirs_when_they_reset_the_password_again(self, shop: Flask, browse: Browse) -> None:
        register(shop)
        reset_password(shop)
        emails_behind(browse(shop), **VICTIM)

        reset_password(shop)

        assert emails_behind(browse(shop), **VICTIM) == [EMAIL]
        with shop.app_context(), unit_of_work(reading=True):
            assert "identity.unlinked" not in db.session.scalars(select(AuditEvent.action)).all()
