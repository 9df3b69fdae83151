"""Stock under a crowd: never below zero, nothing sold twice, and the ledger adds up, whoever dies meanwhile."""

import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from http.client import HTTPException
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import func, select, update

from app.core import clock
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.products.ledger import StockMovement
from app.features.stock.models import Hold, HoldStatus
from tests.conftest import Caller, rows_of
from tests.features.stock.test_movements import assert_ledger_adds_up
from tests.live.conftest import Site, environment, worker_pids
from tests.live.test_concurrent_writes import codes, statuses
from tests.live.wire import Answer, Client, at_once, wait_for_more
from tests.servers import gunicorn_server

pytestmark = pytest.mark.live

Connect = Callable[..., Client]
Make = Callable[..., dict[str, Any]]

CROWD = 64
ROUNDS = int(os.environ.get("STOCK_ROUNDS", "2"))


def sell(client: Client, product_id: int, quantity: int = 1) -> Answer:
    return client.post(f"/products/{product_id}/stock-movements", {"delta": -quantity, "reason": "sale"})


def hold(client: Client, product_id: int, quantity: int = 1) -> Answer:
    return client.post(f"/products/{product_id}/holds", {"quantity": quantity})


def stock_of(client: Client, product_id: int) -> int:
    stock: int = client.get(f"/products/{product_id}").json["stock"]
    return stock


def patiently(ask: Callable[[], Answer]) -> Answer:
    """Ask again where a crowd on SQLite has kept one waiting for longer than the server does; nothing was changed."""
    while (answer := ask()).status == 503:
        assert answer.code == "database_busy"
    return answer


class TestSelling:
    def test_a_hundred_to_a_crowd_that_wants_more_sells_a_hundred(
        self, app: Flask, alice: Caller, connect: Connect, make_product: Make
    ) -> None:
        crowd = [connect(alice) for _ in range(CROWD)]
        for _ in range(ROUNDS):
            product = make_product(stock=100)

            def buy(client: Client, product_id: int = product["id"]) -> list[Answer]:
                return [patiently(partial(sell, client, product_id)) for _ in range(3)]

            answers = [answer for bought in at_once([partial(buy, client) for client in crowd]) for answer in bought]

            assert statuses(answers) == {201: 100, 409: 3 * CROWD - 100}
            assert codes(answers, 409) == {"out_of_stock"}
            assert sorted(answer.json["stock_after"] for answer in answers if answer.status == 201) == [*range(100)]
            after = crowd[0].get(f"/products/{product['id']}")
            assert (after.json["stock"], after.etag) == (0, '"1.100"')
        assert_ledger_adds_up(app)

    def test_at_an_expected_stock_happens_once(self, alice: Caller, connect: Connect, make_product: Make) -> None:
        crowd = [connect(alice) for _ in range(16)]
        path = f"/products/{make_product(stock=100)['id']}/stock-movements"
        content = {"delta": -1, "reason": "sale", "expected_stock": 100}

        answers = at_once([partial(client.post, path, content) for client in crowd])

        assert statuses(answers) == {201: 1, 409: 15}
        assert codes(answers, 409) == {"stock_changed"}

    def test_every_200_ms_leaves_ten_edits_of_an_editor_alone(
        self, alice: Caller, connect: Connect, make_product: Make
    ) -> None:
        buyer, editor, over = connect(alice), connect(alice), threading.Event()
        product_id = make_product(stock=1000)["id"]
        path = f"/products/{product_id}"

        def buy() -> list[Answer]:
            answers = [sell(buyer, product_id)]
            while not over.wait(0.2):
                answers.append(sell(buyer, product_id))
            return answers

        def edit() -> list[Answer]:
            answers = []
            try:
                for number in range(10):
                    read = editor.get(path)
                    over.wait(0.25)  # at least one sale later
                    answers.append(editor.patch(path, {"description": f"Number {number}"}, if_match=read.etag))
            finally:
                over.set()
            return answers

        sales, edits = at_once([buy, edit])

        assert [answer.status for answer in edits] == [200] * 10
        sold = sum(answer.status == 201 for answer in sales)
        after = editor.get(path).json
        assert (after["stock"], after["version"], after["live"]) == (1000 - sold, 11, sold)
        assert sold == len(sales) >= 10

    def test_never_makes_an_edit_stale_that_came_at_the_same_moment(
        self, alice: Caller, connect: Connect, make_product: Make
    ) -> None:
        seller, editor = connect(alice), connect(alice)
        for _ in range(10):
            product_id = make_product(stock=5)["id"]

            path = f"/products/{product_id}"
            sold, edited = at_once(
                [partial(sell, seller, product_id), partial(editor.patch, path, {"name": "N"}, '"1.0"')]
            )

            assert (sold.status, edited.status) == (201, 200)
            after = seller.get(path)
            assert (after.json["stock"], after.json["version"], after.json["live"]) == (4, 2, 1)

    def test_is_seen_by_who_asks_on_condition(self, alice: Caller, connect: Connect, make_product: Make) -> None:
        seller, reader = connect(alice), connect(alice)
        product_id = make_product(stock=50)["id"]
        held = reader.get(f"/products/{product_id}")
        for number in range(1, 31):
            sell(seller, product_id)
            seen = reader.get(f"/products/{product_id}", if_none_match=held.etag)
            assert (seen.status, seen.json["stock"]) == (200, 50 - number)
            held = seen


def shop(client: Client, product_id: int) -> Counter[str]:
    """Sell, hold, confirm and cancel; how many were taken which way."""
    taken: Counter[str] = Counter()
    for _ in range(4):
        quantity = random.randint(1, 3)
        if random.random() < 0.4:
            sold = patiently(partial(sell, client, product_id, quantity))
            assert sold.status == 201 or sold.code == "out_of_stock"
            taken["sold" if sold.status == 201 else "refused"] += quantity
            continue
        held = patiently(partial(hold, client, product_id, quantity))
        if held.status != 201:
            assert held.code == "out_of_stock"
            taken["refused"] += quantity
            continue
        told = client.get(f"/products/{product_id}/availability").json
        assert told["available"] == told["stock"] - told["held"] >= 0
        verb, way = random.choice([("confirm", "sold"), ("cancel", "free"), (None, "held")])
        taken[way] += quantity
        if verb:
            ended = patiently(partial(client.post, f"/holds/{held.json['id']}/{verb}"))
            assert ended.status == 200, ended.body
    return taken


class TestHolding:
    def test_and_selling_never_take_more_than_there_is(
        self, app: Flask, alice: Caller, connect: Connect, make_product: Make
    ) -> None:
        crowd = [connect(alice) for _ in range(24)]
        for _ in range(ROUNDS):
            product_id = make_product(stock=60)["id"]

            taken = sum(at_once([partial(shop, client, product_id) for client in crowd]), Counter())

            told = crowd[0].get(f"/products/{product_id}/availability").json
            assert (told["stock"], told["held"]) == (60 - taken["sold"], taken["held"])
            assert told["available"] == told["stock"] - told["held"] >= 0
            assert taken["refused"]
        assert_ledger_adds_up(app)

    def test_the_last_one_happens_once(self, alice: Caller, connect: Connect, make_product: Make) -> None:
        crowd = [connect(alice) for _ in range(16)]
        for _ in range(5):
            product_id = make_product(stock=1)["id"]

            # Half of them want to sell it meanwhile.
            calls = [partial(hold if number % 2 else sell, client, product_id) for number, client in enumerate(crowd)]
            answers = at_once(calls)

            assert statuses(answers) == {201: 1, 409: 15}
            told = crowd[0].get(f"/products/{product_id}/availability").json
            assert (told["available"], told["stock"]) == (0, told["held"])


class TestEndingAHold:
    def test_twice_at_once_sells_once(self, app: Flask, alice: Caller, connect: Connect, make_product: Make) -> None:
        crowd = [connect(alice) for _ in range(16)]
        for _ in range(5):
            product_id = make_product(stock=10)["id"]
            path = f"/holds/{hold(crowd[0], product_id, 2).json['id']}"

            answers = at_once([partial(client.post, f"{path}/confirm") for client in crowd])

            assert statuses(answers) == {200: 1, 409: 15}
            assert codes(answers, 409) == {"hold_ended"}
            assert stock_of(crowd[0], product_id) == 8
        assert_ledger_adds_up(app)

    def test_both_ways_at_once_has_one_outcome(self, alice: Caller, connect: Connect, make_product: Make) -> None:
        crowd = [connect(alice) for _ in range(8)]
        for _ in range(10):
            product_id = make_product(stock=10)["id"]
            path = f"/holds/{hold(crowd[0], product_id, 2).json['id']}"

            verbs = ["confirm" if number % 2 else "cancel" for number in range(len(crowd))]
            answers = at_once(
                [partial(client.post, f"{path}/{verb}") for client, verb in zip(crowd, verbs, strict=True)]
            )

            [outcome] = [answer.json["status"] for answer in answers if answer.status == 200]
            assert crowd[0].get(path).json["status"] == outcome
            assert stock_of(crowd[0], product_id) == (8 if outcome == "confirmed" else 10)

    def test_while_it_expires_and_others_wait_for_it_sells_once(
        self, app: Flask, alice: Caller, connect: Connect, make_product: Make
    ) -> None:
        crowd = [connect(alice) for _ in range(8)]
        outcomes: Counter[str] = Counter()
        for round_ in range(10):
            product_id = make_product(stock=5)["id"]
            path = f"/holds/{hold(crowd[0], product_id, 5).json['id']}"
            # It ends while they ask, sooner or later.
            with app.app_context(), unit_of_work():
                ends = clock.now() + timedelta(milliseconds=4 * round_)
                db.session.execute(update(Hold).where(Hold.product_id == product_id).values(expires_at=ends))

            def grab(client: Client, product_id: int = product_id) -> Answer:
                while (answer := sell(client, product_id, 5)).status != 201 and stock_of(client, product_id):
                    pass
                return answer

            confirmed, *sold = at_once(
                [partial(crowd[0].post, f"{path}/confirm"), *(partial(grab, client) for client in crowd[1:])]
            )

            statuses([confirmed, *sold])
            outcomes["confirmed" if confirmed.status == 200 else confirmed.code] += 1
            assert (confirmed.status == 200) + sum(answer.status == 201 for answer in sold) == 1
            assert stock_of(crowd[0], product_id) == 0
        assert set(outcomes) <= {"confirmed", "hold_ended"}
        assert_ledger_adds_up(app)


class TestAWorkerThatIsKilled:
    @pytest.fixture
    def site(self, app: Flask) -> Iterator[Site]:
        with gunicorn_server(environment(app.config["DATABASE_URL"]), workers=2, threads=8) as server:
            yield Site(server, app)

    def test_leaves_a_ledger_that_adds_up(
        self, site: Site, app: Flask, alice: Caller, connect: Connect, make_product: Make
    ) -> None:
        product_id = make_product(stock=10_000)["id"]
        over = threading.Event()
        sold: list[int] = []
        faults: list[Answer] = []
        killed: list[int] = []

        def work(number: int) -> None:
            client = connect(alice)
            while not over.is_set():
                try:
                    answer = sell(client, product_id)
                    if number % 2 and answer.status == 201:
                        held = hold(client, product_id)
                        if held.status == 201:
                            client.post(f"/holds/{held.json['id']}/confirm")
                except (OSError, HTTPException):
                    client.close()  # the worker is gone, and whether it had committed nobody knows
                    continue
                if answer.status == 201:
                    sold.append(answer.json["id"])
                elif answer.status != 503:
                    faults.append(answer)

        with ThreadPoolExecutor(8) as threads:
            running = [threads.submit(work, number) for number in range(8)]
            try:
                for kills in range(1, 4):
                    wait_for_more(sold, 20)
                    living = [pid for pid in worker_pids(site.server, 1 + kills) if pid not in killed]
                    killed.append(random.choice(living))
                    os.kill(killed[-1], signal.SIGKILL)
                    # Another takes its place.
                    worker_pids(site.server, 2 + kills)
            finally:
                over.set()
        for each in running:
            each.result()

        assert faults == []
        assert_ledger_adds_up(app)
        ids = {row[0] for row in rows_of(app, "stock_movements")}
        assert set(sold) <= ids
        # Whatever was cut off, a hold is confirmed together with its sale.
        with app.app_context(), unit_of_work(reading=True):
            confirmed = db.session.scalar(select(func.count()).where(Hold.outcome == HoldStatus.CONFIRMED))
            sales = db.session.scalar(select(func.count()).where(StockMovement.reference.startswith("hold ")))
        assert sales == confirmed
        assert confirmed
