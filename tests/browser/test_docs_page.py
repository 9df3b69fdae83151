"""The documentation page as a visitor meets it: Chromium, gunicorn, a token pasted into Authorize."""

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from selenium.common.exceptions import NoSuchElementException, WebDriverException
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from tests.browser.chromium import SECONDS, chromium, flask, log, needs_chromium
from tests.servers import gunicorn_server

pytestmark = needs_chromium

EMAIL, PASSWORD = "alice@example.com", "correct horse battery staple"
SCROLL_ON = """
    const next = scrollY + innerHeight / 2;
    scrollTo(0, scrollY + innerHeight >= document.documentElement.scrollHeight - 1 ? 0 : next);
"""
LIST_PRODUCTS = "#operations-products-list_products"
RESPONSE = f"{LIST_PRODUCTS} .live-responses-table"


@dataclass(frozen=True)
class Visit:
    """What one visit showed on the page, said in the console, and asked of which hosts."""

    status: str
    body: Any
    errors: list[str]
    server: str
    hosts: set[str]


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> Visit:
    folder = tmp_path_factory.mktemp("browser")
    env = {
        "APP_ENV": "production",
        "SECRET_KEY": secrets.token_urlsafe(48),
        "JWT_SECRET_KEY": secrets.token_urlsafe(48),
        "DATABASE_URL": f"sqlite:///{folder / 'catalog.db'}",
        "MEDIA_STORE": (folder / "media").as_uri(),
        # The page calls the server that it is from, whatever the public one is.
        "PUBLIC_URL": "https://catalog.example",
    }
    flask(env, "db", "upgrade")
    user = ("--email", EMAIL, "--username", "alice", "--role", "editor")
    flask(env, "create-user", *user, "--password-stdin", stdin=PASSWORD)

    with gunicorn_server(env) as server:
        token = log_in(server.url)
        add_product(server.url, token, name="Oak chair")
        with chromium(folder) as browser:
            browser.get(f"{server.url}/docs")
            authorize(browser, token)
            execute(browser, LIST_PRODUCTS)
            return Visit(
                status=find(browser, f"{RESPONSE} .response .response-col_status").text,
                body=json.loads(find(browser, f"{RESPONSE} .response .highlight-code code").text),
                errors=[entry["message"] for entry in log(browser, "browser") if entry["level"] == "SEVERE"],
                server=urlsplit(server.url).netloc,
                hosts=set(hosts_asked(browser)),
            )


class TestDocsPage:
    def test_lists_products_with_the_token_pasted_into_authorize(self, visit: Visit) -> None:
        assert visit.status.startswith("200")
        assert [item["name"] for item in visit.body["items"]] == ["Oak chair"]

    def test_works_under_its_own_content_security_policy(self, visit: Visit) -> None:
        assert visit.errors == []

    def test_asks_no_other_host(self, visit: Visit) -> None:
        assert visit.hosts == {visit.server}


def log_in(url: str) -> str:
    response = requests.post(f"{url}/api/v1/auth/login", json={"email": EMAIL, "password": PASSWORD}, timeout=SECONDS)
    token: str = response.json()["access_token"]
    return token


def add_product(url: str, token: str, *, name: str) -> None:
    def create(path: str, **fields: Any) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        response = requests.post(f"{url}/api/v1/{path}", json=fields, headers=headers, timeout=SECONDS)
        assert response.status_code == 201, response.text
        created: int = response.json()["id"]
        return created

    create("products", name=name, price="49.90", category_id=create("categories", name="Chairs"))


def authorize(browser: Chrome, token: str) -> None:
    press(browser, ".scheme-container .authorize")
    find(browser, "#auth-bearer-value").send_keys(token)
    press(browser, "form:has(#auth-bearer-value) [type=submit]")
    press(browser, ".modal-ux .close-modal")


def execute(browser: Chrome, operation: str) -> None:
    press(browser, f"{operation} .opblock-summary-control")
    press(browser, f"{operation} .execute")


def find(browser: Chrome, selector: str) -> WebElement:
    return wait(browser).until(lambda _: look_for(browser, selector), f"no {selector}")


def press(browser: Chrome, selector: str) -> None:
    """Click as soon as the element is there and not covered; React may replace it between any two calls."""

    def click(_: Chrome) -> bool:
        look_for(browser, selector).click()
        return True

    wait(browser).until(click, f"cannot press {selector}")


def look_for(browser: Chrome, selector: str) -> WebElement:
    """The element; where it is not there, the next look is half a window further down, and after the end at the top.

    Of as many operations, Swagger UI renders those near the window alone.
    """
    try:
        return browser.find_element(By.CSS_SELECTOR, selector)
    except NoSuchElementException:
        browser.execute_script(SCROLL_ON)
        raise


def wait(browser: Chrome) -> WebDriverWait[Chrome]:
    return WebDriverWait(browser, SECONDS, poll_frequency=0.05, ignored_exceptions=[WebDriverException])


def hosts_asked(browser: Chrome) -> Iterator[str]:
    """Where requests went; those for data: and for the browser's own chrome: pages went nowhere."""
    for entry in log(browser, "performance"):
        event = json.loads(entry["message"])["message"]
        if event["method"] == "Network.requestWillBeSent":
            address = urlsplit(event["params"]["request"]["url"])
            if address.scheme not in {"blob", "chrome", "data"}:
                yield address.netloc
