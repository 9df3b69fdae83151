"""GET /metrics: who may read it, where, and what is counted."""

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from flask import Flask
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from structlog.testing import capture_logs

from app.extensions import cache
from app.web.monitoring import register_collector
from app.web.searches import Search, on_search
from app.web.traffic import METHODS, OTHER, UNMATCHED
from tests.conftest import Caller, code_of, on_one_database
from tests.exposed import Exposed

AppWith = Callable[..., Flask]
Counted = Callable[[Callable[[], object]], Exposed]

pytestmark = on_one_database

TOKEN = "t0ken-0f-the-metrics-0123456789ab"
SECRETS = {"secret_key": "0123456789abcdef" * 2, "jwt_secret_key": "fedcba9876543210" * 2}
REQUESTS = "catalog_http_request_duration_seconds_count"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Connections that came in on two ports."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        for listener in listeners:
            stack.enter_context(socket.create_connection(listener.getsockname()))
        first, second = (stack.enter_context(listener.accept()[0]) for listener in listeners)
        yield first, second


@pytest.fixture
def port(pair: tuple[socket.socket, socket.socket]) -> int:
    """The second port."""
    number: int = pair[1].getsockname()[1]
    return number


@pytest.fixture
def elsewhere(pair: tuple[socket.socket, socket.socket]) -> dict[str, Any]:
    """Options of a request that comes in on the first port."""
    return {"environ_overrides": {"gunicorn.socket": pair[0]}}


@pytest.fixture
def there(pair: tuple[socket.socket, socket.socket]) -> dict[str, Any]:
    """Options of a request that comes in on the second port."""
    return {"environ_overrides": {"gunicorn.socket": pair[1]}}


@pytest.fixture
def counted(app: Flask) -> Counted:
    """What is counted while something is done."""

    def count(do: Callable[[], object]) -> Exposed:
        before = Exposed.of_app(app)
        do()
        return Exposed.of_app(app).since(before)

    return count


class TestWhoMayRead:
    def test_is_everybody_in_development(self, app_with: AppWith, anonymous: Caller) -> None:
        answer = anonymous.on(app_with(app_env="development")).get("//metrics")

        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "no-store"

    def test_is_no_one_in_production_without_settings(self, app_with: AppWith, anonymous: Caller) -> None:
        answer = anonymous.on(app_with(app_env="production", **SECRETS)).get("//metrics")

        assert (answer.status_code, code_of(answer)) == (404, "not_found")

    @pytest.mark.parametrize("env", ["development", "production"])
    def test_is_who_has_the_token(self, app_with: AppWith, anonymous: Caller, env: str) -> None:
        guarded = anonymous.on(app_with(app_env=env, metrics_token=TOKEN, **SECRETS))

        assert guarded.get("//metrics", headers=bearer(TOKEN)).status_code == 200

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            bearer(""),
            bearer(TOKEN[:-1]),
            bearer(f"{TOKEN}x"),
            bearer("Ünïcödé"),
            {"Authorization": TOKEN},
            {"Authorization": f"Basic {TOKEN}"},
            {"X-API-Key": TOKEN},
        ],
    )
    def test_is_no_one_else(self, app_with: AppWith, anonymous: Caller, headers: dict[str, str]) -> None:
        answer = anonymous.on(app_with(metrics_token=TOKEN)).get("//metrics", headers=headers)

        assert (answer.status_code, code_of(answer)) == (401, "metrics_token_required")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")

    def test_is_no_administrator_by_that(self, app_with: AppWith, root: Caller) -> None:
        assert root.on(app_with(metrics_token=TOKEN)).get("//metrics").status_code == 401


class TestPort:
    @pytest.fixture
    def ported(self, app_with: AppWith, anonymous: Caller, port: int) -> Caller:
        return anonymous.on(app_with(metrics_port=port))

    def test_has_the_metrics(self, ported: Caller, there: dict[str, Any]) -> None:
        assert ported.get("//metrics", **there).status_code == 200

    def test_alone_has_them(self, ported: Caller, elsewhere: dict[str, Any]) -> None:
        assert ported.get("//metrics").status_code == 404
        assert ported.get("//metrics", **elsewhere).status_code == 404

    @pytest.mark.parametrize("claim", ["Host", "X-Forwarded-Host"])
    def test_is_not_what_a_client_says(self, ported: Caller, port: int, elsewhere: dict[str, Any], claim: str) -> None:
        headers = {claim: f"localhost:{port}", "X-Forwarded-Port": str(port)}

        assert ported.get("//metrics", headers=headers, **elsewhere).status_code == 404

    def test_is_none_of_a_unix_socket(self, ported: Caller, port: int) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            where = {"environ_overrides": {"gunicorn.socket": ours}}
            answer = ported.get("//metrics", headers={"Host": f"localhost:{port}"}, **where)

        assert answer.status_code == 404

    def test_has_the_probes(self, ported: Caller, there: dict[str, Any]) -> None:
        assert {ported.get(path, **there).status_code for path in ("//livez", "//health", "//readyz")} == {200}

    @pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
    def test_has_nothing_else(self, ported: Caller, there: dict[str, Any], method: str) -> None:
        paths = ("/api/v1/products", "/", "/docs", "/openapi.json", "/media/x", "/api/v1/auth/login", "/nothing")
        client = ported.app.test_client()

        assert {client.open(path, method=method, **there).status_code for path in paths} == {404}

    def test_asks_for_the_token_as_well(
        self, app_with: AppWith, anonymous: Caller, port: int, there: dict[str, Any], elsewhere: dict[str, Any]
    ) -> None:
        guarded = anonymous.on(app_with(metrics_port=port, metrics_token=TOKEN))

        for where in (there, elsewhere):
            assert guarded.get("//metrics", **where).status_code == 401
            assert guarded.get("//metrics", headers=bearer(TOKEN), **where).status_code == 200

    def test_takes_any_host(self, app_with: AppWith, anonymous: Caller, port: int, there: dict[str, Any]) -> None:
        named = anonymous.on(app_with(metrics_port=port, trusted_hosts=("shop.example",)))

        assert named.get("//metrics", **there).status_code == 200


class TestFormat:
    def test_is_prometheus_text(self, anonymous: Caller) -> None:
        answer = anonymous.get("//metrics")

        assert answer.content_type == "text/plain; version=0.0.4; charset=utf-8"
        assert "catalog_http_requests_in_progress" in Exposed.of_text(answer.text).names()

    def test_is_open_metrics_where_that_is_asked_for(self, anonymous: Caller) -> None:
        answer = anonymous.get("//metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"})

        assert answer.mimetype == "application/openmetrics-text"
        assert {family.name for family in text_string_to_metric_families(answer.text)} >= {"catalog_searches"}

    def test_has_no_parameters(self, anonymous: Caller) -> None:
        assert anonymous.get("//metrics?name=x").status_code == 422

    def test_is_not_limited(self, app_with: AppWith, anonymous: Caller) -> None:
        limited = anonymous.on(app_with(rate_limit_enabled=True, rate_limit_default="1 per minute"))

        assert [limited.get("//metrics").status_code for _ in range(3)] == [200] * 3


class Broken(Collector):
    def collect(self) -> Iterator[Metric]:
        yield Metric("of_a_broken_collector", "None.", "gauge")
        raise ZeroDivisionError


class Sound(Collector):
    def collect(self) -> Iterator[Metric]:
        found = Metric("of_a_sound_collector", "One.", "gauge")
        found.add_sample("of_a_sound_collector", {}, 1.0)
        yield found


class TestCollectors:
    def test_are_asked_each_time(self, app_with: AppWith, anonymous: Caller) -> None:
        app = app_with()
        register_collector(app, Sound())

        for _ in range(2):
            exposed = Exposed.of_text(anonymous.on(app).get("//metrics").text)
            assert exposed.value("of_a_sound_collector") == 1

    def test_belong_to_their_application(self, app_with: AppWith, anonymous: Caller) -> None:
        register_collector(app_with(), Sound())

        assert "of_a_sound_collector" not in anonymous.get("//metrics").text

    def test_that_fail_are_left_out_and_logged(self, app_with: AppWith, anonymous: Caller) -> None:
        app = app_with()
        register_collector(app, Broken())
        register_collector(app, Sound())

        with capture_logs() as lines:
            answer = anonymous.on(app).get("//metrics")

        names = Exposed.of_text(answer.text).names()
        assert {"of_a_sound_collector", "catalog_http_requests_in_progress"} <= names
        assert "of_a_broken_collector" not in answer.text
        assert [line["collector"] for line in lines if line["event"] == "metrics_incomplete"] == ["Broken"]


class TestRequests:
    def test_are_counted_by_rule_method_and_class_of_status(self, bob: Caller, counted: Counted) -> None:
        def ask() -> None:
            bob.get("/products")
            bob.get("/products/999")
            bob.get("/products/1000")
            bob.post("/products", {})

        grown = counted(ask)

        assert grown.value(REQUESTS, route="/api/v1/products", method="GET", status="2xx") == 1
        assert grown.value(REQUESTS, route="/api/v1/products/<id:product_id>", method="GET", status="4xx") == 2
        assert grown.value(REQUESTS, route="/api/v1/products", method="POST", status="4xx") == 1
        assert grown.total(REQUESTS) == 4
        assert grown.total("catalog_http_request_duration_seconds_bucket", le="+Inf") == 4
        assert 0 < grown.total("catalog_http_request_duration_seconds_sum") < 30

    def test_are_counted_where_nothing_changed(self, bob: Caller, counted: Counted) -> None:
        etag = bob.get("/products").headers["ETag"]

        grown = counted(lambda: bob.get("/products", headers={"If-None-Match": etag}))

        assert grown.value(REQUESTS, route="/api/v1/products", method="GET", status="3xx") == 1

    def test_are_counted_where_the_code_fails(
        self, app_with: AppWith, anonymous: Caller, monkeypatch: pytest.MonkeyPatch, counted: Counted
    ) -> None:
        app = app_with()
        monkeypatch.setitem(app.view_functions, "health.read_health", lambda: 1 / 0)

        grown = counted(lambda: anonymous.on(app).get("//health"))

        assert grown.value(REQUESTS, route="/health", method="GET", status="5xx") == 1
        assert grown.total("catalog_http_requests_in_progress") == 0

    def test_are_counted_where_a_hook_fails(self, app_with: AppWith, anonymous: Caller, counted: Counted) -> None:
        app = app_with()

        @app.after_request
        def fail(response: object) -> object:
            raise ZeroDivisionError

        grown = counted(lambda: anonymous.on(app).get("//livez"))

        assert grown.value(REQUESTS, route="/livez", method="GET", status="5xx") == 1
        assert grown.total(REQUESTS) == 1
        assert grown.total("catalog_http_requests_in_progress") == 0

    def test_are_not_counted_for_reading_the_metrics(self, anonymous: Caller, counted: Counted) -> None:
        assert counted(lambda: anonymous.get("//metrics")).total(REQUESTS) == 0

    def test_are_in_progress_until_the_response_is_ready(
        self, app_with: AppWith, anonymous: Caller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        app, seen = app_with(), []

        def look() -> dict[str, str]:
            seen.append(Exposed.of_app(app).value("catalog_http_requests_in_progress"))
            return {"status": "ok"}

        monkeypatch.setitem(app.view_functions, "health.read_health", look)
        before = Exposed.of_app(app).value("catalog_http_requests_in_progress")
        anonymous.on(app).get("//health")

        assert seen == [before + 1]
        assert Exposed.of_app(app).value("catalog_http_requests_in_progress") == before

    def test_with_invented_paths_and_methods_make_no_labels(self, app: Flask, anonymous: Caller) -> None:
        before = {has for name, has in Exposed.of_app(app) if name == REQUESTS}
        for number in range(300):
            anonymous.call("GET", f"/invented-{number}", headers={"Host": f"host-{number}.example"})
            anonymous.call(f"INVENTED{number}", "/products")
            anonymous.get(f"/products/{10**6 + number}")

        labels = [dict(has) for name, has in Exposed.of_app(app) if name == REQUESTS and has not in before]
        rules = {rule.rule for rule in app.url_map.iter_rules()}
        assert {one["route"] for one in labels} <= {*rules, UNMATCHED}
        assert {one["method"] for one in labels} <= {*METHODS, OTHER}
        assert len(labels) < 100


class TestLimits:
    def test_count_what_they_decide(self, app_with: AppWith, bob: Caller, counted: Counted) -> None:
        limited = bob.on(app_with(rate_limit_enabled=True, rate_limit_default="2 per minute"))

        grown = counted(lambda: [limited.get("/products") for _ in range(5)])

        assert grown.value("catalog_rate_limit_decisions_total", limit="default", decision="allowed") == 2
        assert grown.value("catalog_rate_limit_decisions_total", limit="default", decision="refused") == 3

    def test_count_logins_apart(self, app_with: AppWith, anonymous: Caller, counted: Counted) -> None:
        limited = anonymous.on(app_with(rate_limit_enabled=True, rate_limit_login="2 per minute"))

        grown = counted(lambda: [limited.post("/auth/login", {"email": "a@b.example", "password": "x"}) for _ in "abc"])

        assert grown.value("catalog_rate_limit_decisions_total", limit="login", decision="allowed") == 2
        assert grown.value("catalog_rate_limit_decisions_total", limit="login", decision="refused") == 1

    def test_say_whether_redis_counts(self, app_with: AppWith, bob: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise ConnectionError

        app = app_with(rate_limit_enabled=True, redis_url="redis://127.0.0.1:1/0")
        up = "catalog_redis_up", frozenset({("purpose", "rate_limits")})
        assert Exposed.of_app(app)[up] == 1

        bob.on(app).get("/products")

        assert Exposed.of_app(app)[up] == 0


LOOKUPS, SEARCHES = "catalog_response_cache_lookups_total", "catalog_searches_total"


class TestCache:
    def test_counts_lookups_by_what_they_find(self, app_with: AppWith, bob: Caller, counted: Counted) -> None:
        reader = bob.on(app_with())

        grown = counted(lambda: [reader.get("/products") for _ in range(3)])

        assert (grown.value(LOOKUPS, result="miss"), grown.value(LOOKUPS, result="hit")) == (1, 2)

    def test_counts_those_who_wait_for_the_same_apart(self, app_with: AppWith, bob: Caller, counted: Counted) -> None:
        reader, gate = bob.on(app_with()), threading.Barrier(4)

        def ask(_: int) -> int:
            gate.wait(timeout=30)
            return reader.get("/products").status_code

        with ThreadPoolExecutor(4) as threads:
            grown = counted(lambda: list(threads.map(ask, range(4))))

        found = [grown.value(LOOKUPS, result=result) for result in ("miss", "shared", "hit")]
        assert sum(found) == 4
        assert found[0] == 1

    def test_says_what_it_occupies(
        self, app_with: AppWith, bob: Caller, make_product: Callable[..., dict[str, Any]]
    ) -> None:
        app = app_with()
        make_product()
        with app.app_context():
            cache.clear()
        assert Exposed.of_app(app).value("catalog_response_cache_bytes") == 0
        bob.on(app).get("/products")
        one = Exposed.of_app(app).value("catalog_response_cache_bytes")
        bob.on(app).get("/products?per_page=2")

        assert Exposed.of_app(app).value("catalog_response_cache_bytes") > one > 500


class TestSearches:
    @pytest.fixture(autouse=True)
    def chair(self, make_product: Callable[..., dict[str, Any]]) -> None:
        make_product(name="Oak chair", status="active")

    @staticmethod
    def outcomes(grown: Exposed) -> tuple[float, float]:
        return grown.value(SEARCHES, outcome="found"), grown.value(SEARCHES, outcome="empty")

    def test_are_counted_by_whether_they_find_anything(self, bob: Caller, counted: Counted) -> None:
        grown = counted(lambda: [bob.get(f"/products?search={word}") for word in ("oak", "table", "lamp")])

        assert self.outcomes(grown) == (1, 2)

    def test_are_counted_where_the_response_is_cached(self, bob: Caller, counted: Counted) -> None:
        grown = counted(lambda: [bob.get("/products?search=lamp") for _ in range(3)])

        assert self.outcomes(grown) == (0, 3)
        assert grown.value(LOOKUPS, result="hit") == 2

    def test_are_counted_where_nothing_changed(self, bob: Caller, counted: Counted) -> None:
        etag = bob.get("/products?search=oak").headers["ETag"]

        grown = counted(lambda: bob.get("/products?search=oak", headers={"If-None-Match": etag}))

        assert self.outcomes(grown) == (1, 0)

    @pytest.mark.parametrize(
        ("path", "outcomes"),
        [
            ("/products?search=oak&cursor=", (1, 0)),
            ("/products?search=oak&page=2", (0, 0)),
            ("/products", (0, 0)),
            ("/products?search=", (0, 0)),
            ("/categories?search=oak", (0, 0)),
            ("/products?search=oak&page=x", (0, 0)),
        ],
    )
    def test_are_first_pages_of_products(
        self, bob: Caller, counted: Counted, path: str, outcomes: tuple[float, float]
    ) -> None:
        assert self.outcomes(counted(lambda: bob.get(path))) == outcomes

    def test_are_passed_on(self, app_with: AppWith, bob: Caller, make_attribute: Callable[..., dict[str, Any]]) -> None:
        app = app_with()
        seen: list[Search] = []
        make_attribute(code="size", type="choice", filterable=True)
        on_search(app, seen.append)

        for query in ("", "", "&sort_by=name", "&in_stock=true", "&attr.size=red"):
            bob.on(app).get(f"/products?search=lamp{query}")

        assert seen == [
            Search("lamp", is_empty=True, is_filtered=is_filtered) for is_filtered in (False,) * 3 + (True,) * 2
        ]
