"""Downloading products as a file."""

import csv
import io
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import pytest
from flask import Flask
from sqlalchemy import update
from sqlalchemy.exc import OperationalError
from werkzeug.test import TestResponse

from app.core import clock, snapshots
from app.core.breaker import breaker
from app.core.snapshots import SnapshotExpired
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.bulk import upserts
from app.features.categories.models import Category
from app.features.events import numbering
from app.features.events import service as events
from app.features.exports import service as exports
from app.features.exports.files import COLUMNS
from app.features.products.models import PRODUCTS, Product
from tests.conftest import Caller, body_of, code_of, faults_of
from tests.features.events.test_events_routes import since

Make = Callable[..., dict[str, Any]]
Made = TypeVar("Made")
#: More than two batches.
MANY = 2500


def rows(answer: TestResponse) -> list[dict[str, str]]:
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return list(csv.DictReader(io.StringIO(answer.get_data(as_text=True), newline="")))


@pytest.fixture
def many(app: Flask, make_category: Make) -> None:
    """Products for three batches."""
    default = {"name": "Thing", "price": Decimal("1.50"), "currency": "USD", "category_id": make_category()["id"]}
    with app.app_context(), unit_of_work():
        upserts.insert_products([{**default, "sku": f"S-{number}"} for number in range(MANY)])


def checked_out(app: Flask) -> int:
    """How many connections of the pool are in use."""
    with app.app_context():
        return int(db.engine.pool.checkedout())  # type: ignore[attr-defined]  # both databases' pools count


@contextmanager
def streaming(caller: Caller) -> Iterator[Iterator[bytes]]:
    """The pieces of a download, which the server has yet to send; the connection is closed at the end."""
    answer = caller.get("/products/export", buffered=False)
    assert answer.status_code == 200
    try:
        yield answer.iter_encoded()
    finally:
        answer.close()


def in_a_thread(work: Callable[[], Made]) -> Made:
    """What ``work`` returns, done while this thread has the contexts of a response that it is sending."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()


def db_name(app: Flask) -> str:
    """The name of the database."""
    with app.app_context():
        return db.engine.dialect.name


def skus(answer: TestResponse) -> set[str]:
    return {row["sku"] for row in rows(answer)}


class TestExportProducts:
    def test_is_a_csv_file_unless_told_otherwise(self, alice: Caller, make_product: Make) -> None:
        product = make_product(name="=1+1", tags=["a|b"], attributes={"width": 4})

        answer = alice.get("/products/export")

        assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
        assert answer.headers["Content-Disposition"] == 'attachment; filename="products.csv"'
        assert answer.headers["Cache-Control"] == "no-store"
        assert "ETag" not in answer.headers
        assert "Content-Length" not in answer.headers
        (row,) = rows(answer)
        assert tuple(row) == COLUMNS
        assert (row["sku"], row["name"], row["tags"]) == (product["sku"], "'=1+1", "a\\|b")

    def test_is_ndjson_when_asked_for(self, alice: Caller, make_product: Make) -> None:
        product = make_product(name="=1+1", tags=["a|b"])

        answer = alice.get("/products/export?format=ndjson")

        assert answer.headers["Content-Type"] == "application/x-ndjson"
        assert answer.headers["Content-Disposition"] == 'attachment; filename="products.ndjson"'
        (line,) = answer.get_data(as_text=True).splitlines()
        assert json.loads(line).keys() == set(COLUMNS)
        assert {name: json.loads(line)[name] for name in ("sku", "name", "tags", "price")} == {
            name: product[name] for name in ("sku", "name", "tags", "price")
        }

    @pytest.mark.parametrize("file_format", ["csv", "ndjson"])
    def test_of_nothing_is_a_file_too(self, alice: Caller, file_format: str) -> None:
        answer = alice.get(f"/products/export?format={file_format}")

        assert answer.status_code == 200
        assert answer.get_data(as_text=True) == {"csv": ",".join(COLUMNS) + "\r\n", "ndjson": ""}[file_format]

    def test_has_what_the_list_has(self, alice: Caller, make_product: Make, make_category: Make) -> None:
        other = make_category()["id"]
        make_product(sku="A", name="Oak chair", price="10.00", tags=["oak"])
        make_product(sku="B", name="Oak table", price="20.00", stock=3, currency="EUR")
        make_product(sku="C", name="Lamp", price="30.00", status="draft", category_id=other)
        gone = make_product(sku="D")
        with alice.app.app_context(), unit_of_work():
            deleted = PRODUCTS.update().where(PRODUCTS.c.id == gone["id"])
            db.session.execute(deleted.values(deleted_at=clock.now()))

        asked = {
            "": {"A", "B", "C"},
            "search=oak": {"A", "B"},
            "search=oak&in_stock=true": {"B"},
            "min_price=20&max_price=30": {"B", "C"},
            "status=draft": {"C"},
            "currency=EUR": {"B"},
            "sku=A": {"A"},
            "tag=oak": {"A"},
            f"category_id={other}": {"C"},
        }
        assert {query: skus(alice.get(f"/products/export?{query}")) for query in asked} == asked
        assert {
            query: {item["sku"] for item in alice.get(f"/products?{query}").get_json()["items"]} for query in asked
        } == asked

    def test_has_more_than_a_batch(self, alice: Caller, many: None) -> None:
        assert skus(alice.get("/products/export")) == {f"S-{number}" for number in range(MANY)}

    @pytest.mark.parametrize("file_format", ["csv", "ndjson"])
    def test_begins_with_the_ids_if_wanted(self, alice: Caller, make_product: Make, file_format: str) -> None:
        product = make_product()

        answer = alice.get(f"/products/export?with_ids=true&format={file_format}")

        if file_format == "csv":
            (row,) = rows(answer)
            assert (tuple(row), row["id"]) == (("id", *COLUMNS), str(product["id"]))
        else:
            row = json.loads(answer.get_data())
            assert (tuple(row), row["id"]) == (("id", *COLUMNS), product["id"])

    @pytest.mark.parametrize("query", ["format=xml", "page=1", "cursor=", "sort_by=name", "per_page=5", "fields=id"])
    def test_refuses_what_is_for_lists(self, alice: Caller, query: str) -> None:
        assert [where for where, _ in faults_of(alice.get(f"/products/export?{query}"))] == [query.partition("=")[0]]

    def test_is_for_who_writes_products(self, root: Caller, bob: Caller, anonymous: Caller) -> None:
        assert root.get("/products/export").status_code == 200
        assert bob.get("/products/export").status_code == 403
        assert anonymous.get("/products/export").status_code == 401

    def test_of_a_database_that_fails_at_once_is_no_file(self, alice: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: Any) -> Iterator[Any]:
            yield from iter(broken, None)

        def broken() -> None:
            raise OperationalError("SELECT", {}, Exception("connection refused"))

        monkeypatch.setattr(exports, "iter_products", fail)

        answer = alice.get("/products/export")

        assert (answer.status_code, code_of(answer)) == (503, "database_unavailable")

    def test_of_a_database_that_fails_on_the_way_breaks_off(
        self, alice: Caller, monkeypatch: pytest.MonkeyPatch, make_product: Make
    ) -> None:
        make_product()
        walk = exports.iter_products

        def fail(*conditions: Any) -> Iterator[Any]:
            yield from walk(*conditions)
            yield from walk(*conditions)
            raise OperationalError("SELECT", {}, Exception("connection refused"))

        monkeypatch.setattr(exports, "iter_products", fail)

        with streaming(alice) as pieces, pytest.raises(OperationalError):
            list(pieces)

        assert checked_out(alice.app) == 0


@pytest.mark.usefixtures("many")
class TestItsSnapshot:
    def test_shows_all_rows_at_one_moment(self, app: Flask, alice: Caller) -> None:
        def change(number: int) -> None:
            with app.app_context(), unit_of_work():
                db.session.execute(update(Product).values(price=Decimal(number), name=f"After {number}"))
                db.session.execute(update(Category).values(name=f"After {number}"))

        with streaming(alice) as pieces:
            content = []
            for piece in pieces:
                content.append(piece)
                # Between any two batches.
                in_a_thread(partial(change, len(content)))

        found = list(csv.DictReader(io.StringIO(b"".join(content).decode(), newline="")))
        assert len(content) == 4
        assert len(found) == MANY
        assert {(row["price"], row["name"], row["category"]) for row in found} == {("1.50", "Thing", "Category 1")}

    def test_holds_a_connection_until_the_last_batch_and_no_place(
        self, alice: Caller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(breaker, "places", 1)
        held, statuses = [], []
        with streaming(alice) as pieces:
            for _ in pieces:
                held.append(checked_out(alice.app))
                # It takes the only place.
                statuses.append(in_a_thread(lambda: alice.get("/products?per_page=1").status_code))

            assert checked_out(alice.app) == 0
        assert held == [1] * 4
        assert statuses == [200] * 4

    @pytest.mark.parametrize("number", range(5))
    def test_ends_where_the_download_is_cut(self, alice: Caller, number: int) -> None:
        with streaming(alice) as pieces:
            content = list(islice(pieces, number))

        assert len(content) == min(number, 4)
        assert checked_out(alice.app) == 0

    def test_ends_with_a_request_for_the_head(self, alice: Caller) -> None:
        answer = alice.call("HEAD", "/products/export", buffered=False)
        answer.close()

        assert "Events-Cursor" in answer.headers
        assert checked_out(alice.app) == 0

    def test_ends_where_the_first_batch_fails(self, alice: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(exports, "iter_products", lambda *_: map(int, ["no number"]))

        assert alice.get("/products/export").status_code == 500
        assert checked_out(alice.app) == 0

    def test_is_opened_anew_where_it_was_lost_at_once(self, alice: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
        walk, tried = exports.iter_products, []

        def lose_the_first(*conditions: Any) -> Iterator[Any]:
            tried.append(1)
            if len(tried) == 1:
                raise OperationalError("SELECT", {}, Exception("gone"), connection_invalidated=True)
            yield from walk(*conditions)

        monkeypatch.setattr(exports, "iter_products", lose_the_first)

        assert len(rows(alice.get("/products/export"))) == MANY
        assert checked_out(alice.app) == 0

    def test_is_not_read_for_ever(self, alice: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
        with streaming(alice) as pieces:
            next(pieces)
            later = time.monotonic() + snapshots.MAX_SECONDS + 1
            monkeypatch.setattr("app.core.snapshots.time.monotonic", lambda: later)

            with pytest.raises(SnapshotExpired):
                list(pieces)

        assert checked_out(alice.app) == 0


class TestEventsCursor:
    def test_is_of_the_same_moment(self, alice: Caller, make_product: Make) -> None:
        before = make_product(sku="BEFORE")
        answer = alice.get("/products/export", buffered=False)
        after = make_product(sku="AFTER")
        alice.patch(f"/products/{before['id']}", {"name": "New"})

        assert skus(answer) == {"BEFORE"}
        assert [(item["type"], item["resource_id"]) for item in since(alice, answer.headers["Events-Cursor"])] == [
            ("product.created", after["id"]),
            ("product.updated", before["id"]),
        ]

    def test_belongs_to_filtered_exports_too(self, alice: Caller, make_product: Make) -> None:
        make_product(sku="A")
        answer = alice.get("/products/export?sku=B")

        assert skus(answer) == set()
        assert since(alice, answer.headers["Events-Cursor"]) == []

    def test_is_an_earlier_one_where_not_all_is_numbered(
        self, alice: Caller, make_product: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(numbering, "BATCH", 1)
        monkeypatch.setattr(numbering, "ATTEMPTS", 2)
        made = [make_product()["id"] for _ in range(6)]

        answer = alice.get("/products/export?with_ids=true")

        assert {int(row["id"]) for row in rows(answer)} == set(made)
        seen = [item["resource_id"] for item in since(alice, answer.headers["Events-Cursor"])]
        assert seen == made[len(made) - len(seen) :]
        assert bool(seen) == (db_name(alice.app) == "postgresql")

    def test_is_good_where_every_event_has_expired(self, app: Flask, alice: Caller, make_product: Make) -> None:
        make_product()
        since(alice, "")
        with app.app_context():
            with unit_of_work():
                events.expire_events(before=clock.now() + timedelta(days=1))
            with unit_of_work():
                assert events.prune_events()

        cursor = alice.get("/products/export").headers["Events-Cursor"]

        made = make_product()
        assert [item["resource_id"] for item in since(alice, cursor)] == [made["id"]]

    def test_is_for_those_who_may_read_events(self, alice: Caller, anonymous: Caller, make_product: Make) -> None:
        make_product(sku="A")
        keys = {
            scope: body_of(alice.post("/api-keys", {"name": scope, "scopes": ["products:write", scope]}))["key"]
            for scope in ("products:read", "events:read")
        }

        has_cursor = {}
        for scope, key in keys.items():
            answer = anonymous.get("/products/export", headers={"X-API-Key": key})
            assert skus(answer) == {"A"}
            has_cursor[scope] = "Events-Cursor" in answer.headers

        assert has_cursor == {"products:read": False, "events:read": True}
