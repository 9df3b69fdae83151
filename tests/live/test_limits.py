"""Rate limits: what two workers count together through Redis, what each counts alone, and an outage of Redis."""

import re
import socketserver
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count

import pytest
import redis
from flask import Flask

from app.security.permissions import Role
from tests.conftest import Caller
from tests.live.conftest import environment, only, worker_pids
from tests.live.wire import PATIENCE, Answer, Client, ask, asking, at_once, wait_for, wait_for_more
from tests.servers import GunicornServer, free_port, gunicorn_server, valkey_server

pytestmark = pytest.mark.live

SignIn = Callable[..., Caller]

QUOTA = 30
LOGIN_QUOTA = 5
#: Days, so that no window ends while a test counts in it.
LIMITS = {
    "RATE_LIMIT_ENABLED": "true",
    "RATE_LIMIT_DEFAULT": f"{QUOTA} per day",
    "RATE_LIMIT_LOGIN": f"{LOGIN_QUOTA} per day",
    "TRUSTED_PROXIES": "1",
}
DAY = 24 * 3600
#: Of clients whom nobody has counted yet.
ADDRESSES = (f"198.18.{number // 250}.{number % 250 + 1}" for number in count())


@pytest.fixture
def backend() -> str:
    """The limits do not touch the database."""
    return "sqlite"


@pytest.fixture
def address() -> str:
    """Of somebody whom nobody has counted yet."""
    return next(ADDRESSES)


@pytest.fixture(scope="module")
def database_url(databases: Callable[[str], Flask]) -> str:
    url: str = databases("sqlite").config["DATABASE_URL"]
    return url


@pytest.fixture(scope="module")
def with_redis(database_url: str) -> Iterator[GunicornServer]:
    """Two workers and a Redis of their own."""
    with (
        valkey_server(port=free_port()) as redis_url,
        # Few threads: one that waits for its turn longer than Redis may take to answer would count on its own.
        gunicorn_server(environment(database_url, REDIS_URL=redis_url, **LIMITS), threads=2) as server,
    ):
        yield server


@pytest.fixture(scope="module")
def without_redis(database_url: str) -> Iterator[GunicornServer]:
    """Two workers on their own."""
    with gunicorn_server(environment(database_url, **LIMITS)) as server:
        yield server


def left(answer: Answer) -> int:
    """How many requests the answer says are left."""
    match = re.fullmatch(r'"(?:default|login)";r=(\d+);t=\d+', answer.headers["RateLimit"])
    assert match, answer.headers["RateLimit"]
    return int(match[1])


def log_in(server: GunicornServer, address: str, email: str = "nobody@example.com") -> Answer:
    client = Client(server.port)
    try:
        return client.post("/auth/login", {"email": email, "password": "wrong"}, x_forwarded_for=address)
    finally:
        client.close()


class TestWithRedis:
    def test_workers_count_each_request_once(self, with_redis: GunicornServer, sign_in: SignIn) -> None:
        carol = sign_in("carol")

        answers = at_once([partial(ask, with_redis.port, "/users/me", carol.token)] * (2 * QUOTA))

        assert Counter(answer.status for answer in answers) == {200: QUOTA, 429: QUOTA}
        # Each hears of its own hit, and not of those that came between.
        assert sorted(left(answer) for answer in answers) == [0] * QUOTA + list(range(QUOTA))

    def test_workers_count_on_from_each_other(self, with_redis: GunicornServer, sign_in: SignIn) -> None:
        carol, seen = sign_in("carol"), []

        for worker in worker_pids(with_redis) * 2:
            with only(worker, with_redis):
                seen.append(left(ask(with_redis.port, "/users/me", carol.token)))

        assert seen == [QUOTA - 1, QUOTA - 2, QUOTA - 3, QUOTA - 4]

    def test_a_refusal_says_when_to_come_back(self, with_redis: GunicornServer, sign_in: SignIn) -> None:
        carol = sign_in("carol")
        first, *_, last = [ask(with_redis.port, "/users/me", carol.token) for _ in range(QUOTA + 1)]

        assert first.headers["RateLimit-Policy"] == last.headers["RateLimit-Policy"] == f'"default";q={QUOTA};w={DAY}'
        assert left(first) == QUOTA - 1
        assert "Retry-After" not in first.headers
        assert (last.status, last.code) == (429, "rate_limited")
        assert last.headers["Content-Type"] == "application/problem+json"
        assert last.headers["Cache-Control"] == "no-store"
        assert left(last) == 0
        assert 0 < int(last.headers["Retry-After"]) <= DAY
        assert last.headers["RateLimit"] == f'"default";r=0;t={last.headers["Retry-After"]}'

    def test_each_user_has_a_quota_wherever_the_requests_come_from(
        self, with_redis: GunicornServer, sign_in: SignIn
    ) -> None:
        bob, carol = Client(with_redis.port, sign_in("bob").token), Client(with_redis.port, sign_in("carol").token)
        try:
            for used in range(1, 4):
                assert left(bob.get("/users/me", x_forwarded_for=next(ADDRESSES))) == QUOTA - used
            assert left(carol.get("/users/me", x_forwarded_for=next(ADDRESSES))) == QUOTA - 1
        finally:
            bob.close()
            carol.close()

    @pytest.mark.parametrize(
        "headers",
        [{}, {"authorization": "Bearer x.y.z"}, {"authorization": "Basic eDp5"}, {"x_api_key": "cat_1_x"}],
        ids=["none", "forged", "of another scheme", "unknown"],
    )
    def test_bad_credentials_are_counted_by_address(
        self, with_redis: GunicornServer, address: str, headers: dict[str, str]
    ) -> None:
        client = Client(with_redis.port)
        try:
            for used in range(1, 4):
                answer = client.get("/products", x_forwarded_for=address, **headers)
                assert (answer.status, left(answer)) == (401, QUOTA - used)
        finally:
            client.close()

    def test_a_scan_of_unknown_paths_is_counted(self, with_redis: GunicornServer, address: str) -> None:
        client = Client(with_redis.port)
        try:
            statuses = [client.get(f"/nowhere/{n}", x_forwarded_for=address).status for n in range(QUOTA + 5)]
        finally:
            client.close()

        assert Counter(statuses) == {404: QUOTA, 429: 5}

    def test_logins_are_counted_by_address(self, with_redis: GunicornServer, address: str, sign_in: SignIn) -> None:
        sign_in("bob")
        emails = ["bob@example.com", "nobody@example.com"] * (2 * LOGIN_QUOTA)

        answers = at_once([partial(log_in, with_redis, address, email) for email in emails])
        elsewhere = log_in(with_redis, next(ADDRESSES))

        assert Counter(answer.status for answer in answers) == {401: LOGIN_QUOTA, 429: 3 * LOGIN_QUOTA}
        assert {answer.headers["RateLimit-Policy"] for answer in answers} == {f'"login";q={LOGIN_QUOTA};w={DAY}'}
        assert (elsewhere.status, left(elsewhere)) == (401, LOGIN_QUOTA - 1)

    def test_too_many_logins_do_not_stop_who_is_logged_in(
        self, with_redis: GunicornServer, address: str, sign_in: SignIn
    ) -> None:
        bob = Client(with_redis.port, sign_in("bob").token)
        while log_in(with_redis, address).status != 429:
            pass

        try:
            assert bob.get("/users/me", x_forwarded_for=address).status == 200
        finally:
            bob.close()

    @pytest.mark.parametrize("path", ["/health", "/livez", "/readyz", "/openapi.json", "/docs"])
    def test_what_monitoring_and_people_read_is_exempt(self, with_redis: GunicornServer, path: str) -> None:
        answers = [ask(with_redis.port, f"/{path}") for _ in range(QUOTA + 1)]

        assert {answer.status for answer in answers} == {200}
        assert not any("RateLimit" in answer.headers for answer in answers)


class TestWithoutRedis:
    def test_each_worker_counts_its_own(self, without_redis: GunicornServer, sign_in: SignIn) -> None:
        carol = sign_in("carol")
        for worker in worker_pids(without_redis):
            with only(worker, without_redis):
                answers = at_once([partial(ask, without_redis.port, "/users/me", carol.token)] * (QUOTA + 10))

            assert Counter(answer.status for answer in answers) == {200: QUOTA, 429: 10}


class TestAnOutageOfRedis:
    def test_costs_no_request_and_ends_by_itself(self, database_url: str, sign_in: SignIn) -> None:
        alice, bob = sign_in("alice", Role.EDITOR), sign_in("bob")
        port = free_port()
        settings = LIMITS | {"REDIS_URL": f"redis://127.0.0.1:{port}"}
        with gunicorn_server(environment(database_url, **settings)) as server:
            for _ in range(3):
                with valkey_server(port=port) as redis_url, asking(server.port, alice.token) as answers:
                    # The first keys show that the workers have found it, whatever happened before.
                    wait_for(partial(keys_in, redis_url))
                    wait_for_more(answers)
                    assert keys_in(redis_url)
                    # It dies under load: some requests are just talking to it.
                    lost = outages(server)
                    kill(redis_url)
                    wait_for(partial(has_more_outages, server, lost))
                    wait_for_more(answers)
                assert {answer.status for answer in answers} <= {200, 429}

            # Of each worker's outages one line tells, and not of each request in it.
            assert 3 <= outages(server) <= 2 * 4
            # Each worker counts by itself meanwhile.
            for worker in worker_pids(server):
                with only(worker, server):
                    alone = [ask(server.port, "/users/me", bob.token) for _ in range(QUOTA + 1)]
                assert [answer.status for answer in alone] == [200] * QUOTA + [429]
                assert [left(answer) for answer in alone] == [*reversed(range(QUOTA)), 0]

    def test_that_only_hangs_costs_no_request(self, database_url: str, sign_in: SignIn) -> None:
        alice = sign_in("alice")
        with (
            valkey_server(port=free_port()) as redis_url,
            gunicorn_server(environment(database_url, REDIS_URL=redis_url, **LIMITS)) as server,
            asking(server.port, alice.token, connections=16) as answers,
        ):
            wait_for_more(answers)
            with redis.Redis.from_url(redis_url, socket_timeout=PATIENCE) as client:
                # Every thread that talks to it now runs into its own timeout, all at the same time.
                client.client_pause(2000, all=True)
            wait_for_more(answers, 500)

        assert {answer.status for answer in answers} <= {200, 429}

    def test_that_hangs_delays_one_request_by_one_timeout(self, database_url: str) -> None:
        # A login is counted twice: by the limit on everything and by its own.
        delays = []
        with (
            valkey_server(port=free_port()) as redis_url,
            gunicorn_server(environment(database_url, REDIS_URL=redis_url, **LIMITS), workers=1) as server,
            redis.Redis.from_url(redis_url, socket_timeout=PATIENCE) as client,
        ):
            for outage in range(1, 4):
                log_in(server, next(ADDRESSES))
                client.client_pause(1500, all=True)
                delays.append([seconds_of(partial(log_in, server, next(ADDRESSES))) for _ in range(5)])
                # Each request looks whether it is time to look for Redis.
                wait_for(lambda: ask(server.port, "/nowhere"), until=partial(has_logged, server, "redis_back", outage))
            assert has_logged(server, "redis_lost", 3)

        # The least of several, since other processes use the machine as well; the password takes its time too.
        first, later = min(first for first, *_ in delays), min(min(later) for _, *later in delays)
        assert first - later < 0.3

    def test_that_answers_nonsense_costs_no_request(self, database_url: str, sign_in: SignIn) -> None:
        carol = sign_in("carol")
        with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Nonsense) as other:
            other.daemon_threads = True
            threading.Thread(target=other.serve_forever, daemon=True).start()
            settings = LIMITS | {"REDIS_URL": f"redis://127.0.0.1:{other.server_address[1]}"}
            try:
                with gunicorn_server(environment(database_url, **settings)) as server:
                    answers = at_once([partial(ask, server.port, "/users/me", carol.token)] * 16)
            finally:
                other.shutdown()

        assert {answer.status for answer in answers} == {200}

    def test_is_over_within_seconds_of_its_return(self, database_url: str, sign_in: SignIn) -> None:
        carol, port = sign_in("carol"), free_port()
        settings = LIMITS | {"REDIS_URL": f"redis://127.0.0.1:{port}"}
        with (
            gunicorn_server(environment(database_url, **settings), workers=1) as server,
            asking(server.port, carol.token, connections=2, pause=0.05),
        ):
            # By then the library's own pause would be sixteen seconds.
            time.sleep(16)

            with valkey_server(port=port) as redis_url:
                assert wait_for(partial(keys_in, redis_url), seconds=12)

    def test_at_the_start_costs_no_request(self, database_url: str, sign_in: SignIn) -> None:
        settings = LIMITS | {"REDIS_URL": f"redis://127.0.0.1:{free_port()}"}
        carol = sign_in("carol")
        with gunicorn_server(environment(database_url, **settings)) as server:
            answers = at_once([partial(ask, server.port, "/users/me", carol.token)] * 16)

            assert {answer.status for answer in answers} == {200}
            assert ask(server.port, "//readyz").status == 200


def has_logged(server: GunicornServer, event: str, times: int, _: object = None) -> bool:
    """Whether the server has logged this event so often."""
    return server.log().count(f'"{event}"') == times


def outages(server: GunicornServer) -> int:
    """How often a worker has said that it lost Redis."""
    return server.log().count('"redis_lost"')


def has_more_outages(server: GunicornServer, number: int) -> bool:
    """Whether there were more outages than so many."""
    return outages(server) > number


def seconds_of(call: Callable[[], object]) -> float:
    """How long a call takes."""
    begun = time.monotonic()
    call()
    return time.monotonic() - begun


class Nonsense(socketserver.BaseRequestHandler):
    """Something else listens where Redis should."""

    def handle(self) -> None:
        while self.request.recv(4096):
            self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def keys_in(redis_url: str) -> bool:
    """Whether anybody has counted there."""
    with redis.Redis.from_url(redis_url, socket_timeout=PATIENCE) as client:
        return bool(client.dbsize())


def kill(redis_url: str) -> None:
    """Make it close every connection and go, without waiting for anybody."""
    with redis.Redis.from_url(redis_url, socket_timeout=PATIENCE) as client:
        client.shutdown(nosave=True, now=True, force=True)
