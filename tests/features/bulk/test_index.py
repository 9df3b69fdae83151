"""What batches leave in the index of values: the same as writing each product by itself."""

from collections.abc import Callable
from typing import Any

from flask import Flask
from sqlalchemy import select

from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.products.models import PRODUCTS
from app.features.products.values import TABLE, Definitions, listed_id_of, store
from tests.conftest import Caller

Make = Callable[..., dict[str, Any]]


def index_of(app: Flask) -> list[Any]:
    """The rows of the index."""
    with app.app_context(), unit_of_work(reading=True):
        return sorted(map(tuple, db.session.execute(select(TABLE))), key=repr)


def made_anew(app: Flask) -> list[Any]:
    """The rows of the index, written again from the products."""
    with app.app_context(), unit_of_work():
        living = select(PRODUCTS).where(PRODUCTS.c.deleted_at.is_(None))
        rows = {row["id"]: row for row in db.session.execute(living).mappings()}
        definitions = Definitions.of(rows.values())
        assessed = {one: definitions.assess(row, rows.get(row["parent_id"])) for one, row in rows.items()}
        store({one: (listed_id_of(row), assessed[one].values) for one, row in rows.items()})
    return index_of(app)


def test_is_that_of_the_products_after_each_batch(
    app: Flask, alice: Caller, make_category: Make, make_attribute: Make, make_product: Make
) -> None:
    for code in ("size", "fabric"):
        make_attribute(code=code, filterable=True)
    category = make_category()["id"]
    make_product(sku="SINGLE", tags=["old"], attributes={"fabric": "silk"})
    parent = {"sku": "P", "name": "Shirt", "category_id": category, "options": ["size"], "tags": ["a", "b"]}
    batches: list[list[dict[str, Any]]] = [
        [{"sku": "V1", "parent_sku": "P", "options": {"size": "M"}, "price": "1.00"}, parent],
        [{"sku": "P", "tags": ["c"]}],
        [{"sku": "P", "attributes": {"fabric": "linen"}}],
        [{"sku": "V1", "status": "draft"}, {"sku": "V2", "parent_sku": "P", "options": {"size": "L"}, "price": "2.00"}],
        [{"sku": "V1", "options": {"size": "S"}, "status": "active"}],
        [{"sku": "SINGLE", "parent_sku": "P", "options": {"size": "XL"}}],
        [{"sku": "P", "attributes": {"fabric": "wool"}, "tags": []}, {"sku": "V2", "attributes": {"fabric": "lace"}}],
    ]

    for batch in batches:
        answer = alice.post("/products/bulk", {"items": batch})
        assert answer.status_code == 200, answer.get_data(as_text=True)
        found = index_of(app)
        assert found == made_anew(app), batch
        assert found
