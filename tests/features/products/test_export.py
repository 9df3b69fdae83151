"""Downloading products as a file."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask
from sqlalchemy.exc import OperationalError
from werkzeug.test import TestResponse

from app.core import clock
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.products import bulk
from app.features.products.files import COLUMNS
from app.features.products.models import PRODUCTS
from tests.conftest import Caller, code_of, faults_of

Make = Callable[..., dict[str, Any]]


def rows(answer: TestResponse) -> list[dict[str, str]]:
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return list(csv.DictReader(io.StringIO(answer.get_data(as_text=True), newline="")))


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

    def test_has_more_than_a_batch(self, app: Flask, alice: Caller, make_category: Make) -> None:
        default = {"name": "Thing", "price": Decimal("1.50"), "currency": "USD", "category_id": make_category()["id"]}
        with app.app_context(), unit_of_work():
            bulk.insert_products([{**default, "sku": f"S-{number}"} for number in range(2500)])

        assert skus(alice.get("/products/export")) == {f"S-{number}" for number in range(2500)}

    def test_holds_no_connection_between_two_batches(self, app: Flask, alice: Caller, make_category: Make) -> None:
        default = {"name": "Thing", "price": Decimal("1.50"), "currency": "USD", "category_id": make_category()["id"]}
        with app.app_context(), unit_of_work():
            bulk.insert_products([{**default, "sku": f"S-{number}"} for number in range(2500)])

        answer = alice.get("/products/export", buffered=False)
        held = []
        for _ in answer.iter_encoded():
            with app.app_context():
                held.append(db.engine.pool.checkedout())  # type: ignore[attr-defined]  # both databases' pools count

        assert len(held) == 4
        assert set(held) == {0}

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

        monkeypatch.setattr(bulk, "iter_products", fail)

        answer = alice.get("/products/export")

        assert (answer.status_code, code_of(answer)) == (503, "database_unavailable")

    def test_of_a_database_that_fails_on_the_way_breaks_off(
        self, alice: Caller, monkeypatch: pytest.MonkeyPatch, make_product: Make
    ) -> None:
        make_product()
        walk = bulk.iter_products

        def fail(*conditions: Any) -> Iterator[Any]:
            yield from walk(*conditions)
            yield from walk(*conditions)
            raise OperationalError("SELECT", {}, Exception("connection refused"))

        monkeypatch.setattr(bulk, "iter_products", fail)

        answer = alice.get("/products/export", buffered=False)

        with pytest.raises(OperationalError):
            list(answer.iter_encoded())
