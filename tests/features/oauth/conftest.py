"""Apps of third parties, a browser at the page for consent, and what a person does to end everything at once."""

from collections.abc import Callable

import pytest
from flask import Flask

from tests.apps import ThirdParty, register
from tests.conftest import PASSWORD, Caller
from tests.consent_page import Visitor, add_client


@pytest.fixture
def prices(root: Caller) -> ThirdParty:
    """A confidential app."""
    return register(root)


@pytest.fixture
def client_id(app: Flask) -> str:
    """That of a public app, whose people are asked on the page."""
    return add_client(app)


@pytest.fixture
def visitor(app: Flask, client_id: str) -> Visitor:
    """A browser that an app has led to the page."""
    return Visitor(app, client_id)


def _end_sessions(person: Caller) -> None:
    assert person.delete("/auth/sessions", if_match=None).status_code == 204


def _change_password(person: Caller) -> None:
    passwords = {"current_password": PASSWORD, "new_password": f"better {PASSWORD}"}
    assert person.post("/auth/password", passwords).status_code == 200


@pytest.fixture(params=[_end_sessions, _change_password], ids=["sessions", "password"])
def end_all(request: pytest.FixtureRequest) -> Callable[[Caller], None]:
    """End every session of a person, in one of the ways."""
    end: Callable[[Caller], None] = request.param
    return end
