"""The guard on each account's failed logins, and the bound on hashing, with two workers."""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from flask import Flask

from app.features.auth.service import MOST_FAILURES
from tests.conftest import PASSWORD, Caller
from tests.live.conftest import environment
from tests.live.wire import Answer, Client, ask, at_once
from tests.servers import GunicornServer, free_port, gunicorn_server, valkey_server

pytestmark = pytest.mark.live


def try_password(port: int, number: int, password: str, email: str = "bob@example.com") -> Answer:
    """Try to log in from an address of its own."""
    client = Client(port)
    try:
        while True:
            content = {"email": email, "password": password}
            answer = client.post("/auth/login", content, x_forwarded_for=f"198.51.100.{number}")
            # A worker that is busy hashing says so, and the client comes again.
            if answer.status != 503:
                return answer
    finally:
        client.close()


@pytest.fixture(params=["redis", "redis stopped", "no redis"])
def guarded(request: pytest.FixtureRequest, app: Flask) -> Iterator[GunicornServer]:
    """A server behind one proxy, with Redis up, gone, or never there."""
    settings = {"TRUSTED_PROXIES": "1", "RATE_LIMIT_ENABLED": "true", "RATE_LIMIT_DEFAULT": "10000 per minute"}
    url, port = app.config["DATABASE_URL"], free_port()
    if request.param == "no redis":
        with gunicorn_server(environment(url, **settings)) as server:
            yield server
        return
    settings["REDIS_URL"] = f"redis://127.0.0.1:{port}"
    if request.param == "redis":
        with valkey_server(port=port), gunicorn_server(environment(url, **settings)) as server:
            yield server
        return
    with valkey_server(port=port):
        server_context = gunicorn_server(environment(url, **settings))
        server = server_context.__enter__()
    yield server
    server_context.__exit__(None, None, None)


class TestFailedLogins:
    def test_from_many_addresses_close_the_account_and_no_session(self, guarded: GunicornServer, bob: Caller) -> None:
        statuses = [try_password(guarded.port, n, "wrong").status for n in range(MOST_FAILURES + 1)]

        right = try_password(guarded.port, 99, PASSWORD)

        assert statuses == [401] * MOST_FAILURES + [429]
        assert (right.status, right.code) == (429, "too_many_failures")
        assert 0 < int(right.headers["Retry-After"]) <= 300
        assert ask(guarded.port, "/users/me", bob.token).status == 200

    def test_of_an_unknown_address_look_the_same(self, guarded: GunicornServer, bob: Caller) -> None:
        answers = [try_password(guarded.port, n, "wrong", "nobody@example.com") for n in range(MOST_FAILURES + 1)]

        assert [answer.status for answer in answers] == [401] * MOST_FAILURES + [429]


class TestHashing:
    def test_past_its_bound_is_503_and_reads_go_on(
        self, site: object, bob: Caller, connect: Callable[..., Client]
    ) -> None:
        logins: list[Callable[[], Answer]] = [
            partial(connect().post, "/auth/login", {"email": "bob@example.com", "password": PASSWORD})
            for _ in range(48)
        ]
        reads: list[Callable[[], Answer]] = [partial(connect(bob).get, "/users/me") for _ in range(8)]

        answers = at_once(logins + reads)

        assert {answer.status for answer in answers[48:]} == {200}
        counts = Counter(answer.status for answer in answers[:48])
        assert set(counts) <= {200, 503}
        assert counts[200] > 0
        assert all(answer.headers["Retry-After"] for answer in answers if answer.status == 503)
