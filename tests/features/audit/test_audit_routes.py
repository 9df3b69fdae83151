"""The audit trail over HTTP."""

from collections.abc import Callable
from typing import Any

from flask import Flask

from tests.conftest import PASSWORD, Caller, body_of, rows_of

Make = Callable[..., dict[str, Any]]


def events(root: Caller, query: str = "") -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = body_of(root.get(f"/audit-events?per_page=100{query}"))["items"]
    return items


class TestRecording:
    def test_names_actor_credential_request_and_change(self, root: Caller, alice: Caller, make_product: Make) -> None:
        product = make_product(price="10.00")
        answer = alice.patch(f"/products/{product['id']}", {"price": "12.50"})

        [event] = events(root, f"&action=product.updated&resource=product/{product['id']}")

        assert event["actor_id"] == alice.user_id
        assert event["session_id"] is not None
        assert event["request_id"] == answer.headers["X-Request-ID"]
        assert event["address"] == "127.0.0.1"
        assert event["before"]["price"] == "10.00"
        assert event["after"]["price"] == "12.50"
        assert set(event["after"]) <= {"price", "updated_at", "version"}

    def test_tells_the_sku_that_was_made(self, root: Caller, make_product: Make) -> None:
        product = make_product()

        [event] = events(root, f"&action=product.created&resource=product/{product['id']}")

        assert event["after"]["sku"] == product["sku"] == f"P-{product['id']}"

    def test_tells_a_soft_deletion_as_one(self, root: Caller, make_product: Make) -> None:
        product = make_product()
        root.delete(f"/products/{product['id']}", headers={"If-Match": "*"})

        newest, *_ = events(root, f"&resource=product/{product['id']}")

        assert newest["action"] == "product.deleted"
        assert newest["before"]["deleted_at"] is None

    def test_names_the_key_that_was_used(self, app: Flask, root: Caller, alice: Caller) -> None:
        key = body_of(alice.post("/api-keys", {"name": "Sync", "scopes": ["categories:write"]}))
        Caller(app).post("/categories", {"name": "By key"}, headers={"X-API-Key": key["key"]})

        [event] = events(root, "&action=category.created")

        assert (event["actor_id"], event["api_key_id"], event["session_id"]) == (alice.user_id, key["id"], None)

    def test_happens_with_its_deed_or_not_at_all(self, app: Flask, alice: Caller, make_product: Make) -> None:
        make_product(sku="TAKEN")
        before = rows_of(app, "audit_events")

        answer = alice.post("/products", {"name": "Again", "price": "1.00", "category_id": 1, "sku": "TAKEN"})

        assert answer.status_code in {409, 422}
        assert rows_of(app, "audit_events") == before

    def test_leaves_out_secrets(self, app: Flask, root: Caller) -> None:
        root.post("/users", {"email": "d@example.com", "username": "dave", "password": PASSWORD})

        trail = repr(rows_of(app, "audit_events"))

        assert PASSWORD not in trail
        assert "argon2" not in trail

    def test_knows_logins_failed_and_made(self, root: Caller, bob: Caller) -> None:
        nobody = Caller(bob.app)
        nobody.post("/auth/login", {"email": "bob@example.com", "password": "wrong password"})
        nobody.post("/auth/login", {"email": "bob@example.com", "password": PASSWORD})

        actions = [event["action"] for event in events(root, f"&resource=user/{bob.user_id}")]

        assert actions[:2] == ["session.opened", "login.failed"]

    def test_tells_of_a_reused_refresh_token(self, app_with: Callable[..., Flask], root: Caller, bob: Caller) -> None:
        app = app_with(refresh_grace=0)
        pair = body_of(Caller(app).post("/auth/login", {"email": "bob@example.com", "password": PASSWORD}))
        for _ in range(2):
            Caller(app, pair["refresh_token"]).post("/auth/refresh")

        assert len(events(root, "&action=refresh_token.reused")) == 1


class TestReading:
    def test_filters_by_actor_and_resource(self, root: Caller, alice: Caller, make_category: Make) -> None:
        category = make_category()

        found = events(root, f"&actor={alice.user_id}&resource=category")

        assert [(event["action"], event["resource_id"]) for event in found] == [("category.created", category["id"])]

    def test_filters_by_several_values(self, root: Caller, alice: Caller, make_category: Make) -> None:
        first, second, _ = (make_category()["id"] for _ in range(3))

        by_resource = events(root, f"&resource=category/{first},category/{second},product")
        by_action = events(root, f"&actor={alice.user_id},{root.user_id}&action=category.created,category.updated")

        assert {event["resource_id"] for event in by_resource} == {first, second}
        assert len(by_action) == 3

    def test_filters_by_time(self, root: Caller, make_category: Make) -> None:
        make_category()

        assert events(root, "&since=2999-01-01T00:00:00Z") == []
        assert events(root, "&since=2000-01-01T00:00:00%2B02:00") != []

    def test_walks_by_cursor(self, root: Caller, make_category: Make) -> None:
        for _ in range(5):
            make_category()
        seen, path = [], "/audit-events?cursor=&per_page=2"
        while path:
            page = body_of(root.get(path))
            seen += [event["id"] for event in page["items"]]
            path = (page["links"]["next"] or "").removeprefix("/api/v1")

        assert seen == sorted(set(seen), reverse=True)
        assert len(seen) >= 5

    def test_is_for_administrators(self, alice: Caller, bob: Caller) -> None:
        assert [caller.get("/audit-events").status_code for caller in (alice, bob)] == [403, 403]

    def test_is_all_there_is(self, root: Caller) -> None:
        assert {root.call(method, "/audit-events").status_code for method in ("POST", "PUT", "PATCH", "DELETE")} == {
            405
        }
