"""Keys that may manage apps, and may themselves do less than these: an app is no way to more rights."""

from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.apps import CALLBACK, ThirdParty, register
from tests.conftest import Caller, body_of, code_of, on_one_database

EVIL = "https://evil.example/callback"
LESS, AS_MUCH = ["oauth-clients:write"], ["oauth-clients:write", "users:write"]

pytestmark = on_one_database


@pytest.fixture
def prices(root: Caller) -> ThirdParty:
    """An app that administrators let do much."""
    return register(root, scopes=AS_MUCH)


def new_key(root: Caller, scopes: list[str]) -> dict[str, str]:
    """The header of a key with these scopes."""
    return {"X-API-Key": body_of(root.post("/api-keys", {"name": "apps", "scopes": scopes}))["key"]}


def change(root: Caller, client: ThirdParty, key: dict[str, str], **changed: Any) -> TestResponse:
    return Caller(root.app).patch(f"/oauth/clients/{client.id}", changed, headers=key)


def rotate(root: Caller, client: ThirdParty, key: dict[str, str]) -> TestResponse:
    return Caller(root.app).post(f"/oauth/clients/{client.id}/rotate", {}, headers=key)


@pytest.mark.parametrize("redirect_uris", [[EVIL], [CALLBACK, EVIL]])
def test_send_no_code_elsewhere(root: Caller, prices: ThirdParty, redirect_uris: list[str]) -> None:
    answer = change(root, prices, new_key(root, LESS), redirect_uris=redirect_uris)

    assert (answer.status_code, code_of(answer)) == (403, "scope_not_held")


def test_get_no_secret(root: Caller, prices: ThirdParty) -> None:
    answer = rotate(root, prices, new_key(root, LESS))

    assert (answer.status_code, code_of(answer)) == (403, "scope_not_held")


def test_can_do_what_gives_no_rights(root: Caller, prices: ThirdParty) -> None:
    key = new_key(root, LESS)

    assert change(root, prices, key, name="Old", redirect_uris=[CALLBACK], scopes=["users:write"]).status_code == 200


def test_can_do_all_with_the_same_rights(root: Caller, prices: ThirdParty) -> None:
    key = new_key(root, AS_MUCH)

    assert change(root, prices, key, redirect_uris=[EVIL]).status_code == 200
    assert rotate(root, prices, key).status_code == 201
