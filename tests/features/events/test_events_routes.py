"""The change feed over HTTP."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskCliRunner
from sqlalchemy import select, text, update

from app.core import clock
from app.core.feed import CatalogueState, ChangeEvent
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.bulk import upserts
from app.features.categories import service as categories
from tests.conftest import Caller, body_of, code_of, faults_of, rows_of

Make = Callable[..., dict[str, Any]]


IS_ANYBODY_WAITING = text("SELECT count(*) FROM pg_locks WHERE NOT granted")


def now_cursor(caller: Caller) -> str:
    """The cursor after everything so far."""
    cursor: str = body_of(caller.get("/events?from=now"))["meta"]["next_cursor"]
    return cursor


def since(caller: Caller, cursor: str, per_page: int = 100) -> list[dict[str, Any]]:
    """Every event after a cursor."""
    items: list[dict[str, Any]] = []
    while True:
        page = body_of(caller.get(f"/events?cursor={cursor}&per_page={per_page}"))
        items += page["items"]
        cursor = page["meta"]["next_cursor"]
        if not page["meta"]["has_more"]:
            return items


def told(items: list[dict[str, Any]]) -> list[tuple[str, int | None]]:
    return [(item["type"], item["version"]) for item in items]


class TestEvents:
    def test_tell_what_became_of_a_product(self, root: Caller, make_product: Make) -> None:
        cursor = now_cursor(root)
        product = make_product(price="10.00")
        root.patch(f"/products/{product['id']}", {"price": "12.00"})

        created, updated = [item for item in since(root, cursor) if item["resource_type"] == "product"]

        assert (created["type"], created["version"]) == ("product.created", 1)
        assert (updated["type"], updated["version"]) == ("product.updated", 2)
        assert updated["resource_id"] == product["id"]
        assert updated["data"] == body_of(root.get(f"/products/{product['id']}"))

    def test_tell_deletions_and_returns(self, root: Caller, make_product: Make) -> None:
        product = make_product()
        cursor = now_cursor(root)
        root.delete(f"/products/{product['id']}")
        deleted = since(root, cursor)
        root.post(f"/products/{product['id']}/restore")

        assert told(deleted) == [("product.deleted", 2)]
        assert deleted[0]["data"] is None
        assert told(since(root, cursor)) == [("product.deleted", 2), ("product.restored", 3)]

    def test_tell_of_categories(self, root: Caller) -> None:
        cursor = now_cursor(root)
        category = body_of(root.post("/categories", {"name": "Chairs"}))
        root.patch(f"/categories/{category['id']}", {"name": "Seats"})
        before = since(root, cursor)
        root.delete(f"/categories/{category['id']}")

        assert told(before) == [("category.created", 1), ("category.updated", 2)]
        assert before[0]["data"]["name"] == "Seats"
        assert told(since(root, cursor))[-1] == ("category.deleted", 2)

    def test_are_not_made_of_what_changes_nothing(self, root: Caller, make_product: Make) -> None:
        product = make_product(name="Chair")
        cursor = now_cursor(root)

        root.patch(f"/products/{product['id']}", {"name": "Chair"})
        root.patch(f"/products/{product['id']}", {"name": "Stool"}, if_match='"99"')
        root.post("/products", {"name": "Chair", "price": "1.00", "category_id": 999_999})

        assert since(root, cursor) == []

    def test_of_accounts_are_not_for_this_feed(self, root: Caller) -> None:
        cursor = now_cursor(root)
        root.patch("/users/me", {"username": "another"})

        assert since(root, cursor) == []

    def test_are_made_of_rows_written_in_bulk(self, app: Flask, root: Caller, make_product: Make) -> None:
        old = make_product(sku="OLD", name="Chair")
        cursor = now_cursor(root)
        row = {"price": None, "currency": "USD", "category_id": old["category_id"]}
        with app.app_context(), unit_of_work():
            prices = {"price": Decimal(1)}
            upserts.upsert_products([row | prices | {"sku": sku, "name": sku} for sku in ("NEW-1", "NEW-2", "OLD")])

        items = since(root, cursor)

        assert sorted(told(items)) == [("product.created", 1), ("product.created", 1), ("product.updated", 2)]
        assert {item["data"]["sku"] for item in items} == {"NEW-1", "NEW-2", "OLD"}

    def test_are_not_made_of_a_dry_run(self, alice: Caller, make_product: Make) -> None:
        old = make_product(sku="OLD", name="Chair")
        cursor = now_cursor(alice)
        new = {"sku": "NEW", "name": "New", "price": "1.00", "category_id": old["category_id"]}
        batch = {"dry_run": True, "items": [{"sku": "OLD", "name": "Stool"}, new]}

        answer = alice.post("/products/bulk", batch)

        assert [item["status"] for item in body_of(answer)["items"]] == ["updated", "created"]
        assert since(alice, cursor) == []

    def test_come_one_by_one_from_a_batch(self, app: Flask, root: Caller, make_product: Make) -> None:
        category_id = make_product()["category_id"]
        cursor = now_cursor(root)
        with app.app_context(), unit_of_work():
            price = Decimal(1)
            rows = [
                {"sku": f"S-{n}", "name": "x", "price": price, "currency": "USD", "category_id": category_id}
                for n in range(50)
            ]
            upserts.upsert_products(rows)

        events = since(root, cursor)

        assert told(events) == [("product.created", 1)] * 50
        assert {event["data"]["sku"] for event in events} == {row["sku"] for row in rows}


class TestWhoSeesWhat:
    def test_a_draft_is_hidden_from_plain_users(self, root: Caller, bob: Caller, make_product: Make) -> None:
        cursor = now_cursor(bob)
        product = make_product(status="draft")

        [event] = [item for item in since(bob, cursor) if item["resource_type"] == "product"]

        assert (event["type"], event["resource_id"]) == ("product.hidden", product["id"])
        assert (event["version"], event["data"]) == (None, None)
        assert told(since(root, cursor))[-1] == ("product.created", 1)

    def test_what_is_published_shows(self, alice: Caller, bob: Caller, make_product: Make) -> None:
        product = make_product(status="draft")
        cursor = now_cursor(bob)
        alice.patch(f"/products/{product['id']}", {"status": "active"})

        assert told(since(bob, cursor)) == [("product.updated", 2)]

    def test_a_key_sees_what_its_scopes_allow(self, app: Flask, alice: Caller, make_product: Make) -> None:
        key = body_of(alice.post("/api-keys", {"name": "Feed", "scopes": ["events:read"]}))["key"]
        make_product()

        items = body_of(Caller(app).get("/events", headers={"X-API-Key": key}))["items"]

        assert {item["type"] for item in items} == {"category.hidden", "product.hidden"}

    def test_nobody_without_credentials(self, anonymous: Caller, app_with: Callable[..., Flask]) -> None:
        assert anonymous.on(app_with(catalog_public_read=True)).get("/events").status_code == 401


class TestCursors:
    def test_go_on_where_the_last_page_ended(self, root: Caller, make_product: Make) -> None:
        for _ in range(7):
            make_product()

        assert since(root, "", per_page=2) == since(root, "")
        assert len(since(root, "")) == 8

    def test_stay_good_at_the_end(self, root: Caller, make_product: Make) -> None:
        cursor = now_cursor(root)
        assert since(root, cursor) == []

        make_product()

        assert since(root, cursor)

    def test_do_not_pass_by_a_transaction_that_commits_late(self, app: Flask, root: Caller, backend: str) -> None:
        cursor = now_cursor(root)
        with ThreadPoolExecutor(2) as threads:
            with app.app_context(), unit_of_work():
                categories.create_category(name="Begun first")
                quick = threads.submit(root.post, "/categories", {"name": "Committed first"})
                if backend == "postgresql":
                    assert quick.result(timeout=10).status_code == 201
                early = body_of(threads.submit(root.get, f"/events?cursor={cursor}").result(timeout=10))
            quick.result(timeout=10)

        items = early["items"] + since(root, early["meta"]["next_cursor"])
        assert sorted(item["data"]["name"] for item in items) == ["Begun first", "Committed first"]

    @pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
    def test_are_numbered_without_a_writer_that_waits(self, app: Flask, root: Caller) -> None:
        cursor = now_cursor(root)
        with ThreadPoolExecutor(2) as threads, app.app_context():
            with unit_of_work():
                db.session.execute(select(CatalogueState).with_for_update())
                written = threads.submit(root.post, "/categories", {"name": "Chairs"}).result(timeout=10)
                assert written.status_code == 201
                reading = threads.submit(since, root, cursor)
                while not db.session.scalar(IS_ANYBODY_WAITING):
                    assert not reading.done()
            items = reading.result(timeout=10)

        assert told(items) == [("category.created", 1)]

    @pytest.mark.parametrize("cursor", ["x", "a.b.c", "MTAwMQ.c2ln"])
    def test_of_somebody_else_are_refused(self, root: Caller, cursor: str) -> None:
        assert faults_of(root.get(f"/events?cursor={cursor}")) == [("cursor", "cursor_invalid")]

    @pytest.mark.parametrize("path", ["/events?", "/products?sort_by=id&per_page=1&"])
    def test_are_good_while_their_key_is_rotated_out(
        self, root: Caller, make_product: Make, app_with: Callable[..., Flask], path: str
    ) -> None:
        for _ in range(2):
            make_product()
        before = root.on(app_with(secret_key="o" * 32))
        cursor = body_of(before.get(f"{path}cursor="))["meta"]["next_cursor"]

        forgotten = root.on(app_with(secret_key="n" * 32))
        rotated = root.on(app_with(secret_key="n" * 32, previous_secret_keys=("p" * 32, "o" * 32)))

        assert faults_of(forgotten.get(f"{path}cursor={cursor}")) == [("cursor", "cursor_invalid")]
        page = rotated.get(f"{path}cursor={cursor}")
        assert page.status_code == 200
        assert (following := body_of(page)["meta"]["next_cursor"]) is None or (
            forgotten.get(f"{path}cursor={following}").status_code == 200
        )

    def test_and_now_exclude_each_other(self, root: Caller) -> None:
        answer = root.get(f"/events?from=now&cursor={now_cursor(root)}")

        assert faults_of(answer) == [("from", "cursor_and_from")]

    def test_older_than_what_is_kept_are_gone(
        self, app: Flask, root: Caller, make_product: Make, runner: FlaskCliRunner
    ) -> None:
        cursor = now_cursor(root)
        make_product()
        fresh = now_cursor(root)
        with app.app_context(), unit_of_work():
            db.session.execute(update(ChangeEvent).values(created_at=clock.now() - timedelta(days=31)))
        make_product(category_id=body_of(root.get("/categories"))["items"][0]["id"])

        assert runner.invoke(args=["prune"]).exit_code == 0

        expired = root.get(f"/events?cursor={cursor}")
        assert (expired.status_code, code_of(expired)) == (410, "cursor_expired")
        assert told(since(root, fresh)) == [("product.created", 1)]
        assert told(since(root, "")) == [("product.created", 1)]

    def test_of_now_are_good_when_everything_is_forgotten(
        self, app: Flask, root: Caller, make_product: Make, runner: FlaskCliRunner
    ) -> None:
        make_product()
        with app.app_context(), unit_of_work():
            db.session.execute(update(ChangeEvent).values(created_at=clock.now() - timedelta(days=31)))
        runner.invoke(args=["prune"])
        cursor = now_cursor(root)

        make_product()

        assert rows_of(app, "change_events")
        assert told(since(root, cursor)) == [("product.created", 1)]
