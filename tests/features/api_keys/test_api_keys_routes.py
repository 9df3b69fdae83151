"""API keys over HTTP."""

import zlib
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from flask import Flask

from app.core import clock
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.api_keys.models import ApiKey
from app.features.users.models import User
from app.security.api_keys import format_key, parse_key
from tests.conftest import Caller, body_of, code_of, rows_of

SYNC = {"name": "Warehouse sync", "scopes": ["products:read", "categories:write"]}


def make_key(owner: Caller, **members: Any) -> dict[str, Any]:
    answer = owner.post("/api-keys", {**SYNC, **members})
    assert answer.status_code == 201, answer.get_data(as_text=True)
    return body_of(answer)


def status_with(app: Flask, key: str, path: str = "/products") -> int:
    return Caller(app).get(path, headers={"X-API-Key": key}).status_code


class TestCreateApiKey:
    def test_shows_the_key_once(self, alice: Caller) -> None:
        made = make_key(alice)

        shown = body_of(alice.get(f"/api-keys/{made['id']}"))

        assert "key" not in shown
        assert (shown["prefix"], shown["client_id"]) == (f"cat_{made['id']}_", f"cat_{made['id']}")
        assert made["key"].startswith(shown["prefix"])
        assert made["key"][-12:-8] == shown["last_four"]

    def test_stores_no_secret(self, app: Flask, alice: Caller) -> None:
        key = make_key(alice)["key"]
        secret = key.split("_")[2][:-8]

        stored = repr([rows_of(app, table) for table in ("api_keys", "audit_events")])

        assert secret not in stored

    def test_refuses_a_scope_that_the_maker_lacks(self, alice: Caller) -> None:
        answer = alice.post("/api-keys", {**SYNC, "scopes": ["users:read"]})

        assert (answer.status_code, code_of(answer)) == (403, "scope_not_held")

    @pytest.mark.parametrize("scopes", [[], ["account:manage"], ["everything"], ["products:read", "products:read"]])
    def test_refuses_scopes_that_are_none(self, alice: Caller, scopes: list[str]) -> None:
        assert alice.post("/api-keys", {**SYNC, "scopes": scopes}).status_code == 422

    def test_refuses_an_expiry_in_the_past(self, alice: Caller) -> None:
        answer = alice.post("/api-keys", {**SYNC, "expires_at": "2020-01-01T00:00:00Z"})

        assert (answer.status_code, code_of(answer)) == (422, "expiry_passed")

    def test_refuses_to_be_done_with_a_key(self, app: Flask, root: Caller) -> None:
        key = make_key(root, scopes=["users:write"])["key"]

        answer = Caller(app).post("/api-keys", SYNC, headers={"X-API-Key": key})

        assert answer.status_code == 403


class TestUseApiKey:
    def test_can_do_what_role_and_scopes_both_allow(self, app: Flask, alice: Caller) -> None:
        key = make_key(alice)["key"]

        assert status_with(app, key, "/products") == 200
        assert status_with(app, key, "/categories") == 403
        assert Caller(app).post("/categories", {"name": "Made"}, headers={"X-API-Key": key}).status_code == 201

    def test_loses_what_its_owner_loses(self, app: Flask, alice: Caller) -> None:
        key = make_key(alice)["key"]
        with app.app_context(), unit_of_work():
            db.session.execute(db.update(User).where(User.id == alice.user_id).values(role="user"))

        answer = Caller(app).post("/categories", {"name": "Made"}, headers={"X-API-Key": key})

        assert answer.status_code == 403

    def test_ends_with_its_owners_account(self, app: Flask, alice: Caller) -> None:
        key = make_key(alice)["key"]
        with app.app_context(), unit_of_work():
            db.session.execute(db.update(User).where(User.id == alice.user_id).values(is_active=False))

        assert status_with(app, key) == 401

    @pytest.mark.parametrize("path", ["/users/me", "/auth/sessions", "/api-keys"])
    def test_is_403_where_only_a_person_can_go(self, app: Flask, alice: Caller, path: str) -> None:
        assert status_with(app, make_key(alice)["key"], path) == 403

    def test_cannot_refresh_or_log_out(self, app: Flask, alice: Caller) -> None:
        headers = {"X-API-Key": make_key(alice)["key"]}

        assert Caller(app).post("/auth/refresh", headers=headers).status_code == 403
        assert Caller(app).post("/auth/logout", headers=headers).status_code == 403

    def test_with_a_slip_of_the_finger_costs_no_query(self, app: Flask, alice: Caller) -> None:
        key = make_key(alice)["key"]
        slipped = key[:-1] + ("0" if key[-1] != "0" else "1")

        answer = Caller(app).get("/products", headers={"X-API-Key": slipped})

        assert answer.status_code == 401
        assert '"0 queries"' in answer.headers["Server-Timing"]

    def test_with_a_made_up_secret_is_401(self, app: Flask, alice: Caller) -> None:
        made = make_key(alice)
        body = f"cat_{made['id']}_{'A' * 32}"

        assert status_with(app, f"{body}{zlib.crc32(body.encode()):08x}") == 401

    def test_past_its_expiry_is_401(self, app: Flask, alice: Caller) -> None:
        expiry = (clock.now() + timedelta(hours=1)).isoformat()
        key = make_key(alice, expires_at=expiry)["key"]

        assert status_with(app, key) == 200
        with time_machine.travel(clock.now() + timedelta(hours=2), tick=False):
            assert status_with(app, key) == 401

    def test_is_remembered_at_most_once_a_minute(self, app: Flask, alice: Caller) -> None:
        made = make_key(alice)
        start = clock.now().replace(microsecond=0)
        seen = []
        for seconds in (0, 30, 61):
            with time_machine.travel(start + timedelta(seconds=seconds), tick=False):
                status_with(app, made["key"])
                with app.app_context(), unit_of_work(reading=True):
                    row = db.session.get(ApiKey, made["id"])
                    assert row is not None
                    seen.append((row.last_used_at, row.version))

        assert seen == [(start, 1), (start, 1), (start + timedelta(seconds=61), 1)]


class TestRotateApiKey:
    def test_lets_the_old_secret_work_for_the_overlap(self, app: Flask, alice: Caller) -> None:
        made = make_key(alice)

        renewed = body_of(alice.post(f"/api-keys/{made['id']}/rotate", {"overlap_seconds": 60}))

        assert [status_with(app, key) for key in (made["key"], renewed["key"])] == [200, 200]
        with time_machine.travel(clock.now() + timedelta(seconds=61), tick=False):
            assert [status_with(app, key) for key in (made["key"], renewed["key"])] == [401, 200]

    def test_without_overlap_ends_the_old_secret_at_once(self, app: Flask, alice: Caller) -> None:
        made = make_key(alice)

        alice.post(f"/api-keys/{made['id']}/rotate", {})

        assert status_with(app, made["key"]) == 401

    def test_of_somebody_elses_key_is_404(self, alice: Caller, bob: Caller) -> None:
        made = make_key(alice)

        assert bob.post(f"/api-keys/{made['id']}/rotate", {}).status_code == 404


class TestChangeApiKey:
    def test_takes_scopes_away(self, app: Flask, alice: Caller) -> None:
        made = make_key(alice)

        alice.patch(f"/api-keys/{made['id']}", {"scopes": ["categories:read"]}, if_match='"1"')

        assert status_with(app, made["key"]) == 403

    def test_gives_a_key_no_more_than_its_owner_has(self, root: Caller, alice: Caller) -> None:
        made = make_key(alice)

        answer = root.patch(f"/api-keys/{made['id']}", {"scopes": ["users:write"]})

        assert (answer.status_code, code_of(answer)) == (403, "scope_not_held")

    def test_needs_the_version_that_was_read(self, alice: Caller) -> None:
        made = make_key(alice)

        assert alice.patch(f"/api-keys/{made['id']}", {"name": "New"}, if_match=None).status_code == 428
        assert alice.patch(f"/api-keys/{made['id']}", {"name": "New"}, if_match='"7"').status_code == 412


class TestRevokeApiKey:
    def test_holds_at_once(self, app: Flask, alice: Caller) -> None:
        made = make_key(alice)

        assert alice.delete(f"/api-keys/{made['id']}", if_match='"1"').status_code == 204

        assert status_with(app, made["key"]) == 401
        assert alice.get(f"/api-keys/{made['id']}").status_code == 404

    def test_is_an_administrators_right_for_anybodys(self, app: Flask, alice: Caller, root: Caller) -> None:
        made = make_key(alice)

        assert root.delete(f"/api-keys/{made['id']}").status_code == 204
        assert status_with(app, made["key"]) == 401


class TestListApiKeys:
    def test_shows_ones_own(self, alice: Caller, bob: Caller) -> None:
        make_key(alice)

        assert body_of(bob.get("/api-keys"))["items"] == []
        assert len(body_of(alice.get("/api-keys"))["items"]) == 1

    def test_shows_an_administrator_everybodys(self, alice: Caller, root: Caller) -> None:
        made = make_key(alice)

        listed = body_of(root.get(f"/api-keys?user_id={alice.user_id}"))["items"]

        assert [key["id"] for key in listed] == [made["id"]]

    def test_shows_an_administrator_those_of_several(self, alice: Caller, bob: Caller, root: Caller) -> None:
        made = {make_key(alice)["id"], make_key(bob, scopes=["products:read"])["id"]}
        make_key(root)

        listed = body_of(root.get(f"/api-keys?user_id={alice.user_id},{bob.user_id}"))["items"]

        assert {key["id"] for key in listed} == made


class TestFormat:
    def test_is_read_back(self) -> None:
        parsed = parse_key(format_key(17, "A" * 32))

        assert parsed is not None
        assert parsed.key_id == 17

    @pytest.mark.parametrize(
        "text", ["", "cat_", "cat_0_" + "A" * 40, "cat_1_" + "A" * 40, "dog_1_x", "cat_١_" + "A" * 40]
    )
    def test_refuses_what_is_none(self, text: str) -> None:
        assert parse_key(text) is None
