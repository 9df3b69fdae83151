"""A person with a browser that runs no scripts, at the page on which people let apps act for them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.datastructures import Headers
from werkzeug.test import TestResponse

from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.oauth_clients.models import ClientType, OAuthClient
from tests.conftest import API, PASSWORD

AUTHORIZE = f"{API}/oauth/authorize"
CALLBACK = "https://shop.example/callback"
#: Of the verifier dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk (RFC 7636, appendix B).
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def add_client(app: Flask, **members: Any) -> str:
    """Write the row of an app, and return its `client_id`; a test mentions what matters."""
    default: dict[str, Any] = {
        "name": "Shop",
        "type": ClientType.PUBLIC,
        "redirect_uris": [CALLBACK],
        "scopes": ["products:read", "products:write"],
    }
    with app.app_context(), unit_of_work():
        client = OAuthClient(**{**default, **members})
        db.session.add(client)
        db.session.flush()
        return client.client_id


@dataclass
class Form:
    """A form of a page: where it goes, its fields, and its buttons by their text."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: dict[str, dict[str, str]] = field(default_factory=dict)


class Page(HTMLParser):
    """What a page shows: its forms, its links, its elements and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: dict[str, str] = {}
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._open: tuple[str, dict[str, str]] = "", {}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        members = {name: value or "" for name, value in attrs}
        self.elements.append((tag, members))
        self._open = tag, members
        if tag == "form":
            self.forms.append(Form(members["action"]))
        elif tag == "input":
            self.forms[-1].fields[members["name"]] = members.get("value", "")

    def handle_data(self, data: str) -> None:
        tag, members = self._open
        if tag == "button" and data.strip():
            submitted = {members["name"]: members["value"]} if "name" in members else {}
            self.forms[-1].buttons[data.strip()] = submitted
        if tag == "a" and data.strip():
            self.links[data.strip()] = members["href"]
        self.text = " ".join(f"{self.text} {data}".split())

    def handle_endtag(self, tag: str) -> None:
        self._open = "", {}

    @property
    def buttons(self) -> list[str]:
        """The texts of all buttons."""
        return [text for form in self.forms for text in form.buttons]


class Visitor:
    """A browser at the page; it keeps cookies, and follows redirects on this server."""

    def __init__(self, app: Flask, client_id: str, **parameters: str | None) -> None:
        self.app = app
        self.http: FlaskClient = app.test_client()
        given: dict[str, str | None] = {
            "response_type": "code",
            "client_id": client_id,
            "redirect_uri": CALLBACK,
            "scope": "products:read",
            "state": "af0ifjsldkj",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
            **parameters,
        }
        self.parameters = {name: value for name, value in given.items() if value is not None}
        self.response: TestResponse | None = None

    def open(self, path: str | None = None, **options: Any) -> Page:
        """Open the page as the app leads there, or another."""
        self.response = self.http.get(path or f"{AUTHORIZE}?{urlencode(self.parameters)}", **options)
        return self.page

    def press(self, button: str, /, headers: Mapping[str, str] | None = None, **filled: str) -> Page:
        """Fill a form and press its button; a redirect on this server is followed."""
        (form,) = (form for form in self.page.forms if button in form.buttons)
        self.response = self.http.post(
            form.action, data={**form.fields, **filled, **form.buttons[button]}, headers=dict(headers or {})
        )
        if self.status == 303 and self.location.startswith("/"):
            return self.open(self.location)
        return self.page

    def log_in(self, username: str = "bob") -> Page:
        """Open the page, and log in on it."""
        self.open()
        return self.press("Log in", email=f"{username}@example.com", password=PASSWORD)

    @property
    def page(self) -> Page:
        """The page at hand."""
        assert self.response is not None
        return Page(self.response.text)

    @property
    def status(self) -> int:
        """The status of the response at hand."""
        assert self.response is not None
        return self.response.status_code

    @property
    def headers(self) -> Headers:
        """The headers of the response at hand."""
        assert self.response is not None
        return self.response.headers

    @property
    def location(self) -> str:
        """Where the response at hand leads."""
        return self.headers["Location"]

    def answer(self) -> dict[str, str]:
        """The members of the response to the app, which the browser is led to."""
        assert self.status == 303, self.page.text
        assert self.location.partition("?")[0] == self.parameters["redirect_uri"].partition("?")[0]
        return dict(parse_qsl(urlsplit(self.location).query, keep_blank_values=True))
