"""Deleting an app that many people use: what it leaves behind is deleted later, in batches."""

from datetime import timedelta

import time_machine
from flask import Flask

from app.core import clock
from app.core.transactions import unit_of_work
from app.features.sessions import service as sessions
from tests.apps import register
from tests.conftest import Caller
from tests.rows import mappings_of


def test_deletes_no_tokens(app: Flask, root: Caller, bob: Caller) -> None:
    # A grant that is used every quarter of an hour has thousands, and the database ends statements that take too long.
    prices = register(root)
    prices.refresh(prices.tokens_for(bob)["refresh_token"])
    before = mappings_of(app, "refresh_tokens")

    assert root.delete(f"/oauth/clients/{prices.id}").status_code == 204

    assert mappings_of(app, "refresh_tokens") == before


def test_leaves_sessions_that_are_ended_and_nobodys_login(app: Flask, root: Caller, bob: Caller) -> None:
    prices = register(root)
    prices.tokens_for(bob)

    root.delete(f"/oauth/clients/{prices.id}")

    (left,) = [row for row in mappings_of(app, "sessions") if row["scopes"] is not None]
    assert left["revoked_at"] is not None
    assert left["id"] not in [item["id"] for item in (bob.get("/auth/sessions").json or {})["items"]]


def test_is_completed_when_they_have_expired(app: Flask, root: Caller, bob: Caller) -> None:
    prices = register(root)
    prices.tokens_for(bob)
    root.delete(f"/oauth/clients/{prices.id}")

    with time_machine.travel(clock.now() + timedelta(days=31)), app.app_context(), unit_of_work():
        sessions.prune_sessions(before=clock.now())

    assert [row for row in mappings_of(app, "sessions") if row["scopes"] is not None] == []
