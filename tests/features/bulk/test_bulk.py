"""Upserting many products by sku, and walking through all."""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from threading import Event
from typing import Any

import pytest
import time_machine
from flask import Flask
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from app.core import clock
from app.core.errors import Invalid
from app.core.query_stats import QueryStats, current_stats
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.bulk import upserts
from app.features.bulk.upserts import Effect, Upserted
from app.features.categories.service import create_category
from app.features.exports import service as exports
from app.features.products.models import Product, ProductIncomplete, search_text

EARLY, LATE = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)

Upsert = Callable[..., dict[str, Upserted | Invalid]]
Read = Callable[[str], Product]


@pytest.fixture
def category_id(app: Flask) -> int:
    with app.app_context(), unit_of_work():
        return create_category(name="Chairs").id


@pytest.fixture
def upsert(app: Flask, category_id: int) -> Upsert:
    """Upsert rows; a test mentions what matters."""

    def upsert(*rows: dict[str, Any]) -> dict[str, Upserted | Invalid]:
        default = {"name": "Chair", "price": Decimal("9.90"), "currency": "USD", "category_id": category_id}
        with app.app_context(), unit_of_work():
            return upserts.upsert_products([{**default, **row} for row in rows])

    return upsert


@pytest.fixture
def read(app: Flask) -> Read:
    """The living product of a sku."""

    def read(sku: str) -> Product:
        with app.app_context(), unit_of_work():
            return db.session.scalars(select(Product).where(Product.sku == sku, Product.deleted_at.is_(None))).one()

    return read


class TestUpsertProducts:
    def test_creates_what_is_not_there(self, upsert: Upsert, read: Read) -> None:
        upserted = upsert({"sku": "A", "name": "Oak chair", "tags": ["oak"], "attributes": {"width": 45}})

        product = read("A")
        assert upserted == {"A": Upserted(product.id, Effect.CREATED)}
        assert (product.name, product.tags, product.attributes) == ("Oak chair", ["oak"], {"width": 45})

    def test_gives_a_new_product_the_defaults_and_its_first_version(self, upsert: Upsert, read: Read) -> None:
        with time_machine.travel(EARLY, tick=False):
            upsert({"sku": "A"})

        product = read("A")
        assert (product.description, product.stock, product.status, product.external_id) == ("", 0, "active", None)
        assert (product.version, product.created_at, product.updated_at) == (1, EARLY, EARLY)

    def test_updates_what_is_there(self, upsert: Upsert, read: Read) -> None:
        with time_machine.travel(EARLY, tick=False):
            upsert({"sku": "A"})
        with time_machine.travel(LATE, tick=False):
            upserted = upsert({"sku": "A", "price": Decimal("12.50")})

        product = read("A")
        assert upserted == {"A": Upserted(product.id, Effect.UPDATED)}
        assert (product.price, product.version) == (Decimal("12.50"), 2)
        assert (product.created_at, product.updated_at) == (EARLY, LATE)

    def test_keeps_what_a_row_does_not_state(self, upsert: Upsert, read: Read) -> None:
        upsert({"sku": "A", "stock": 7, "tags": ["oak"], "description": "Solid."})
        upsert({"sku": "A", "name": "Stool"})

        product = read("A")
        assert (product.stock, product.tags, product.description) == (7, ["oak"], "Solid.")

    def test_does_not_touch_what_is_the_same(self, upsert: Upsert, read: Read) -> None:
        row = {"sku": "A", "stock": 7, "tags": ["oak"], "attributes": {"b": 1.5, "a": True}, "external_id": "x"}
        with time_machine.travel(EARLY, tick=False):
            upsert(row)
        with time_machine.travel(LATE, tick=False):
            upserted = upsert(row)

        product = read("A")
        assert upserted == {"A": Upserted(product.id, Effect.UNCHANGED)}
        assert (product.version, product.updated_at) == (1, EARLY)

    def test_tells_true_from_one(self, upsert: Upsert, read: Read) -> None:
        upsert({"sku": "A", "attributes": {"new": 1}})
        upsert({"sku": "A", "attributes": {"new": True}})

        assert read("A").attributes["new"] is True

    def test_keeps_the_search_text(self, upsert: Upsert, read: Read) -> None:
        upsert({"sku": "A", "tags": ["Été"]})
        upsert({"sku": "A", "name": "Café table"})

        assert read("A").search_text == search_text(name="Café table", sku="A", description="", tags=["Été"])

    def test_leaves_a_deleted_product_of_the_sku_alone(self, upsert: Upsert, read: Read, app: Flask) -> None:
        upsert({"sku": "A", "name": "Old"})
        with app.app_context(), unit_of_work():
            db.session.scalars(select(Product)).one().deleted_at = clock.now()

        upserted = upsert({"sku": "A", "name": "New"})

        assert upserted == {"A": Upserted(read("A").id, Effect.CREATED)}
        assert read("A").name == "New"

    def test_stores_no_amount_that_would_be_rounded(self, app: Flask, category_id: int) -> None:
        row = {"sku": "A", "name": "Chair", "price": Decimal("9.99999"), "currency": "USD", "category_id": category_id}

        with app.app_context(), unit_of_work(), pytest.raises(Exception, match="at most four decimals"):
            upserts.insert_products([row])

    def test_is_undone_with_its_transaction(self, upsert: Upsert, app: Flask) -> None:
        with pytest.raises(IntegrityError):
            upsert({"sku": "A"}, {"sku": "B", "category_id": 999_999})

        with app.app_context(), unit_of_work(reading=True):
            assert db.session.scalars(select(Product)).all() == []

    def test_refuses_a_row_that_cannot_make_a_product_and_no_other(
        self, app: Flask, upsert: Upsert, read: Read
    ) -> None:
        upsert({"sku": "A"})

        with app.app_context(), unit_of_work():
            upserted = upserts.upsert_products([{"sku": sku, "name": "Stool"} for sku in ("A", "B")])

        refused = upserted["B"]
        assert upserted["A"] == Upserted(read("A").id, Effect.UPDATED)
        assert isinstance(refused, ProductIncomplete)
        assert [fault.pointer for fault in refused.faults] == ["/price", "/currency", "/category_id"]

    def test_takes_a_handful_of_statements_for_a_thousand_rows(self, upsert: Upsert) -> None:
        upsert(*({"sku": f"S{number}"} for number in range(500)))
        token = current_stats.set(counted := QueryStats())

        upsert(*({"sku": f"S{number}", "stock": 5} for number in range(1000)))

        current_stats.reset(token)
        assert counted.statements <= 13

    def test_does_nothing_for_no_rows(self, upsert: Upsert) -> None:
        assert upsert() == {}


class TestConcurrentUpserts:
    def test_keep_what_the_other_wrote(self, app: Flask, upsert: Upsert, read: Read, category_id: int) -> None:
        upsert({"sku": "A"})
        written, go_on = Event(), Event()

        def rename_slowly() -> None:
            row = {"sku": "A", "name": "Stool"}
            with app.app_context(), unit_of_work():
                upserts.upsert_products([row])
                written.set()
                go_on.wait(0.5)

        with ThreadPoolExecutor(1) as pool:
            renamed = pool.submit(rename_slowly)
            written.wait(10)
            with app.app_context(), unit_of_work():
                upserts.upsert_products([{"sku": "A", "stock": 5}])
            go_on.set()
            renamed.result()

        assert (read("A").name, read("A").stock, read("A").version, read("A").live) == ("Stool", 5, 2, 1)

    def test_create_each_product_once_and_lose_no_update(self, app: Flask, upsert: Upsert, read: Read) -> None:
        skus = [f"S{number:02}" for number in range(40)]

        def work(worker: int) -> list[dict[str, Upserted | Invalid]]:
            draw = random.Random(worker)
            rounds = []
            for number in range(6):
                rows = [{"sku": sku, "stock": worker * 100 + number} for sku in draw.sample(skus, 25)]
                rounds.append(upsert(*rows))
            return rounds

        with ThreadPoolExecutor(4) as pool:
            effects = [
                (sku, done.effect)
                for rounds in pool.map(work, range(4))
                for upserted in rounds
                for sku, done in upserted.items()
                if isinstance(done, Upserted)
            ]

        for sku in {sku for sku, _ in effects}:
            mine = [effect for named, effect in effects if named == sku]
            assert mine.count(Effect.CREATED) == 1
            # Only their stock differs.
            assert (read(sku).version, read(sku).live) == (1, mine.count(Effect.UPDATED))


class TestWalkProducts:
    def test_visits_the_living_ones_in_batches_by_id(self, app: Flask, upsert: Upsert) -> None:
        upsert(*({"sku": f"S{number}"} for number in range(5)))
        with app.app_context(), unit_of_work():
            db.session.scalars(select(Product).where(Product.sku == "S2")).one().deleted_at = clock.now()

        with app.app_context(), unit_of_work(reading=True):
            batches = [[row["sku"] for row in batch] for batch in exports.iter_products(batch=2)]

        assert batches == [["S0", "S1"], ["S3", "S4"]]

    def test_tells_the_name_of_the_category(self, app: Flask, upsert: Upsert) -> None:
        upsert({"sku": "A"})

        with app.app_context(), unit_of_work(reading=True):
            ((row,),) = exports.iter_products()

        assert row["category"] == "Chairs"

    def test_visits_only_what_meets_the_conditions(self, app: Flask, upsert: Upsert) -> None:
        upsert({"sku": "A", "stock": 0}, {"sku": "B", "stock": 1})

        with app.app_context(), unit_of_work(reading=True):
            ((row,),) = exports.iter_products(Product.stock > 0)

        assert row["sku"] == "B"
