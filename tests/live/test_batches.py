"""Batches over the same products at once: nobody waits in a circle, and nothing is made twice."""

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.conftest import Caller
from tests.live.wire import Answer, Client, at_once

pytestmark = pytest.mark.live

Connect = Callable[..., Client]
Make = Callable[..., dict[str, Any]]

SKUS = [f"S{number:03}" for number in range(60)]
#: Each sends a batch after the other.
CROWD, ROUNDS = 16, 4


class TestBatchesInDifferentOrders:
    @pytest.mark.parametrize("mode", ["atomic", "partial"])
    def test_are_all_taken(self, alice: Caller, connect: Connect, make_category: Make, mode: str) -> None:
        category = make_category()

        def work(number: int, client: Client) -> list[Answer]:
            draw = random.Random(number)
            answers = []
            for _ in range(ROUNDS):
                skus = draw.sample(SKUS, 40)
                items = [
                    {"sku": sku, "name": f"Chair {draw.random()}", "price": "1.00", "category_id": category["id"]}
                    for sku in skus
                ]
                answers.append(client.post("/products/bulk", {"items": items, "mode": mode}))
            return answers

        rounds = at_once([partial(work, number, connect(alice)) for number in range(CROWD)])

        answers = [answer for answers in rounds for answer in answers]
        assert {answer.status for answer in answers} == {200}
        told = [(item["sku"], item["status"]) for answer in answers for item in answer.json["items"]]
        assert len(told) == 40 * CROWD * ROUNDS
        assert sorted(sku for sku, status in told if status == "created") == sorted({sku for sku, _ in told})
        products = connect(alice).get("/products?per_page=100").json["items"]
        assert len(products) == len({sku for sku, _ in told})
        for product in products:
            assert product["version"] == 1 + told.count((product["sku"], "updated"))


class TestBatchesOfProductsThatAreNamedAlike:
    def test_wait_for_each_other_and_are_all_made(self, alice: Caller, connect: Connect, make_category: Make) -> None:
        home = make_category()["id"]

        def work(number: int, client: Client) -> list[Answer]:
            names = [f"Chair {one}" for one in range(100)]
            random.Random(number).shuffle(names)
            items = [
                {"sku": f"{number}-{place}", "name": name, "price": "1.00", "category_id": home}
                for place, name in enumerate(names)
            ]
            return [client.post("/products/bulk", {"items": items})]

        rounds = at_once([partial(work, number, connect(alice)) for number in range(6)])

        # A deadlock would be ended by PostgreSQL, and tried again three times at most.
        assert [answer.status for answers in rounds for answer in answers] == [200] * 6
        assert all(answer.json["meta"]["created"] == 100 for answers in rounds for answer in answers)
