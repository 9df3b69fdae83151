"""Idempotency-Key: a POST that is sent again is done once, and answered as it was."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
import time_machine
from flask import Flask
from flask.testing import FlaskCliRunner
from sqlalchemy import text
from werkzeug.test import TestResponse

from app.core import clock
from app.core.idempotency import Attempt, find_response
from app.core.transactions import unit_of_work
from app.extensions import db
from app.security.permissions import Role
from app.security.tokens import issue_access_token
from app.web.openapi import describe
from tests.conftest import PASSWORD, Caller, body_of, code_of, faults_of
from tests.operations import operations_in
from tests.web.test_queries import BEGIN, cost

KEY = {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}
DAY, SOON = timedelta(days=1), timedelta(seconds=5)


def count(app: Flask, table: str) -> int:
    with app.app_context(), unit_of_work(reading=True):
        return int(db.session.scalar(text(f"SELECT count(*) FROM {table}")) or 0)


def is_replay(answer: TestResponse) -> bool:
    return answer.headers.get("Idempotency-Replayed") == "true"


def post(caller: Caller, name: str = "Chairs", headers: dict[str, str] = KEY) -> TestResponse:
    """Make a category."""
    return caller.post("/categories", {"name": name}, headers=headers)


@contextmanager
def at(moment: datetime, caller: Caller) -> Iterator[Caller]:
    """The same person at another time, with a session that lasts and a token that is good then."""
    with time_machine.travel(moment, tick=False):
        with caller.app.app_context(), unit_of_work():
            sessions = db.metadata.tables["sessions"]
            extended = sessions.update().values(expires_at=moment + DAY).returning(sessions.c.id)
            session_id = db.session.scalars(extended.where(sessions.c.user_id == caller.user_id)).one()
            token = issue_access_token(user_id=caller.user_id or 0, session_id=session_id, role=Role.EDITOR)
        yield replace(caller, token=token)


class TestARequestThatIsSentAgain:
    def test_is_done_once(self, app: Flask, alice: Caller) -> None:
        post(alice)
        before = {table: count(app, table) for table in db.metadata.tables}

        post(alice)

        assert {table: count(app, table) for table in db.metadata.tables} == before
        assert before["categories"] == 1

    def test_is_answered_as_it_was(self, alice: Caller) -> None:
        first, second = post(alice), post(alice)

        assert (first.status_code, second.status_code) == (201, 201)
        assert first.data == second.data
        for name in ("Content-Type", "ETag", "Location", "Cache-Control", "Vary"):
            assert first.headers.get_all(name) == second.headers.get_all(name), name
        assert "Idempotency-Replayed" not in first.headers
        assert is_replay(second)
        assert first.headers["X-Request-ID"] != second.headers["X-Request-ID"]

    def test_is_answered_as_it_was_whatever_happened_since(self, app: Flask, alice: Caller, root: Caller) -> None:
        first = post(alice)
        root.delete(first.headers["Location"].removeprefix("/api/v1"))

        assert post(alice).data == first.data
        assert count(app, "categories") == 0

    def test_is_another_without_a_key(self, app: Flask, alice: Caller) -> None:
        answers = [post(alice, headers={}) for _ in range(2)]

        assert not any(is_replay(answer) for answer in answers)
        assert count(app, "categories") == 2
        assert count(app, "idempotency_keys") == 0

    def test_is_another_with_another_key(self, app: Flask, alice: Caller) -> None:
        post(alice)
        post(alice, headers={"Idempotency-Key": "another"})

        assert count(app, "categories") == 2

    def test_has_the_secret_of_its_answer_nowhere(self, app: Flask, bob: Caller) -> None:
        wanted = {"name": "Warehouse", "scopes": ["products:read"]}
        first, second = (bob.post("/api-keys", wanted, headers=KEY) for _ in range(2))

        assert is_replay(second)
        assert body_of(first)["key"].startswith("cat_")
        assert body_of(second) == body_of(first) | {"key": None}
        with app.app_context(), unit_of_work(reading=True):
            stored = db.session.scalars(text("SELECT body FROM idempotency_keys")).one()
        assert body_of(first)["key"].encode() not in bytes(stored)

    def test_costs_what_the_answer_costs(self, alice: Caller, backend: str) -> None:
        lock = {"sqlite": 0, "postgresql": 1}[backend]
        plain, first, second = cost(post(alice, headers={})), cost(post(alice)), cost(post(alice))

        # The lock, the look and the answer; and again, who, the lock and the look.
        assert first - plain == 2 + lock
        assert second == 2 + lock + BEGIN[backend]


class TestAnotherRequestWithTheKey:
    def test_is_refused(self, app: Flask, alice: Caller) -> None:
        post(alice)
        answer = post(alice, "Tables")

        assert faults_of(answer) == [("Idempotency-Key", "idempotency_key_reused")]
        assert code_of(answer) == "idempotency_key_reused"
        assert count(app, "categories") == 1

    def test_is_refused_for_another_row(self, bob: Caller) -> None:
        ids = [body_of(bob.post("/api-keys", {"name": "x", "scopes": ["products:read"]}))["id"] for _ in range(2)]
        first, second = (bob.post(f"/api-keys/{key_id}/rotate", {}, headers=KEY) for key_id in ids)

        assert first.status_code == 201
        assert code_of(second) == "idempotency_key_reused"

    def test_is_another_on_another_route(self, alice: Caller, root: Caller) -> None:
        post(root)
        user = {"email": "d@example.com", "username": "dave", "password": PASSWORD}

        answer = root.post("/users", user, headers=KEY)

        assert (answer.status_code, is_replay(answer)) == (201, False)

    def test_is_another_of_another_user(self, app: Flask, alice: Caller, root: Caller) -> None:
        first, second = post(alice), post(root)

        assert not is_replay(second)
        assert first.data != second.data

    def test_is_another_of_an_api_key(self, app: Flask, alice: Caller) -> None:
        post(alice)
        for _ in range(2):
            made = alice.post("/api-keys", {"name": "x", "scopes": ["categories:write"]})
            program = Caller(app)
            headers = {**KEY, "X-API-Key": body_of(made)["key"]}

            assert not is_replay(post(program, headers=headers))
            assert is_replay(post(program, headers=headers))


class TestAKey:
    @pytest.mark.parametrize("key", ["", "k" * 256, "caf\xe9", "a\tb"])
    def test_is_printable_and_short(self, app: Flask, alice: Caller, key: str) -> None:
        answer = post(alice, headers={"Idempotency-Key": key})

        assert (answer.status_code, code_of(answer)) == (400, "idempotency_key_malformed")
        assert count(app, "categories") == 0

    @pytest.mark.parametrize("key", ["k", "k" * 255, '"8e03978e"', "a b~!'%_\\"])
    def test_may_be_anything_else(self, alice: Caller, key: str) -> None:
        assert [is_replay(post(alice, headers={"Idempotency-Key": key})) for _ in range(2)] == [False, True]

    def test_is_kept_for_a_day(self, app: Flask, alice: Caller) -> None:
        first = post(alice)
        with at(clock.now() + DAY - SOON, alice) as caller:
            soon = post(caller)
        with at(clock.now() + DAY + SOON, alice) as caller:
            late, later = post(caller, "Tables"), post(caller, "Tables")

        assert soon.data == first.data
        assert (late.status_code, is_replay(late), is_replay(later)) == (201, False, True)

    def test_is_kept_as_long_as_is_set(self, alice: Caller, app_with: Callable[..., Flask]) -> None:
        hasty = alice.on(app_with(idempotency_ttl=1))

        first = post(hasty)
        with time_machine.travel(clock.now() + timedelta(seconds=2), tick=False):
            again = post(hasty)

        assert (first.status_code, again.status_code, is_replay(again)) == (201, 201, False)

    def test_that_is_kept_no_longer_is_pruned(self, app: Flask, alice: Caller, runner: FlaskCliRunner) -> None:
        with at(clock.now() - 2 * DAY, alice) as caller:
            post(caller)
        with at(clock.now(), alice):
            pass
        post(alice, headers={"Idempotency-Key": "fresh"})

        said = runner.invoke(args=["prune"]).output

        assert "1 responses" in said
        assert count(app, "idempotency_keys") == 1


class TestARefusal:
    def test_of_the_values_is_not_kept(self, alice: Caller) -> None:
        refused = alice.post("/categories", {"name": ""}, headers=KEY)

        assert refused.status_code == 422
        assert post(alice).status_code == 201

    def test_of_the_state_is_not_kept(self, alice: Caller, root: Caller) -> None:
        taken = body_of(alice.post("/categories", {"name": "Old", "slug": "chairs"}))
        wanted = {"name": "Chairs", "slug": "chairs"}
        refused = alice.post("/categories", wanted, headers=KEY)
        root.delete(f"/categories/{taken['id']}")

        done = alice.post("/categories", wanted, headers=KEY)

        assert (refused.status_code, done.status_code, is_replay(done)) == (409, 201, False)

    def test_comes_before_an_answer_that_is_kept(self, app: Flask, alice: Caller, anonymous: Caller) -> None:
        post(alice)
        with app.app_context(), unit_of_work():
            db.session.execute(text("UPDATE users SET role = 'user'"))

        assert code_of(post(alice)) == "permission_denied"
        assert post(anonymous).status_code == 401

    @pytest.mark.usefixtures("backend")
    def test_for_too_many_requests_counts_replays(self, alice: Caller, app_with: Callable[..., Flask]) -> None:
        limited = alice.on(app_with(rate_limit_enabled=True, rate_limit_default="2 per minute"))

        assert [post(limited).status_code for _ in range(3)] == [201, 201, 429]


# Where they run beside each other; on SQLite the second waits (see tests/live).
@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
class TestTwoAtOnce:
    def test_are_not_both_done(self, app: Flask, alice: Caller) -> None:
        running = Attempt(principal=f"user:{alice.user_id}", route="POST /api/v1/categories", key="k", fingerprint="")
        with app.app_context(), unit_of_work(), ThreadPoolExecutor(1) as elsewhere:
            assert find_response(running) is None

            answer = elsewhere.submit(post, alice, headers={"Idempotency-Key": "k"}).result()
            other = elsewhere.submit(post, alice, headers={"Idempotency-Key": "other"}).result()

        assert (answer.status_code, code_of(answer)) == (409, "idempotency_key_in_use")
        assert int(answer.headers["Retry-After"]) >= 1
        assert other.status_code == 201
        assert post(alice, headers={"Idempotency-Key": "k"}).status_code == 201


class TestWhereItDoesNotCount:
    def test_below_auth(self, app: Flask, bob: Caller) -> None:
        credentials = {"email": "bob@example.com", "password": PASSWORD}
        pairs = [bob.post("/auth/login", credentials, headers=KEY) for _ in range(2)]

        assert pairs[0].json != pairs[1].json
        assert bob.post("/auth/logout", headers=KEY).status_code == 204
        assert count(app, "idempotency_keys") == 0

    def test_in_other_methods(self, app: Flask, alice: Caller) -> None:
        path = post(alice, headers={}).headers["Location"].removeprefix("/api/v1")
        for key in ("k", "k" * 256):
            named = {"Idempotency-Key": key}
            assert alice.get(path, headers=named).status_code == 200
            assert alice.patch(path, {"name": "New"}, headers=named).status_code == 200
            assert alice.patch(path, {"name": "Newer"}, headers=named).status_code == 200

        assert count(app, "idempotency_keys") == 0


class TestTheDocument:
    def test_names_it_where_it_counts(self, app: Flask) -> None:
        named = {str(one) for one in operations_in(describe(app)) if "Idempotency-Key" in one.parameters("header")}

        assert {
            "POST /api/v1/api-keys",
            "POST /api/v1/api-keys/{key_id}/rotate",
            "POST /api/v1/categories",
            "POST /api/v1/products",
            "POST /api/v1/users",
        } <= named
        assert not any("/auth/" in one or not one.startswith("POST ") for one in named)

    def test_says_which_secrets_a_replay_lacks(self, app: Flask) -> None:
        key = describe(app)["components"]["schemas"]["NewApiKey"]["properties"]["key"]
        assert (key["x-secret"], key["type"]) == (True, ["string", "null"])
