"""Whether an address is known to be its owner's: it decides which account a login with an identity provider finds."""

from typing import Any

import pytest
from flask import Flask

from app.core.transactions import unit_of_work
from app.features.users import service as users
from app.security.identity import ANONYMOUS
from tests.conftest import Caller, body_of, code_of

DAVE: dict[str, Any] = {"email": "dave@example.com", "username": "dave", "password": "a long password"}


@pytest.fixture
def registered(anonymous: Caller) -> dict[str, Any]:
    """An account that someone has registered."""
    return body_of(anonymous.post("/auth/register", DAVE))


def is_verified(root: Caller, user_id: int) -> object:
    return body_of(root.get(f"/users/{user_id}"))["email_verified"]


def test_those_of_registration_are_not(root: Caller, registered: dict[str, Any]) -> None:
    assert is_verified(root, registered["id"]) is False


def test_those_that_administrators_state_are(root: Caller, registered: dict[str, Any]) -> None:
    created = body_of(root.post("/users", {**DAVE, "email": "eve@example.com", "username": "eve"}))
    assert created["email_verified"] is True

    headers = {"If-Match": "*"}
    root.call("PATCH", f"/users/{registered['id']}", json={"username": "david"}, headers=headers)
    assert is_verified(root, registered["id"]) is False
    root.call("PATCH", f"/users/{registered['id']}", json={"email": "david@example.com"}, headers=headers)
    assert is_verified(root, registered["id"]) is True


@pytest.mark.parametrize("path", ["/auth/register", "/users"])
def test_cannot_be_claimed(root: Caller, path: str) -> None:
    answer = root.post(path, {**DAVE, "email_verified": True})

    assert (answer.status_code, code_of(answer)) == (422, "invalid")


def test_those_that_a_command_states_are(app: Flask) -> None:
    with app.app_context(), unit_of_work():
        user = users.create_user(**DAVE)

        assert users.get_user(user.id, identity=ANONYMOUS).email_verified is True
