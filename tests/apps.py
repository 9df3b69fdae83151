"""Apps of third parties, for tests: they get codes without the page on which people agree, and all else over HTTP."""

import base64
import hashlib
from dataclasses import dataclass, replace
from typing import Any

from flask import Flask
from werkzeug.test import TestResponse

from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.oauth import codes
from app.features.oauth_clients.models import OAuthClient
from tests.conftest import API, Caller, body_of

CALLBACK = "https://prices.example/callback"
VERIFIER = "a-verifier-of-PKCE-has-43-characters-at-least"
READS = ["categories:read", "products:read"]


def challenge_of(verifier: str) -> str:
    """The S256 challenge of a verifier (RFC 7636 section 4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


@dataclass(frozen=True)
class ThirdParty:
    """An app; a public one has no secret."""

    app: Flask
    id: int
    client_id: str
    secret: str | None

    def post(self, path: str, **form: Any) -> TestResponse:
        """Send a form to an endpoint, with the client's id and, if it has one, its secret in the form."""
        credentials = {"client_id": self.client_id} | ({"client_secret": self.secret} if self.secret else {})
        return send(self.app, path, {**credentials, **form})

    def code_for(self, person: Caller, scopes: list[str], *, verifier: str = VERIFIER) -> str:
        """The code that a person's browser brings, once the person has agreed."""
        with self.app.app_context(), unit_of_work():
            client = db.session.get_one(OAuthClient, self.id)
            return codes.issue(client, person.user_id or 0, CALLBACK, scopes, challenge_of(verifier))

    def exchange(self, code: str, /, **changed: Any) -> TestResponse:
        """Exchange a code."""
        form = {"code": code, "redirect_uri": CALLBACK, "code_verifier": VERIFIER, **changed}
        return self.post("/oauth/token", grant_type="authorization_code", **form)

    def tokens_for(self, person: Caller, scopes: list[str] | None = None) -> dict[str, Any]:
        """The tokens with which it acts for a person."""
        answer = self.exchange(self.code_for(person, READS if scopes is None else scopes))
        assert answer.status_code == 200, answer.get_data(as_text=True)
        return body_of(answer)

    def refresh(self, token: str, **form: Any) -> TestResponse:
        """Exchange a refresh token."""
        return self.post("/oauth/token", grant_type="refresh_token", refresh_token=token, **form)

    def acting(self, tokens: dict[str, Any]) -> Caller:
        """The app, as it calls the API for the person."""
        return Caller(self.app, tokens["access_token"])

    def on(self, app: Flask) -> "ThirdParty":
        """The same app at an application with other settings."""
        return replace(self, app=app)


def register(root: Caller, **members: Any) -> ThirdParty:
    """A new app: by default a confidential one that may read."""
    default = {"name": "Prices", "type": "confidential", "redirect_uris": [CALLBACK], "scopes": READS}
    answer = root.post("/oauth/clients", {**default, **members})
    assert answer.status_code == 201, answer.get_data(as_text=True)
    made = body_of(answer)
    return ThirdParty(root.app, made["id"], made["client_id"], made["client_secret"])


def send(app: Flask, path: str, form: dict[str, str], headers: dict[str, str] | None = None) -> TestResponse:
    """Send a form; nothing else says who sends it."""
    return app.test_client(use_cookies=False).post(API + path, data=form, headers=headers)


def basic(client_id: str, secret: str) -> dict[str, str]:
    """The header with which a client authenticates."""
    return {"Authorization": f"Basic {base64.b64encode(f'{client_id}:{secret}'.encode()).decode()}"}


def error_of(answer: TestResponse) -> tuple[int, str]:
    """The status of an answer and the error of OAuth 2 in it."""
    return answer.status_code, str(body_of(answer)["error"])
