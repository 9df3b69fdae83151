"""Rows that are inserted without the mapper's doing: the mapper would have left the same behind."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
import time_machine
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Table, inspect, select
from sqlalchemy.exc import IntegrityError

from app.core import clock
from app.core.audit import NO_ORIGIN, Origin, origin, record_event
from app.core.fastsql import insert_row
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.categories.models import Category
from app.features.products.models import DEFAULTS, Product, ProductStatus, new_row
from tests.conftest import empty

some = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
NOW = datetime(2026, 5, 17, 12, 0, 0, 123456, tzinfo=UTC)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
scalars = st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts
products = st.fixed_dictionaries(
    {
        "sku": st.text("ABCabc0189._/+-", min_size=1, max_size=64),
        "slug": st.text("abc-", min_size=1, max_size=140),
        "gtin": st.none() | st.text("0123456789", min_size=8, max_size=14),
        "mpn": st.none() | texts,
        "weight_g": st.none() | st.integers(0, 10**9),
        "track_stock": st.booleans(),
        "name": texts,
        "description": texts,
        "price": st.decimals(Decimal("0.01"), Decimal("9999999999.99"), places=2),
        "currency": st.sampled_from(["EUR", "USD"]),
        "category_id": st.just(1),
        "stock": st.sampled_from([0, 1, 2**53]),
        "status": st.sampled_from(ProductStatus),
        "tags": st.lists(texts, max_size=3),
        "attributes": st.dictionaries(texts, scalars, max_size=3),
        "external_id": st.none() | texts,
    }
)


def rows_of(table: Table) -> list[dict[str, Any]]:
    """Every row, without what counts up by itself."""
    rows = [dict(row) for row in db.session.execute(select(table).order_by(table.c.id)).mappings()]
    for row in rows:
        del row["id"]
        row.pop("resource_id", None)
        (row.get("after") or {}).pop("id", None)
    return rows


def left_behind(app: Flask, product: dict[str, Any], *, by_mapper: bool) -> tuple[Any, dict[str, list[dict[str, Any]]]]:
    """What is told of a new product, and all the rows that it left in the database."""
    empty(app)
    with app.app_context():
        origin.set(Origin(user_id=7, session_id=8, request_id="r" * 8, address="::1"))
        with unit_of_work():
            db.session.add(Category(id=1, name="Chairs", slug="chairs", created_at=NOW, updated_at=NOW))
        with unit_of_work():
            if by_mapper:
                row: Any = Product(**product)
                db.session.add(row)
                db.session.flush()
                db.session.refresh(row)
            else:
                row = insert_row(Product, new_row(product, DEFAULTS, clock.now()))
            told = [c.key for c in inspect(Product).columns if c.info.get("audited", True) and c.key != "id"]
            values = {name: (type(value := getattr(row, name)), value) for name in told}
        tables = ("products", "audit_events", "change_log")
        found = {name: rows_of(db.metadata.tables[name]) for name in tables}
        for change in found["change_log"]:
            # The number of the transaction, which PostgreSQL alone has.
            assert change.pop("xid") or db.engine.dialect.name == "sqlite"
    return values, found


@pytest.fixture(autouse=True)
def nobody() -> Iterator[None]:
    """Afterwards, deeds come from nowhere again."""
    token = origin.set(NO_ORIGIN)
    yield
    origin.reset(token)


class TestAnyProduct:
    @some
    @given(products)
    def test_is_what_the_mapper_makes_of_it(self, app: Flask, product: dict[str, Any]) -> None:
        with time_machine.travel(NOW, tick=False):
            told, rows = left_behind(app, product, by_mapper=False)
            told_by_mapper, rows_by_mapper = left_behind(app, product, by_mapper=True)

        assert rows == rows_by_mapper
        assert [len(found) for found in rows.values()] == [1, 2, 2]
        assert rows["audit_events"][1]["after"]["sku"] == product["sku"]
        # The status is a name, whose class the database does not know.
        assert {**told, "status": told["status"][1]} == {**told_by_mapper, "status": told_by_mapper["status"][1]}


class TestAnInsertion:
    VALUES = {"sku": "A-1", "name": "Chair", "price": Decimal("1.00"), "currency": "EUR", "category_id": 1}

    def insert(self, **changed: Any) -> Any:
        values = {**self.VALUES, **changed}
        return insert_row(Product, new_row({"slug": values["sku"].lower(), **values}, DEFAULTS, clock.now()))

    @pytest.fixture
    def filed(self, app: Flask) -> Flask:
        with app.app_context(), unit_of_work():
            db.session.add(Category(id=1, name="Chairs", slug="chairs"))
        return app

    def test_that_is_undone_leaves_nothing(self, filed: Flask) -> None:
        with filed.app_context():
            before = {name: len(rows_of(db.metadata.tables[name])) for name in ("audit_events", "change_log")}
            with suppress(ZeroDivisionError), unit_of_work():
                self.insert()
                raise ZeroDivisionError
            after = {name: len(rows_of(db.metadata.tables[name])) for name in ("audit_events", "change_log")}

            assert rows_of(db.metadata.tables["products"]) == []
            assert after == before

    def test_that_is_undone_to_a_savepoint_leaves_nothing(self, filed: Flask) -> None:
        with filed.app_context():
            with unit_of_work():
                self.insert(sku="A-1")
                with suppress(ZeroDivisionError), db.session.begin_nested():
                    self.insert(sku="A-2")
                    raise ZeroDivisionError
                with db.session.begin_nested():
                    self.insert(sku="A-3")

            told = [row["after"] for row in rows_of(db.metadata.tables["audit_events"])]
            assert [after["sku"] for after in told if "sku" in after] == ["A-1", "A-3"]
            events = [row["type"] for row in rows_of(db.metadata.tables["change_log"])]
            assert events == ["category.created", "product.created", "product.created"]
            assert {row["sku"] for row in rows_of(db.metadata.tables["products"])} == {"A-1", "A-3"}

    def test_that_fails_takes_along_what_was_put_off_afterwards(self, filed: Flask) -> None:
        with filed.app_context():
            with unit_of_work():
                self.insert(sku="A-1")
                with suppress(IntegrityError), db.session.begin_nested():
                    try:
                        self.insert(sku="A-1")
                    finally:
                        record_event("product.doubted", resource_type="product")
                record_event("product.praised", resource_type="product")

            told = [row["action"] for row in rows_of(db.metadata.tables["audit_events"])]
            assert told == ["category.created", "product.created", "product.praised"]
