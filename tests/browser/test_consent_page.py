"""The page on which people let apps act for them, in Chromium: an app of another site, and what attacks it."""

import json
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from selenium.common.exceptions import NoSuchElementException
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from tests.browser.chromium import AXE, SECONDS, chromium, flask, log, needs_axe, needs_chromium
from tests.servers import gunicorn_server

pytestmark = needs_chromium

EMAIL, PASSWORD = "alice@example.com", "correct horse battery staple"
ISSUER = "https://catalog.example"
AUTHORIZE = "/api/v1/oauth/authorize"
RUN_AXE = "axe.run('html', {resultTypes: ['violations']}).then(arguments[0])"
PHONE = (360, 740)

#: Where nothing answers: what Chromium does with it shows on its console.
ELSEWHERE = ["http://[::1]:9/callback", "https://shop.invalid/callback", "com.example.app:/callback"]


class App(BaseHTTPRequestHandler):
    """An app of a third party: pages that a test has put on it, and a callback that shows that it was reached."""

    #: By their paths.
    pages: dict[str, str]
    #: The paths of requests to the callback.
    called: list[str]

    def do_GET(self) -> None:
        """Answer with a page."""
        if self.path.startswith("/callback"):
            self.called.append(self.path)
        page = self.pages.get(urlsplit(self.path).path, "<p id='back'>Back</p>")
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(f"<!doctype html><html lang='en'><title>App</title>{page}</html>".encode())

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


@dataclass
class Walk:
    """A person with a browser, the API, and an app: its pages have the origin ``app``, of another site."""

    browser: Chrome
    api: str
    port: int
    pages: dict[str, str]
    called: list[str]
    client_id: str
    parameters: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.parameters = {
            "response_type": "code",
            "client_id": self.client_id,
            # Another port than the registered one.
            "redirect_uri": f"http://127.0.0.1:{self.port}/callback",
            "scope": "products:read products:write",
            "state": "af0ifjsldkj",
            "code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
            "code_challenge_method": "S256",
        }

    @property
    def app(self) -> str:
        """The origin of the app's pages: not the host of the API, so another site."""
        return f"http://localhost:{self.port}"

    @property
    def neighbour(self) -> str:
        """The same server by the host of the API: another origin of the same site, to which cookies go."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def page(self) -> str:
        """Where the app leads."""
        return f"{self.api}{AUTHORIZE}?{urlencode(self.parameters)}"

    def begin(self) -> None:
        """Follow the app's link, as someone who was never here."""
        self.browser.execute_cdp_cmd("Network.clearBrowserCookies", {})
        self.pages["/"] = f"<a id='connect' href='{escape(self.page)}'>Connect</a>"
        self.called.clear()
        self.browser.get(self.app)
        log(self.browser, "browser")
        self.find("#connect").click()
        self.find("#password")

    def log_in(self) -> None:
        """Log in on the page, to be asked."""
        self.begin()
        self.find("#email").send_keys(EMAIL)
        self.find("#password").send_keys(PASSWORD, Keys.ENTER)
        self.find("[value=allow]")

    def type(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        ActionChains(self.browser).send_keys(*keys).perform()

    def find(self, selector: str) -> WebElement:
        """The element, as soon as it is there."""
        wait = WebDriverWait(self.browser, SECONDS, 0.05, [NoSuchElementException])
        return wait.until(lambda browser: browser.find_element(By.CSS_SELECTOR, selector), f"no {selector}")

    def text(self) -> str:
        """What the page says."""
        return self.find("main").text

    def answer(self) -> dict[str, str]:
        """What the app got, where the browser has been led back to it."""
        self.find("#back")
        address = urlsplit(self.browser.current_url)
        assert f"{address.scheme}://{address.netloc}{address.path}" == self.parameters["redirect_uri"]
        return dict(parse_qsl(address.query))

    @contextmanager
    def another_tab(self) -> Iterator[None]:
        """A tab that is closed afterwards, whatever Chromium asks in it, such as which program a scheme opens."""
        before = self.browser.current_window_handle
        self.browser.switch_to.new_window("tab")
        try:
            yield
        finally:
            self.browser.close()
            self.browser.switch_to.window(before)

    def left_for(self, redirect_uri: str) -> bool:
        """Whether the browser has tried to go there."""
        requests = (json.loads(entry["message"])["message"] for entry in log(self.browser, "performance"))
        return any(redirect_uri in json.dumps(request["params"]) for request in requests)

    def errors(self) -> list[str]:
        """What the console complains of."""
        return [entry["message"] for entry in log(self.browser, "browser") if entry["level"] == "SEVERE"]


def add_client(database: Path, **members: Any) -> str:
    """Write the row of a public client, and return its `client_id`."""
    row = {
        "type": "public",
        "created_at": "2026-01-01 00:00:00",
        "updated_at": "2026-01-01 00:00:00",
        "version": 1,
        **{name: json.dumps(value) if isinstance(value, list) else value for name, value in members.items()},
    }
    with sqlite3.connect(database) as connection:
        names, marks = ", ".join(row), ", ".join("?" * len(row))
        made = connection.execute(f"INSERT INTO oauth_clients ({names}) VALUES ({marks})", list(row.values()))
    return f"app_{made.lastrowid}"


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    folder = tmp_path_factory.mktemp("consent")
    env = {
        "APP_ENV": "production",
        "SECRET_KEY": secrets.token_urlsafe(48),
        "JWT_SECRET_KEY": secrets.token_urlsafe(48),
        "DATABASE_URL": f"sqlite:///{folder / 'catalog.db'}",
        "MEDIA_STORE": (folder / "media").as_uri(),
        "PUBLIC_URL": ISSUER,
        "RATE_LIMIT_ENABLED": "false",
        # No request goes there before someone follows its link.
        "OIDC_PROVIDERS": json.dumps(
            {"company": {"issuer": "https://id.example", "client_id": "catalog", "client_secret": "s" * 32}}
        ),
    }
    flask(env, "db", "upgrade")
    user = ("--email", EMAIL, "--username", "alice", "--role", "editor")
    flask(env, "create-user", *user, "--password-stdin", stdin=PASSWORD)
    client_id = add_client(
        folder / "catalog.db",
        name="Shelf <b>labels</b>",
        redirect_uris=["http://127.0.0.1/callback", *ELSEWHERE],
        scopes=["products:read", "products:write", "users:read"],
    )
    pages: dict[str, str] = {}
    called: list[str] = []
    handler = type("ThisApp", (App,), {"pages": pages, "called": called})
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), handler) as app,
        gunicorn_server(env) as server,
        chromium(folder) as browser,
    ):
        Thread(target=app.serve_forever, daemon=True).start()
        browser.set_script_timeout(SECONDS)
        yield Walk(browser, server.url, app.server_port, pages, called, client_id)
        app.shutdown()


class TestDecision:
    def test_to_allow_leads_back_to_the_app_with_a_code(self, walk: Walk) -> None:
        walk.log_in()

        walk.find("[value=allow]").click()

        answer = walk.answer()
        assert len(answer.pop("code")) == 43
        assert answer == {"state": "af0ifjsldkj", "iss": ISSUER}
        assert walk.errors() == []

    def test_to_deny_leads_back_with_an_error(self, walk: Walk) -> None:
        walk.log_in()

        walk.find("[value=deny]").click()

        assert walk.answer()["error"] == "access_denied"
        assert walk.errors() == []

    @pytest.mark.parametrize("redirect_uri", ELSEWHERE)
    def test_is_let_through_by_the_policy_of_the_page(self, walk: Walk, redirect_uri: str) -> None:
        with walk.another_tab():
            walk.browser.get(f"{walk.api}{AUTHORIZE}?{urlencode({**walk.parameters, 'redirect_uri': redirect_uri})}")

            walk.find("[value=deny]").click()

            WebDriverWait(walk.browser, SECONDS).until(lambda _: walk.left_for(redirect_uri))
            assert [message for message in walk.errors() if "Content Security Policy" in message] == []

    def test_is_possible_before_a_login(self, walk: Walk) -> None:
        walk.begin()

        walk.find("[value=deny]").click()

        assert walk.answer()["error"] == "access_denied"

    def test_is_made_knowing_who_asks_for_what_as_whom(self, walk: Walk) -> None:
        walk.log_in()

        text = walk.text()
        assert f"calls itself Shelf <b>labels</b> ({walk.client_id}) asks to act for you" in text
        assert f"an app on this device, 127.0.0.1:{walk.port}" in text
        assert "You are logged in as alice (alice@example.com)." in text
        assert [item.text for item in walk.browser.find_elements(By.CSS_SELECTOR, "main li")] == [
            "See products.",
            "Create and change products and their prices, and import and export them.",
        ]
        assert walk.browser.find_elements(By.CSS_SELECTOR, "main b") == []

    def test_works_with_the_keyboard_alone(self, walk: Walk) -> None:
        walk.begin()
        walk.type(Keys.TAB, EMAIL, Keys.TAB, PASSWORD, Keys.ENTER)
        walk.find("[value=allow]")

        walk.type(Keys.TAB, Keys.TAB)
        focused = walk.browser.switch_to.active_element
        assert focused.text == "Allow"
        assert focused.value_of_css_property("outline-style") == "solid"
        walk.type(Keys.ENTER)

        assert "code" in walk.answer()

    def test_is_of_the_person_who_logs_in_last(self, walk: Walk) -> None:
        walk.log_in()

        walk.find(".who button").click()

        walk.find("#password")
        assert walk.find("#email").get_attribute("value") == ""

    def test_needs_the_right_password(self, walk: Walk) -> None:
        walk.begin()
        walk.find("#email").send_keys(EMAIL)

        walk.find("#password").send_keys("wrong", Keys.ENTER)

        # The page before has alerts too, hidden ones: only the answer has this one.
        assert "is wrong" in walk.find("[role=alert]:not(.outcome)").text
        assert walk.find("#email").get_attribute("value") == EMAIL

    def test_can_follow_a_login_elsewhere_and_says_why_that_has_failed(self, walk: Walk) -> None:
        walk.begin()
        assert walk.find(".provider").text == "Log in with Company"
        assert "denied" not in walk.text()

        walk.browser.get(f"{walk.page}#error=login_denied")

        assert "You, or the identity provider, have denied the login; begin again" in walk.text()
        assert "leads to no account here" not in walk.text()

    def test_on_an_outdated_page_is_none(self, walk: Walk) -> None:
        """After the decision, back in the history the page is there still."""
        walk.log_in()
        walk.find("[value=allow]").click()
        walk.answer()
        walk.browser.back()
        walk.called.clear()

        walk.find("main button.first").click()

        walk.find("#password")
        assert walk.called == []


class TestAttacks:
    @pytest.mark.parametrize("logged_in", [False, True])
    @pytest.mark.parametrize("origin", ["app", "neighbour"])
    def test_by_a_page_that_frames_it_show_nothing(self, walk: Walk, origin: str, logged_in: bool) -> None:
        walk.log_in() if logged_in else walk.begin()
        walk.pages["/frame"] = f"<iframe id='framed' src='{escape(walk.page)}'></iframe>"

        walk.browser.get(f"{getattr(walk, origin)}/frame")
        walk.browser.switch_to.frame(walk.find("#framed"))

        assert walk.browser.find_elements(By.CSS_SELECTOR, "form, button, input") == []
        walk.browser.switch_to.default_content()
        assert any("frame" in message for message in walk.errors())

    @pytest.mark.parametrize("origin", ["app", "neighbour"])
    def test_by_a_form_of_another_page_decide_nothing(self, walk: Walk, origin: str) -> None:
        walk.log_in()
        walk.pages["/forged"] = (
            f"<form method='post' action='{escape(walk.page)}'>"
            "<input name='csrf_token' value='x'><button name='decision' value='allow'>Win</button></form>"
        )
        walk.browser.get(f"{getattr(walk, origin)}/forged")
        walk.called.clear()

        walk.find("button").click()

        if origin == "app":
            # The form came without the cookies, which are Lax, and so without a login: the question is asked anew.
            walk.find("[value=allow]")
        else:
            assert "form_not_ours" in walk.text()
        assert walk.called == []

    def test_find_no_script_of_the_page_and_no_cookie(self, walk: Walk) -> None:
        walk.log_in()

        assert walk.browser.execute_script("return [document.cookie, document.scripts.length]") == ["", 0]

    def test_by_an_address_that_is_not_registered_lead_nowhere(self, walk: Walk) -> None:
        walk.begin()
        evil = {**walk.parameters, "redirect_uri": f"{walk.app}/callback"}
        walk.called.clear()

        walk.browser.get(f"{walk.api}{AUTHORIZE}?{urlencode(evil)}")

        assert "redirect_uri_unregistered" in walk.text()
        assert walk.called == []


class TestAccessibility:
    @staticmethod
    def faults(walk: Walk, scheme: str) -> list[str]:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        walk.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        walk.browser.execute_script(AXE.read_text("utf-8"))
        found = walk.browser.execute_async_script(RUN_AXE)["violations"]
        return [f"{fault['id']}: {node['html'][:200]}" for fault in found for node in fault["nodes"]]

    @needs_axe
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_has_no_fault(self, walk: Walk, scheme: str) -> None:
        walk.begin()
        assert self.faults(walk, scheme) == [], "log in"
        walk.find("#email").send_keys(EMAIL)
        walk.find("#password").send_keys("wrong", Keys.ENTER)
        walk.find("[role=alert]:not(.outcome)")
        assert self.faults(walk, scheme) == [], "logged in in vain"
        walk.log_in()
        assert self.faults(walk, scheme) == [], "consent"
        walk.browser.get(f"{walk.api}{AUTHORIZE}")
        assert self.faults(walk, scheme) == [], "refused"

    def test_needs_no_scrolling_to_the_side_on_a_phone(self, walk: Walk) -> None:
        width, height = PHONE
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": True}
        walk.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        try:
            for open_page in (walk.begin, walk.log_in):
                open_page()

                assert walk.browser.execute_script("return document.documentElement.scrollWidth") <= width
        finally:
            walk.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
