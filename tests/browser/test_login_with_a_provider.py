"""Chromium logs in to a shop with an identity provider: from the first click to the catalogue."""

import json
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.expected_conditions import url_contains, visibility_of_element_located
from selenium.webdriver.support.wait import WebDriverWait

from tests.browser.chromium import SECONDS, chromium, flask, log, needs_chromium
from tests.browser.provider_pages import log_in_at
from tests.browser.served import served
from tests.identity_provider import CLIENT_ID, CLIENT_SECRET, IdentityProvider, provider_of_another_site
from tests.node import needs_node
from tests.servers import free_port, gunicorn_server

pytestmark = [*needs_chromium, needs_node]

#: A shop of one page: it draws a button for each provider, and who comes back with a CSRF token sees the products.
SHOP = """<!doctype html><html lang="en"><title>Shop</title>
<nav></nav><p id="who"></p><ul></ul>
<script>
const api = "API";
const put = (where, tag, text) => {
  const element = document.querySelector(where).appendChild(document.createElement(tag));
  element.textContent = text;
  return element;
};
const returned = new URLSearchParams(location.hash.slice(1));
history.replaceState(null, "", location.pathname);

async function offer() {
  const { items } = await (await fetch(`${api}/auth/oidc`)).json();
  for (const { name, title } of items) {
    const here = encodeURIComponent(location.href);
    put("nav", "a", `Log in with ${title}`).href = `${api}/auth/oidc/${name}?return_to=${here}`;
  }
}

async function show(csrf) {
  const headers = { "X-CSRF-Token": csrf };
  const answer = await fetch(`${api}/auth/refresh`, { method: "POST", headers, credentials: "include" });
  const { access_token } = await answer.json();
  const read = async (path) =>
    (await fetch(api + path, { headers: { Authorization: `Bearer ${access_token}` } })).json();
  document.querySelector("#who").textContent = (await read("/users/me")).email;
  for (const { name } of (await read("/products?per_page=5")).items) put("ul", "li", name);
  document.title = "Catalogue";
}

if (returned.has("csrf_token")) show(returned.get("csrf_token"));
else if (returned.has("error")) document.title = returned.get("error");
else offer();
</script></html>"""

#: A script of the page: how many products its token reads.
READ_PRODUCTS = """
const [done] = arguments;
fetch("/api/v1/products", { headers: { Authorization: `Bearer ${session.token}` } })
  .then(async (answer) => done((await answer.json()).meta.total));
"""


@dataclass(frozen=True)
class World:
    """A browser, and the servers that it visits."""

    browser: Chrome
    shop: str
    server: str
    provider: IdentityProvider

    def wait(self) -> WebDriverWait[Chrome]:
        return WebDriverWait(self.browser, SECONDS)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("login")
    port = free_port()
    api = f"http://127.0.0.1:{port}/api/v1"
    with ExitStack() as stack:
        provider = stack.enter_context(provider_of_another_site(api))
        page = f"{stack.enter_context(served(SHOP.replace('API', api)))}/shop"
        client = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        env = {
            "APP_ENV": "testing",
            "SECRET_KEY": secrets.token_urlsafe(48),
            "JWT_SECRET_KEY": secrets.token_urlsafe(48),
            "DATABASE_URL": f"sqlite:///{folder / 'catalog.db'}",
            "MEDIA_STORE": (folder / "media").as_uri(),
            "CORS_ORIGINS": page.removesuffix("/shop"),
            "LOGIN_RETURN_URLS": page,
            "WEBHOOK_ALLOWED_PRIVATE_HOSTS": "localhost",
            "RATE_LIMIT_ENABLED": "false",
            "OIDC_PROVIDERS": json.dumps(
                {"company": {"issuer": provider.issuer, "title": "the company", "trusted": True, **client}}
            ),
        }
        flask(env, "db", "upgrade")
        flask(env, "catalog", "generate", "--count", "5")
        server = stack.enter_context(gunicorn_server(env, port=port))
        browser = stack.enter_context(chromium(folder))
        browser.set_script_timeout(SECONDS)
        yield World(browser, page, server.url, provider)


@pytest.fixture
def visit(world: World) -> World:
    """The world, with a browser that has been nowhere."""
    world.browser.execute_cdp_cmd("Network.clearBrowserCookies", {})
    world.browser.execute_cdp_cmd("Storage.clearDataForOrigin", {"origin": world.server, "storageTypes": "all"})
    log(world.browser, "browser")
    return world


class TestAShop:
    def test_shows_the_catalogue_to_a_person_who_logged_in_with_a_provider(self, visit: World) -> None:
        visit.browser.get(visit.shop)
        button = visit.wait().until(lambda browser: browser.find_element(By.LINK_TEXT, "Log in with the company"))
        button.click()
        log_in_at(visit.provider, visit.browser, "ann")

        visit.wait().until(lambda browser: browser.title == "Catalogue")

        assert visit.browser.current_url == visit.shop
        assert visit.browser.find_element(By.ID, "who").text == "ann@example.com"
        assert len(visit.browser.find_elements(By.CSS_SELECTOR, "li")) == 5
        assert visit.browser.execute_script("return document.cookie") == ""

    def test_learns_that_a_person_said_no(self, visit: World) -> None:
        visit.browser.get(visit.shop)
        visit.wait().until(lambda browser: browser.find_element(By.LINK_TEXT, "Log in with the company")).click()
        visit.wait().until(url_contains(f"{visit.provider.issuer}/interaction/"))

        visit.browser.get(f"{visit.browser.current_url}/abort")

        visit.wait().until(lambda browser: browser.title == "login_denied")


class TestTheDocumentationPage:
    def test_logs_a_person_in_with_a_provider(self, visit: World) -> None:
        visit.browser.get(f"{visit.server}/docs")
        visit.wait().until(visibility_of_element_located((By.LINK_TEXT, "Log in with the company"))).click()
        log_in_at(visit.provider, visit.browser, "ann")
        visit.wait().until(visibility_of_element_located((By.ID, "logged-in")))

        address = visit.browser.current_url
        shown = visit.browser.find_element(By.ID, "logged-in").text
        total = visit.browser.execute_async_script(READ_PRODUCTS)
        visit.browser.refresh()
        visit.wait().until(visibility_of_element_located((By.ID, "logged-in")))
        visit.browser.find_element(By.CSS_SELECTOR, "#logged-in button").click()
        visit.wait().until(visibility_of_element_located((By.ID, "log-in")))

        # The CSRF token stays neither in the address nor in the history.
        assert address == f"{visit.server}/docs"
        assert "Logged in as ann@example.com" in shown
        assert total == 5
        # The provider's own pages have faults.
        assert [entry for entry in log(visit.browser, "browser") if visit.server in entry["message"]] == []

    def test_says_that_a_login_failed(self, visit: World) -> None:
        visit.browser.get(f"{visit.server}/docs")
        visit.wait().until(visibility_of_element_located((By.LINK_TEXT, "Log in with the company"))).click()
        visit.wait().until(url_contains(f"{visit.provider.issuer}/interaction/"))
        visit.browser.get(f"{visit.browser.current_url}/abort")

        fault = visit.wait().until(visibility_of_element_located((By.ID, "log-in-fault"))).text

        assert fault == "The login with the provider failed: login_denied."
        assert visit.browser.current_url == f"{visit.server}/docs"

    def test_takes_no_session_and_no_words_from_a_link(self, visit: World) -> None:
        visit.browser.get(f"{visit.server}/api/v1/auth/oidc/company")
        log_in_at(visit.provider, visit.browser, "ann")
        visit.wait().until(visibility_of_element_located((By.ID, "logged-in")))

        for fragment in ("csrf_token=another", "error=Call%20us"):
            visit.browser.get("about:blank")
            visit.browser.get(f"{visit.server}/docs#{fragment}")

            visit.wait().until(visibility_of_element_located((By.ID, "logged-in")))
            assert visit.browser.find_element(By.ID, "log-in-fault").text == ""
