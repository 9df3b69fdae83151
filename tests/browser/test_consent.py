"""Chromium lets an app of a third party act for a person who logs in with an identity provider: OAuth 2 both ways."""

import json
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.expected_conditions import url_contains
from selenium.webdriver.support.wait import WebDriverWait

from tests.browser.chromium import SECONDS, chromium, flask, log, needs_chromium
from tests.browser.provider_pages import log_in_at
from tests.browser.served import served
from tests.identity_provider import CLIENT_ID, CLIENT_SECRET, IdentityProvider, provider_of_another_site
from tests.node import application, needs_node
from tests.servers import free_port, gunicorn_server

pytestmark = [*needs_chromium, needs_node]

ADMIN, PASSWORD = "root@example.com", "correct horse battery staple"
#: To which people come back.
APP_PAGE = "<!doctype html><title>App</title>"


@dataclass(frozen=True)
class World:
    """A browser, what it visits, and what the app is known by."""

    browser: Chrome
    issuer: str
    provider: IdentityProvider
    app: dict[str, str]

    def wait(self) -> WebDriverWait[Chrome]:
        return WebDriverWait(self.browser, SECONDS)

    def cookies(self) -> set[str]:
        """The names of the cookies of all sites."""
        return {cookie["name"] for cookie in self.browser.execute_cdp_cmd("Network.getAllCookies", {})["cookies"]}


def register(api: str, redirect_uri: str) -> dict[str, str]:
    """Register the app as an administrator does; what it is known by."""
    credentials = {"email": ADMIN, "password": PASSWORD}
    token = requests.post(f"{api}/auth/login", json=credentials, timeout=SECONDS).json()["access_token"]
    described = {
        "name": "Price <i>watch</i>",
        "type": "confidential",
        "redirect_uris": [redirect_uri],
        "scopes": ["products:read"],
    }
    headers = {"Authorization": f"Bearer {token}"}
    answer = requests.post(f"{api}/oauth/clients", json=described, headers=headers, timeout=SECONDS)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    return {"client_id": made["client_id"], "client_secret": made["client_secret"], "redirect_uri": redirect_uri}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("consent")
    port = free_port()
    api = f"http://127.0.0.1:{port}/api/v1"
    with ExitStack() as stack:
        provider = stack.enter_context(provider_of_another_site(api))
        client = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        company = {"issuer": provider.issuer, "title": "the company", "trusted": True, **client}
        env = {
            "APP_ENV": "testing",
            "SECRET_KEY": secrets.token_urlsafe(48),
            "JWT_SECRET_KEY": secrets.token_urlsafe(48),
            "DATABASE_URL": f"sqlite:///{folder / 'catalog.db'}",
            "MEDIA_STORE": (folder / "media").as_uri(),
            "OIDC_PROVIDERS": json.dumps({"company": company}),
            "WEBHOOK_ALLOWED_PRIVATE_HOSTS": "localhost",
            "RATE_LIMIT_ENABLED": "false",
        }
        flask(env, "db", "upgrade")
        admin = ("--email", ADMIN, "--username", "root", "--role", "admin")
        flask(env, "create-user", *admin, "--password-stdin", stdin=PASSWORD)
        server = stack.enter_context(gunicorn_server(env, port=port))
        app = register(api, f"{stack.enter_context(served(APP_PAGE))}/callback")
        browser = stack.enter_context(chromium(folder))
        yield World(browser, server.url, provider, app)


@pytest.fixture
def visit(world: World) -> World:
    """The world, with a browser that has been nowhere."""
    world.browser.execute_cdp_cmd("Network.clearBrowserCookies", {})
    log(world.browser, "browser")
    return world


def come_to_consent(visit: World, url: str) -> None:
    """Follow the app's link, and log in with the provider where the page asks for it."""
    visit.browser.get(url)
    visit.wait().until(lambda browser: browser.find_element(By.LINK_TEXT, "Log in with the company")).click()
    log_in_at(visit.provider, visit.browser, "ann")
    visit.wait().until(lambda browser: browser.find_elements(By.CSS_SELECTOR, "button[value=allow]"))


class TestAnApp:
    def test_acts_for_a_person_who_logged_in_with_a_provider(self, visit: World) -> None:
        with application(issuer=visit.issuer, scope="products:read", **visit.app) as running:
            url = running.read()["authorization_url"]
            come_to_consent(visit, url)
            shown = visit.browser.find_element(By.TAG_NAME, "main").text
            visit.browser.find_element(By.CSS_SELECTOR, "button[value=allow]").click()
            visit.wait().until(url_contains(visit.app["redirect_uri"]))
            running.tell(visit.browser.current_url)
            seen = running.read()

        # The name is a stranger's text, and the person sees as whom they are logged in.
        assert "Price <i>watch</i>" in shown
        assert "ann@example.com" in shown
        assert (seen["products"], seen["users"], seen["after_refresh"]) == (200, 403, 200)
        assert seen["after_revocation"] == 401
        # The login was for this decision.
        assert not visit.cookies() & {"catalog_login", "catalog_oidc", "catalog_refresh"}
        assert [entry for entry in log(visit.browser, "browser") if visit.issuer in entry["message"]] == []

    def test_asks_each_time(self, visit: World) -> None:
        with application(issuer=visit.issuer, scope="products:read", **visit.app) as running:
            url = running.read()["authorization_url"]
            come_to_consent(visit, url)
            visit.browser.find_element(By.CSS_SELECTOR, "button[value=allow]").click()
            visit.wait().until(url_contains(visit.app["redirect_uri"]))
            running.tell(visit.browser.current_url)
            running.read()

        visit.browser.get(url)

        assert visit.browser.find_elements(By.LINK_TEXT, "Log in with the company")

    def test_learns_that_a_person_said_no(self, visit: World) -> None:
        with application(issuer=visit.issuer, scope="products:read", **visit.app) as running:
            come_to_consent(visit, running.read()["authorization_url"])
            visit.browser.find_element(By.CSS_SELECTOR, "button[value=deny]").click()
            visit.wait().until(url_contains(visit.app["redirect_uri"]))
            running.tell(visit.browser.current_url)

            assert running.read() == {"refused": "access_denied"}
