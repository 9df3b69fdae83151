"""What the library under the endpoints must not do, and what an app's requests leave behind."""

import logging
from typing import Any

import pytest
from flask import Flask

from tests.apps import READS, basic, register, send
from tests.conftest import Caller, body_of
from tests.rows import mappings_of


@pytest.mark.parametrize("grant", ["client_credentials", "authorization_code"])
def test_no_token_is_logged_at_any_level(
    app: Flask, root: Caller, bob: Caller, caplog: pytest.LogCaptureFixture, grant: str
) -> None:
    prices = register(root)
    key = body_of(bob.post("/api-keys", {"name": "sync", "scopes": ["products:read"]}))
    headers = basic(f"cat_{key['id']}", key["key"])
    code = prices.code_for(bob, READS)
    tokens: dict[str, Any]

    with caplog.at_level(logging.DEBUG):
        if grant == "client_credentials":
            tokens = body_of(send(app, "/oauth/token", {"grant_type": grant}, headers))
        else:
            tokens = body_of(prices.exchange(code))

    assert all(text not in caplog.text for text in (tokens["access_token"], code, key["key"]))


def test_the_network_of_an_app_is_none_of_the_persons(app: Flask, root: Caller, bob: Caller) -> None:
    prices = register(root)

    prices.refresh(prices.tokens_for(bob)["refresh_token"])

    assert mappings_of(app, "session_networks") == []
