"""Families under a crowd: what a parent shows is what its variants say, and what they have of it is what it says."""

import os
import random
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select

from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.products.models import INHERITED, PRODUCTS
from app.features.products.values import TABLE
from tests.conftest import Caller
from tests.features.stock.test_movements import assert_ledger_adds_up
from tests.live.test_concurrent_writes import codes, statuses
from tests.live.test_stock import hold, patiently, sell
from tests.live.wire import Answer, Client, at_once

pytestmark = pytest.mark.live

Connect = Callable[..., Client]
Make = Callable[..., dict[str, Any]]

ROUNDS = int(os.environ.get("FAMILY_ROUNDS", "2"))


@pytest.fixture
def make_shirt(alice: Caller, connect: Connect, make_category: Make) -> Callable[..., list[int]]:
    """Make a shirt with a variant for each size; the ids of the shirt and of its variants."""
    client, home = connect(alice), make_category()["id"]

    def make(sizes: int = 4, **members: Any) -> list[int]:
        variants = [{"options": {"size": str(one)}, "price": "10.00", "stock": 50, **members} for one in range(sizes)]
        body = {"name": "Shirt", "category_id": home, "tags": ["old"], "options": ["size"], "variants": variants}
        shirt = client.post("/products", body)
        assert shirt.status == 201, shirt.body
        return [shirt.json["id"], *ids_of_variants(client, shirt.json["id"])]

    return make


def ids_of_variants(client: Client, parent_id: int) -> list[int]:
    return [one["id"] for one in client.get(f"/products/{parent_id}/variants?per_page=100&fields=id").json["items"]]


def change(client: Client, product_id: int, **members: Any) -> Answer:
    return patiently(partial(client.patch, f"/products/{product_id}", members))


def receive(client: Client, product_id: int, quantity: int) -> Answer:
    return client.post(f"/products/{product_id}/stock-movements", {"delta": quantity, "reason": "receipt"})


def assert_families_add_up(app: Flask) -> None:
    """Each living parent shows what its living variants say, and they have what it has; none lives without it."""
    with app.app_context(), unit_of_work(reading=True):
        living = db.session.execute(select(PRODUCTS).where(PRODUCTS.c.deleted_at.is_(None))).mappings().all()
        tags = select(TABLE.c.product_id, TABLE.c.listed_id, TABLE.c.text).where(TABLE.c.attribute_id.is_(None))
        rows = db.session.execute(tags).all()
    parents = {row["id"]: row for row in living if row["kind"] == "parent"}
    families: dict[int, list[Any]] = {parent_id: [] for parent_id in parents}
    for row in living:
        if row["kind"] == "variant":
            families[row["parent_id"]].append(row)
    for parent_id, variants in families.items():
        parent, active = parents[parent_id], [one for one in variants if one["status"] == "active"]
        prices = [one["price"] for one in active] or [0]
        assert (parent["price"], parent["price_max"]) == (min(prices), max(prices))
        assert parent["stock"] == sum(one["stock"] for one in active)
        assert parent["variant_count"] == len(active)
        for variant in variants:
            assert {name: variant[name] for name in INHERITED} == {name: parent[name] for name in INHERITED}
            assert variant["parent_status"] == parent["status"]
    assert sorted(map(tuple, rows), key=repr) == sorted(tags_of(living), key=repr)


def tags_of(living: Any) -> list[tuple[Any, ...]]:
    """The rows of the index that tags should have: a list shows a parent by its own."""
    return [(row["id"], None if row["kind"] == "variant" else row["id"], tag) for row in living for tag in row["tags"]]


class TestSiblings:
    def test_that_16_reprice_and_sell_at_once_add_up_in_their_parent(
        self, app: Flask, alice: Caller, connect: Connect, make_shirt: Callable[..., list[int]]
    ) -> None:
        crowd = [connect(alice) for _ in range(16)]
        for _ in range(ROUNDS):
            shirt, *variants = make_shirt(5)

            def work(number: int, client: Client, variants: list[int] = variants) -> list[Answer]:
                chance, answers = random.Random(number), []
                for _ in range(6):
                    one = chance.choice(variants)
                    price, status = f"{chance.randint(1, 99)}.00", chance.choice(["active", "active", "draft"])
                    way: Callable[[], Answer] = chance.choice(
                        [
                            partial(change, client, one, price=price),
                            partial(change, client, one, status=status),
                            partial(sell, client, one),
                            partial(receive, client, one, chance.randint(1, 9)),
                        ]
                    )
                    answers.append(patiently(way))
                return answers

            answers = at_once([partial(work, number, client) for number, client in enumerate(crowd)])

            assert set(statuses([answer for some in answers for answer in some])) == {200, 201}
            assert_families_add_up(app)
            found = crowd[0].get(f"/products/{shirt}").json
            told = crowd[0].get(f"/products?id={shirt}").json["items"]
            assert told == [found]
        assert_ledger_adds_up(app)

    def test_with_equal_options_from_32_threads_are_one(
        self, app: Flask, alice: Caller, connect: Connect, make_shirt: Callable[..., list[int]]
    ) -> None:
        crowd = [connect(alice) for _ in range(32)]
        for _ in range(ROUNDS):
            shirt = make_shirt(1)[0]
            body = {"options": {"size": "XL"}, "price": "5.00", "stock": 3}

            answers = at_once(
                [partial(patiently, partial(client.post, f"/products/{shirt}/variants", body)) for client in crowd]
            )

            assert statuses(answers) == {201: 1, 409: 31}
            assert codes(answers, 409) == {"options_taken"}
            found = crowd[0].get(f"/products/{shirt}").json
            assert (found["price"], found["stock"], found["variant_count"]) == ("5.00", 53, 2)
        assert_families_add_up(app)


class TestAParent:
    def test_that_is_renamed_archived_deleted_and_restored_while_its_variants_are_sold(
        self, app: Flask, root: Caller, connect: Connect, make_shirt: Callable[..., list[int]]
    ) -> None:
        owner, *crowd = [connect(root) for _ in range(9)]
        for _ in range(ROUNDS // 2):
            shirt, *variants = make_shirt(4)
            over = threading.Event()

            def own(shirt: int = shirt, over: threading.Event = over) -> list[Answer]:
                answers = []
                try:
                    for number in range(3):
                        answers.append(change(owner, shirt, name=f"Shirt {number}", tags=[f"tag {number}"]))
                        answers.append(change(owner, shirt, status="archived"))
                        answers.append(change(owner, shirt, status="active"))
                        answers.append(patiently(partial(owner.delete, f"/products/{shirt}")))
                        answers.append(patiently(partial(owner.post, f"/products/{shirt}/restore")))
                finally:
                    over.set()
                return answers

            def work(
                number: int,
                client: Client,
                shirt: int = shirt,
                variants: list[int] = variants,
                over: threading.Event = over,
            ) -> list[Answer]:
                chance, answers = random.Random(number), []
                while not over.is_set():
                    one, size = chance.choice(variants), str(chance.random())
                    added = {"options": {"size": size}, "price": "3.00", "stock": 1}
                    way: Callable[[], Answer] = chance.choice(
                        [
                            *3 * [partial(sell, client, one)],
                            *2 * [partial(change, client, one, price=f"{chance.randint(1, 99)}.00")],
                            partial(client.post, f"/products/{shirt}/variants", added),
                            partial(client.delete, f"/products/{variants[-1]}"),
                            partial(client.post, f"/products/{variants[-1]}/restore"),
                        ]
                    )
                    answers.append(patiently(way))
                    if answers[-1].status == 201 and "options" in answers[-1].json:
                        answers.append(patiently(partial(sell, client, answers[-1].json["id"])))
                return answers

            calls: list[Callable[[], list[Answer]]] = [own]
            calls += [partial(work, number, client) for number, client in enumerate(crowd)]
            owned, *worked = at_once(calls)

            assert statuses(owned) == {200: 12, 204: 3}
            answers = [answer for some in worked for answer in some]
            assert set(statuses(answers)) <= {200, 201, 204, 404, 409}
            assert codes(answers, 409) <= {"out_of_stock", "parent_deleted"}
            assert_families_add_up(app)
            assert owner.get(f"/products/{shirt}").json["name"] == "Shirt 2"
        assert_ledger_adds_up(app)

    def test_that_is_deleted_while_a_variant_is_restored_leaves_none_behind(
        self, app: Flask, root: Caller, connect: Connect, make_shirt: Callable[..., list[int]]
    ) -> None:
        crowd = [connect(root) for _ in range(3)]
        outcomes: Counter[int] = Counter()
        for _ in range(6 * ROUNDS):
            shirt, variant, _other = make_shirt(2)
            crowd[0].delete(f"/products/{variant}")

            deleted, renamed, restored = at_once(
                [
                    partial(crowd[0].delete, f"/products/{shirt}"),
                    partial(crowd[1].patch, f"/products/{shirt}", {"name": "Blouse"}),
                    partial(crowd[2].post, f"/products/{variant}/restore"),
                ]
            )

            assert (deleted.status, renamed.status in {200, 404}) == (204, True)
            assert restored.status == 200 or restored.code == "parent_deleted"
            outcomes[restored.status] += 1
            assert_families_add_up(app)
        assert set(outcomes) <= {200, 409}

    def test_that_is_renamed_while_a_variant_is_restored_names_that_too(
        self, app: Flask, root: Caller, connect: Connect, make_shirt: Callable[..., list[int]]
    ) -> None:
        crowd = [connect(root) for _ in range(2)]
        for _ in range(6 * ROUNDS):
            shirt, variant = make_shirt(1)
            crowd[0].delete(f"/products/{variant}")

            answers = at_once(
                [
                    partial(crowd[0].patch, f"/products/{shirt}", {"name": "Blouse"}),
                    partial(crowd[1].post, f"/products/{variant}/restore"),
                ]
            )

            assert statuses(answers) == {200: 2}
            assert_families_add_up(app)


class TestAdopting:
    def test_a_single_that_is_being_sold_keeps_its_ledger_and_its_holds(
        self, app: Flask, alice: Caller, connect: Connect, make_product: Make, make_shirt: Callable[..., list[int]]
    ) -> None:
        crowd = [connect(alice) for _ in range(12)]
        for _ in range(ROUNDS):
            shirt, single = make_shirt(2)[0], make_product(stock=40)["id"]
            holds = [hold(crowd[0], single, 2).json["id"] for _ in range(4)]
            adopted = {"id": single, "options": {"size": "XL"}}

            def shop(client: Client, single: int = single) -> list[Answer]:
                return [patiently(partial(sell, client, single)) for _ in range(3)]

            def confirm(client: Client, hold_id: int) -> list[Answer]:
                return [patiently(partial(client.post, f"/holds/{hold_id}/confirm"))]

            def adopt(client: Client, shirt: int = shirt, body: Any = adopted) -> list[Answer]:
                return [patiently(partial(client.post, f"/products/{shirt}/variants", body))]

            answers = at_once(
                [
                    partial(adopt, crowd[0]),
                    *(partial(confirm, client, one) for client, one in zip(crowd[1:4], holds[:3], strict=True)),
                    *(partial(shop, client) for client in crowd[4:]),
                ]
            )

            assert statuses([answer for some in answers for answer in some]) == {201: 1 + 24, 200: 3}
            told = crowd[0].get(f"/products/{single}/availability").json
            assert (told["stock"], told["held"]) == (40 - 24 - 6, 2)
            assert crowd[0].post(f"/holds/{holds[3]}/confirm").status == 200
            assert crowd[0].get(f"/products/{shirt}").json["stock"] == 100 + 8
            assert_families_add_up(app)
        assert_ledger_adds_up(app)

    def test_the_same_singles_in_different_orders_happens_once(
        self, app: Flask, alice: Caller, connect: Connect, make_category: Make, make_product: Make
    ) -> None:
        crowd, home = [connect(alice) for _ in range(6)], make_category()["id"]
        for _ in range(ROUNDS):
            singles = [make_product(stock=1)["id"] for _ in range(8)]

            def adopt(number: int, client: Client, singles: list[int] = singles) -> Answer:
                shuffled = random.Random(number).sample(singles, len(singles))
                variants = [{"id": one, "options": {"size": str(one)}} for one in shuffled]
                body = {"name": "Shirt", "category_id": home, "options": ["size"], "variants": variants}
                return patiently(partial(client.post, "/products", body))

            answers = at_once([partial(adopt, number, client) for number, client in enumerate(crowd)])

            assert statuses(answers) == {201: 1, 409: 5}
            assert codes(answers, 409) == {"not_single"}
            assert_families_add_up(app)
