"""Cookie mode from a page of another origin: Chromium on one port, the API on another."""

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome

from tests.browser.chromium import SECONDS, chromium, flask, needs_chromium
from tests.browser.served import served
from tests.servers import gunicorn_server

pytestmark = needs_chromium

EMAIL, PASSWORD = "bob@example.com", "correct horse battery staple"
PAGE = "<!doctype html><title>Shop</title>"
#: What a page's script does: one request with the cookie, and the status and body of the answer.
FETCH = """
const [url, method, headers, body, done] = arguments;
fetch(url, {method, headers, body, credentials: "include"})
  .then(async (answer) => done([answer.status, await answer.json().catch(() => null)]))
  .catch((failure) => done([0, String(failure)]));
"""


class Script:
    """A script of a page, which talks to the API."""

    def __init__(self, browser: Chrome, api: str) -> None:
        self.browser, self.api = browser, api

    def call(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, body: str | None = None
    ) -> tuple[int, Any]:
        """The status and the body; 0 where the browser does not let the script see the answer."""
        status, answer = self.browser.execute_async_script(FETCH, f"{self.api}{path}", method, headers or {}, body)
        return status, answer

    def refresh(self, **headers: str) -> tuple[int, Any]:
        """Exchange the refresh token in the cookie."""
        return self.call("POST", "/auth/refresh", headers={name.replace("_", "-"): v for name, v in headers.items()})


@pytest.fixture(scope="module")
def origins() -> Iterator[tuple[str, str]]:
    """A configured origin, and another."""
    with served(PAGE) as shop, served(PAGE) as stranger:
        yield shop, stranger


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory, origins: tuple[str, str]) -> Iterator[Script]:
    folder: Path = tmp_path_factory.mktemp("cookies")
    env = {
        "APP_ENV": "production",
        "SECRET_KEY": secrets.token_urlsafe(48),
        "JWT_SECRET_KEY": secrets.token_urlsafe(48),
        "DATABASE_URL": f"sqlite:///{folder / 'catalog.db'}",
        "MEDIA_STORE": (folder / "media").as_uri(),
        "CORS_ORIGINS": origins[0],
        "RATE_LIMIT_ENABLED": "false",
    }
    flask(env, "db", "upgrade")
    flask(
        env, "create-user", "--email", EMAIL, "--username", "bob", "--role", "user", "--password-stdin", stdin=PASSWORD
    )
    with gunicorn_server(env) as server, chromium(folder) as browser:
        browser.set_script_timeout(SECONDS)
        yield Script(browser, f"{server.url}/api/v1")


@pytest.fixture
def shop(script: Script, origins: tuple[str, str]) -> Script:
    """A script of the configured origin, logged in by nobody."""
    script.browser.delete_all_cookies()
    script.browser.get(origins[0])
    return script


def log_in(script: Script) -> dict[str, Any]:
    body = f'{{"email": "{EMAIL}", "password": "{PASSWORD}", "refresh_token_in": "cookie"}}'
    status, pair = script.call("POST", "/auth/login", headers={"Content-Type": "application/json"}, body=body)
    assert status == 200, pair
    assert pair["refresh_token"] is None
    return dict(pair)


class TestCookieModeFromAnotherPort:
    def test_logs_in_refreshes_and_stays_logged_in(self, shop: Script, origins: tuple[str, str]) -> None:
        pair = log_in(shop)

        for _ in range(2):
            # Whoever comes back later has kept the csrf_token, and no access token.
            shop.browser.get(origins[0])
            status, pair = shop.refresh(X_CSRF_Token=pair["csrf_token"])
            assert status == 200, pair

        status, me = shop.call("GET", "/users/me", headers={"Authorization": f"Bearer {pair['access_token']}"})
        assert (status, me["username"]) == (200, "bob")

    def test_refreshes_with_its_csrf_token_only(self, shop: Script) -> None:
        pair = log_in(shop)

        assert [(status, answer["code"]) for status, answer in (shop.refresh(), shop.refresh(X_CSRF_Token="x"))] == [
            (403, "csrf_token_wrong")
        ] * 2
        assert shop.refresh(X_CSRF_Token=pair["csrf_token"])[0] == 200

    def test_hides_the_refresh_token_from_scripts(self, shop: Script) -> None:
        log_in(shop)

        assert shop.browser.execute_script("return document.cookie") == ""

    def test_ends_with_the_logout(self, shop: Script) -> None:
        pair = log_in(shop)
        shop.call("POST", "/auth/logout", headers={"Authorization": f"Bearer {pair['access_token']}"})

        assert shop.refresh(X_CSRF_Token=pair["csrf_token"])[0] == 401

    def test_is_not_for_another_origin(self, shop: Script, origins: tuple[str, str]) -> None:
        pair = log_in(shop)
        shop.browser.get(origins[1])

        assert shop.refresh(X_CSRF_Token=pair["csrf_token"])[0] == 0
