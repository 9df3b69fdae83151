"""A PostgreSQL that is there and says nothing: its processes are stopped while requests come in."""

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.client import HTTPException
from typing import Any

import pytest
from flask import Flask

from tests.conftest import Caller
from tests.live.conftest import Site, environment
from tests.live.wire import Answer, Client, ask, at_once, wait_for
from tests.servers import GunicornServer, gunicorn_server, hung_postgres

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

Connect = Callable[..., Client]
Make = Callable[..., dict[str, Any]]
#: Seconds, as promised on a machine with an idle processor.
FIRST_REFUSAL, LIVENESS, LIVENESS_WHILE_OPEN, RECOVERY = 6, 1, 0.1, 2
#: Several waits for a processor lie between a request and its answer: the client's, the master's and the worker's.
WAITS = 5


@pytest.fixture
def backend() -> str:
    """Only a server can hang."""
    return "postgresql"


@pytest.fixture
def server(app: Flask) -> Iterator[GunicornServer]:
    """Two workers with three threads in each, as the settings have it."""
    with gunicorn_server(environment(app.config["DATABASE_URL"]), workers=2, threads=3) as server:
        yield server


@pytest.fixture
def site(server: GunicornServer, app: Flask) -> Site:
    return Site(server, app)


@contextmanager
def timing(call: Callable[[], Answer], *, threads: int) -> Iterator[list[tuple[float, float, int]]]:
    """Call over and over for the length of a block: when each began, how long it took, and its status."""
    seen: list[tuple[float, float, int]] = []
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            began = time.monotonic()
            status = call().status
            seen.append((began, time.monotonic() - began, status))
            time.sleep(0.01)

    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(work) for _ in range(threads)]
        try:
            yield seen
        finally:
            over.set()
    for each in running:
        each.result()


@contextmanager
def measuring_waits() -> Iterator[list[float]]:
    """How much longer than it should each of many short sleeps takes, in seconds, for the length of a block.

    Without load that is nothing. What a busy machine adds to the sleeps it adds to answers as well.
    """
    waits, over = [0.0], threading.Event()

    def work() -> None:
        while not over.is_set():
            began = time.monotonic()
            time.sleep(0.01)
            waits.append(time.monotonic() - began - 0.01)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield waits
    finally:
        over.set()
        thread.join()


class TestAServerThatHangs:
    def test_costs_those_who_wait_a_while_and_nobody_else(
        self, site: Site, alice: Caller, make_product: Make, postgres_url: str, connect: Connect
    ) -> None:
        path = f"//api/v1/products/{make_product()['id']}"
        read = partial(ask, site.port, path, alice.token)
        with (
            timing(read, threads=8) as reads,
            timing(partial(ask, site.port, "//livez"), threads=1) as probes,
            measuring_waits() as waits,
        ):
            wait_for(lambda: len(reads) > 40)
            with hung_postgres(postgres_url):
                hung = time.monotonic()
                wait_for(lambda: [1 for began, _, status in reads if began > hung and status == 503])
                # Long enough for everybody who waits to be told, and for the breaker to have tried again.
                time.sleep(8)
                assert ask(site.port, "//readyz").status == 503
                assert ask(site.port, "//nowhere").status == 404
                assert ask(site.port, path, "x.y.z").status == 401
                assert ask(site.port, path, alice.token, "POST").status == 405
            back = time.monotonic()
            wait_for(lambda: [1 for began, _, status in reads if began > back and status == 200])
            recovered = time.monotonic()

        during = [(began, took, status) for began, took, status in reads if hung < began + took and began < back]
        ended = [began + took - hung for began, took, status in during if status == 503]
        alive = [took for began, took, _ in probes if hung + 6 < began < back]
        # Eight threads read in the time before, so that a probe waits for them.
        usual = statistics.median(took for began, took, _ in probes if began + took < hung)
        longest = WAITS * max(waits)
        assert {status for _, _, status in reads} == {200, 503}
        assert min(ended) < FIRST_REFUSAL + longest
        assert max(took for _, took, _ in during) < FIRST_REFUSAL + longest
        assert {status for _, _, status in probes} == {200}
        assert max(took for _, took, _ in probes) < LIVENESS + longest
        assert statistics.median(alive) < max(LIVENESS_WHILE_OPEN, 2 * usual)
        assert recovered - back < RECOVERY + longest
        # No thread is lost: as many as there are answer at once.
        wait_for(lambda: {answer.status for answer in at_once([read] * 8)} == {200})
        assert "Traceback" not in site.server.log()
        assert connect(alice).post("/categories", {"name": "Stools"}).status == 201

    def test_loses_no_acknowledged_write(
        self, site: Site, alice: Caller, make_category: Make, postgres_url: str, connect: Connect
    ) -> None:
        category = make_category()["id"]
        over, acknowledged, statuses = threading.Event(), [], set()

        def write(number: int) -> None:
            client, count = connect(alice), 0
            while not over.is_set():
                count += 1
                content = {"name": "Chair", "price": "1.00", "category_id": category, "sku": f"W-{number}-{count}"}
                try:
                    answer = client.post("/products", content)
                except (OSError, HTTPException):
                    client.close()
                    continue
                statuses.add(answer.status)
                if answer.status == 201:
                    acknowledged.append(answer.json["id"])

        with ThreadPoolExecutor(4) as threads:
            running = [threads.submit(write, number) for number in range(4)]
            wait_for(lambda: len(acknowledged) > 20)
            with hung_postgres(postgres_url):
                time.sleep(7)
            before = len(acknowledged)
            wait_for(lambda: len(acknowledged) > before + 20)
            over.set()
        for each in running:
            each.result()

        reader = connect(alice)
        assert statuses <= {201, 503, 409}
        assert {reader.get(f"/products/{product_id}").status for product_id in acknowledged} == {200}


class TestAWorkerOfOneThread:
    def test_lets_that_thread_into_the_database(self, app: Flask, alice: Caller) -> None:
        with gunicorn_server(environment(app.config["DATABASE_URL"]), workers=1, threads=1) as server:
            statuses = {answer.status for answer in at_once([partial(ask, server.port, "/users/me", alice.token)] * 4)}

        assert statuses == {200}
