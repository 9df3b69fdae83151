"""What every answer carries, and what the log says of it."""

import json
import re
import sys
from collections.abc import Callable
from typing import Any

import pytest
import structlog
from flask import Flask
from structlog.testing import capture_logs

from app.features.users import service as users
from app.web.logs import set_up_logs
from tests.conftest import PASSWORD, Caller, body_of, code_of

AppWith = Callable[..., Flask]


@pytest.fixture
def backend() -> str:
    """What is done around a request does not depend on the database."""
    return "sqlite"


class TestRequestId:
    @pytest.mark.parametrize("given", ["12345678", "x" * 64, "a.b_c-D1", "........"])
    def test_is_the_clients_where_it_is_good(self, anonymous: Caller, given: str) -> None:
        answer = anonymous.get("//livez", headers={"X-Request-ID": given})

        assert answer.headers["X-Request-ID"] == given

    @pytest.mark.parametrize(
        "given",
        ["", "1234567", "x" * 65, "with blank", "semi;colon", "<script>", "Ünïcödé", "12345678\t", "a,b,c,d,e,f"],
    )
    def test_is_made_otherwise(self, anonymous: Caller, given: str) -> None:
        answer = anonymous.get("//livez", headers={"X-Request-ID": given})

        assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["X-Request-ID"])

    def test_is_made_anew_each_time(self, anonymous: Caller) -> None:
        made = {anonymous.get("//livez").headers["X-Request-ID"] for _ in range(3)}

        assert len(made) == 3

    @pytest.mark.parametrize("path", ["/products", "/nothing", "//nothing", "/products/1?x=%ff"])
    def test_is_in_the_problem_too(self, anonymous: Caller, path: str) -> None:
        answer = anonymous.get(path, headers={"X-Request-ID": "request-1"})

        assert answer.status_code >= 400
        assert body_of(answer)["request_id"] == answer.headers["X-Request-ID"] == "request-1"


class TestTiming:
    @pytest.mark.parametrize("path", ["//livez", "/products", "/nothing"])
    def test_is_told_in_seconds(self, bob: Caller, path: str) -> None:
        answer = bob.get(path)

        assert re.fullmatch(r"[0-9]+\.[0-9]{6}", answer.headers["X-Process-Time"])
        assert 0 < float(answer.headers["X-Process-Time"]) < 30

    def test_tells_the_databases_part(self, bob: Caller) -> None:
        parts = re.fullmatch(
            r'app;dur=([0-9.]+), db;dur=([0-9.]+);desc="([0-9]+) queries"',
            bob.get("/products").headers["Server-Timing"],
        )

        assert parts is not None
        assert 0 < float(parts[2]) < float(parts[1])

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            *[("POST", "/auth/login"), ("POST", "/auth/password-reset"), ("POST", "/auth/refresh")],
            *[("GET", "/auth/sessions"), ("GET", "/auth/login"), ("OPTIONS", "/auth/login"), ("POST", "/auth/no-such")],
            *[("POST", "/oauth/token"), ("GET", "/auth")],
        ],
    )
    def test_are_not_told_where_they_would_betray_accounts(self, bob: Caller, method: str, path: str) -> None:
        answer = bob.call(method, path, json={"email": "bob@example.com", "password": "x"})

        assert {"Server-Timing", "X-Process-Time"}.isdisjoint(answer.headers.keys())
        assert "X-Request-ID" in answer.headers

    def test_counts_the_queries_of_one_request(self, bob: Caller) -> None:
        counts = [re.findall(r"(\d+) queries", bob.get("/users/me").headers["Server-Timing"]) for _ in range(2)]

        assert counts == [["2"], ["2"]]

    def test_counts_none_where_none_was_asked(self, anonymous: Caller) -> None:
        assert '"0 queries"' in anonymous.get("//livez").headers["Server-Timing"]


class TestVersion:
    @pytest.mark.parametrize("path", ["/products", "/nothing", "/products/0"])
    def test_is_echoed_below_api(self, bob: Caller, path: str) -> None:
        assert bob.get(path).headers["API-Version"] == "1"

    def test_is_no_matter_elsewhere(self, anonymous: Caller) -> None:
        assert "API-Version" not in anonymous.get("//livez").headers

    def test_may_be_asked_for(self, bob: Caller) -> None:
        assert bob.get("/products", headers={"API-Version": "1"}).status_code == 200

    @pytest.mark.parametrize("version", ["2", "0", "v1", "1.0", "", "2026-05-17"])
    def test_that_does_not_exist_is_400(self, bob: Caller, version: str) -> None:
        answer = bob.get("/products", headers={"API-Version": version})

        assert answer.status_code == 400
        assert code_of(answer) == "version_unknown"
        assert answer.headers["API-Version"] == "1"


class TestSecurityHeaders:
    @pytest.mark.parametrize("path", ["//livez", "//openapi.json", "//docs", "//docs/docs.js", "/products", "/nothing"])
    def test_forbid_guessing_types(self, bob: Caller, path: str) -> None:
        assert bob.get(path).headers.getlist("X-Content-Type-Options") == ["nosniff"]

    def test_ask_for_tls_behind_a_trusted_proxy(self, bob: Caller, app_with: AppWith) -> None:
        behind = bob.on(app_with(trusted_proxies=1))

        answer = behind.get("/products", headers={"X-Forwarded-Proto": "https"})

        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"

    def test_ask_for_no_tls_where_there_is_none(self, bob: Caller, app_with: AppWith) -> None:
        behind = bob.on(app_with(trusted_proxies=1))

        answer = behind.get("/products", headers={"X-Forwarded-Proto": "http"})

        assert "Strict-Transport-Security" not in answer.headers

    def test_believe_no_proxy_by_default(self, bob: Caller) -> None:
        answer = bob.get("/products", headers={"X-Forwarded-Proto": "https"})

        assert "Strict-Transport-Security" not in answer.headers

    def test_believe_the_nearest_proxy_only(self, bob: Caller, app_with: AppWith) -> None:
        behind = bob.on(app_with(trusted_proxies=1))

        answer = behind.get("/products", headers={"X-Forwarded-Proto": "https, http"})

        assert "Strict-Transport-Security" not in answer.headers


class TestHosts:
    @pytest.mark.parametrize("host", ["shop.example", "SHOP.example", "shop.example:8000", "eu.cdn.example"])
    def test_that_are_trusted_are_served(self, bob: Caller, app_with: AppWith, host: str) -> None:
        shop = bob.on(app_with(trusted_hosts=("Shop.example", ".cdn.example")))

        assert shop.get("/products", headers={"Host": host}).status_code == 200

    @pytest.mark.parametrize("host", ["evil.example", "shop.example.evil.example", "notshop.example", "localhost"])
    def test_of_others_are_400(self, bob: Caller, app_with: AppWith, host: str) -> None:
        shop = bob.on(app_with(trusted_hosts=("shop.example", ".cdn.example")))

        answer = shop.get("/products", headers={"Host": host})

        assert answer.status_code == 400
        assert code_of(answer) == "host_untrusted"
        assert host not in answer.get_data(as_text=True)

    @pytest.mark.parametrize("host", ["", "two words", "a/b", "<script>"])
    def test_that_could_be_none_are_400(self, anonymous: Caller, host: str) -> None:
        answer = anonymous.get("//livez", headers={"Host": host})

        assert (answer.status_code, code_of(answer)) == (400, "host_missing")

    def test_may_be_missing_in_http_1_0(self, anonymous: Caller) -> None:
        answer = anonymous.get("//livez", headers={"Host": ""}, environ_overrides={"SERVER_PROTOCOL": "HTTP/1.0"})

        assert answer.status_code == 200


class TestAccessLog:
    @pytest.fixture
    def logged(self, app_with: AppWith) -> Flask:
        """An application that logs requests."""
        return app_with(log_level="INFO")

    def test_has_one_line_for_each_request(self, logged: Flask, bob: Caller) -> None:
        with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
            bob.on(logged).get("/products", headers={"X-Request-ID": "request-1"})

        (line,) = lines
        assert {name: line[name] for name in line.keys() - {"ms"}} == {
            "event": "request",
            "log_level": "info",
            "request_id": "request-1",
            "method": "GET",
            "path": "/api/v1/products",
            "route": "/api/v1/products",
            "status": 200,
            "queries": 2,
            "user_id": bob.user_id,
            "address": "127.0.0.1",
        }
        assert line["ms"] > 0

    def test_names_the_path_and_its_route_and_never_the_query(self, logged: Flask, bob: Caller) -> None:
        with capture_logs() as lines:
            bob.on(logged).get("/products/4711?search=garden")
            bob.on(logged).get("/nothing")

        assert [(line["path"], line["route"]) for line in lines] == [
            ("/api/v1/products/4711", "/api/v1/products/<id:product_id>"),
            ("/api/v1/nothing", None),
        ]
        assert "garden" not in repr(lines)

    @pytest.mark.parametrize(("part", "logged_part"), [("a", "a"), ("é", "%C3%A9")])
    def test_has_the_beginning_of_a_long_path(self, logged: Flask, bob: Caller, part: str, logged_part: str) -> None:
        with capture_logs() as lines:
            bob.on(logged).get(f"//{part * 2000}")

        assert [line["path"] for line in lines] == [f"/{logged_part * 300}"[:300]]

    def test_takes_the_address_from_a_trusted_proxy(self, app_with: AppWith, anonymous: Caller) -> None:
        behind = anonymous.on(app_with(log_level="INFO", trusted_proxies=1))

        with capture_logs() as lines:
            behind.get("//livez", headers={"X-Forwarded-For": "198.51.100.1, 203.0.113.9"})

        assert [line["address"] for line in lines] == ["203.0.113.9"]

    def test_tells_no_secret(self, app_with: AppWith, bob: Caller, capsys: pytest.CaptureFixture[str]) -> None:
        caller = bob.on(app_with(log_level="DEBUG"))

        pair = body_of(caller.post("/auth/login", {"email": "bob@example.com", "password": PASSWORD}))
        caller.post("/auth/login", {"email": "bob@example.com", "password": "wrong horse battery"})
        caller.post("/auth/register", {"email": "eve@example.com", "username": "eve", "password": PASSWORD})
        caller.post("/auth/refresh", headers={"Authorization": f"Bearer {pair['refresh_token']}"})
        caller.get("/products?search=garden&token=hunter2")
        caller.get("/products", headers={"Authorization": "Bearer forged.token.here"})

        logged = capsys.readouterr().err
        assert logged.count(" q req=") >= 6
        secrets = ["bob@", "eve@", "horse", "garden", "hunter2", "forged", str(bob.token), pair["refresh_token"]]
        assert [secret for secret in secrets if secret in logged] == []

    @pytest.mark.parametrize("as_json", [True, False])
    def test_tells_no_secret_of_a_failure(
        self, anonymous: Caller, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], as_json: bool
    ) -> None:
        def fail(*, email: str, username: str, password: str, email_verified: bool) -> None:
            raise RuntimeError("broken")

        set_up_logs(level="INFO", as_json=as_json)
        monkeypatch.setattr(users, "create_user", fail)

        answer = anonymous.post(
            "/auth/register", {"email": "eve@example.com", "username": "eve", "password": "wrong horse battery"}
        )

        logged = capsys.readouterr().err
        assert answer.status_code == 500
        assert "RuntimeError" in logged
        assert "broken" in logged
        assert [secret for secret in ("eve@example.com", "horse") if secret in logged] == []

    def test_is_a_short_line_in_development(
        self, app_with: AppWith, alice: Caller, capsys: pytest.CaptureFixture[str]
    ) -> None:
        caller = alice.on(app_with(log_level="INFO"))

        caller.post("/categories?dry_run=true", {"name": "Chairs"}, headers={"X-Request-ID": "1c58d087-and-more"})

        (line,) = capsys.readouterr().err.splitlines()
        assert re.fullmatch(r"POST /api/v1/categories 201 \d+ ms \d+ q req=1c58d087", line)

    def test_is_one_line_in_development_whatever_the_path(
        self, app_with: AppWith, bob: Caller, capsys: pytest.CaptureFixture[str]
    ) -> None:
        bob.on(app_with(log_level="INFO")).get("/no%0Athing%1b[31m%C3%A9")

        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("GET /api/v1/no%0Athing%1B%5B31m%C3%A9 404 ")

    @pytest.mark.parametrize(
        ("is_terminal", "no_color", "is_coloured"),
        [(True, None, True), (True, "", True), (True, "1", False), (False, None, False)],
    )
    def test_is_coloured_on_a_terminal_unless_no_color_is_set(
        self,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        is_terminal: bool,
        no_color: str | None,
        is_coloured: bool,
    ) -> None:
        monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
        monkeypatch.delenv("NO_COLOR", raising=False)
        if no_color is not None:
            monkeypatch.setenv("NO_COLOR", no_color)
        set_up_logs(level="INFO", as_json=False)

        request = {"method": "GET", "path": "/", "ms": 0.6, "queries": 0, "request_id": "1c58d087"}
        structlog.get_logger("access").info("request", status=404, **request)
        structlog.get_logger("any").warning("something", told=1)

        first, second = capsys.readouterr().err.splitlines()
        status = "\x1b[33m404\x1b[0m" if is_coloured else "404"
        assert first == f"GET / {status} 1 ms 0 q req=1c58d087"
        assert ("\x1b[" in second) == is_coloured

    def test_is_json_in_production(
        self, bob: Caller, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(**_: Any) -> None:
            raise RuntimeError("broken")

        set_up_logs(level="INFO", as_json=True)
        monkeypatch.setattr(users, "get_me", fail)

        bob.get("/users/me", headers={"X-Request-ID": "request-1"})

        lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        assert [(line["event"], line["level"], line["request_id"]) for line in lines] == [
            ("unhandled", "error", "request-1"),
            ("request", "info", "request-1"),
        ]

    @pytest.mark.parametrize(
        "told",
        ["Ünïcödé", "\ud800", "two\nlines", 2**64, float("nan"), b"\xff", {1: "one"}, object()],
        ids=["unicode", "surrogate", "lines", "large", "nan", "bytes", "number-key", "object"],
    )
    def test_is_one_line_of_json_whatever_it_tells(self, capfdbinary: pytest.CaptureFixture[bytes], told: Any) -> None:
        set_up_logs(level="INFO", as_json=True)

        structlog.get_logger("any").info("something", told=told)

        (line,) = capfdbinary.readouterr().err.splitlines()
        assert json.loads(line.decode())["event"] == "something"
