"""Copies of the catalogue: an export while others write, and the change feed from its cursor on.

``EXPORT_ROUNDS`` exports are made beside the writers; more for a soak.
"""

import itertools
import json
import os
import random
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple

import psycopg
import pytest
from flask import Flask
from sqlalchemy import create_engine, text

from app.core.transactions import unit_of_work
from app.features.bulk import upserts
from app.features.exports import service as exports
from app.features.exports.files import FileFormat, write_products
from app.features.products.models import MEMBERS
from tests.conftest import Caller
from tests.live.conftest import Site, environment
from tests.live.test_failures import conninfo
from tests.live.wire import API, Answer, Client, ask, wait_for
from tests.servers import GunicornServer, gunicorn_server

pytestmark = pytest.mark.live

Connect = Callable[..., Client]
Make = Callable[..., dict[str, Any]]
#: The products of a copy: their members, by their ids.
Copy = dict[int, dict[str, Any]]

WRITERS = 8
ROUNDS = int(os.environ.get("EXPORT_ROUNDS", "8"))
#: Products that are there before: for three batches of an export.
PRODUCTS = 2500
#: The first and the last of them, which are in different batches, and whose prices one batch changes at once.
TOGETHER = [f"S-{number}" for number in (*range(10), *range(PRODUCTS - 10, PRODUCTS))]
#: The sessions that are within a transaction and wait for their clients.
IDLE = "state = 'idle in transaction' AND datname = current_database()"


class Export(NamedTuple):
    """What an export has, and the cursor that it came with."""

    rows: Copy
    cursor: str


@pytest.fixture
def category(app: Flask, make_category: Make) -> int:
    """The category of all products."""
    category_id: int = make_category()["id"]
    default = {"name": "Thing", "price": Decimal("1.00"), "currency": "USD", "category_id": category_id, "stock": 9}
    with app.app_context(), unit_of_work():
        upserts.insert_products(
            [{**default, "sku": f"S-{number}", "description": "x" * 200} for number in range(PRODUCTS)]
        )
    return category_id


def rows_in(lines: str) -> Copy:
    """The products in lines of NDJSON, by their ids."""
    rows = [json.loads(line) for line in lines.splitlines()]
    assert len({row["id"] for row in rows}) == len(rows)
    return {row["id"]: members_of(row) for row in rows}


def members_of(product: Mapping[str, Any]) -> dict[str, Any]:
    """What clients write of a product."""
    return {name: product[name] for name in MEMBERS}


def products_in(app: Flask) -> Copy:
    """The products in the database."""
    with app.app_context(), unit_of_work(reading=True):
        return rows_in("".join(write_products(exports.iter_products(), FileFormat.NDJSON, with_ids=True)))


def patiently(call: Callable[[], Answer]) -> Answer:
    """The answer, once the database has the time for it."""
    return wait_for(call, until=lambda answer: answer.status != 503)


def export(client: Client) -> Export:
    """The whole catalogue, as it is at one moment."""
    answer = patiently(partial(client.get, "/products/export?format=ndjson&with_ids=true"))
    assert answer.status == 200, answer.body
    return Export(rows_in(answer.body.decode()), answer.headers["Events-Cursor"])


def follow(client: Client, start: Export) -> Copy:
    """The copy that begins with an export and applies the events after its cursor."""
    copy, cursor = dict(start.rows), start.cursor
    has_more = True
    while has_more:
        page = client.get(f"/events?cursor={cursor}&per_page=1000").json
        for item in page["items"]:
            if item["resource_type"] == "product" and item["data"] is None:
                copy.pop(item["resource_id"], None)
            elif item["resource_type"] == "product":
                copy[item["resource_id"]] = members_of(item["data"])
        has_more, cursor = page["meta"]["has_more"], page["meta"]["next_cursor"]
    return copy


class Writer:
    """A client that writes until it is over, in every way that there is; each is answered before the next."""

    def __init__(self, client: Client, number: int, category_id: int, ids: list[int]) -> None:
        self._client = client
        self._number = number
        self._category_id = category_id
        self._ids = ids
        self._counter = itertools.count()
        self.statuses: list[int] = []

    def write_until(self, over: threading.Event) -> None:
        """Write until an event is set."""
        kinds = [self._create, self._reprice, self._move, self._delete, self._delete_and_restore, self._save_together]
        while not over.is_set():
            random.choice(kinds)()

    def _create(self) -> None:
        name = f"New {self._number}-{next(self._counter)}"
        self._send("POST", "/products", {"name": name, "price": "5.00", "category_id": self._category_id})

    def _reprice(self) -> None:
        self._send("PATCH", self._any(), {"price": f"{random.randint(2, 99)}.50"}, if_match="*")

    def _move(self) -> None:
        delta = random.choice((-1, 1))
        self._send("POST", f"{self._any()}/stock-movements", {"delta": delta, "reason": "correction"})

    def _delete(self) -> None:
        self._send("DELETE", self._any(), if_match="*")

    def _delete_and_restore(self) -> None:
        path = self._any()
        self._send("DELETE", path, if_match="*")
        self._send("POST", f"{path}/restore")

    def _save_together(self) -> None:
        price = f"{self._number}.{next(self._counter) % 100:02}"
        self._send("POST", "/products/bulk", {"items": [{"sku": sku, "price": price} for sku in TOGETHER]})

    def _any(self) -> str:
        return f"/products/{random.choice(self._ids)}"

    def _send(self, method: str, path: str, content: Any = None, **headers: str) -> None:
        answer = patiently(partial(self._client.call, method, path, content, **headers))
        # Another writer may have deleted the product, or sold its last piece.
        assert answer.status in {200, 201, 204, 404, 409}, answer.body
        self.statuses.append(answer.status)


def answered_by(writers: list[Writer]) -> int:
    """How many requests of the writers were answered."""
    return sum(len(writer.statuses) for writer in writers)


@contextmanager
def writing(writers: list[Writer]) -> Iterator[None]:
    """Let the writers write for the length of a block."""
    over = threading.Event()
    with ThreadPoolExecutor(len(writers)) as threads:
        running = [threads.submit(writer.write_until, over) for writer in writers]
        try:
            yield
        finally:
            over.set()
    for each in running:
        each.result()


@pytest.mark.timeout(180 + 20 * ROUNDS)
class TestACopy:
    def test_made_while_eight_write_equals_the_database(
        self, app: Flask, site: Site, root: Caller, connect: Connect, category: int
    ) -> None:
        client = connect(root)
        start = export(client)
        alone = [row_id for row_id, row in start.rows.items() if row["sku"] not in TOGETHER]
        writers = [Writer(connect(root), number, category, alone) for number in range(WRITERS)]

        exports, before, written_meanwhile = [start], 0, 0
        with writing(writers):
            for _ in range(ROUNDS):
                before = wait_for(partial(answered_by, writers), until=partial(int.__lt__, before + WRITERS))
                exports.append(export(client))
                written_meanwhile += answered_by(writers) - before

        found = products_in(app)
        assert written_meanwhile > ROUNDS
        assert {200, 201, 204} <= {status for writer in writers for status in writer.statuses}
        for each in exports:
            # One batch of a writer has changed them all at once.
            assert len({row["price"] for row in each.rows.values() if row["sku"] in TOGETHER}) == 1
            assert follow(client, each) == found
        assert len({each.cursor for each in exports}) == len(exports)


@contextmanager
def stalled_export(port: int, caller: Caller) -> Iterator[socket.socket]:
    """A download of which the client has read no more than the head; the connection is closed at the end."""
    with socket.socket() as client:
        # So little that the server cannot send everything.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(60)
        client.connect(("127.0.0.1", port))
        head = f"GET {API}/products/export HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {caller.token}\r\n\r\n"
        client.sendall(head.encode())
        assert client.recv(12) == b"HTTP/1.1 200"
        yield client


class TestADownloadThatStalls:
    @pytest.fixture
    def much(self, app: Flask, make_category: Make) -> None:
        """More than the buffers of a connection take."""
        row = {"name": "Thing", "price": Decimal("1.00"), "currency": "USD", "category_id": make_category()["id"]}
        with app.app_context(), unit_of_work():
            upserts.insert_products(
                [{**row, "sku": f"S-{number}", "description": "x" * 9000} for number in range(2500)]
            )

    def test_gives_its_snapshot_up_when_its_client_goes(
        self, app: Flask, site: Site, alice: Caller, much: None
    ) -> None:
        is_open = has_snapshot if app.config["DATABASE_URL"].startswith("postgresql") else has_reader
        with stalled_export(site.port, alice):
            wait_for(partial(is_open, app))

        wait_for(partial(is_open, app), until=lambda seen: not seen)

    @pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
    def test_leaves_the_database_to_others(self, app: Flask, alice: Caller, much: None, server: GunicornServer) -> None:
        # Of three threads two may use the database at once.
        with ExitStack() as stack:
            for _ in range(2):
                stack.enter_context(stalled_export(server.port, alice))
            answers = [ask(server.port, "/products?per_page=1", alice.token) for _ in range(5)]

        assert {answer.status for answer in answers} == {200}

    @pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
    def test_is_not_whole_where_the_database_is_lost(self, app: Flask, site: Site, alice: Caller, much: None) -> None:
        with stalled_export(site.port, alice) as client:
            wait_for(partial(has_snapshot, app))
            with psycopg.connect(conninfo(app)) as connection:
                connection.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {IDLE}")
            content = b"".join(iter(partial(client.recv, 2**20), b""))

        assert len(content) > 2**20
        # Without the last chunk of its transfer coding (RFC 9112 section 7.1).
        assert not content.endswith(b"0\r\n\r\n")
        assert ask(site.port, "/products?per_page=1", alice.token).status == 200

    @pytest.fixture
    def server(self, app: Flask) -> Iterator[GunicornServer]:
        """One worker with three threads."""
        with gunicorn_server(environment(app.config["DATABASE_URL"]), workers=1, threads=3) as server:
            yield server


def has_snapshot(app: Flask) -> bool:
    """Whether a session of PostgreSQL is within a transaction, and idle."""
    with psycopg.connect(conninfo(app)) as connection:
        [(number,)] = connection.execute(f"SELECT count(*) FROM pg_stat_activity WHERE {IDLE}").fetchall()
    return bool(number)


def has_reader(app: Flask) -> bool:
    """Whether SQLite's log cannot begin anew, because a transaction reads an earlier state than the latest."""
    engine = create_engine(app.config["DATABASE_URL"], connect_args={"timeout": 0.1})
    with engine.connect() as connection:
        connection.execute(text("UPDATE categories SET name = name"))
        connection.commit()
        is_busy = connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)")).one()[0]
    engine.dispose()
    return bool(is_busy)
