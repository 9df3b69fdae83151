"""Batches that mention the same families at once, beside single writes and movements."""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event, func, select

from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.products import families
from app.features.products.ledger import MOVEMENTS
from app.features.products.models import INHERITED, PRODUCTS, ProductKind
from tests.conftest import Caller, body_of

Make = Callable[..., dict[str, Any]]
Item = dict[str, Any]

THREADS, ROUNDS, PARENTS, SIZES = 8, 12, ["P0", "P1", "P2"], "SML"


@pytest.fixture
def ids(alice: Caller, make_category: Make, make_product: Make) -> dict[str, int]:
    """Three families and six single products; the ids by sku."""
    category_id = make_category()["id"]
    parents = [{"sku": sku, "name": sku, "category_id": category_id, "options": ["size"]} for sku in PARENTS]
    variants = [
        {"sku": f"{sku}-{size}", "parent_sku": sku, "price": "9.00", "stock": 50, "options": {"size": size}}
        for sku in PARENTS
        for size in SIZES
    ]
    answer = body_of(alice.post("/products/bulk", {"items": [*variants, *parents]}))
    singles = [make_product(sku=f"S{number}", stock=5, currency="USD") for number in range(6)]
    return {one["sku"]: one["id"] for one in (*answer["items"], *singles)}


def batch(draw: random.Random, ids: dict[str, int], number: str) -> list[Item]:
    """Items of siblings and parents in a random order; now and then a new variant, and a single that becomes one."""
    items = [
        {"sku": sku, "name": f"Name {number}"} if sku in PARENTS else {"sku": sku, "stock": draw.randint(1, 90)}
        for sku in draw.sample([sku for sku in ids if not sku.startswith("S")], 6)
    ]
    items += [{"sku": f"N{number}", "parent_sku": draw.choice(PARENTS), "price": "3.00"}] if draw.random() < 0.3 else []
    items += [{"sku": f"S{draw.randrange(6)}", "parent_sku": draw.choice(PARENTS)}] if draw.random() < 0.2 else []
    draw.shuffle(items)
    return items


def work(caller: Caller, ids: dict[str, int], seed: int) -> list[int]:
    """What a client that writes now this way and now that is answered."""
    draw = random.Random(seed)
    statuses = []
    for number in range(ROUNDS):
        sold, parent = ids[f"{draw.choice(PARENTS)}-{draw.choice(SIZES)}"], ids[draw.choice(PARENTS)]
        items = batch(draw, ids, f"{seed}-{number}")
        writes: list[Callable[[], Any]] = [
            partial(caller.post, "/products/bulk", {"items": items, "mode": "partial"}),
            partial(caller.patch, f"/products/{sold}", {"price": f"{number + 1}.00"}),
            partial(caller.patch, f"/products/{parent}", {"tags": [f"t{seed}-{number}"]}),
            partial(caller.post, f"/products/{sold}/stock-movements", {"delta": -1, "reason": "sale"}),
        ]
        statuses.append(draw.choices(writes, (4, 2, 1, 3))[0]().status_code)
    return statuses


class TestBatchesOfTheSameFamilies:
    def test_leave_every_parent_with_what_its_variants_say(
        self, app: Flask, alice: Caller, ids: dict[str, int]
    ) -> None:
        failures: list[str] = []
        with app.app_context():
            engine = db.engine

        def note(context: Any) -> None:
            failures.append(str(context.original_exception))

        event.listen(engine, "handle_error", note)
        try:
            with ThreadPoolExecutor(THREADS) as pool:
                statuses = [*chain.from_iterable(pool.map(partial(work, alice, ids), range(THREADS)))]
        finally:
            event.remove(engine, "handle_error", note)

        assert [status for status in statuses if status >= 500] == []
        assert [failure for failure in failures if "deadlock" in failure] == []
        with app.app_context(), unit_of_work(reading=True):
            for row in db.session.execute(select(PRODUCTS).where(PRODUCTS.c.kind == ProductKind.PARENT)).mappings():
                variants = families.read_variants([row["id"]])
                shown = families.totals_of(variants)
                assert {name: row[name] for name in shown} == shown
                copies = select(*(PRODUCTS.c[name] for name in INHERITED)).where(PRODUCTS.c.parent_id == row["id"])
                for copy in db.session.execute(copies).mappings():
                    assert dict(copy) == {name: row[name] for name in INHERITED}
            moved = select(func.sum(MOVEMENTS.c.delta)).where(MOVEMENTS.c.product_id == PRODUCTS.c.id).scalar_subquery()
            sold = PRODUCTS.c.kind != ProductKind.PARENT
            unbalanced = select(PRODUCTS.c.sku).where(sold, PRODUCTS.c.stock != func.coalesce(moved, 0))
            assert list(db.session.scalars(unbalanced)) == []
