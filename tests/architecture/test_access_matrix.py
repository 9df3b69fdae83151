"""Who may call what: every operation of the document, asked by every kind of principal, against a reviewed table."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from flask import Flask

from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.api_keys import service as api_keys
from app.features.oauth.routes import current_server
from app.features.oauth_clients.models import ClientType, OAuthClient
from app.features.sessions import service as sessions
from app.features.sessions.models import UserSession
from app.features.users.models import User
from app.security.identity import Identity
from app.security.permissions import SCOPES, Permission, Role
from app.web.openapi import describe
from tests.architecture.reviewed import assert_reviewed
from tests.conftest import Caller, body_of, on_one_database

#: The headers of a caller's credentials.
Credentials = dict[str, str]
METHODS = ("get", "post", "put", "patch", "delete")
NOWHERE = 2**62


def operations(app: Flask) -> Iterator[tuple[str, str]]:
    """Method and path of every documented operation."""
    for path, described in sorted(describe(app)["paths"].items()):
        for method in METHODS:
            if method in described:
                yield method.upper(), path


@dataclass(frozen=True)
class Principals:
    """Everybody who could ask: people and others by a name, and those with one scope by that."""

    people: dict[str, Credentials]
    keys: dict[str, Credentials]
    #: The same keys, which have got a token of OAuth 2.
    tokens: dict[str, Credentials]
    #: Apps that act for an administrator.
    apps: dict[str, Credentials]


class Cast:
    """Makes principals."""

    def __init__(self, app: Flask, sign_in: Callable[..., Caller]) -> None:
        self.app, self._sign_in, self._number = app, sign_in, 0

    def person(self, role: Role = Role.USER) -> Caller:
        self._number += 1
        return self._sign_in(f"person{self._number}", role)

    def changed(self, before: Role, **values: Any) -> Caller:
        caller = self.person(before)
        with self.app.app_context(), unit_of_work():
            db.session.execute(db.update(User).where(User.id == caller.user_id).values(**values))
        return caller

    def key(self, scope: Permission) -> tuple[Credentials, Credentials]:
        """A key with one scope, and the token that it gets."""
        admin = self.person(Role.ADMIN)
        with self.app.app_context(), unit_of_work():
            identity = Identity(permissions=frozenset(SCOPES), user_id=admin.user_id)
            key = api_keys.create_key(name="one scope", scopes=[scope], identity=identity)
            client = {"client_id": f"cat_{key.id}", "client_secret": key.key}
        form = {"grant_type": "client_credentials", **client}
        token = body_of(Caller(self.app).call("POST", "/oauth/token", data=form))["access_token"]
        return {"X-API-Key": key.key}, {"Authorization": f"Bearer {token}"}

    def app_of(self, person: Caller, scopes: Iterable[str]) -> Credentials:
        """An app that this person has let do what the scopes say."""
        assert person.user_id is not None
        with self.app.app_context(), unit_of_work():
            client = OAuthClient(name="App", type=ClientType.PUBLIC, redirect_uris=["app.example:/"], scopes=[*SCOPES])
            db.session.add(client)
            db.session.flush()
            granted = {"client_id": client.id, "scopes": [*scopes]}
            session, _ = sessions.open_session(person.user_id, device="", address="::1", lifetime=900, **granted)
            named = {"user_id": person.user_id, "session_id": session.id, "client_id": client.id}
            token = current_server().issuer.issue_to_app(**named, scopes=scopes)
        return {"Authorization": f"Bearer {token}"}

    def end_grant(self, user_id: int | None) -> None:
        with self.app.app_context(), unit_of_work():
            [grant] = db.session.scalars(db.select(UserSession).filter_by(user_id=user_id).where(UserSession.client_id))
            sessions.end_grant(grant.id, user_id=user_id or 0)

    def principals(self) -> Principals:
        people = {
            "anonymous": Caller(self.app),
            "user": self.person(),
            "editor": self.person(Role.EDITOR),
            "admin": self.person(Role.ADMIN),
            "deactivated": self.changed(Role.ADMIN, is_active=False),
            "demoted": self.changed(Role.ADMIN, role=Role.USER),
        }
        # Each has a person of its own, because people can end what lets an app act for them.
        trusting, former = self.person(Role.ADMIN), self.person(Role.ADMIN)
        apps = {
            "app of deactivated": self.app_of(self.changed(Role.ADMIN, is_active=False), SCOPES),
            "app of demoted": self.app_of(self.changed(Role.ADMIN, role=Role.USER), SCOPES),
            "ended grant": self.app_of(former, SCOPES),
        }
        self.end_grant(former.user_id)
        keys = {scope.value: self.key(scope) for scope in SCOPES}
        return Principals(
            people={name: _bearer(caller) for name, caller in people.items()} | apps,
            keys={scope: key for scope, (key, _) in keys.items()},
            tokens={scope: token for scope, (_, token) in keys.items()},
            apps={scope.value: self.app_of(trusting, [scope]) for scope in SCOPES},
        )


def _bearer(caller: Caller) -> Credentials:
    return {"Authorization": f"Bearer {caller.token}"} if caller.token else {}


def is_refused(status: int) -> bool:
    return status in {401, 403}


def row_of(app: Flask, principals: Principals, method: str, path: str) -> str:
    """One line of the table: what people and others are answered, and the scopes that let a key and an app in.

    Without body or precondition: who may come in gets past 401 and 403. An app could end what lets it act, and so asks
    last.
    """
    path_nowhere = re.sub(r"\{(\w+)\}", str(NOWHERE), path)

    def ask(credentials: Credentials) -> int:
        return Caller(app).call(method, f"/{path_nowhere}", headers=credentials).status_code

    def scopes_of(holders: dict[str, Credentials]) -> str:
        scopes = [scope for scope, credentials in holders.items() if not is_refused(ask(credentials))]
        return "any" if len(scopes) == len(holders) else ", ".join(scopes) or "none"

    told = {name: ask(credentials) for name, credentials in principals.people.items()}
    cells = [f"{name} {status if is_refused(status) else 'yes'}" for name, status in told.items()]
    keys = scopes_of(principals.keys)
    # A token can do what its key can, and no more.
    assert scopes_of(principals.tokens) == keys, (method, path)
    return f"{method:6} {path:34} {', '.join(cells)}; keys: {keys}; apps: {scopes_of(principals.apps)}"


def rows(app: Flask, cast: Cast) -> Iterator[str]:
    """All lines. Operations on sessions, users and keys may end the credentials that ask: then others ask on."""
    principals = cast.principals()
    for method, path in operations(app):
        yield row_of(app, principals, method, path)
        if method != "GET" and re.search(r"/(auth|users|api-keys|oauth)\b", path):
            principals = cast.principals()


@on_one_database
@pytest.mark.timeout(400)
def test_the_matrix_is_the_reviewed_one(app: Flask, sign_in: Callable[..., Caller]) -> None:
    table = "\n".join(rows(app, Cast(app, sign_in))) + "\n"

    assert_reviewed("access_matrix.txt", table)


def test_a_row_of_somebody_elses_is_not_there(app: Flask, sign_in: Callable[..., Caller]) -> None:
    cast = Cast(app, sign_in)
    owner, other = cast.person(), cast.person()
    key = body_of(owner.post("/api-keys", {"name": "Mine", "scopes": ["products:read"]}))
    session = body_of(owner.get("/auth/sessions"))["items"][0]
    cast.app_of(owner, ["products:read"])
    [grant] = body_of(owner.get("/oauth/grants"))["items"]
    ids = {"key_id": key["id"], "session_id": session["id"], "grant_id": grant["id"]}
    owned = [pair for pair in operations(app) if any(f"{{{name}}}" in pair[1] for name in ids)]

    others = {pair: other.call(pair[0], f"/{pair[1].format(**ids)}", json={}).status_code for pair in owned}

    assert len(owned) >= 6
    assert set(others.values()) == {404}, others
    assert owner.get(f"/api-keys/{key['id']}").status_code == 200
    assert body_of(owner.get("/oauth/grants"))["items"] == [grant]
