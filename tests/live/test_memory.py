"""What a worker's caches take: as much as their settings say, seen from outside the process."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from tests.conftest import Caller
from tests.live.conftest import environment, worker_pids
from tests.live.wire import Client
from tests.servers import gunicorn_server

Make = Callable[..., dict[str, Any]]

QUERIES = 6_000
SETTING = 16 * 2**20
LONGEST_LIST = 12


def resident_bytes(pid: int) -> int:
    """The resident set size of a process (proc(5), statm)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def taken(app: Flask, alice: Caller, setting: int) -> int:
    """The resident bytes of a worker with this setting after many different queries."""
    settings = environment(app.config["DATABASE_URL"], ANSWER_CACHE_BYTES=str(setting))
    with gunicorn_server(settings, workers=1, threads=2) as server:
        (pid,) = worker_pids(server, 1)
        client = Client(server.port, alice.token)
        # What else a worker remembers of queries is a thousand of them.
        for number in range(QUERIES if setting else QUERIES // 10):
            answer = client.get(f"/products?per_page={number % LONGEST_LIST + 1}&max_price={1_000_000 + number}")
            assert answer.status == 200, answer.body
        client.close()
        return resident_bytes(pid)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_answers_take_what_their_setting_says(app: Flask, alice: Caller, make_product: Make) -> None:
    for number in range(LONGEST_LIST):
        make_product(description=f"{number} " * 100)

    with ThreadPoolExecutor(2) as threads:
        without, with_answers = threads.map(lambda setting: taken(app, alice, setting), [0, SETTING])

    assert with_answers - without == pytest.approx(SETTING, rel=0.2)
