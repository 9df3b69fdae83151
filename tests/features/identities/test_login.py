"""Logging in with an identity provider."""

from typing import Any

import pytest
from flask import Flask

from tests.conftest import Caller, body_of
from tests.features.identities.conftest import APP, SHOP, Browser, outcome

ALICE: dict[str, Any] = {"sub": "1001", "email": "new@example.com", "email_verified": True}


class TestABrowser:
    def test_that_logs_in_gets_the_refresh_cookie_and_its_csrf_token(self, browser: Browser) -> None:
        answer = browser.log_in(**ALICE)

        where, told = outcome(answer)
        assert (where, told.keys()) == ("/docs", {"csrf_token"})
        pair = body_of(browser.refresh(told["csrf_token"]))
        me = body_of(Caller(browser.app, pair["access_token"]).get("/users/me"))
        assert (me["email"], me["role"], me["email_verified"]) == ("new@example.com", "user", True)
