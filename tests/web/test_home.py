"""The root of the server: a page for people, JSON for programs; and in development, the README."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from app import create_app
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.samples import service as samples
from app.features.users.models import User
from app.web import readme
from app.web.openapi import describe
from config import Environment
from tests.conftest import Caller, body_of, code_of, on_one_database, settings_for
from tests.web.test_docs import Elements

AppWith = Callable[..., Flask]
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
SECRETS = {"secret_key": "0123456789abcdef" * 2, "jwt_secret_key": "fedcba9876543210" * 2}


def home(caller: Caller, accept: str | None = BROWSER, **headers: str) -> TestResponse:
    """What the root answers to a client that accepts this."""
    return caller.get("//", headers={**({} if accept is None else {"Accept": accept}), **headers})


@pytest.fixture
def newcomer(anonymous: Caller, app_with: AppWith) -> Caller:
    """Somebody at a development server with the demo catalogue."""
    app = app_with(app_env=Environment.DEVELOPMENT)
    with app.app_context(), unit_of_work():
        samples.load_demo(currency="USD")
    return anonymous.on(app)


@on_one_database
class TestNegotiation:
    @pytest.mark.parametrize(
        ("accept", "media_type"),
        [
            (BROWSER, "text/html"),
            ("text/html", "text/html"),
            ("text/*", "text/html"),
            ("text/html;q=0.5, application/json;q=0.4", "text/html"),
            ("application/json;q=0.4, text/html;q=0.5", "text/html"),
            ("application/json", "application/json"),
            ("text/html;q=0.4, application/json;q=0.5", "application/json"),
            ("text/html;q=0, */*", "application/json"),
            ("*/*", "application/json"),
            (None, "application/json"),
            ("", "application/json"),
            ("image/png", "application/json"),
            (";;q=,/", "application/json"),
        ],
    )
    def test_heeds_what_is_accepted_and_how_much(self, anonymous: Caller, accept: str, media_type: str) -> None:
        answer = home(anonymous, accept)

        assert (answer.status_code, answer.mimetype) == (200, media_type)
        assert "Accept" in answer.headers["Vary"]

    def test_gives_each_its_own_tag(self, anonymous: Caller) -> None:
        page, document = (home(anonymous, accept).headers["ETag"] for accept in ("text/html", "application/json"))

        assert page != document
        for accept, own, other in (("text/html", page, document), ("application/json", document, page)):
            assert home(anonymous, accept, if_none_match=own).status_code == 304
            assert home(anonymous, accept, if_none_match=other).status_code == 200

    @pytest.mark.parametrize("query", ["utm_source=x", "x=1&x=2", "v=%ff"])
    @pytest.mark.parametrize("path", ["//", "//docs", "//readme", "//docs/docs.js"])
    def test_ignores_what_a_link_carries_for_others(self, newcomer: Caller, path: str, query: str) -> None:
        assert newcomer.get(f"{path}?{query}", headers={"Accept": BROWSER}).status_code == 200

    @pytest.mark.parametrize("path", ["//", "//docs", "//readme", "//docs/docs.js"])
    def test_heeds_no_precondition_of_writes(self, newcomer: Caller, path: str) -> None:
        headers = {"Accept": BROWSER, "If-Match": '"x"'}
        answer = newcomer.get(path, headers=headers)

        assert answer.status_code == 200
        assert newcomer.get(path, headers={**headers, "If-None-Match": answer.headers["ETag"]}).status_code == 304
        assert newcomer.call("HEAD", path, headers=headers).status_code == 200

    @pytest.mark.parametrize("accept", ["text/html", "application/json"])
    def test_names_the_documentation_and_the_status_in_either(self, anonymous: Caller, accept: str) -> None:
        links = re.findall(r'<([^>]+)>; rel="([^"]+)"', home(anonymous, accept).headers["Link"])

        assert [name for _, name in links] == ["service-desc", "service-doc", "status"]
        assert {anonymous.get(f"/{path}").status_code for path, _ in links} == {200}

    def test_takes_an_empty_path_for_the_root(self, anonymous: Caller) -> None:
        answer = anonymous.app.test_client().get("/", environ_overrides={"PATH_INFO": ""})

        assert answer.status_code == 200


@on_one_database
class TestDocument:
    def test_has_the_title_of_the_openapi_document(self, anonymous: Caller) -> None:
        assert body_of(home(anonymous, None))["title"] == describe(anonymous.app)["info"]["title"]

    def test_leads_to_what_can_be_read_without_an_id(self, root: Caller) -> None:
        document = body_of(home(root, None))

        assert {"products", "categories", "brands", "users/me"} < document["resources"].keys()
        assert document["resources"]["products"] == "/api/v1/products"
        paths = [*document["resources"].values(), *document["links"].values()]
        statuses = {path: root.get(f"/{path}").status_code for path in paths}
        # A feed is read from a cursor on.
        assert {path for path, status in statuses.items() if status != 200} == {"/api/v1/auth/login"}


@on_one_database
class TestPage:
    def test_has_nothing_inline_and_allows_no_script(self, anonymous: Caller) -> None:
        answer = home(anonymous)
        elements = Elements(answer.text)

        assert elements.inline == ""
        assert "script" not in elements.names
        assert [name for name, _ in elements.attributes if name == "style" or name.startswith("on")] == []
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; ")
        assert "script-src" not in answer.headers["Content-Security-Policy"]

    def test_has_no_dead_link(self, newcomer: Caller) -> None:
        addresses = Elements(home(newcomer).text).addresses()

        assert {"docs", "openapi.json", "livez", "readyz"} < set(addresses)
        assert {address: newcomer.get(f"//{address}").status_code for address in addresses} == dict.fromkeys(
            addresses, 200
        )

    def test_leads_to_every_section_of_the_readme_in_development(self, newcomer: Caller) -> None:
        addresses = Elements(home(newcomer).text).addresses()
        anchors = {value for name, value in Elements(newcomer.get("//readme").text).attributes if name == "id"}

        led_to = {address.partition("#")[2] for address in addresses if address.startswith("readme#")}
        assert {"a-tour-with-curl", "settings", "in-production"} < led_to
        assert led_to <= anchors

    def test_has_the_demo_logins_that_work_in_development(self, newcomer: Caller) -> None:
        for path in ("//", "//docs"):
            html = newcomer.get(path, headers={"Accept": BROWSER}).text
            assert [login.email for login in samples.DEMO_LOGINS if login.password in html] == [
                "admin@example.com",
                "editor@example.com",
                "user@example.com",
            ]

    def test_has_no_demo_login_that_does_not_work(self, newcomer: Caller) -> None:
        with newcomer.app.app_context(), unit_of_work():
            db.session.execute(db.update(User).where(User.username == "admin").values(password_hash="x"))
            db.session.execute(db.update(User).where(User.username == "user").values(is_active=False))

        for path in ("//", "//docs"):
            html = newcomer.get(path, headers={"Accept": BROWSER}).text
            assert re.findall(r"demo-\w+-password", html) == ["demo-editor-password"]

    def test_has_no_demo_logins_without_the_demo(self, anonymous: Caller, app_with: AppWith) -> None:
        page = home(anonymous.on(app_with(app_env=Environment.DEVELOPMENT)))

        assert "Demo logins" not in page.text
        assert "readme#" in page.text

    @pytest.mark.parametrize("environment", [Environment.TESTING, Environment.PRODUCTION])
    def test_has_neither_logins_nor_the_readme_elsewhere(
        self, newcomer: Caller, app_with: AppWith, environment: Environment
    ) -> None:
        elsewhere = newcomer.on(app_with(app_env=environment, **SECRETS))

        for path in ("//", "//docs"):
            html = elsewhere.get(path, headers={"Accept": BROWSER}).text
            assert [word for word in ("demo-", "readme", "README") if word in html] == []
        assert code_of(elsewhere.get("//readme")) == "not_found"

    def test_needs_no_database(self, anonymous: Caller) -> None:
        settings = settings_for("sqlite:////nowhere/catalog.db", app_env=Environment.DEVELOPMENT)
        without = anonymous.on(create_app(settings))

        assert home(without).status_code == 200
        assert without.get("//docs").status_code == 200


@on_one_database
class TestReadme:
    def test_links_to_nothing_that_is_not_served(self, newcomer: Caller) -> None:
        elements = Elements(newcomer.get("//readme").text)
        anchors = {value for name, value in elements.attributes if name == "id"}

        assert "img" not in elements.names
        for address in elements.addresses():
            path, _, anchor = address.partition("#")
            assert (anchor in anchors) if not path else newcomer.get(f"//{path.lstrip('.')}").status_code == 200

    def test_follows_its_file(self, newcomer: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = tmp_path / "README.md"
        monkeypatch.setattr(readme, "FILE", file)
        assert newcomer.get("//readme").status_code == 404

        file.write_text(
            "# Name\n\n## It's `new` & <b>bold</b>\n\n[file](docs/x.md) [here](#name) ![chart](x.svg)\n", "utf-8"
        )

        html = newcomer.get("//readme").text
        assert '<h2 id="its-new--bboldb">It\'s <code>new</code> &amp; &lt;b&gt;bold&lt;/b&gt;</h2>' in html
        assert '<p>file <a href="#name">here</a> </p>' in html
        assert 'href="readme#its-new--bboldb"' in home(newcomer).text
