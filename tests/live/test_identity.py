"""Who somebody is, as every worker sees it at the next request."""

import base64
import json
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import select, update

from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.sessions.models import RefreshToken, UserSession
from app.features.users.models import User
from app.security.permissions import Role
from tests.conftest import PASSWORD, Caller
from tests.live.conftest import REFRESH_GRACE, Site, only, worker_pids
from tests.live.wire import Answer, Client, ask, at_once

pytestmark = pytest.mark.live

Connect = Callable[..., Client]
Make = Callable[..., dict[str, Any]]

#: How many connections of their own ask each worker.
TIMES = 5


def on_each_worker(site: Site, path: str, token: str, method: str = "GET") -> list[Answer]:
    """The answers of every worker, each on connections of their own."""
    answers = []
    for worker in worker_pids(site.server):
        with only(worker, site.server):
            answers += [ask(site.port, path, token, method) for _ in range(TIMES)]
    return answers


def log_in(client: Client, user: str) -> dict[str, str]:
    """The tokens of a new session, as soon as there is a turn at hashing."""
    credentials = {"email": f"{user}@example.com", "password": PASSWORD}
    while (answer := client.post("/auth/login", credentials)).status == 503:
        time.sleep(0.2)
    assert answer.status == 200, answer.body
    tokens: dict[str, str] = answer.json
    return tokens


def refresh(client: Client, token: str) -> Answer:
    return client.post("/auth/refresh", authorization=f"Bearer {token}")


def claims_of(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims


def change(site: Site, user_id: int | None, **values: Any) -> None:
    """Write to a user's row behind the servers' backs."""
    with site.app.app_context(), unit_of_work():
        db.session.execute(update(User).where(User.id == user_id).values(**values))


def live_leaves(site: Site) -> list[str]:
    """The refresh tokens, of all sessions that have not ended, that can still be exchanged."""
    with site.app.app_context(), unit_of_work(reading=True):
        unused = select(RefreshToken.id).join(UserSession, UserSession.id == RefreshToken.session_id)
        return list(db.session.scalars(unused.where(RefreshToken.used_at.is_(None), UserSession.revoked_at.is_(None))))


def let_the_grace_pass(site: Site) -> None:
    """Make every exchange of a refresh token older than a repeat of it may be."""
    with site.app.app_context(), unit_of_work():
        for token in db.session.scalars(select(RefreshToken).where(RefreshToken.used_at.is_not(None))):
            assert token.used_at
            token.used_at -= timedelta(seconds=REFRESH_GRACE + 1)


class TestLoggingOut:
    def test_holds_on_every_worker(self, bob: Caller, site: Site, connect: Connect) -> None:
        tokens = log_in(connect(), "bob")
        before = on_each_worker(site, "/users/me", tokens["access_token"])

        assert connect().post("/auth/logout", authorization=f"Bearer {tokens['access_token']}").status == 204

        assert {answer.status for answer in before} == {200}
        after = on_each_worker(site, "/users/me", tokens["access_token"])
        assert {answer.status for answer in after} == {401}
        refreshed = on_each_worker(site, "/auth/refresh", tokens["refresh_token"], "POST")
        assert {answer.status for answer in refreshed} == {401}

    def test_leaves_other_sessions_alone(self, bob: Caller, site: Site, connect: Connect) -> None:
        first, second = log_in(connect(), "bob"), log_in(connect(), "bob")

        connect().post("/auth/logout", authorization=f"Bearer {first['access_token']}")

        answers = on_each_worker(site, "/users/me", second["access_token"])
        assert {answer.status for answer in answers} == {200}

    def test_ends_what_a_refresh_at_the_same_moment_made(self, bob: Caller, connect: Connect, site: Site) -> None:
        leaving, staying = connect(), connect()
        for _ in range(10):
            tokens = log_in(leaving, "bob")

            left, refreshed = at_once(
                [
                    partial(leaving.post, "/auth/logout", authorization=f"Bearer {tokens['access_token']}"),
                    partial(refresh, staying, tokens["refresh_token"]),
                ]
            )

            assert left.status == 204
            assert refreshed.status in {200, 401}
            if refreshed.status == 200:
                assert ask(site.port, "/users/me", refreshed.json["access_token"]).status == 401
                assert refresh(staying, refreshed.json["refresh_token"]).status == 401


class TestLosingRights:
    def test_a_demotion_holds_on_every_worker(self, alice: Caller, site: Site, make_category: Make) -> None:
        content = {"name": "Chair", "price": "1.00", "category_id": make_category()["id"]}

        def create() -> Answer:
            client = Client(site.port, alice.token)
            try:
                return client.post("/products", content)
            finally:
                client.close()

        assert create().status == 201
        change(site, alice.user_id, role=Role.USER)

        for worker in worker_pids(site.server):
            with only(worker, site.server):
                assert {create().status for _ in range(TIMES)} == {403}

    def test_a_deactivation_holds_on_every_worker(self, bob: Caller, site: Site, connect: Connect) -> None:
        tokens = log_in(connect(), "bob")

        change(site, bob.user_id, is_active=False)

        for path, token, method in [
            ("/users/me", tokens["access_token"], "GET"),
            ("/products", tokens["access_token"], "GET"),
            ("/auth/refresh", tokens["refresh_token"], "POST"),
        ]:
            assert {answer.status for answer in on_each_worker(site, path, token, method)} == {401}

    def test_a_promotion_holds_on_every_worker(self, bob: Caller, site: Site) -> None:
        change(site, bob.user_id, role=Role.EDITOR)

        for worker in worker_pids(site.server):
            with only(worker, site.server):
                # Refused for its body: past the question who may.
                assert ask(site.port, "/products", bob.token, "POST").status == 415


class TestRefreshing:
    def test_sixteen_times_at_once_leaves_one_live_leaf(self, bob: Caller, site: Site, connect: Connect) -> None:
        tokens = log_in(connect(), "bob")

        answers = at_once([partial(refresh, connect(), tokens["refresh_token"]) for _ in range(16)])

        assert [answer.status for answer in answers] == [200] * 16
        successors = {answer.json["refresh_token"] for answer in answers}
        assert len(successors) == 1
        successor = successors.pop()
        assert live_leaves(site) == [claims_of(successor)["jti"]]
        assert refresh(connect(), successor).status == 200
        assert len(live_leaves(site)) == 1

    def test_gives_access_tokens_that_all_work(self, bob: Caller, site: Site, connect: Connect) -> None:
        tokens = log_in(connect(), "bob")

        answers = at_once([partial(refresh, connect(), tokens["refresh_token"]) for _ in range(4)])

        for answer in answers:
            assert ask(site.port, "/users/me", answer.json["access_token"]).status == 200

    def test_with_a_token_whose_successor_was_used_is_refused_and_the_session_lives(
        self, bob: Caller, site: Site, connect: Connect
    ) -> None:
        client = connect()
        first = log_in(client, "bob")
        second = refresh(client, first["refresh_token"]).json
        third = refresh(client, second["refresh_token"]).json

        answer = refresh(client, first["refresh_token"])

        assert (answer.status, answer.code) == (401, "refresh_token_used")
        assert ask(site.port, "/users/me", third["access_token"]).status == 200
        assert refresh(client, third["refresh_token"]).status == 200

    def test_again_after_the_grace_ends_the_session_on_every_worker(
        self, bob: Caller, site: Site, connect: Connect
    ) -> None:
        client = connect()
        first = log_in(client, "bob")
        second = refresh(client, first["refresh_token"]).json
        let_the_grace_pass(site)

        answer = refresh(client, first["refresh_token"])

        assert (answer.status, answer.code) == (401, "refresh_token_reused")
        assert live_leaves(site) == []
        for token in (first["access_token"], second["access_token"]):
            assert {answer.status for answer in on_each_worker(site, "/users/me", token)} == {401}
        assert refresh(client, second["refresh_token"]).code == "session_ended"

    def test_sixteen_times_at_once_after_the_grace_ends_the_session(
        self, bob: Caller, site: Site, connect: Connect
    ) -> None:
        client = connect()
        first = log_in(client, "bob")
        second = refresh(client, first["refresh_token"]).json
        let_the_grace_pass(site)

        answers = at_once([partial(refresh, connect(), first["refresh_token"]) for _ in range(16)])

        assert {answer.status for answer in answers} == {401}
        assert {answer.code for answer in answers} <= {"refresh_token_reused", "session_ended"}
        assert ask(site.port, "/users/me", second["access_token"]).status == 401

    def test_of_one_session_does_not_touch_another(self, bob: Caller, site: Site, connect: Connect) -> None:
        client = connect()
        stolen, other = log_in(client, "bob"), log_in(client, "bob")
        refresh(client, stolen["refresh_token"])
        let_the_grace_pass(site)

        refresh(client, stolen["refresh_token"])

        assert ask(site.port, "/users/me", other["access_token"]).status == 200
        assert refresh(client, other["refresh_token"]).status == 200


class TestLoggingIn:
    def test_many_times_at_once_opens_a_session_each(self, bob: Caller, site: Site, connect: Connect) -> None:
        answers = at_once([partial(log_in, connect(), "bob") for _ in range(16)])

        sessions = {claims_of(tokens["access_token"])["sid"] for tokens in answers}
        assert len(sessions) == 16
        assert len(live_leaves(site)) == 16
