"""What providers say of people: claims that are of another person."""

from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select

from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.sessions.models import UserSession
from app.security.permissions import Role
from tests.conftest import on_one_database
from tests.features.identities.conftest import Browse, Browser, Offer, error_of, outcome
from tests.issuer import Issuer

pytestmark = on_one_database


class TestUserInfo:
    @pytest.mark.parametrize("session", ["of-another-person", 7, {"a": 1}, "x" * 5000])
    def test_says_nothing_of_the_session_there(self, browser: Browser, issuer: Issuer, session: Any) -> None:
        issuer.userinfo = {"email": "dave@example.com", "email_verified": True, "sid": session}

        assert outcome(browser.log_in(sub="1001"))[1].keys() == {"csrf_token"}
        with browser.app.app_context(), unit_of_work(reading=True):
            assert db.session.scalars(select(UserSession.provider_session)).all() == [None]

    def test_does_not_verify_the_address_of_the_id_token(self, offer: Offer, browse: Browse, issuer: Issuer) -> None:
        browser = browse(offer(role_claim="groups", roles={"staff": Role.EDITOR}))
        issuer.userinfo = {"email": "eve@example.com", "email_verified": True, "groups": []}

        assert error_of(browser.log_in(sub="1001", email="dave@example.com")) == "email_unverified"

    def test_verifies_the_address_that_both_have(self, offer: Offer, browse: Browse, issuer: Issuer) -> None:
        browser = browse(offer(role_claim="groups", roles={"staff": Role.EDITOR}))
        issuer.userinfo = {"email": "dave@example.com", "email_verified": True, "groups": []}

        assert outcome(browser.log_in(sub="1001", email="dave@example.com"))[1].keys() == {"csrf_token"}


class TestAnAddress:
    @pytest.mark.parametrize(
        "email", ["mi\u212ae@example.com", "mike@\uff45xample.com", "\uff4dike@example.com", "MI\u212aE@EXAMPLE.COM"]
    )
    def test_of_characters_that_look_alike_is_another_persons(
        self, browser: Browser, browse: Browse, email: str
    ) -> None:
        outcome(browse(browser.app).log_in(sub="mike", email="mike@example.com", email_verified=True))

        assert error_of(browser.log_in(sub="eve", email=email, email_verified=True)) == "email_unverified"

    def test_may_have_letters_of_any_script(self, browser: Browser) -> None:
        answer = browser.log_in(sub="1001", email="J\u00fcrgen@b\u00fccher.example", email_verified=True)

        assert outcome(answer)[1].keys() == {"csrf_token"}

    def test_that_was_another_persons_at_the_provider_is_not_theirs_here(
        self, shop: Flask, browser: Browser, browse: Browse
    ) -> None:
        outcome(browse(shop).log_in(sub="left-the-company", email="sales@example.com", email_verified=True))

        answer = browser.log_in(sub="came-later", email="sales@example.com", email_verified=True)

        assert error_of(answer) == "identity_unknown"
        # A person who is known by the subject comes in as before.
        assert outcome(browse(shop).log_in(sub="left-the-company"))[1].keys() == {"csrf_token"}
