"""A newcomer's first five minutes: the pages of a development server, and a page of their own."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import requests
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from tests.browser.chromium import AXE, SECONDS, chromium, flask, log, needs_axe, needs_chromium
from tests.browser.test_docs_page import find, press, wait
from tests.servers import gunicorn_server
from tests.test_readme import block

pytestmark = needs_chromium

UPDATE, LIST = "#operations-products-update_product", "#operations-products-list_products"
IMPORT = "#operations-imports-create_import"
LOGGED_IN, LOG_IN = "#logged-in:not([hidden])", "#log-in:not([hidden])"
PHONE, DESKTOP = (390, 844), (1280, 900)


#: Answers the requests of a page whose address ends so, but while `isMended`.
FAIL = """(path, status) => {
    const send = window.fetch;
    window.asked = 0;
    window.fetch = async (address, options) => {
        if (window.isMended || !String(address).endsWith(path)) return send(address, options);
        window.asked += 1;
        if (!status) throw new TypeError("Failed to fetch");
        return new Response(JSON.stringify({detail: `The answer is ${status}.`}), {status});
    };
}"""


def answer_to(path: str, status: int) -> str:
    """A script that answers the page's requests for a path with a status; 0 is a lost network."""
    return f"({FAIL})({json.dumps(path)}, {status})"


@dataclass(frozen=True)
class Visit:
    """A browser, and the server that it visits."""

    browser: Chrome
    url: str

    def open(self, path: str, *, size: tuple[int, int] = DESKTOP, scheme: str = "light") -> None:
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.browser.get(f"{self.url}{path}")

    def forget(self) -> None:
        """Be a visitor who was never here."""
        self.open("/livez")
        self.browser.execute_cdp_cmd("Network.clearBrowserCookies", {})
        self.browser.execute_script("localStorage.clear()")

    def open_docs(self, **options: Any) -> None:
        """Open the API reference, logged in as nobody."""
        self.forget()
        self.open("/docs", **options)
        find(self.browser, UPDATE)

    def press(self, selector: str) -> None:
        press(self.browser, selector)

    def text(self, selector: str) -> str:
        return find(self.browser, selector).text

    @contextmanager
    def prepared(self, script: str) -> Iterator[None]:
        """Run a script in each page that opens, before its own."""
        command = "Page.addScriptToEvaluateOnNewDocument"
        identifier = self.browser.execute_cdp_cmd(command, {"source": script})
        try:
            yield
        finally:
            self.browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", identifier)

    def stored(self) -> dict[str, Any]:
        """What the page has put where scripts can read it."""
        stored: dict[str, Any] = self.browser.execute_script(
            "return {cookie: document.cookie, session: {...sessionStorage}, local: {...localStorage}}"
        )
        return stored

    def editor(self) -> requests.Session:
        """Another client of the editor's."""
        client = requests.Session()
        login = {"email": "editor@example.com", "password": "demo-editor-password"}
        pair = client.post(f"{self.url}/api/v1/auth/login", json=login, timeout=SECONDS).json()
        client.headers["Authorization"] = f"Bearer {pair['access_token']}"
        return client


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visit]:
    folder = tmp_path_factory.mktemp("newcomer")
    env = {"DATABASE_URL": f"sqlite:///{folder / 'catalog.db'}", "RATE_LIMIT_ENABLED": "false"}
    flask(env, "db", "upgrade")
    flask(env, "catalog", "demo", "--no-images")
    with gunicorn_server(env) as server, chromium(folder) as browser:
        browser.set_script_timeout(SECONDS)
        yield Visit(browser, server.url)


class TestFourClicks:
    def test_lead_from_the_root_to_an_edited_product(self, visit: Visit) -> None:
        before = visit.editor().get(f"{visit.url}/api/v1/products/42", timeout=SECONDS).json()
        visit.forget()
        visit.open("/")

        visit.press(".button")
        visit.press("#as-editor")
        find(visit.browser, LOGGED_IN)
        visit.press(f"{UPDATE} .opblock-summary-control")
        visit.press(f"{UPDATE} .execute")

        assert visit.text(f"{UPDATE} .live-responses-table .response .response-col_status").startswith("200")
        answer = json.loads(visit.text(f"{UPDATE} .live-responses-table .response .highlight-code code"))
        edited = visit.editor().get(f"{visit.url}/api/v1/products/{answer['id']}", timeout=SECONDS).json()
        assert (edited["name"], edited["price"]) == ("Oak chair", "99.50")
        assert edited["version"] == before["version"] + 1


class TestLogin:
    def test_authorizes_the_page_and_survives_a_reload_until_it_ends(self, visit: Visit) -> None:
        visit.open_docs()
        visit.press("#as-user")
        for _ in range(2):
            assert "user@example.com" in visit.text(LOGGED_IN)
            assert visit.browser.find_elements(By.CSS_SELECTOR, ".scheme-container .authorize.locked")
            visit.browser.refresh()

        visit.press(f"{LOGGED_IN} button")
        find(visit.browser, LOG_IN)
        visit.browser.refresh()

        find(visit.browser, LOG_IN)
        assert visit.stored()["local"] == {}

    def test_takes_an_address_and_a_password(self, visit: Visit) -> None:
        visit.open_docs()
        for name, text in (("email", "admin@example.com"), ("password", "wrong")):
            find(visit.browser, f"#log-in [name={name}]").send_keys(text)
        visit.press("#log-in button:not([type])")
        wait(visit.browser).until(lambda _: "password" in visit.text("#log-in-fault"))

        find(visit.browser, "#log-in [name=password]").clear()
        find(visit.browser, "#log-in [name=password]").send_keys("demo-admin-password\n")

        assert "admin@example.com" in visit.text(LOGGED_IN)
        assert visit.browser.find_element(By.ID, "log-in-fault").text == ""

    def test_leaves_no_token_where_scripts_can_read_it(self, visit: Visit) -> None:
        visit.open_docs()
        visit.press("#as-editor")
        find(visit.browser, LOGGED_IN)

        stored = visit.stored()
        assert (stored["cookie"], stored["session"], [*stored["local"]]) == ("", {}, ["catalog-session"])
        assert json.loads(stored["local"]["catalog-session"]).keys() == {"email", "csrf_token"}

    def test_is_renewed_before_the_access_token_expires(self, visit: Visit) -> None:
        visit.open_docs()
        visit.press("#as-editor")
        find(visit.browser, LOGGED_IN)
        before = visit.browser.execute_script("return session.token")

        visit.browser.execute_script("session.renewAt = 0; session.renew()")
        wait(visit.browser).until(lambda _: visit.browser.execute_script("return session.token") != before)

        assert visit.browser.execute_script("return session.renewAt - Date.now()") > 0

    @pytest.mark.parametrize("status", [503, 0])
    def test_that_cannot_be_restored_now_shows_the_form_and_is_restored_later(self, visit: Visit, status: int) -> None:
        visit.open_docs()
        visit.press("#as-editor")
        find(visit.browser, LOGGED_IN)

        with visit.prepared(answer_to("/auth/refresh", status)):
            visit.browser.refresh()
            find(visit.browser, LOG_IN)
            assert visit.browser.execute_script("return [asked, session.timer !== undefined]") == [1, True]
            visit.browser.execute_script("isMended = true; session.renewAt -= 30000; session.renew()")

            assert "editor@example.com" in visit.text(LOGGED_IN)
        assert visit.browser.find_elements(By.CSS_SELECTOR, LOG_IN) == []

    @pytest.mark.parametrize("text", ["{", '{"csrf_token": 5}'])
    def test_does_not_stumble_over_what_another_page_has_stored(self, visit: Visit, text: str) -> None:
        visit.forget()
        visit.browser.execute_script("localStorage.setItem('catalog-session', arguments[0])", text)

        visit.open("/docs")

        find(visit.browser, LOG_IN)

    def test_works_where_the_browser_denies_the_storage(self, visit: Visit) -> None:
        visit.forget()
        denied = (
            "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('', 'SecurityError') }})"
        )
        with visit.prepared(denied):
            visit.open("/docs")
            find(visit.browser, LOG_IN)
            visit.press("#as-editor")

            find(visit.browser, LOGGED_IN)

    @pytest.mark.parametrize(("status", "told"), [(503, "The answer is 503."), (0, "Failed to fetch")])
    def test_stays_when_the_server_does_not_end_it(self, visit: Visit, status: int, told: str) -> None:
        with visit.prepared(answer_to("/auth/logout", status)):
            visit.open_docs()
            visit.press("#as-editor")
            visit.press(f"{LOGGED_IN} button")
            wait(visit.browser).until(lambda _: visit.text("#log-in-fault") == told)
            assert visit.text(LOGGED_IN)

            visit.browser.execute_script("isMended = true")
            visit.press(f"{LOGGED_IN} button")

            find(visit.browser, LOG_IN)
        assert visit.text("#log-in-fault") == ""

    def test_ends_on_the_server_although_the_access_token_has_expired(self, visit: Visit) -> None:
        client = visit.editor()

        def count() -> int:
            return len(client.get(f"{visit.url}/api/v1/auth/sessions", timeout=SECONDS).json()["items"])

        before = count()
        visit.open_docs()
        visit.press("#as-editor")
        find(visit.browser, LOGGED_IN)
        assert count() == before + 1
        visit.browser.execute_script("session.token = 'expired'")

        visit.press(f"{LOGGED_IN} button")
        find(visit.browser, LOG_IN)

        assert (count(), visit.stored()["local"]) == (before, {})

    def test_is_shared_by_tabs_and_ends_in_all(self, visit: Visit) -> None:
        visit.open_docs()
        first = visit.browser.current_window_handle
        visit.browser.switch_to.new_window("tab")
        try:
            visit.open("/docs")
            find(visit.browser, LOG_IN)
            visit.press("#as-editor")
            visit.browser.switch_to.window(first)
            assert "editor@example.com" in visit.text(LOGGED_IN)

            visit.press(f"{LOGGED_IN} button")
            visit.browser.switch_to.window(visit.browser.window_handles[1])

            find(visit.browser, LOG_IN)
        finally:
            visit.browser.switch_to.window(visit.browser.window_handles[1])
            visit.browser.close()
            visit.browser.switch_to.window(first)

    def test_that_was_ended_elsewhere_asks_to_log_in_again(self, visit: Visit) -> None:
        visit.open_docs()
        visit.press("#as-editor")
        find(visit.browser, LOGGED_IN)
        visit.editor().delete(f"{visit.url}/api/v1/auth/sessions", timeout=SECONDS).raise_for_status()

        visit.press(f"{LIST} .opblock-summary-control")
        visit.press(f"{LIST} .execute")

        find(visit.browser, LOG_IN)
        assert visit.stored()["local"] == {}


class TestOperations:
    #: The document that Swagger UI gets to resolve when an operation is opened, and what of it is referred to.
    EXCERPT = """
        const [path, method, done] = arguments;
        fetch("openapi.json").then((answer) => answer.json()).then((whole) => {
            const part = excerpt(whole, ["paths", path, method]);
            const named = (document) => Object.values(document.components).flatMap((kind) => Object.keys(kind));
            done([Object.keys(part.paths), Object.keys(part.paths[path]), named(part).length, named(whole).length,
                  JSON.stringify(part)]);
        });
    """

    def test_are_resolved_without_the_rest_of_the_document(self, visit: Visit) -> None:
        visit.open_docs()

        arguments = ("/api/v1/products/{product_id}", "patch")
        paths, methods, named, all_named, text = visit.browser.execute_async_script(self.EXCERPT, *arguments)

        assert (paths, methods) == ([arguments[0]], [arguments[1]])
        assert named < all_named / 2
        components = json.loads(text)["components"]
        referred = set(re.findall(r'"#/components/([^/"]+/[^/"]+)"', text))
        assert referred == {f"{kind}/{name}" for kind, members in components.items() for name in members}

    def test_show_an_example_of_a_problem_only_when_it_is_wanted(self, visit: Visit) -> None:
        visit.open_docs()
        visit.press(f"{UPDATE} .opblock-summary-control")
        assert "precondition_failed" in visit.text(f"{UPDATE} .problem[data-code='412']")
        assert visit.browser.find_elements(By.CSS_SELECTOR, f"{UPDATE} .problem pre") == []

        visit.press(f"{UPDATE} .problem[data-code='412'] .more")

        example = json.loads(visit.text(f"{UPDATE} .problem[data-code='412'] pre"))
        assert (example["status"], example["code"]) == (412, "precondition_failed")

    def test_ask_for_the_credentials_of_every_day_first(self, visit: Visit) -> None:
        visit.open_docs()
        visit.press(".scheme-container .authorize")

        boxes = visit.browser.find_elements(By.CSS_SELECTOR, ".auth-container h4 code")
        assert [box.text for box in boxes] == ["bearer", "apiKey", "refresh", "refreshCookie", "csrf", "client"]

        assert visit.browser.switch_to.active_element.get_attribute("id") == "auth-bearer-value"

    def test_that_take_files_have_a_file_picker_and_send_nothing_else_in_the_form(
        self, visit: Visit, tmp_path: Path
    ) -> None:
        file = tmp_path / "chairs.csv"
        file.write_text("sku,name,price,category\nNEW-1,Folding chair,49.00,Chairs\n")
        visit.open_docs()
        visit.press("#as-editor")
        find(visit.browser, LOGGED_IN)

        visit.press(f"{IMPORT} .opblock-summary-control")
        find(visit.browser, f"{IMPORT} input[type=file]").send_keys(str(file))
        visit.press(f"{IMPORT} .execute")

        assert visit.text(f"{IMPORT} .live-responses-table .response .response-col_status").startswith("202")
        assert re.findall(r"-F '(\w+)=", visit.text(f"{IMPORT} .curl-command")) == ["file"]


class TestAccessibility:
    RUN = "axe.run(arguments[0], {resultTypes: ['violations'], ...arguments[1]}).then(arguments[2])"
    #: What the colour scheme makes a difference to.
    RULES: dict[str, dict[str, Any]] = {"light": {}, "dark": {"runOnly": ["color-contrast"]}}

    def serious_faults(self, visit: Visit, scheme: str, part: str = "html") -> list[str]:
        visit.browser.execute_script(AXE.read_text("utf-8"))
        found = visit.browser.execute_async_script(self.RUN, part, self.RULES[scheme])["violations"]
        serious = [fault for fault in found if fault["impact"] in {"serious", "critical"}]
        return [f"{fault['id']}: {node['html'][:200]}" for fault in serious for node in fault["nodes"]]

    @needs_axe
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_has_no_serious_fault(self, visit: Visit, scheme: str) -> None:
        for path in ("/", "/readme"):
            visit.open(path, scheme=scheme)
            assert self.serious_faults(visit, scheme) == [], path

        visit.open_docs(scheme=scheme)
        assert self.serious_faults(visit, scheme) == [], "logged out"
        visit.press("#as-admin")
        find(visit.browser, LOGGED_IN)
        for operation in (LIST, UPDATE, IMPORT):
            visit.press(f"{operation} .opblock-summary-control")
            find(visit.browser, f"{operation} .execute")
        visit.press(f"{LIST} .execute")
        find(visit.browser, f"{LIST} .live-responses-table .response .response-col_status")
        assert self.serious_faults(visit, scheme) == [], "logged in"
        visit.press(".scheme-container .authorize")
        find(visit.browser, ".modal-ux .close-modal")
        assert self.serious_faults(visit, scheme, ".modal-ux") == [], "authorize"

    @pytest.mark.parametrize("path", ["/", "/docs", "/readme"])
    def test_needs_no_scrolling_to_the_side_on_a_phone(self, visit: Visit, path: str) -> None:
        visit.open(path, size=PHONE)
        if path == "/docs":
            find(visit.browser, UPDATE)

        assert visit.browser.execute_script("return document.documentElement.scrollWidth") <= PHONE[0]

    @pytest.mark.parametrize("path", ["/", "/docs", "/readme"])
    def test_works_under_its_own_content_security_policy(self, visit: Visit, path: str) -> None:
        log(visit.browser, "browser")

        visit.open(path)
        if path == "/docs":
            find(visit.browser, UPDATE)

        assert [entry["message"] for entry in log(visit.browser, "browser") if entry["level"] == "SEVERE"] == []


@contextmanager
def page(folder: Path, html: str) -> Iterator[str]:
    """The URL of a page, on a server of its own."""
    (folder / "index.html").write_text(html, "utf-8")

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}/"
        server.shutdown()


class TestFirstPage:
    def test_lists_and_edits_and_overwrites_nobody(self, visit: Visit, tmp_path: Path) -> None:
        html = block("Your first page", "html").replace("http://127.0.0.1:8000", visit.url)
        with page(tmp_path, html) as url:
            visit.browser.get(url)
            visit.press("li:nth-child(2) button")
            self.save(visit, "12.34")
            wait(visit.browser).until(lambda _: visit.text("output") == "Saved.")
            client, name = visit.editor(), visit.text("b")
            found = client.get(f"{visit.url}/api/v1/products", params={"search": name}, timeout=SECONDS).json()["items"]
            (product,) = (one for one in found if one["name"] == name)

            # The page has not read the version that it has written.
            self.save(visit, "56.78")
            wait(visit.browser).until(lambda _: "has changed" in visit.text("output"))

        path = f"{visit.url}/api/v1/products/{product['id']}"
        assert product["price"] == client.get(path, timeout=SECONDS).json()["price"] == "12.34"

    @staticmethod
    def save(visit: Visit, price: str) -> None:
        field = find(visit.browser, "form:not([hidden]) input")
        field.clear()
        field.send_keys(price)
        visit.press("form button")
