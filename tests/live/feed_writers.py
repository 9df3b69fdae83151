"""Processes that write to the catalogue beside the readers of the change feed, for its tests.

Their transactions overlap. At its COMMIT, when everything has been stored, each has a fate: it is committed at once or
late, it is rolled back, or it is lost because its process is killed, which is then started again. The standard output
names the fate of each.
"""

import argparse
import math
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar
from decimal import Decimal
from enum import StrEnum
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess

from flask import Flask
from sqlalchemy import Connection, event
from sqlalchemy.exc import DBAPIError

from app import create_app
from app.core.sqlstates import Meaning, meaning_of
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.products import service as products
from app.features.products.creation import create_row
from app.features.products.ledger import Reason
from app.features.products.models import Product
from app.features.stock import service as stock
from app.security.identity import Identity
from app.security.permissions import Role

PROCESSES, THREADS = 4, 6
#: How many of the processes are killed again and again, and after how many seconds.
MORTAL, LIFETIME = 2, (0.2, 1.0)
#: The most products that one transaction changes.
MANY = 4
#: The mean delay of a late COMMIT in seconds. SQLite lets no other writer in meanwhile.
DELAYS = {"postgresql": 0.05, "sqlite": 0.005}
EDITOR = Identity.of_user(role=Role.EDITOR)


class Fate(StrEnum):
    """What becomes of a transaction at its COMMIT."""

    PROMPT = "prompt"
    LATE = "late"
    ROLLED_BACK = "rolled_back"
    #: The other threads of its process are killed wherever they are.
    KILLED = "killed"


USUAL = [Fate.PROMPT] * 10 + [Fate.LATE] * 5 + [Fate.ROLLED_BACK] * 3


class GivenUp(Exception):
    """The transaction is to be rolled back."""


_fate = ContextVar("fate", default=Fate.PROMPT)


def run_process(app: Flask, category_id: int, product_ids: Sequence[int], *, death: float, end: float) -> None:
    """Write from several threads until ``end``, of the monotonic clock; the first COMMIT after ``death`` kills them."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with app.app_context():
        event.listen(db.engine, "commit", _meet_fate)

    def write() -> None:
        while (now := time.monotonic()) < end:
            _fate.set(Fate.KILLED if now > death else random.choice(USUAL))
            with app.app_context(), suppress(GivenUp):
                try:
                    with unit_of_work():
                        random.choice(KINDS)(category_id, product_ids)
                except DBAPIError as error:
                    # Others were in the way for too long.
                    if meaning_of(error) is not Meaning.BUSY:
                        raise

    with ThreadPoolExecutor(THREADS) as threads:
        for running in [threads.submit(write) for _ in range(THREADS)]:
            running.result()


def _meet_fate(connection: Connection) -> None:
    """A listener of the engine that is called before COMMIT is sent."""
    fate = _fate.get()
    # One system call, so that lines of several processes do not mix.
    os.write(sys.stdout.fileno(), f"{fate}\n".encode())
    if fate is Fate.LATE:
        delay = DELAYS[connection.dialect.name]
        time.sleep(min(random.expovariate(1 / delay), 10 * delay))
    elif fate is Fate.ROLLED_BACK:
        raise GivenUp
    elif fate is Fate.KILLED:
        os.kill(os.getpid(), signal.SIGKILL)


def _create_products(category_id: int, _product_ids: Sequence[int]) -> None:
    for _ in range(random.randint(1, 2)):
        create_row({"name": "Lamp", "price": Decimal(5), "currency": "USD", "category_id": category_id})


def _move_stock(_category_id: int, product_ids: Sequence[int]) -> None:
    for product in _lock_some(product_ids):
        stock.record_movement(product, delta=1, reason=Reason.RECEIPT)


def _change_products(_category_id: int, product_ids: Sequence[int]) -> None:
    locked = _lock_some(product_ids)
    random.shuffle(locked)
    for product in locked:
        products.update_product(product, price=Decimal(random.randint(1, 999)))


KINDS = [_create_products, _move_stock, _change_products, _change_products]


def _lock_some(product_ids: Sequence[int]) -> list[Product]:
    # All writers lock in the order of the ids, lest two wait for each other.
    some = sorted(random.sample(product_ids, random.randint(1, MANY)))
    return [products.get_product(product_id, identity=EDITOR, lock=True) for product_id in some]


def main() -> None:
    """Keep the processes running for a while, and fail if one of them ends by itself with an error."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--category", type=int, required=True)
    parser.add_argument("products", type=int, nargs="+")
    asked = parser.parse_args()
    # Every process inherits it, without connections: one that is started again writes at once.
    app, end = create_app(), time.monotonic() + asked.seconds
    running: dict[ForkProcess, bool] = {}

    def start(*, is_mortal: bool) -> None:
        death = time.monotonic() + random.uniform(*LIFETIME) if is_mortal else math.inf
        work = partial(run_process, app, asked.category, asked.products, death=death, end=end)
        process = ForkProcess(target=work, daemon=True)
        process.start()
        running[process] = is_mortal

    # Without this, the processes would outlive this one.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    for number in range(PROCESSES):
        start(is_mortal=number < MORTAL)
    while running:
        wait([process.sentinel for process in running])
        for process in [process for process in running if not process.is_alive()]:
            is_mortal = running.pop(process)
            if process.exitcode not in {0, -signal.SIGKILL}:
                sys.exit(1)
            if time.monotonic() < end:
                start(is_mortal=is_mortal)


if __name__ == "__main__":
    main()
