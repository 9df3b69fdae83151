"""A provider on loopback, an application that offers it, and browsers that log in with it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app import create_app
from app.clients import oidc
from app.clients.oidc_settings import Provider
from app.extensions import db
from tests.conftest import API, require_declared, settings_for
from tests.issuer import CLIENT_ID, CLIENT_SECRET, Issuer
from tests.issuer import issuer as run_issuer

SHOP, APP = "https://shop.example/after-login", "com.example.shop:/callback"


@pytest.fixture(scope="session")
def running_issuer() -> Iterator[Issuer]:
    """A provider, for all tests of this process: its address is a setting, and applications take long to make."""
    with run_issuer() as running:
        yield running


@pytest.fixture
def issuer(running_issuer: Issuer) -> Issuer:
    """A provider that does nothing wrong yet."""
    running_issuer.reset()
    return running_issuer


def provider(issuer: Issuer, **changed: Any) -> Provider:
    """The settings of a provider, which is trusted and makes accounts unless a test says otherwise."""
    known: dict[str, Any] = {
        "name": "company",
        "title": "Company",
        "issuer": issuer.url,
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "trusted": True,
        "creates_accounts": True,
    }
    return Provider(**{**known, **changed})


Offer = Callable[..., Flask]


@pytest.fixture(scope="session")
def offering_applications() -> Iterator[dict[str, Flask]]:
    """The applications that tests made, by their settings."""
    made: dict[str, Flask] = {}
    yield made
    for app in made.values():
        with app.app_context():
            db.engine.dispose()


@pytest.fixture
def offer(app: Flask, offering_applications: dict[str, Flask], issuer: Issuer) -> Offer:
    """Make an application that offers the provider with these settings, on the database of ``app``."""

    def make(**changed: Any) -> Flask:
        url, offered = app.config["DATABASE_URL"], provider(issuer, **changed)
        key = repr((url, sorted(changed.items())))
        if key not in offering_applications:
            settings = settings_for(
                url,
                oidc_providers={offered.name: offered},
                login_return_urls=(SHOP, APP),
                # As many as may log in at once, and one.
                web_threads=9,
                webhook_allowed_private_hosts=("127.0.0.1",),
            )
            offering_applications[key] = create_app(settings)
        # It knows nothing of the provider yet.
        oidc.init_app(offering_applications[key])
        return offering_applications[key]

    return make


@pytest.fixture
def shop(offer: Offer) -> Flask:
    """An application that offers the provider."""
    return offer()


@dataclass
class Browser:
    """A browser with its cookies, which a provider has or has not an account for."""

    app: Flask
    issuer: Issuer
    client: FlaskClient

    def get(self, path: str, **options: Any) -> TestResponse:
        answer = self.client.get(path, **options)
        require_declared(self.app, answer)
        return answer

    def begin(self, name: str = "company", **query: str) -> TestResponse:
        """Click the button."""
        return self.get(f"{API}/auth/oidc/{name}", query_string=query)

    def come_back(self, name: str = "company", **parameters: str) -> TestResponse:
        """Follow the provider's redirect."""
        return self.get(f"{API}/auth/oidc/{name}/callback", query_string=parameters)

    def log_in(self, *, query: dict[str, str] | None = None, **claims: Any) -> TestResponse:
        """Log in at the provider as a person, and come back."""
        begun = self.begin(**(query or {}))
        assert begun.status_code == 303, begun.text
        return self.come_back(**self.issuer.grant(begun.headers["Location"], **claims))

    def refresh(self, csrf_token: str) -> TestResponse:
        """Exchange the refresh cookie."""
        return self.client.post(f"{API}/auth/refresh", headers={"X-CSRF-Token": csrf_token})

    def cookie(self, name: str, path: str) -> str | None:
        """The value of a cookie."""
        found = self.client.get_cookie(name, path=path)
        return None if found is None else found.value


Browse = Callable[..., Browser]


@pytest.fixture
def browse(issuer: Issuer) -> Browse:
    """Open another browser at an application."""
    return lambda app: Browser(app, issuer, app.test_client())


@pytest.fixture
def browser(browse: Browse, shop: Flask) -> Browser:
    """A browser."""
    return browse(shop)


def outcome(answer: TestResponse) -> tuple[str, dict[str, str]]:
    """Where a browser was led, without its query and fragment, and what these say."""
    assert answer.status_code == 303, answer.text
    parts = urlsplit(answer.headers["Location"])
    told = dict(parse_qsl(parts.query)) | dict(parse_qsl(parts.fragment))
    return parts._replace(query="", fragment="").geturl(), told


def error_of(answer: TestResponse) -> str:
    """The code of the reason that a browser was led back with."""
    _, told = outcome(answer)
    assert told.keys() == {"error"}
    return told["error"]
