"""Scripts of the configured origins may read every answer; those of others may read none."""

from collections.abc import Callable

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from config import Environment
from tests.conftest import Caller

SHOP = "https://shop.example.com"
OFFICE = "http://office.example.com:8080"
FOREIGN = [
    "https://evil.example",
    "https://shop.example.com.evil.example",
    "https://evilshop.example.com",
    "https://x.shop.example.com",
    "https://shopXexample.com",
    "http://shop.example.com",
    "https://shop.example.com:8443",
    "https://shop.example.com/",
    "https://shop.example.com, https://evil.example",
    "https://evil.example https://shop.example.com",
    "null",
    "*",
    "",
    "file://",
]
EXPOSED = {
    *("ETag", "Link", "Location", "RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-ID", "X-Process-Time"),
    *("API-Version", "Content-Disposition", "Deprecation", "Dry-Run", "Events-Cursor", "Sunset"),
    "Idempotency-Replayed",
}
#: Which production accepts.
SECRETS = {"secret_key": "0123456789abcdef" * 2, "jwt_secret_key": "fedcba9876543210" * 2}
AppWith = Callable[..., Flask]


@pytest.fixture
def backend() -> str:
    """The headers do not depend on the database."""
    return "sqlite"


@pytest.fixture
def shop(app_with: AppWith) -> Flask:
    return app_with(cors_origins=(SHOP, OFFICE))


def cors_headers(answer: TestResponse) -> dict[str, str]:
    return {name: value for name, value in answer.headers if name.startswith("Access-Control-")}


def vary(answer: TestResponse) -> set[str]:
    return {name.strip() for name in ",".join(answer.headers.getlist("Vary")).split(",")} - {""}


class TestAnswers:
    @pytest.mark.parametrize("origin", [SHOP, OFFICE])
    def test_may_be_read_by_a_configured_origin(self, bob: Caller, shop: Flask, origin: str) -> None:
        answer = bob.on(shop).get("/products", headers={"Origin": origin})

        assert answer.status_code == 200
        assert answer.headers.getlist("Access-Control-Allow-Origin") == [origin]

    @pytest.mark.parametrize("origin", FOREIGN)
    def test_may_not_be_read_by_another(self, bob: Caller, shop: Flask, origin: str) -> None:
        answer = bob.on(shop).get("/products", headers={"Origin": origin})

        assert answer.status_code == 200
        assert cors_headers(answer) == {}

    def test_expose_what_the_contract_names(self, bob: Caller, shop: Flask) -> None:
        answer = bob.on(shop).get("/products", headers={"Origin": SHOP})

        assert set(answer.headers["Access-Control-Expose-Headers"].split(", ")) == EXPOSED

    @pytest.mark.parametrize("path", ["/products", "/auth/sessions", "/no-such-thing"])
    def test_allow_the_refresh_cookie_to_a_configured_origin(self, bob: Caller, shop: Flask, path: str) -> None:
        answer = bob.on(shop).get(path, headers={"Origin": SHOP})

        assert answer.headers.getlist("Access-Control-Allow-Credentials") == ["true"]
        assert answer.headers.getlist("Access-Control-Allow-Origin") == [SHOP]

    def test_do_not_tell_the_origins_to_who_names_none(self, bob: Caller, shop: Flask) -> None:
        assert cors_headers(bob.on(shop).get("/products")) == {}

    @pytest.mark.parametrize("origin", [SHOP, "https://evil.example", None])
    def test_are_kept_apart_by_caches(self, bob: Caller, shop: Flask, origin: str | None) -> None:
        answer = bob.on(shop).get("/products", headers={"Origin": origin} if origin else {})

        assert vary(answer) == {"Authorization", "X-API-Key", "Origin"}

    def test_are_kept_apart_by_caches_with_a_single_origin_too(self, bob: Caller, app_with: AppWith) -> None:
        answer = bob.on(app_with(cors_origins=(SHOP,))).get("/products", headers={"Origin": "https://evil.example"})

        assert "Origin" in vary(answer)

    def test_are_for_no_other_origin_unless_some_are_configured(self, bob: Caller) -> None:
        answer = bob.get("/products", headers={"Origin": SHOP})

        assert cors_headers(answer) == {}
        assert "Origin" not in vary(answer)


class TestLocalOrigins:
    LOCAL = ("http://localhost:5173", "http://localhost", "http://127.0.0.1:8080")
    OTHERS = (
        "http://localhost.evil.example:5173",
        "http://evil.example/?http://localhost:5173",
        "http://localhost:5173.evil.example",
        "http://xlocalhost:5173",
        "http://127.0.0.10:5173",
        "http://127x0x0x1:5173",
        "https://localhost:5173",
        "http://localhost:",
        "http://localhost:5173/",
        "http://user@localhost:5173",
    )

    @pytest.fixture
    def development(self, app_with: AppWith) -> Flask:
        return app_with(app_env=Environment.DEVELOPMENT, cors_origins=(SHOP,))

    @pytest.mark.parametrize("origin", [*LOCAL, SHOP])
    def test_may_read_answers_and_use_the_cookie_in_development(
        self, bob: Caller, development: Flask, origin: str
    ) -> None:
        answer = bob.on(development).get("/products", headers={"Origin": origin})
        preflight = TestPreflight.ask(bob, development, origin)

        for one in (answer, preflight):
            assert one.headers["Access-Control-Allow-Origin"] == origin
            assert one.headers["Access-Control-Allow-Credentials"] == "true"

    @pytest.mark.parametrize("origin", [*OTHERS, *FOREIGN])
    def test_are_no_others(self, bob: Caller, development: Flask, origin: str) -> None:
        answer = bob.on(development).get("/products", headers={"Origin": origin})

        assert cors_headers(answer) == {}
        assert "Origin" in vary(answer)

    @pytest.mark.parametrize("environment", [Environment.TESTING, Environment.PRODUCTION])
    @pytest.mark.parametrize("origin", LOCAL)
    def test_may_read_nothing_elsewhere(
        self, bob: Caller, app_with: AppWith, environment: Environment, origin: str
    ) -> None:
        elsewhere = app_with(app_env=environment, cors_origins=(SHOP,), **SECRETS)

        answer = bob.on(elsewhere).get("/products", headers={"Origin": origin})

        assert cors_headers(answer) == {}


class TestErrors:
    @pytest.mark.parametrize(
        ("request_line", "headers", "status"),
        [
            ("GET /products", {}, 401),
            ("GET /no-such-thing", {}, 404),
            ("PUT /products", {}, 405),
            ("POST /auth/login", {"Content-Type": "text/plain"}, 415),
            ("GET /products", {"API-Version": "2"}, 400),
        ],
    )
    def test_may_be_read_by_a_configured_origin(
        self, anonymous: Caller, shop: Flask, request_line: str, headers: dict[str, str], status: int
    ) -> None:
        method, path = request_line.split()

        answer = anonymous.on(shop).call(method, path, headers={"Origin": SHOP, **headers})

        assert answer.status_code == status
        assert answer.headers.getlist("Access-Control-Allow-Origin") == [SHOP]
        assert set(answer.headers["Access-Control-Expose-Headers"].split(", ")) == EXPOSED
        assert "Origin" in vary(answer)

    @pytest.mark.parametrize("path", ["/products/1", "/products?no_such=1"])
    def test_of_known_people_may_be_read_as_well(self, bob: Caller, shop: Flask, path: str) -> None:
        answer = bob.on(shop).get(path, headers={"Origin": SHOP})

        assert answer.status_code in {404, 422}
        assert answer.headers["Access-Control-Allow-Origin"] == SHOP

    def test_of_the_limit_may_be_read_as_well(self, bob: Caller, app_with: AppWith) -> None:
        limited = app_with(cors_origins=(SHOP,), rate_limit_enabled=True, rate_limit_default="1 per hour")
        bob.on(limited).get("/products")

        answer = bob.on(limited).get("/products", headers={"Origin": SHOP})

        assert answer.status_code == 429
        assert answer.headers["Access-Control-Allow-Origin"] == SHOP
        assert "Retry-After" in answer.headers["Access-Control-Expose-Headers"]

    def test_may_not_be_read_by_another_origin(self, anonymous: Caller, shop: Flask) -> None:
        answer = anonymous.on(shop).get("/products", headers={"Origin": "https://evil.example"})

        assert answer.status_code == 401
        assert cors_headers(answer) == {}


class TestPreflight:
    @staticmethod
    def ask(caller: Caller, shop: Flask, origin: str, *, method: str = "PATCH") -> TestResponse:
        headers = {
            "Origin": origin,
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": "authorization, content-type, if-match, x-api-key, idempotency-key",
        }
        return caller.on(shop).call("OPTIONS", "/products/1", headers=headers)

    def test_asks_for_no_credentials(self, anonymous: Caller, shop: Flask) -> None:
        assert self.ask(anonymous, shop, SHOP).status_code == 200

    @pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
    def test_allows_every_method_of_the_api(self, anonymous: Caller, shop: Flask, method: str) -> None:
        answer = self.ask(anonymous, shop, SHOP, method=method)

        assert answer.headers["Access-Control-Allow-Origin"] == SHOP
        assert method in answer.headers["Access-Control-Allow-Methods"].split(", ")

    def test_allows_the_headers_of_the_api(self, anonymous: Caller, shop: Flask) -> None:
        allowed = self.ask(anonymous, shop, SHOP).headers["Access-Control-Allow-Headers"]

        assert set(allowed.split(", ")) == {"authorization", "content-type", "if-match", "x-api-key", "idempotency-key"}

    def test_allows_the_refresh_cookie(self, anonymous: Caller, shop: Flask) -> None:
        assert self.ask(anonymous, shop, SHOP).headers["Access-Control-Allow-Credentials"] == "true"

    def test_may_be_kept_for_ten_minutes(self, anonymous: Caller, shop: Flask) -> None:
        assert self.ask(anonymous, shop, SHOP).headers["Access-Control-Max-Age"] == "600"

    @pytest.mark.parametrize("origin", FOREIGN)
    def test_allows_nothing_to_another_origin(self, anonymous: Caller, shop: Flask, origin: str) -> None:
        assert cors_headers(self.ask(anonymous, shop, origin)) == {}

    def test_counts_for_no_limit(self, anonymous: Caller, app_with: AppWith) -> None:
        limited = app_with(cors_origins=(SHOP,), rate_limit_enabled=True, rate_limit_default="1 per hour")

        statuses = [self.ask(anonymous, limited, SHOP).status_code for _ in range(3)]

        assert statuses == [200, 200, 200]
