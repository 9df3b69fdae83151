from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.exceptions import NotFound

from app.web import docs

VENDORED = Path(docs.__file__).parent / "static" / "docs" / "swagger-ui"


@pytest.fixture
def backend() -> str:
    """The document does not depend on the database."""
    return "sqlite"


@pytest.fixture
def client() -> FlaskClient:
    app = Flask(__name__)
    app.add_url_rule("/docs", view_func=docs.page)
    app.add_url_rule("/docs/oauth2-redirect.html", view_func=docs.redirect_page)
    app.add_url_rule("/docs/<name>", view_func=docs.asset)
    return app.test_client()


class Elements(HTMLParser):
    """Every element of a page as its name and attributes, and the text inside scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str]] = []
        self.names: list[str] = []
        self.inline = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        if self.names and self.names[-1] in {"script", "style"}:
            self.inline += data.strip()

    def addresses(self) -> list[str]:
        return [value for name, value in self.attributes if name in {"href", "src"}]


class TestPage:
    def test_is_html_to_be_asked_for_anew(self, client: FlaskClient) -> None:
        response = client.get("/docs")

        assert response.status_code == 200
        assert response.content_type == "text/html; charset=utf-8"
        assert response.headers["Cache-Control"] == "no-cache"

    def test_allows_nothing_but_its_own_origin(self, client: FlaskClient) -> None:
        policy = client.get("/docs").headers["Content-Security-Policy"]

        sources = {word for directive in policy.split("; ") for word in directive.split()[1:]}
        assert policy.startswith("default-src 'none'; ")
        assert sources == {"'none'", "'self'", "data:"}

    def test_names_no_other_host(self, client: FlaskClient) -> None:
        addresses = Elements(client.get("/docs").text).addresses()

        assert addresses
        assert [address for address in addresses if urlsplit(address).netloc or urlsplit(address).scheme] == []

    def test_names_only_assets_that_are_served(self, client: FlaskClient) -> None:
        elements = Elements(client.get("/docs").text)

        named = [address for address in elements.addresses() if address not in {".", "openapi.json"}]
        assert {client.get(address).status_code for address in named} == {200}

    def test_has_no_inline_script_or_style(self, client: FlaskClient) -> None:
        elements = Elements(client.get("/docs").text)

        assert elements.inline == ""
        assert [name for name, _ in elements.attributes if name == "style" or name.startswith("on")] == []

    def test_is_not_sent_again_unchanged(self, client: FlaskClient) -> None:
        etag = client.get("/docs").headers["ETag"]

        response = client.get("/docs", headers={"If-None-Match": etag})

        assert response.status_code == 304
        assert response.data == b""


class TestRedirectPage:
    def test_is_kept_by_nothing_and_tells_no_other_page_its_url(self, client: FlaskClient) -> None:
        headers = client.get("/docs/oauth2-redirect.html?code=x&state=y").headers

        assert (headers["Cache-Control"], headers["Referrer-Policy"]) == ("no-store", "no-referrer")
        assert headers["X-Frame-Options"] == "DENY"

    def test_runs_its_own_script_alone(self, client: FlaskClient) -> None:
        response = client.get("/docs/oauth2-redirect.html?code=x")

        elements = Elements(response.text)
        scripts = [value for name, value in elements.attributes if name == "src"]
        assert "script-src 'self'" in response.headers["Content-Security-Policy"]
        assert [script.partition("?")[0] for script in scripts] == ["oauth2-redirect.js"]
        assert elements.inline == ""

    def test_names_only_what_is_served(self, client: FlaskClient) -> None:
        page = "/docs/oauth2-redirect.html"

        addresses = {urljoin(page, address) for address in Elements(client.get(page).text).addresses()}

        assert len(addresses) > 3
        assert {client.get(address).status_code for address in addresses} == {200}


class TestAsset:
    @pytest.mark.parametrize(
        ("name", "content_type"),
        [
            ("docs.css", "text/css; charset=utf-8"),
            ("docs.js", "text/javascript; charset=utf-8"),
            ("page.css", "text/css; charset=utf-8"),
            ("session.js", "text/javascript; charset=utf-8"),
            ("favicon.svg", "image/svg+xml; charset=utf-8"),
            ("oauth2-redirect.js", "text/javascript; charset=utf-8"),
            ("swagger-ui.css", "text/css; charset=utf-8"),
            ("swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
            ("swagger-ui-bundle.js.LICENSE.txt", "text/plain; charset=utf-8"),
        ],
    )
    def test_is_served_with_its_type(self, client: FlaskClient, name: str, content_type: str) -> None:
        response = client.get(f"/docs/{name}")

        assert response.status_code == 200
        assert response.content_type == content_type
        assert response.data == docs.ASSETS[name].path.read_bytes()

    def test_may_be_kept_for_a_day(self, client: FlaskClient) -> None:
        assert client.get("/docs/docs.js").headers["Cache-Control"] == "public, max-age=86400"

    @pytest.mark.parametrize("name", sorted(docs.ASSETS))
    def test_is_not_sent_again_unchanged(self, client: FlaskClient, name: str) -> None:
        etag = client.get(f"/docs/{name}").headers["ETag"]

        assert client.get(f"/docs/{name}", headers={"If-None-Match": etag}).status_code == 304
        assert client.get(f"/docs/{name}", headers={"If-None-Match": '"another"'}).status_code == 200

    @pytest.mark.parametrize(
        "name",
        [
            "",
            "absent.js",
            "docs.html",
            "DOCS.JS",
            "docs.js/",
            "./docs.js",
            "swagger-ui/LICENSE",
            "swagger-ui.css.map",
            "../../docs.py",
            "..\\..\\docs.py",
            "%2e%2e/%2e%2e/docs.py",
            "/etc/passwd",
            "docs.js\0",
            "docs.js\0.css",
        ],
    )
    def test_is_one_of_a_fixed_list(self, name: str) -> None:
        with pytest.raises(NotFound):
            docs.asset(name)

    def test_is_not_found_by_another_path(self, client: FlaskClient) -> None:
        assert client.get("/docs/..%2f..%2fdocs.py").status_code == 404


class TestVendoredFiles:
    def test_are_as_published(self) -> None:
        lines = (VENDORED / "SHA256SUMS").read_text().splitlines()
        sums = {name: digest for digest, name in (line.split() for line in lines)}

        ours = {".gitattributes", "README.md", "SHA256SUMS"}
        published = [path for path in VENDORED.iterdir() if path.name not in ours]
        assert {path.name: sha256(path.read_bytes()).hexdigest() for path in published} == sums

    def test_are_of_the_version_that_the_readme_names(self) -> None:
        title = (VENDORED / "README.md").read_text().splitlines()[0]

        version = title.removeprefix("# Swagger UI ").removesuffix(", vendored")
        assert f'PACKAGE_VERSION:"{version}"' in (VENDORED / "swagger-ui-bundle.js").read_text("utf-8")
