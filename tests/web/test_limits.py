"""Rate limits: who is counted together, and what the counted are told."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
import redis
import time_machine
from flask import Flask
from werkzeug.test import TestResponse

from tests.conftest import PASSWORD, Caller, body_of, code_of, rows_of
from tests.servers import valkey_server

AppWith = Callable[..., Flask]
LOGIN = {"email": "bob@example.com", "password": PASSWORD}


@pytest.fixture
def backend() -> str:
    """The limits do not touch the database."""
    return "sqlite"


@pytest.fixture
def limited(app_with: AppWith) -> Flask:
    """An application with room for three requests a minute, and for two logins."""
    return app_with(rate_limit_enabled=True, rate_limit_default="3 per minute", rate_limit_login="2 per minute")


def use_up(caller: Caller, path: str = "/users/me", times: int = 3) -> list[TestResponse]:
    """Send as many requests as there is room for."""
    answers = [caller.get(path) for _ in range(times)]
    assert [answer.status_code for answer in answers if answer.status_code == 429] == []
    return answers


class TestHeaders:
    def test_tell_the_policy(self, limited: Flask, bob: Caller) -> None:
        assert bob.on(limited).get("/users/me").headers["RateLimit-Policy"] == '"default";q=3;w=60'

    def test_count_down(self, limited: Flask, bob: Caller) -> None:
        answers = [bob.on(limited).get("/users/me") for _ in range(4)]

        left = [re.fullmatch(r'"default";r=(\d+);t=(\d+)', answer.headers["RateLimit"]) for answer in answers]
        assert [match[1] for match in left if match] == ["2", "1", "0", "0"]
        assert all(0 < int(match[2]) <= 60 for match in left if match)

    def test_tell_the_default_of_the_contract(self, app_with: AppWith, bob: Caller) -> None:
        answer = bob.on(app_with(rate_limit_enabled=True)).get("/users/me")

        assert answer.headers["RateLimit-Policy"] == '"default";q=300;w=60'
        assert re.fullmatch(r'"default";r=299;t=(5\d|60)', answer.headers["RateLimit"])

    @pytest.mark.parametrize(("rate", "policy"), [("7 per hour", "q=7;w=3600"), ("5 per 2 minute", "q=5;w=120")])
    def test_tell_the_rate_of_the_setting(self, app_with: AppWith, bob: Caller, rate: str, policy: str) -> None:
        answer = bob.on(app_with(rate_limit_enabled=True, rate_limit_default=rate)).get("/users/me")

        assert answer.headers["RateLimit-Policy"] == f'"default";{policy}'

    def test_are_missing_where_limits_are_off(self, bob: Caller) -> None:
        assert not {"RateLimit", "RateLimit-Policy"} & set(bob.get("/users/me").headers.keys())


class TestTooMany:
    @pytest.fixture
    def answer(self, limited: Flask, bob: Caller) -> TestResponse:
        """The answer to one request too many."""
        use_up(bob.on(limited))
        return bob.on(limited).get("/users/me")

    def test_are_429_with_when_to_come_back(self, answer: TestResponse) -> None:
        assert answer.status_code == 429
        assert code_of(answer) == "rate_limited"
        assert 1 <= int(answer.headers["Retry-After"]) <= 60

    def test_are_a_problem_like_any_other(self, answer: TestResponse) -> None:
        assert body_of(answer)["title"] == "Too Many Requests"
        assert body_of(answer)["request_id"] == answer.headers["X-Request-ID"]
        assert answer.headers["Cache-Control"] == "no-store"

    def test_do_not_reach_the_view(self, limited: Flask, app: Flask, alice: Caller) -> None:
        use_up(alice.on(limited))

        answer = alice.on(limited).post("/categories", {"name": "Chairs"})

        assert answer.status_code == 429
        assert rows_of(app, "categories") == []

    def test_ask_no_database(self, answer: TestResponse) -> None:
        assert '"0 queries"' in answer.headers["Server-Timing"]

    def test_are_over_with_the_window(self, limited: Flask, bob: Caller) -> None:
        with time_machine.travel(datetime.now(UTC), tick=False) as clock:
            use_up(bob.on(limited))
            clock.shift(61)

            assert bob.on(limited).get("/users/me").status_code == 200

    def test_have_no_retry_after_before(self, limited: Flask, bob: Caller) -> None:
        assert all("Retry-After" not in answer.headers for answer in use_up(bob.on(limited)))


class TestWhoIsCounted:
    def test_is_each_user(self, limited: Flask, bob: Caller, carol: Caller) -> None:
        use_up(bob.on(limited))

        assert carol.on(limited).get("/users/me").status_code == 200
        assert bob.on(limited).get("/users/me").status_code == 429

    def test_is_each_user_whatever_the_token(self, limited: Flask, bob: Caller, anonymous: Caller) -> None:
        use_up(bob.on(limited))

        pair = body_of(anonymous.post("/auth/login", LOGIN))
        answer = anonymous.on(limited).get("/users/me", headers={"Authorization": f"Bearer {pair['access_token']}"})

        assert answer.status_code == 429

    def test_is_each_user_from_wherever(self, app_with: AppWith, bob: Caller) -> None:
        behind = bob.on(app_with(rate_limit_enabled=True, rate_limit_default="3 per minute", trusted_proxies=1))
        for number in range(3):
            behind.get("/users/me", headers={"X-Forwarded-For": f"203.0.113.{number}"})

        assert behind.get("/users/me", headers={"X-Forwarded-For": "203.0.113.9"}).status_code == 429

    def test_is_the_address_of_who_has_no_credentials(self, limited: Flask, anonymous: Caller, bob: Caller) -> None:
        use_up(anonymous.on(limited), "/products")

        assert anonymous.on(limited).get("/products").status_code == 429
        assert bob.on(limited).get("/products").status_code == 200

    @pytest.mark.parametrize("header", ["Bearer forged.token.here", "Basic x", "Bearer"])
    def test_is_the_address_of_who_has_bad_credentials(self, limited: Flask, anonymous: Caller, header: str) -> None:
        use_up(anonymous.on(limited), "/products")

        assert anonymous.on(limited).get("/products", headers={"Authorization": header}).status_code == 429

    def test_is_the_address_that_a_trusted_proxy_tells(self, app_with: AppWith, anonymous: Caller) -> None:
        behind = anonymous.on(app_with(rate_limit_enabled=True, rate_limit_default="1 per minute", trusted_proxies=1))

        statuses = [
            behind.get("/products", headers={"X-Forwarded-For": forwarded}).status_code
            for forwarded in ("203.0.113.1", "203.0.113.2", "203.0.113.2", "203.0.113.9, 203.0.113.1")
        ]

        assert statuses == [401, 401, 429, 429]

    def test_is_not_who_a_client_says_it_is(self, limited: Flask, anonymous: Caller) -> None:
        statuses = [
            anonymous.on(limited).get("/products", headers={"X-Forwarded-For": f"203.0.113.{number}"}).status_code
            for number in range(4)
        ]

        assert statuses == [401, 401, 401, 429]

    def test_is_the_64_of_an_ipv6_address(self, app_with: AppWith, anonymous: Caller) -> None:
        behind = anonymous.on(app_with(rate_limit_enabled=True, rate_limit_default="1 per minute", trusted_proxies=1))

        statuses = [
            behind.get("/products", headers={"X-Forwarded-For": forwarded}).status_code
            for forwarded in ("2001:db8:1:2::1", "2001:db8:1:3::1", "2001:db8:1:2:ffff::9", "2001:db8:1:3::1")
        ]

        assert statuses == [401, 401, 429, 429]

    def test_is_an_ipv4_address_however_it_is_written(self, app_with: AppWith, anonymous: Caller) -> None:
        behind = anonymous.on(app_with(rate_limit_enabled=True, rate_limit_default="1 per minute", trusted_proxies=1))

        statuses = [
            behind.get("/products", headers={"X-Forwarded-For": forwarded}).status_code
            for forwarded in ("192.0.2.7", "::ffff:192.0.2.8", "::ffff:192.0.2.7")
        ]

        assert statuses == [401, 401, 429]


class TestWhatIsCounted:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/nothing"),
            ("GET", "//nothing"),
            ("DELETE", "/products"),
            ("GET", "/products/0"),
            ("GET", "/products"),
        ],
    )
    def test_is_what_is_refused_too(self, limited: Flask, anonymous: Caller, method: str, path: str) -> None:
        answers = [anonymous.on(limited).call(method, path) for _ in range(4)]

        assert [answer.status_code == 429 for answer in answers] == [False, False, False, True]

    def test_is_everything_together(self, limited: Flask, bob: Caller) -> None:
        for path in ("/products", "/categories", "/nothing"):
            bob.on(limited).get(path)

        assert bob.on(limited).get("/users/me").status_code == 429

    @pytest.mark.parametrize("path", ["//health", "//livez", "//readyz", "//docs", "//openapi.json"])
    def test_is_not_what_monitoring_and_people_read(self, limited: Flask, anonymous: Caller, path: str) -> None:
        answers = [anonymous.on(limited).get(path) for _ in range(5)]

        assert {answer.status_code for answer in answers} == {200}
        assert all("RateLimit" not in answer.headers for answer in answers)

    def test_is_not_what_a_browser_asks_first(self, limited: Flask, anonymous: Caller) -> None:
        answers = [anonymous.on(limited).call("OPTIONS", "/products") for _ in range(5)]

        assert {answer.status_code for answer in answers} == {200}


class TestLogins:
    @pytest.fixture
    def limited(self, app_with: AppWith) -> Flask:
        """An application with room for two logins a minute."""
        return app_with(rate_limit_enabled=True, rate_limit_login="2 per minute")

    @pytest.mark.usefixtures("bob")
    def test_have_a_limit_of_their_own(self, limited: Flask, anonymous: Caller) -> None:
        answers = [anonymous.on(limited).post("/auth/login", LOGIN) for _ in range(3)]

        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert [answer.headers["RateLimit-Policy"] for answer in answers] == ['"login";q=2;w=60'] * 3
        assert [answer.headers["RateLimit"].split(";")[:2] for answer in answers] == [
            ['"login"', "r=1"],
            ['"login"', "r=0"],
            ['"login"', "r=0"],
        ]

    def test_are_counted_when_they_fail(self, limited: Flask, anonymous: Caller) -> None:
        answers = [
            anonymous.on(limited).post("/auth/login", {"email": f"user{number}@example.com", "password": "x"})
            for number in range(3)
        ]

        assert [answer.status_code for answer in answers] == [401, 401, 429]

    def test_are_counted_by_address_and_not_by_user(self, limited: Flask, anonymous: Caller, bob: Caller) -> None:
        for _ in range(2):
            bob.on(limited).post("/auth/login", LOGIN)

        assert anonymous.on(limited).post("/auth/login", LOGIN).status_code == 429

    def test_do_not_stop_who_is_logged_in(self, limited: Flask, anonymous: Caller, bob: Caller) -> None:
        for _ in range(3):
            anonymous.on(limited).post("/auth/login", LOGIN)

        assert bob.on(limited).get("/users/me").status_code == 200

    def test_do_not_use_up_registrations(self, limited: Flask, anonymous: Caller) -> None:
        for _ in range(3):
            anonymous.on(limited).post("/auth/login", LOGIN)
        statuses = [
            anonymous.on(limited)
            .post("/auth/register", {"email": f"{name}@example.com", "username": name, "password": PASSWORD})
            .status_code
            for name in ("dave", "erin", "fred")
        ]

        assert statuses == [201, 201, 429]

    def test_hash_nothing_past_the_limit(
        self, limited: Flask, anonymous: Caller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hashed: list[str] = []

        def verify(password: str, _: str | None) -> bool:
            hashed.append(password)
            return False

        monkeypatch.setattr("app.features.auth.service.verify_password", verify)
        statuses = [anonymous.on(limited).post("/auth/login", LOGIN).status_code for _ in range(3)]

        assert statuses == [401, 401, 429]
        assert len(hashed) == 2

    @pytest.mark.usefixtures("bob")
    def test_are_told_once_when_to_come_back(self, app_with: AppWith, anonymous: Caller) -> None:
        limited = anonymous.on(app_with(rate_limit_enabled=True, rate_limit_login="11 per minute"))
        wrong = {**LOGIN, "password": "wrong"}

        guarded, beyond = [limited.post("/auth/login", wrong) for _ in range(12)][-2:]

        assert [code_of(guarded), code_of(beyond)] == ["too_many_failures", "rate_limited"]
        assert [len(answer.headers.getlist("Retry-After")) for answer in (guarded, beyond)] == [1, 1]
        # The guard's window is five minutes, the limit's is one.
        assert int(guarded.headers["Retry-After"]) > 60 >= int(beyond.headers["Retry-After"])

    def test_are_limited_by_each_application_for_itself(self, app_with: AppWith, anonymous: Caller) -> None:
        rates = ["1 per minute", "2 per minute"]
        apps = [anonymous.on(app_with(rate_limit_enabled=True, rate_limit_login=rate)) for rate in rates]

        statuses = [[each.post("/auth/login", LOGIN).status_code for each in apps] for _ in range(3)]

        assert statuses == [[401, 401], [429, 401], [429, 429]]

    def test_are_not_limited_where_limits_are_off(self, app_with: AppWith, anonymous: Caller) -> None:
        off = anonymous.on(app_with(rate_limit_login="1 per minute"))

        assert [off.post("/auth/login", LOGIN).status_code for _ in range(2)] == [401, 401]


class TestRedis:
    """Shared counters: how often they are asked."""

    @pytest.fixture
    def redis_url(self) -> Iterator[str]:
        """A server that no application of an earlier test is still about to leave."""
        with valkey_server() as url:
            yield url

    @pytest.fixture
    def shared(self, app_with: AppWith, redis_url: str, anonymous: Caller) -> Flask:
        """An application that counts there, and has begun to."""
        app = app_with(rate_limit_enabled=True, rate_limit_login="100 per minute", redis_url=redis_url)
        anonymous.on(app).get("/nothing")
        return app

    def test_is_asked_once_a_request(self, shared: Flask, redis_url: str, bob: Caller) -> None:
        with asked(redis_url) as times:
            answers = [bob.on(shared).get(path) for path in ("/users/me", "/products", "/nothing")]

        assert all("RateLimit" in answer.headers for answer in answers)
        assert times == [3]

    def test_is_asked_once_for_each_limit(self, shared: Flask, redis_url: str, anonymous: Caller) -> None:
        with asked(redis_url) as times:
            answer = anonymous.on(shared).post("/auth/login", LOGIN)

        assert "RateLimit" in answer.headers
        assert times == [2]

    def test_is_asked_once_by_who_is_refused(self, app_with: AppWith, redis_url: str, bob: Caller) -> None:
        bob = bob.on(app_with(rate_limit_enabled=True, rate_limit_default="1 per 3 day", redis_url=redis_url))
        bob.get("/users/me")
        with asked(redis_url) as times:
            assert bob.get("/users/me").status_code == 429

        assert times == [1]

    def test_lets_in_who_waits_as_long_as_told(self, app_with: AppWith, redis_url: str, bob: Caller) -> None:
        bob = bob.on(app_with(rate_limit_enabled=True, rate_limit_default="1 per 2 second", redis_url=redis_url))
        bob.get("/users/me")
        # 1.3 seconds are left, of which Redis would tell one if it were asked for seconds.
        time.sleep(0.7)
        refused = bob.get("/users/me")
        time.sleep(int(refused.headers["Retry-After"]))

        assert (refused.status_code, bob.get("/users/me").status_code) == (429, 200)

    @pytest.mark.parametrize("path", ["//livez", "//docs"])
    def test_is_not_asked_for_what_is_exempt(self, shared: Flask, redis_url: str, bob: Caller, path: str) -> None:
        with asked(redis_url) as times:
            bob.on(shared).get(path)

        assert times == [0]

    def test_is_not_asked_where_limits_are_off(self, app_with: AppWith, redis_url: str, bob: Caller) -> None:
        bob = bob.on(app_with(redis_url=redis_url))
        with asked(redis_url) as times:
            bob.get("/users/me")

        assert times == [0]


@contextmanager
def asked(redis_url: str) -> Iterator[list[int]]:
    """How often the server has heard from anybody, by its own count, once the block is over."""
    times: list[int] = []
    with redis.Redis.from_url(redis_url) as client:
        before = client.info("stats")["total_reads_processed"]
        yield times
        # But for this question itself.
        times.append(client.info("stats")["total_reads_processed"] - before - 1)
