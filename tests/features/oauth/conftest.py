"""An app of a third party, and what a person does to end everything at once."""

from collections.abc import Callable

import pytest

from tests.apps import ThirdParty, register
from tests.conftest import PASSWORD, Caller


@pytest.fixture
def prices(root: Caller) -> ThirdParty:
    """A confidential app."""
    return register(root)


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
