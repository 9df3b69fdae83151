"""The guard on each account's failed logins, and the bound on hashing, with two workers."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import pytest
from flask import Flask

from app.features.auth.models import MAX_FAILURES_PER_NETWORK
from tests.conftest import PASSWORD, Caller
from tests.live.conftest import environment
from tests.live.wire import Answer, Client, ask, at_once
from tests.servers import GunicornServer, free_port, gunicorn_server, valkey_server

pytestmark = pytest.mark.live

#: Twice as many as two workers have threads.
CROWD = 32


def try_password(
    port: int, number: int, password: str, email: str = "bob@example.com", network: str = "198.51.100"
) -> Answer:
    """Try to log in from an address of its own."""
    client = Client(port)
    try:
        while True:
            content = {"email": email, "password": password}
            answer = client.post("/auth/login", content, x_forwarded_for=f"{network}.{number}")
            # A worker that is busy hashing says so, and the client comes again.
            if answer.status != 503:
                return answer
            time.sleep(0.02)
    finally:
        client.close()


@pytest.fixture(scope="module")
def servers(databases: Callable[[str], Flask]) -> Iterator[Callable[[str, str], GunicornServer]]:
    """The servers behind one proxy, each started when it is first asked for."""
    made: dict[tuple[str, str], GunicornServer] = {}
    with ExitStack() as stack:

        def server(backend: str, redis: str) -> GunicornServer:
            if (backend, redis) not in made:
                url: str = databases(backend).config["DATABASE_URL"]
                made[backend, redis] = stack.enter_context(guarded_server(url, redis))
            return made[backend, redis]

        yield server


@contextmanager
def guarded_server(url: str, redis: str) -> Iterator[GunicornServer]:
    """A server behind one proxy, with Redis up, gone, or never there."""
    settings = {"TRUSTED_PROXIES": "1", "RATE_LIMIT_ENABLED": "true", "RATE_LIMIT_DEFAULT": "10000 per minute"}
    with ExitStack() as stack, ExitStack() as until_started:
        if redis != "no redis":
            port = free_port()
            settings["REDIS_URL"] = f"redis://127.0.0.1:{port}"
            (stack if redis == "redis" else until_started).enter_context(valkey_server(port=port))
        server = stack.enter_context(gunicorn_server(environment(url, **settings)))
        until_started.close()
        yield server


@pytest.fixture(params=["redis", "redis stopped", "no redis"])
def guarded(
    request: pytest.FixtureRequest, backend: str, servers: Callable[[str, str], GunicornServer], app: Flask
) -> GunicornServer:
    """A server on an empty database, which is where failures are counted."""
    return servers(backend, request.param)


class TestFailedLogins:
    def test_from_many_addresses_of_a_network_close_the_account_to_it(
        self, guarded: GunicornServer, bob: Caller
    ) -> None:
        statuses = [try_password(guarded.port, n, "wrong").status for n in range(MAX_FAILURES_PER_NETWORK + 1)]

        right = try_password(guarded.port, 99, PASSWORD)
        elsewhere = try_password(guarded.port, 1, PASSWORD, network="203.0.113")

        assert statuses == [401] * MAX_FAILURES_PER_NETWORK + [429]
        assert (right.status, right.code) == (429, "too_many_failures")
        assert 0 < int(right.headers["Retry-After"]) <= 300
        assert elsewhere.status == 200
        assert ask(guarded.port, "/users/me", bob.token).status == 200

    @pytest.mark.parametrize("email", ["bob@example.com", "nobody@example.com"])
    def test_at_the_same_moment_are_told_ten_times(self, guarded: GunicornServer, bob: Caller, email: str) -> None:
        answers = at_once([partial(try_password, guarded.port, n, "wrong", email) for n in range(CROWD)])

        told = MAX_FAILURES_PER_NETWORK
        assert bob.user_id
        assert Counter(answer.status for answer in answers) == {401: told, 429: CROWD - told}
        assert try_password(guarded.port, 99, PASSWORD).status == (429 if email == "bob@example.com" else 200)


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
