"""Stock clients of OAuth, written by others, get along with the catalogue: they know its issuer alone."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest
import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata, get_well_known_url
from flask import Flask

from tests.conftest import PASSWORD, Caller
from tests.http_browser import Page, Visitor
from tests.live.conftest import Site, environment, only, worker_pids
from tests.live.wire import Client
from tests.node import application, needs_node
from tests.servers import free_port, gunicorn_server

pytestmark = pytest.mark.live

#: Of the app: nothing listens there, since the tests take the address out of the redirect.
CALLBACK = "http://127.0.0.1:4180/callback"
SECONDS = 60


@pytest.fixture(scope="module")
def sites(databases: Callable[[str], Flask]) -> Iterator[Callable[[str], Site]]:
    """Servers whose issuer is where they answer: production takes one over TLS alone."""
    made: dict[str, Site] = {}
    with ExitStack() as stack:

        def site(backend: str) -> Site:
            if backend not in made:
                app, port = databases(backend), free_port()
                env = environment(app.config["DATABASE_URL"], APP_ENV="testing")
                server = stack.enter_context(gunicorn_server(env, workers=2, threads=8, port=port))
                made[backend] = Site(server, app)
            return made[backend]

        yield site


@dataclass(frozen=True)
class Stage:
    """The catalogue as a client meets it, and a person with a browser."""

    site: Site
    visitor: Visitor
    register: Callable[..., dict[str, Any]]

    @property
    def issuer(self) -> str:
        return self.site.server.url

    @property
    def products(self) -> str:
        return f"{self.issuer}/api/v1/products"

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """What the catalogue says of itself (RFC 8414), which Authlib finds and validates."""
        answer = requests.get(get_well_known_url(self.issuer, external=True), timeout=SECONDS)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        # Its rules ask for https, which nothing on the loopback has.
        AuthorizationServerMetadata(
            {name: f"https{value[4:]}" if str(value).startswith("http:") else value for name, value in found.items()}
        ).validate()
        return found

    def statuses(self, session: OAuth2Session) -> set[int]:
        """How every worker answers a read of products."""
        found = set()
        for worker in worker_pids(self.site.server):
            # A connection that is kept would lead to the worker that took it.
            session.close()
            with only(worker, self.site.server):
                answer = session.get(self.products, timeout=SECONDS, headers={"Connection": "close"})
                found.add(answer.status_code)
        return found


def create(site: Site, caller: Caller, path: str, content: dict[str, Any]) -> dict[str, Any]:
    """Make something over the API."""
    client = Client(site.port, caller.token)
    try:
        answer = client.post(path, content)
    finally:
        client.close()
    assert answer.status == 201, answer.body
    made: dict[str, Any] = answer.json
    return made


@pytest.fixture
def api_key(site: Site, alice: Caller) -> dict[str, str]:
    """An editor's key, as a client of OAuth has it."""
    made = create(site, alice, "/api-keys", {"name": "shop", "scopes": ["products:read", "products:write"]})
    return {"client_id": f"cat_{made['id']}", "client_secret": made["key"]}


@pytest.fixture
def register(site: Site, root: Caller) -> Callable[..., dict[str, Any]]:
    """Register an app of a third party, as an administrator does."""

    def register(**members: Any) -> dict[str, Any]:
        default = {
            "name": "Price watch",
            "type": "confidential",
            "redirect_uris": [CALLBACK],
            "scopes": ["products:read", "products:write"],
        }
        made = create(site, root, "/oauth/clients", {**default, **members})
        return {name: made[name] for name in ("client_id", "client_secret") if made.get(name)}

    return register


@pytest.fixture
def stage(site: Site, register: Callable[..., dict[str, Any]]) -> Iterator[Stage]:
    """A person with a browser that has been nowhere."""
    visitor = Visitor()
    yield Stage(site, visitor, register)
    visitor.close()


def allow(visitor: Visitor, url: str, email: str, *, decision: str = "allow") -> Page:
    """Log in on our pages, decide on what the app asks for, and hand out where the app would be next."""
    page = visitor.open(url)
    while page.answer is not None:
        assert page.status == 200, page.text
        form = next(form for form in page.forms if "password" in form.fields or _buttons_of(form, decision))
        if "password" in form.fields:
            values = {"email": email, "password": PASSWORD}
        else:
            values = dict(_buttons_of(form, decision))
        page = visitor.submit(page, form, until=lambda url: url.startswith(CALLBACK), **values)
    return page


def _buttons_of(form: Any, decision: str) -> list[tuple[str, str]]:
    return [button for button in form.buttons if button[1] == decision]


@needs_node
class TestOpenidClient:
    def test_uses_an_api_key_by_client_credentials(self, stage: Stage, api_key: dict[str, str]) -> None:
        with application(issuer=stage.issuer, scope="products:read", **api_key) as running:
            seen = running.read()

        assert seen["metadata"]["issuer"] == stage.issuer
        assert seen["granted"] == {"token_type": "bearer", "expires_in": 900, "scope": "products:read"}
        assert not seen["has_refresh_token"]
        assert (seen["products"], seen["users"]) == (200, 403)
        assert seen["introspected"]["active"] is True
        assert seen["introspected"]["client_id"] == api_key["client_id"]
        # A token of a key ends with the key, and not before.
        assert seen["revocation"] == "unsupported_token_type"

    @pytest.mark.parametrize("kind", ["confidential", "public"])
    def test_acts_for_a_person_who_let_it(self, stage: Stage, alice: Caller, kind: str) -> None:
        # A public client may be an app on a device, which listens on any port that is free (RFC 8252 section 7.3).
        registered = CALLBACK if kind == "confidential" else "http://127.0.0.1/callback"
        client = stage.register(type=kind, redirect_uris=[registered])
        assert ("client_secret" in client) == (kind == "confidential")

        with application(issuer=stage.issuer, scope="products:read", redirect_uri=CALLBACK, **client) as running:
            url = running.read()["authorization_url"]
            running.tell(allow(stage.visitor, url, "alice@example.com").url)
            seen = running.read()

        endpoints = {name: url for name, url in seen["metadata"].items() if name.endswith("_endpoint")}
        assert len(endpoints) == 4
        assert [name for name, url in endpoints.items() if not url.startswith(f"{stage.issuer}/api/v1/oauth/")] == []
        assert seen["granted"] == {"token_type": "bearer", "expires_in": 900, "scope": "products:read"}
        assert (seen["products"], seen["users"], seen["after_refresh"]) == (200, 403, 200)
        assert seen["revocation"] == "done"
        assert seen["after_revocation"] == 401
        assert seen["refresh_after_revocation"] == "invalid_grant"
        if kind == "confidential":
            assert seen["introspected"]["sub"] == str(alice.user_id)
            assert seen["introspected_after_revocation"] == {"active": False}


class TestAuthlib:
    @pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
    def test_uses_an_api_key_by_client_credentials(self, stage: Stage, api_key: dict[str, str], method: str) -> None:
        with OAuth2Session(**api_key, scope="products:read", token_endpoint_auth_method=method) as session:
            token = session.fetch_token(stage.metadata["token_endpoint"], grant_type="client_credentials")

            assert (token["expires_in"], token["scope"]) == (900, "products:read")
            assert session.get(stage.products, timeout=SECONDS).status_code == 200
            assert session.post(stage.products, json={}, timeout=SECONDS).status_code == 403
            found = session.introspect_token(
                stage.metadata["introspection_endpoint"], token=token["access_token"]
            ).json()
            assert (found["active"], found["client_id"]) == (True, api_key["client_id"])

    def test_loses_its_token_on_every_worker_with_the_key(
        self, stage: Stage, alice: Caller, api_key: dict[str, str]
    ) -> None:
        with OAuth2Session(**api_key) as session:
            session.fetch_token(stage.metadata["token_endpoint"], grant_type="client_credentials")
            assert session.get(stage.products, timeout=SECONDS).status_code == 200
            client = Client(stage.site.port, alice.token)
            assert client.delete(f"/api-keys/{api_key['client_id'].removeprefix('cat_')}").status == 204
            client.close()

            assert stage.statuses(session) == {401}
            with pytest.raises(OAuthError, match="invalid_client"):
                session.fetch_token(stage.metadata["token_endpoint"], grant_type="client_credentials")

    @pytest.mark.parametrize("kind", ["confidential", "public"])
    def test_acts_for_a_person_who_let_it(self, stage: Stage, alice: Caller, kind: str) -> None:
        client = stage.register(type=kind)
        method = "client_secret_basic" if kind == "confidential" else "none"
        verifier = "v" * 64
        with OAuth2Session(
            **client,
            scope="products:read",
            redirect_uri=CALLBACK,
            code_challenge_method="S256",
            token_endpoint_auth_method=method,
        ) as session:
            url, state = session.create_authorization_url(
                stage.metadata["authorization_endpoint"], code_verifier=verifier
            )
            returned = allow(stage.visitor, url, "alice@example.com")
            assert (returned.query["state"], returned.query["iss"]) == (state, stage.issuer)

            token = session.fetch_token(
                stage.metadata["token_endpoint"],
                authorization_response=returned.url,
                code_verifier=verifier,
                state=state,
            )

            assert token["scope"] == "products:read"
            assert session.get(stage.products, timeout=SECONDS).status_code == 200
            refreshed = session.refresh_token(stage.metadata["token_endpoint"], refresh_token=token["refresh_token"])
            assert refreshed["access_token"] != token["access_token"]
            assert session.get(stage.products, timeout=SECONDS).status_code == 200
            revoked = session.revoke_token(stage.metadata["revocation_endpoint"], token=refreshed["refresh_token"])
            assert revoked.status_code == 200
            assert session.get(stage.products, timeout=SECONDS).status_code == 401
            with pytest.raises(OAuthError, match="invalid_grant"):
                session.refresh_token(stage.metadata["token_endpoint"], refresh_token=refreshed["refresh_token"])

    def test_learns_that_a_person_said_no(self, stage: Stage, alice: Caller) -> None:
        with OAuth2Session(**stage.register(), redirect_uri=CALLBACK, code_challenge_method="S256") as session:
            url, state = session.create_authorization_url(
                stage.metadata["authorization_endpoint"], code_verifier="v" * 64
            )
            returned = allow(stage.visitor, url, "alice@example.com", decision="deny")

            assert returned.query["error"] == "access_denied"
            assert (returned.query["state"], returned.query["iss"]) == (state, stage.issuer)
            assert "code" not in returned.query

    def test_loses_its_grant_on_every_worker_when_the_person_ends_it(self, stage: Stage, alice: Caller) -> None:
        verifier = "v" * 64
        with OAuth2Session(**stage.register(), redirect_uri=CALLBACK, code_challenge_method="S256") as session:
            url, _ = session.create_authorization_url(stage.metadata["authorization_endpoint"], code_verifier=verifier)
            returned = allow(stage.visitor, url, "alice@example.com")
            session.fetch_token(
                stage.metadata["token_endpoint"], authorization_response=returned.url, code_verifier=verifier
            )
            person = Client(stage.site.port, alice.token)
            [grant] = person.get("/oauth/grants").json["items"]
            assert grant["client"]["name"] == "Price watch"

            assert person.delete(f"/oauth/grants/{grant['id']}").status == 204

            person.close()
            assert stage.statuses(session) == {401}

    def test_gets_tokens_for_a_code_once_and_loses_them_with_a_replay(self, stage: Stage, alice: Caller) -> None:
        verifier = "v" * 64
        with OAuth2Session(**stage.register(), redirect_uri=CALLBACK, code_challenge_method="S256") as session:
            url, _ = session.create_authorization_url(stage.metadata["authorization_endpoint"], code_verifier=verifier)
            returned = allow(stage.visitor, url, "alice@example.com")
            exchange = {"authorization_response": returned.url, "code_verifier": verifier}
            token = session.fetch_token(stage.metadata["token_endpoint"], **exchange)
            assert session.get(stage.products, timeout=SECONDS).status_code == 200

            with pytest.raises(OAuthError, match="invalid_grant"):
                session.fetch_token(stage.metadata["token_endpoint"], **exchange)

            session.token = token
            assert session.get(stage.products, timeout=SECONDS).status_code == 401
