"""Walking a collection by cursor while others insert and delete."""

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.conftest import Caller
from tests.live.wire import Client

pytestmark = pytest.mark.live

Connect = Callable[..., Client]
Make = Callable[..., dict[str, Any]]

#: Few, so that most rows tie and only the id tells them apart.
PRICES = ("1.00", "2.00", "3.00")


def walk(client: Client, query: str, between: Callable[[list[dict[str, Any]]], None]) -> list[int]:
    """The ids in the order of a walk; ``between`` is shown each page before the next is asked for."""
    seen: list[int] = []
    cursor: str | None = ""
    while cursor is not None:
        answer = client.get(f"/products?{query}&fields=id&per_page=7&cursor={cursor}")
        assert answer.status == 200, answer.body
        seen += [item["id"] for item in answer.json["items"]]
        between(answer.json["items"])
        cursor = answer.json["meta"]["next_cursor"]
    return seen


@pytest.mark.parametrize(
    "query", [f"sort_by={by}&order={o}" for by in ("price", "created_at") for o in ("asc", "desc")]
)
def test_meets_every_surviving_row_once(
    root: Caller, connect: Connect, make_category: Make, make_product: Make, query: str
) -> None:
    category_id = make_category()["id"]
    survivors = {make_product(category_id=category_id, price=PRICES[n % 3])["id"] for n in range(60)}
    doomed = [make_product(category_id=category_id, price=PRICES[n % 3])["id"] for n in range(40)]
    over = threading.Event()

    def churn(number: int, client: Client) -> int:
        """Insert, delete, and edit the survivors without moving them, until the walks are over."""
        chance, mine, done = random.Random(number), [], 0
        while not over.is_set() and done < 2000:
            content = {"name": "Passing", "price": chance.choice(PRICES), "category_id": category_id}
            mine.append(client.post("/products", content).json["id"])
            if len(mine) > 10:
                assert client.delete(f"/products/{mine.pop(chance.randrange(10))}").status == 204
            stays = chance.choice(list(survivors))
            assert client.patch(f"/products/{stays}", {"description": f"{number}-{done}"}).status == 200
            done += 1
        return done

    walker, remover = connect(root), connect(root)

    def remove_last(page: list[dict[str, Any]]) -> None:
        # The row that the next cursor stands on: the walk has to go on from where it was.
        if page and page[-1]["id"] in doomed:
            remover.delete(f"/products/{page[-1]['id']}")

    with ThreadPoolExecutor(4) as others:
        churning = [others.submit(churn, number, connect(root)) for number in range(4)]
        try:
            walks = [walk(walker, query, remove_last) for _ in range(3)]
        finally:
            over.set()

    assert all(running.result() > 0 for running in churning)
    for seen in walks:
        assert len(set(seen)) == len(seen)
        assert survivors <= set(seen)
