"""Swagger UI's Authorize on the documentation page, by both flows of OAuth 2: Chromium, gunicorn, the consent page."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from selenium.webdriver import Chrome

from tests.browser.chromium import SECONDS, chromium, flask, log, needs_chromium
from tests.browser.test_docs_page import LIST_PRODUCTS, RESPONSE, execute, find, hosts_asked, press, wait
from tests.servers import gunicorn_server

pytestmark = needs_chromium

READ, WRITE = "products:read", "products:write"
CREATE_PRODUCT = "#operations-products-create_product"
CODE, KEY = "authorizationCode", "clientCredentials"
LOGINS = {role: {"email": f"{role}@example.com", "password": f"demo-{role}-password"} for role in ("editor", "admin")}


@dataclass(frozen=True)
class Site:
    """A browser, the server that it visits, and the public app that the documentation page is."""

    browser: Chrome
    url: str
    app: str

    def open_dialog(self) -> None:
        self.browser.get(f"{self.url}/docs")
        press(self.browser, ".scheme-container .authorize")

    def ask(self, flow: str, *, client_id: str, secret: str = "", scope: str = READ) -> None:
        """Fill in the part of the dialog for a flow, and authorize."""
        find(self.browser, f"#client_id_{flow}").send_keys(client_id)
        if secret:
            find(self.browser, f"#client_secret_{flow}").send_keys(secret)
        press(self.browser, f'label[for="{scope}-{flow}-checkbox-oauth2"]')
        press(self.browser, f".auth-container:has(#client_id_{flow}) .authorize")

    def close_dialog(self) -> None:
        """Close the dialog once it shows that the page is authorized."""
        find(self.browser, ".auth-container:has(.scope-def) h6")
        press(self.browser, ".modal-ux .close-modal")

    @contextmanager
    def consent(self) -> Iterator[Chrome]:
        """The window that the page has opened; after it, the page again."""
        page = self.browser.current_window_handle
        wait(self.browser).until(lambda browser: len(browser.window_handles) == 2, "no window was opened")
        [window] = [handle for handle in self.browser.window_handles if handle != page]
        self.browser.switch_to.window(window)
        yield self.browser
        wait(self.browser).until(lambda browser: browser.window_handles == [page], "the window stays open")
        self.browser.switch_to.window(page)

    def log_in_to_consent(self, browser: Chrome) -> None:
        for name, value in LOGINS["editor"].items():
            find(browser, f"#{name}").send_keys(value)
        press(browser, "form button.first")
        find(browser, "[value=allow]")

    def answer(self, operation: str) -> tuple[str, Any]:
        """The status and the body that the page shows for an operation."""
        execute(self.browser, operation)
        shown = RESPONSE.replace(LIST_PRODUCTS, operation)
        status = find(self.browser, f"{shown} .response .response-col_status").text
        return status[:3], json.loads(find(self.browser, f"{shown} .response .highlight-code code").text)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("authorize")
    env = {"DATABASE_URL": f"sqlite:///{folder / 'catalog.db'}", "RATE_LIMIT_ENABLED": "false"}
    flask(env, "db", "upgrade")
    flask(env, "catalog", "demo", "--no-images")
    with gunicorn_server(env) as server, chromium(folder) as browser:
        client = {
            "name": "API reference",
            "type": "public",
            "redirect_uris": [f"{server.url}/docs/oauth2-redirect.html"],
            "scopes": [READ, WRITE],
        }
        yield Site(browser, server.url, post(server.url, "admin", "oauth/clients", client)["client_id"])


def post(url: str, role: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """What is created by a person of the demo catalogue."""
    pair = requests.post(f"{url}/api/v1/auth/login", json=LOGINS[role], timeout=SECONDS).json()
    headers = {"Authorization": f"Bearer {pair['access_token']}"}
    response = requests.post(f"{url}/api/v1/{path}", json=body, headers=headers, timeout=SECONDS)
    assert response.status_code == 201, response.text
    created: dict[str, Any] = response.json()
    return created


def errors(browser: Chrome) -> list[str]:
    """What the console complains of, but for statuses of responses."""
    entries = [entry["message"] for entry in log(browser, "browser") if entry["level"] == "SEVERE"]
    return [message for message in entries if "Failed to load resource" not in message]


class TestClientCredentials:
    def test_of_an_api_key_read_products(self, site: Site) -> None:
        key = post(site.url, "editor", "api-keys", {"name": "Shop", "scopes": [READ]})

        site.open_dialog()
        site.ask(KEY, client_id=f"cat_{key['id']}", secret=key["key"])
        site.close_dialog()

        status, body = site.answer(LIST_PRODUCTS)
        assert (status, body["meta"]["page"]) == ("200", 1)
        assert errors(site.browser) == []

    def test_that_are_wrong_are_refused_in_the_dialog(self, site: Site) -> None:
        site.open_dialog()

        site.ask(KEY, client_id="cat_1", secret="cat_1_wrong")

        # And not in a dialog of the browser, which would wait for an answer.
        assert "invalid_client" in find(site.browser, ".auth-container .errors").text


class TestAuthorizationCode:
    def test_lets_the_page_act_for_a_person_who_allows_it(self, site: Site) -> None:
        site.open_dialog()
        site.ask(CODE, client_id=site.app)
        with site.consent() as browser:
            asked = parse_qs(urlsplit(browser.current_url).query)
            site.log_in_to_consent(browser)
            press(browser, "[value=allow]")
        site.close_dialog()

        status, body = site.answer(LIST_PRODUCTS)

        assert (status, body["meta"]["page"]) == ("200", 1)
        assert (asked["code_challenge_method"], asked["scope"]) == (["S256"], [READ])
        assert errors(site.browser) == []
        assert set(hosts_asked(site.browser)) == {urlsplit(site.url).netloc}

    def test_gives_the_page_what_was_allowed_and_no_more(self, site: Site) -> None:
        site.open_dialog()
        site.ask(CODE, client_id=site.app)
        with site.consent() as browser:
            site.log_in_to_consent(browser)
            press(browser, "[value=allow]")
        site.close_dialog()

        status, problem = site.answer(CREATE_PRODUCT)

        assert (status, problem["code"]) == ("403", "permission_denied")

    def test_that_is_denied_says_so_in_the_dialog(self, site: Site) -> None:
        site.open_dialog()

        site.ask(CODE, client_id=site.app)
        with site.consent() as browser:
            press(browser, "[value=deny]")

        assert "access_denied" in find(site.browser, ".auth-container .errors").text

    def test_takes_no_answer_to_another_request(self, site: Site) -> None:
        site.open_dialog()
        site.ask(CODE, client_id=site.app)

        with site.consent() as browser:
            browser.get(f"{site.url}/docs/oauth2-redirect.html?code=stolen&state=other")

        assert "state differs" in find(site.browser, ".auth-container .errors").text

    def test_leaves_no_code_in_the_history(self, site: Site) -> None:
        site.browser.get(f"{site.url}/docs/oauth2-redirect.html?code=secret&state=x")

        wait(site.browser).until(lambda browser: "secret" not in browser.current_url, "the code is in the address")
