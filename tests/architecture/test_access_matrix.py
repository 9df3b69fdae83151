"""Who may call what: every operation of the document, asked by every kind of principal, against a reviewed table."""

import re
from collections.abc import Callable, Iterator
from typing import Any

from flask import Flask

from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.api_keys import service as api_keys
from app.features.users.models import User
from app.security.identity import Identity
from app.security.permissions import SCOPES, Permission, Role
from app.web.openapi import describe
from tests.architecture.reviewed import assert_reviewed
from tests.conftest import Caller, body_of, on_one_database

#: A caller and the headers of their credentials, by name.
Principals = dict[str, tuple[Caller, dict[str, str]]]
METHODS = ("get", "post", "put", "patch", "delete")
NOWHERE = 2**62


def operations(app: Flask) -> Iterator[tuple[str, str]]:
    """Method and path of every documented operation."""
    for path, described in sorted(describe(app)["paths"].items()):
        for method in METHODS:
            if method in described:
                yield method.upper(), path


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

    def key(self, scope: Permission) -> dict[str, str]:
        admin = self.person(Role.ADMIN)
        with self.app.app_context(), unit_of_work():
            identity = Identity(permissions=frozenset(SCOPES), user_id=admin.user_id)
            return {"X-API-Key": api_keys.create_key(name="one scope", scopes=[scope], identity=identity).key}

    def principals(self) -> Principals:
        people = {
            "anonymous": Caller(self.app),
            "user": self.person(),
            "editor": self.person(Role.EDITOR),
            "admin": self.person(Role.ADMIN),
            "deactivated": self.changed(Role.ADMIN, is_active=False),
            "demoted": self.changed(Role.ADMIN, role=Role.USER),
        }
        keys = {scope.value: (Caller(self.app), self.key(scope)) for scope in SCOPES}
        return {**{name: (caller, {}) for name, caller in people.items()}, **keys}


def ask(caller: Caller, method: str, path: str, ids: dict[str, int], headers: dict[str, str]) -> int:
    """The status of a call without body or precondition: whoever may come in gets past 401 and 403."""
    path = re.sub(r"\{(\w+)\}", lambda found: str(ids.get(found[1], NOWHERE)), path)
    return caller.call(method, f"/{path}", headers=headers).status_code


def row_of(principals: Principals, method: str, path: str) -> str:
    """One line of the table: what people are answered, and the scopes that let a key in."""
    cells, scopes = [], []
    for name, (caller, headers) in principals.items():
        status = ask(caller, method, path, {}, headers)
        if name in [scope.value for scope in SCOPES]:
            if status not in {401, 403}:
                scopes.append(name)
        else:
            cells.append(f"{name} {status if status in {401, 403} else 'yes'}")
    keys = "any" if len(scopes) == len(SCOPES) else ", ".join(scopes) or "none"
    return f"{method:6} {path:34} {', '.join(cells)}; keys: {keys}"


def rows(app: Flask, cast: Cast) -> Iterator[str]:
    """All lines. Operations on sessions, users and keys may end the credentials that ask: then others ask on."""
    principals = cast.principals()
    for method, path in operations(app):
        yield row_of(principals, method, path)
        if method != "GET" and re.search(r"/(auth|users|api-keys)\b", path):
            principals = cast.principals()


@on_one_database
def test_the_matrix_is_the_reviewed_one(app: Flask, sign_in: Callable[..., Caller]) -> None:
    table = "\n".join(rows(app, Cast(app, sign_in))) + "\n"

    assert_reviewed("access_matrix.txt", table)


def test_a_row_of_somebody_elses_is_not_there(app: Flask, sign_in: Callable[..., Caller]) -> None:
    cast = Cast(app, sign_in)
    owner, other = cast.person(), cast.person()
    key = body_of(owner.post("/api-keys", {"name": "Mine", "scopes": ["products:read"]}))
    session = body_of(owner.get("/auth/sessions"))["items"][0]
    ids = {"key_id": key["id"], "session_id": session["id"]}
    owned = [pair for pair in operations(app) if "{key_id}" in pair[1] or "{session_id}" in pair[1]]

    others = {pair: other.call(pair[0], f"/{pair[1].format(**ids)}", json={}).status_code for pair in owned}

    assert len(owned) >= 5
    assert set(others.values()) == {404}, others
    assert owner.get(f"/api-keys/{key['id']}").status_code == 200
