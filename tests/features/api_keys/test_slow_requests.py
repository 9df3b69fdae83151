"""Keys that are asked for with a slow body, while the session ends that asks for them."""

from typing import Any

import pytest

from app.web.body import read_json
from tests.conftest import Caller, code_of

WANTED = {"name": "Later", "scopes": ["products:read"]}


def test_a_key_is_made_for_no_session_that_has_ended(bob: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_slowly(**options: Any) -> Any:
        monkeypatch.undo()
        assert bob.delete("/auth/sessions", if_match=None).status_code == 204
        return read_json(**options)

    monkeypatch.setattr("app.web.requests.read_json", read_slowly)

    answer = bob.post("/api-keys", WANTED)

    # It was authorized when its head came. The key would outlive the session, and so would who has stolen that.
    assert (answer.status_code, code_of(answer)) == (401, "session_ended")


def test_a_key_is_made_for_one_that_is_there(bob: Caller) -> None:
    assert bob.post("/api-keys", WANTED).status_code == 201
