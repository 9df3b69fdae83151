"""The same request many times at once, and over again when its worker was killed: done once."""

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.client import HTTPException
from itertools import count
from typing import Any, LiteralString

import psycopg
import pytest
from flask import Flask

from tests.conftest import Caller, rows_of
from tests.live.conftest import Site, environment, kill_workers, worker_pids
from tests.live.test_failures import conninfo, waiting
from tests.live.wire import Answer, Client, at_once, wait_for
from tests.servers import GunicornServer, gunicorn_server

pytestmark = pytest.mark.live

Connect = Callable[..., Client]
Make = Callable[..., dict[str, Any]]

CROWD = 64


def is_replay(answer: Answer) -> bool:
    return answer.headers["Idempotency-Replayed"] == "true"


class TestTheSameRequestAtOnce:
    def test_is_done_once(self, app: Flask, alice: Caller, connect: Connect, make_category: Make, backend: str) -> None:
        product = {"name": "Chair", "price": "1.00", "category_id": make_category()["id"]}

        answers = at_once(
            [partial(connect(alice).post, "/products", product, idempotency_key="k") for _ in range(CROWD)]
        )

        done = [answer for answer in answers if answer.status == 201]
        refused = [answer for answer in answers if answer.status != 201]
        assert len(rows_of(app, "products")) == 1
        assert [is_replay(answer) for answer in done].count(False) == 1
        assert len({answer.body for answer in done}) == 1
        assert {(answer.status, answer.code) for answer in refused} <= {(409, "idempotency_key_in_use")}
        assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
        if backend == "sqlite":
            assert refused == []

    def test_is_another_with_each_key(self, app: Flask, alice: Caller, connect: Connect, make_category: Make) -> None:
        product = {"name": "Chair", "price": "1.00", "category_id": make_category()["id"]}

        answers = at_once(
            [
                partial(connect(alice).post, "/products", product, idempotency_key=str(number % 16))
                for number in range(CROWD)
            ]
        )

        assert len(rows_of(app, "products")) == 16
        assert Counter(is_replay(answer) for answer in answers if answer.status == 201)[False] == 16


class TestARequestWhoseWorkerIsKilled:
    @pytest.fixture
    def server(self, app: Flask) -> Iterator[GunicornServer]:
        """A server of its own, whose workers may be killed."""
        with gunicorn_server(environment(app.config["DATABASE_URL"], LOG_LEVEL="INFO"), workers=2, threads=8) as server:
            yield server

    @pytest.fixture
    def site(self, server: GunicornServer, app: Flask) -> Site:
        return Site(server, app)

    def test_is_done_once_however_often_it_is_sent_again(
        self, server: GunicornServer, app: Flask, alice: Caller, connect: Connect, make_category: Make
    ) -> None:
        category = make_category()
        over = threading.Event()
        numbers = count()
        made: dict[str, int] = {}
        answers: list[Answer] = []

        def insist(client: Client, key: str) -> Answer:
            """Send it until it is answered, and a few times more."""
            product = {"name": key, "price": "1.00", "category_id": category["id"]}
            tries = 2
            while True:
                try:
                    answer = client.post("/products", product, idempotency_key=key)
                except (OSError, HTTPException):
                    client.close()  # the worker is gone, and whether it had committed nobody knows
                    continue
                answers.append(answer)
                # The killed worker's transaction may still hold the key, until its database notices.
                tries -= answer.status == 201
                if not tries or answer.status not in {201, 409}:
                    return answer

        def work() -> None:
            client = connect(alice)
            while not over.is_set():
                key = f"request-{next(numbers)}"
                made[key] = insist(client, key).json["id"]

        with ThreadPoolExecutor(8) as threads:
            running = [threads.submit(work) for _ in range(8)]
            try:
                kill_workers(server, answers)
            finally:
                over.set()
        for each in running:
            each.result()

        assert {(answer.status, answer.json.get("code")) for answer in answers} <= {
            (201, None),
            (409, "idempotency_key_in_use"),
        }
        assert any(is_replay(answer) for answer in answers)
        stored = {row[0] for row in rows_of(app, "products")}
        assert stored == set(made.values())
        assert len(stored) == len(made)

    @pytest.mark.parametrize("backend", ["postgresql"])
    @pytest.mark.parametrize(
        "hold",
        ["SELECT 1 FROM categories FOR UPDATE", "LOCK TABLE idempotency_keys IN SHARE MODE"],
        ids=["within its effect", "between its effect and its answer"],
    )
    def test_is_done_by_the_next_when_it_was_half_done(
        self,
        server: GunicornServer,
        app: Flask,
        alice: Caller,
        connect: Connect,
        *,
        make_category: Make,
        hold: LiteralString,
    ) -> None:
        product = {"name": "Chair", "price": "1.00", "category_id": make_category()["id"]}
        with ThreadPoolExecutor(1) as thread, psycopg.connect(conninfo(app)) as holder:
            holder.execute(hold)
            half_done = thread.submit(connect(alice).post, "/products", product, idempotency_key="k")
            wait_for(lambda: waiting(app))
            while_it_runs = connect(alice).post("/products", product, idempotency_key="k")
            for pid in worker_pids(server):
                os.kill(pid, signal.SIGKILL)
            with pytest.raises((OSError, HTTPException)):
                half_done.result()
        worker_pids(server, 4)

        def again() -> Answer | None:
            try:
                answer = connect(alice).post("/products", product, idempotency_key="k")
            except (OSError, HTTPException):
                return None
            return answer if answer.status != 409 else None

        first, second = wait_for(again), wait_for(again)
        assert first
        assert second

        assert (while_it_runs.status, while_it_runs.code) == (409, "idempotency_key_in_use")
        assert (first.status, is_replay(first), second.body) == (201, False, first.body)
        assert len(rows_of(app, "products")) == 1
