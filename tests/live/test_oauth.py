"""OAuth 2 under concurrency, and as every worker sees it at the next request."""

import http.client
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import urlencode

import pytest
from flask import Flask
from sqlalchemy import select

from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.sessions.models import RefreshToken, UserSession
from tests.apps import CALLBACK, READS, VERIFIER, ThirdParty, register
from tests.conftest import Caller, body_of
from tests.live.conftest import REFRESH_GRACE, Site, environment, only, worker_pids
from tests.live.wire import API, PATIENCE, Answer, ask, at_once
from tests.servers import gunicorn_server

pytestmark = pytest.mark.live


@pytest.fixture(scope="session")
def sites(databases: Callable[[str], Flask]) -> Iterator[Callable[[str], Site]]:
    """Servers that know their own name."""
    made: dict[str, Site] = {}
    with ExitStack() as stack:

        def site(backend: str) -> Site:
            if backend not in made:
                app = databases(backend)
                env = environment(app.config["DATABASE_URL"], PUBLIC_URL="https://catalog.example")
                made[backend] = Site(stack.enter_context(gunicorn_server(env, workers=2, threads=8)), app)
            return made[backend]

        yield site


@pytest.fixture
def prices(root: Caller) -> ThirdParty:
    """A confidential app."""
    return register(root)


def send(site: Site, path: str, **form: str | None) -> Answer:
    """Send a form on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=PATIENCE)
    try:
        body = urlencode({name: text for name, text in form.items() if text is not None})
        connection.request("POST", API + path, body, {"Content-Type": "application/x-www-form-urlencoded"})
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def exchange(site: Site, prices: ThirdParty, code: str) -> Answer:
    form = {"code": code, "redirect_uri": CALLBACK, "code_verifier": VERIFIER}
    return send(site, "/oauth/token", grant_type="authorization_code", **credentials(prices), **form)


def refresh(site: Site, prices: ThirdParty, token: str) -> Answer:
    return send(site, "/oauth/token", grant_type="refresh_token", refresh_token=token, **credentials(prices))


def credentials(prices: ThirdParty) -> dict[str, str | None]:
    return {"client_id": prices.client_id, "client_secret": prices.secret}


def live_leaves(site: Site, client_id: int) -> list[str]:
    """The refresh tokens of an app that can still be exchanged."""
    with site.app.app_context(), unit_of_work(reading=True):
        unused = select(RefreshToken.id).join(UserSession, UserSession.id == RefreshToken.session_id)
        live = RefreshToken.used_at.is_(None), UserSession.revoked_at.is_(None), UserSession.client_id == client_id
        return list(db.session.scalars(unused.where(*live)))


def on_each_worker(site: Site, path: str, token: str) -> set[int]:
    statuses = set()
    for worker in worker_pids(site.server):
        with only(worker, site.server):
            statuses |= {ask(site.port, path, token, "GET").status for _ in range(3)}
    return statuses


class TestACode:
    def test_is_exchanged_once_by_sixteen_at_once(self, site: Site, prices: ThirdParty, bob: Caller) -> None:
        for _ in range(3):
            code = prices.code_for(bob, READS)

            answers = at_once([partial(exchange, site, prices, code) for _ in range(16)])

            won = [answer for answer in answers if answer.status == 200]
            refused = [answer for answer in answers if answer.status != 200]
            assert len(won) == 1
            assert {(answer.status, answer.json["error"]) for answer in refused} == {(400, "invalid_grant")}
            # All the others were second uses, and one of two parties with the code must be a thief.
            assert ask(site.port, "/products", won[0].json["access_token"], "GET").status == 401
        assert live_leaves(site, prices.id) == []

    def test_that_is_used_twice_ends_its_tokens_on_every_worker(
        self, site: Site, prices: ThirdParty, bob: Caller
    ) -> None:
        code = prices.code_for(bob, READS)
        tokens = exchange(site, prices, code).json
        before = on_each_worker(site, "/products", tokens["access_token"])

        exchange(site, prices, code)

        assert (before, on_each_worker(site, "/products", tokens["access_token"])) == ({200}, {401})


class TestARefreshToken:
    def test_sixteen_times_at_once_leaves_one_live_leaf(self, site: Site, prices: ThirdParty, bob: Caller) -> None:
        tokens = exchange(site, prices, prices.code_for(bob, READS)).json

        answers = at_once([partial(refresh, site, prices, tokens["refresh_token"]) for _ in range(16)])

        assert [answer.status for answer in answers] == [200] * 16
        assert len({answer.json["refresh_token"] for answer in answers}) == 1
        assert len(live_leaves(site, prices.id)) == 1

    def test_again_after_the_grace_ends_the_grant_on_every_worker(
        self, site: Site, prices: ThirdParty, bob: Caller
    ) -> None:
        first = exchange(site, prices, prices.code_for(bob, READS)).json
        second = refresh(site, prices, first["refresh_token"]).json
        with site.app.app_context(), unit_of_work():
            for token in db.session.scalars(select(RefreshToken).where(RefreshToken.used_at.is_not(None))):
                assert token.used_at
                token.used_at -= timedelta(seconds=REFRESH_GRACE + 1)

        answer = refresh(site, prices, first["refresh_token"])

        assert (answer.status, answer.json["error"]) == (400, "invalid_grant")
        assert on_each_worker(site, "/products", second["access_token"]) == {401}
        assert live_leaves(site, prices.id) == []


class TestAKey:
    def test_that_is_revoked_ends_its_tokens_on_every_worker(self, site: Site, alice: Caller) -> None:
        key = body_of(alice.post("/api-keys", {"name": "sync", "scopes": ["products:read"]}))
        form = {"client_id": f"cat_{key['id']}", "client_secret": key["key"]}
        token = send(site, "/oauth/token", grant_type="client_credentials", **form).json["access_token"]
        before = on_each_worker(site, "/products", token)

        alice.delete(f"/api-keys/{key['id']}")

        assert (before, on_each_worker(site, "/products", token)) == ({200}, {401})

    def test_gets_tokens_while_it_is_rotated(self, site: Site, alice: Caller) -> None:
        key = body_of(alice.post("/api-keys", {"name": "sync", "scopes": ["products:read"]}))
        form = {"client_id": f"cat_{key['id']}", "client_secret": key["key"]}
        until, statuses = time.monotonic() + 1, []

        def ask_for_tokens() -> None:
            while time.monotonic() < until:
                statuses.append(send(site, "/oauth/token", grant_type="client_credentials", **form).status)

        def rotate() -> Any:
            return alice.post(f"/api-keys/{key['id']}/rotate", {"overlap_seconds": 60}).status_code

        at_once([ask_for_tokens, ask_for_tokens, rotate])

        assert set(statuses) == {200}


class TestAClient:
    def test_that_is_deleted_ends_its_tokens_on_every_worker(
        self, site: Site, prices: ThirdParty, bob: Caller, root: Caller
    ) -> None:
        token = exchange(site, prices, prices.code_for(bob, READS)).json["access_token"]
        before = on_each_worker(site, "/products", token)

        root.delete(f"/oauth/clients/{prices.id}")

        assert (before, on_each_worker(site, "/products", token)) == ({200}, {401})

    def test_that_is_deleted_while_codes_are_exchanged_leaves_nothing(
        self, site: Site, root: Caller, bob: Caller
    ) -> None:
        for _ in range(3):
            prices = register(root)
            codes = [prices.code_for(bob, READS) for _ in range(8)]

            calls: list[Callable[[], Any]] = [partial(exchange, site, prices, code) for code in codes]
            calls.append(partial(root.delete, f"/oauth/clients/{prices.id}"))

            *answers, deleted = at_once(calls)

            assert deleted.status_code == 204
            assert {answer.status for answer in answers} <= {200, 400, 401, 409, 503}
            assert live_leaves(site, prices.id) == []
