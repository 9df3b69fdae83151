"""Administration while others are at work, with two workers."""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from sqlalchemy import select, text

from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.users.models import User
from app.security.permissions import Role
from tests.conftest import PASSWORD, Caller
from tests.live.conftest import Site
from tests.live.wire import Client, at_once

pytestmark = pytest.mark.live

Connect = Callable[..., Client]


class TestTheLastAdministrator:
    def test_stays_when_two_demote_each_other_at_once(
        self, sign_in: Callable[..., Caller], site: Site, connect: Connect
    ) -> None:
        for number in range(5):
            one, two = (sign_in(f"{name}{number}", Role.ADMIN) for name in ("ann", "ben"))
            with site.app.app_context(), unit_of_work():
                others = User.id.not_in([one.user_id, two.user_id])
                db.session.execute(db.update(User).where(others).values(role=Role.USER))

            demote = {"role": "user"}
            at_once(
                [
                    partial(connect(one).patch, f"/users/{two.user_id}", demote),
                    partial(connect(two).patch, f"/users/{one.user_id}", demote),
                ]
            )

            with site.app.app_context(), unit_of_work(reading=True):
                admins = db.session.scalars(select(User.id).where(User.role == Role.ADMIN, User.is_active)).all()
            assert len(admins) == 1


class TestADemotion:
    def test_while_writing_stops_the_writes_and_loses_none(
        self, alice: Caller, root: Caller, site: Site, connect: Connect
    ) -> None:
        made: list[int] = []
        refused = threading.Event()

        def write(client: Client, who: int) -> None:
            for number in range(500):
                answer = client.post("/categories", {"name": f"Made {who} {number}", "slug": f"made-{who}-{number}"})
                if answer.status == 403:
                    refused.set()
                    return
                assert answer.status == 201, answer.body
                made.append(answer.json["id"])

        def demote(client: Client) -> None:
            while len(made) < 20:
                pass
            assert client.patch(f"/users/{alice.user_id}", {"role": "user"}).status == 200

        at_once([*(partial(write, connect(alice), who) for who in range(4)), partial(demote, connect(root))])

        after = connect(alice).post("/categories", {"name": "Too late"})
        assert refused.is_set()
        assert after.status == 403
        kept = {category["id"] for category in everything(connect(root), "/categories")}
        assert set(made) <= kept


class TestADumpOfTheDatabase:
    def test_holds_no_secret_that_a_client_ever_saw(
        self, root: Caller, bob: Caller, site: Site, connect: Connect
    ) -> None:
        client = connect()
        pair = client.post("/auth/login", {"email": "bob@example.com", "password": PASSWORD}).json
        renewed = client.post("/auth/refresh", authorization=f"Bearer {pair['refresh_token']}").json
        key = connect(root).post("/api-keys", {"name": "Sync", "scopes": ["products:read"]}).json
        rotated = connect(root).post(f"/api-keys/{key['id']}/rotate", {"overlap_seconds": 60}).json
        changed = (
            connect(root)
            .post("/auth/password", {"current_password": PASSWORD, "new_password": "staple battery horse"})
            .json
        )

        secrets = {PASSWORD, "staple battery horse"}
        for tokens in (pair, renewed, changed):
            secrets |= {tokens["access_token"], tokens["refresh_token"]}
            secrets |= {tokens[kind].split(".")[2] for kind in ("access_token", "refresh_token")}
        secrets |= {made["key"].split("_")[2][:-8] for made in (key, rotated)}
        dump = dumped(site)
        assert len(dump) > 1000
        assert [secret for secret in secrets if secret in dump] == []


def dumped(site: Site) -> str:
    """Every value of every row."""
    with site.app.app_context(), unit_of_work(reading=True):
        rows = [db.session.execute(text(f"SELECT * FROM {table}")).all() for table in db.metadata.tables]
    return repr(rows)


def everything(client: Client, path: str) -> list[dict[str, Any]]:
    """A whole collection, page by page."""
    items: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = client.get(f"{path}?per_page=100&cursor={cursor}").json
        items += page["items"]
        cursor = page["meta"]["next_cursor"]
    return items
