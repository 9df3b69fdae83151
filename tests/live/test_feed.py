"""The change feed beside writers whose transactions overlap, commit late, roll back or are lost, with two workers.

``make soak-feed`` runs the same for longer: FEED_ROUNDS rounds of FEED_SECONDS, and a transaction that is held for
FEED_HELD_SECONDS.
"""

import itertools
import os
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from flask import Flask
from sqlalchemy import Connection, event, select, text

from app.core.audit import AuditEvent
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.products import service as products
from app.features.products.ledger import StockMovement
from app.features.products.models import Product
from tests.conftest import Caller, body_of
from tests.live.conftest import SECRETS, environment, process
from tests.live.feed_writers import EDITOR, PROCESSES, THREADS, Fate
from tests.live.wire import PATIENCE, Answer, Client, at_once, wait_for

pytestmark = pytest.mark.live

Make = Callable[..., dict[str, Any]]
Item = dict[str, Any]

WRITERS = 16
WRITES = 12
ROUNDS = int(os.environ.get("FEED_ROUNDS", "1"))
SECONDS = float(os.environ.get("FEED_SECONDS", "4"))
HELD_SECONDS = float(os.environ.get("FEED_HELD_SECONDS", "5"))
#: Writers through HTTP: with the threads of the other processes, 32.
CLIENTS = 32 - PROCESSES * THREADS
#: Events that others write while a transaction is held.
MANY = 200
OTHER_CHANGES = text("""
    INSERT INTO change_log (xid, created_at, type, resource_type, resource_id, row_version, scopes)
    SELECT CAST(CAST(pg_current_xact_id() AS text) AS bigint), now(), 'product.updated', 'product', :product_id, 1, '{}'
    FROM generate_series(1, 4000)
""")
#: How many products all writers change.
HOT = 8


class Change(NamedTuple):
    """A change of a row, with the counter that it raised: ``live`` for a movement of stock, else ``version``."""

    type: str
    resource_id: int
    counter: int


class Reader:
    """Reads the feed on from a cursor. The kernel gives each connection to either worker, and they take turns.

    A worker whose threads all wait for locks of the database is too busy for a reader as well (503). A reader that is
    patient asks again, from the same cursor.
    """

    def __init__(self, connections: Sequence[Client], cursor: str, *, per_page: int, is_patient: bool) -> None:
        self._connections = itertools.cycle(connections)
        self._cursor = cursor
        self._per_page = per_page
        self._is_patient = is_patient

    def read_on(self) -> list[Item]:
        """What has come since, until nothing more follows."""
        items: list[Item] = []
        has_more = True
        while has_more:
            answer = wait_for(self._ask, until=lambda answer: answer.status != 503 or not self._is_patient)
            assert answer.status == 200, answer.body
            page = answer.json
            items += page["items"]
            has_more, self._cursor = page["meta"]["has_more"], page["meta"]["next_cursor"]
        return items

    def read_until(self, over: threading.Event) -> list[Item]:
        """What comes until an event is set, and what had come by then."""
        seen: list[Item] = []
        while True:
            # Asked before reading: what is committed later than that is not this reader's last page.
            last = over.wait(0.01)
            seen += self.read_on()
            if last:
                return seen

    def _ask(self) -> Answer:
        return next(self._connections).get(f"/events?cursor={self._cursor}&per_page={self._per_page}")


class Feed:
    """The feed of the server, for somebody who may read and write all products."""

    def __init__(self, connect: Callable[[], Client]) -> None:
        #: Open a connection.
        self.connect = connect

    def now(self) -> str:
        """The cursor after the last event."""
        return str(self.connect().get("/events?from=now").json["meta"]["next_cursor"])

    def reader(self, cursor: str, *, per_page: int = 1000, is_patient: bool = False) -> Reader:
        """A reader that goes on from a cursor."""
        return Reader([self.connect() for _ in range(4)], cursor, per_page=per_page, is_patient=is_patient)


@pytest.fixture
def feed(root: Caller, connect: Callable[..., Client]) -> Feed:
    return Feed(partial(connect, root))


def change_of(item: Item) -> Change:
    """What an event is about: no two have the same."""
    return Change(item["type"], item["resource_id"], item["live" if item["type"] == "stock.moved" else "version"])


class TestAReaderOfTheFeed:
    def test_sees_every_change_once_while_sixteen_write(self, feed: Feed, make_category: Make) -> None:
        category = make_category()
        reader = feed.reader(feed.now(), per_page=7)
        over = threading.Event()
        written: list[tuple[int, int]] = []

        def write(number: int, client: Client) -> None:
            for step in range(WRITES):
                content = {"name": f"{number}-{step}", "price": "1.00", "category_id": category["id"]}
                made = client.post("/products", content).json
                written.append((made["id"], 1))
                changed = client.patch(f"/products/{made['id']}", {"price": "2.00"}, if_match="*").json
                written.append((made["id"], changed["version"]))

        with ThreadPoolExecutor(WRITERS + 1) as threads:
            running = threads.submit(reader.read_until, over)
            writing = [threads.submit(write, number, feed.connect()) for number in range(WRITERS)]
            try:
                for one in writing:
                    one.result(timeout=120)
            finally:
                over.set()
            seen = running.result(timeout=60)

        assert sorted((item["resource_id"], item["version"]) for item in seen) == sorted(written)
        assert [item["id"] for item in seen] == sorted({item["id"] for item in seen})


class TestReadersBesideWritersThatDoEverythingWrong:
    """32 writers: the threads of `feed_writers`, and clients that look for each of their own changes in the feed."""

    @pytest.mark.timeout(120 + 4 * SECONDS)
    @pytest.mark.parametrize("number", range(ROUNDS))
    def test_see_what_is_committed_once_and_in_one_order(
        self, app: Flask, feed: Feed, make_product: Make, tmp_path: Path, number: int
    ) -> None:
        start = feed.now()
        category_id = make_product()["category_id"]
        hot = [make_product()["id"] for _ in range(HOT)]
        own = [make_product()["id"] for _ in range(CLIENTS)]
        log, over, writing = tmp_path / f"writers-{number}", threading.Event(), []
        arguments = ["--seconds", str(SECONDS), "--category", str(category_id), *map(str, hot)]
        env = environment(app.config["DATABASE_URL"])

        with (
            ThreadPoolExecutor(3 + CLIENTS) as threads,
            process(["-m", "tests.live.feed_writers", *arguments], env, log) as writers,
        ):
            try:
                small, large, late = (feed.reader(start, per_page=size, is_patient=True) for size in (3, 500, 50))
                readers = [threads.submit(reader.read_until, over) for reader in (small, large)]
                wait_for(log.read_text)
                end = time.monotonic() + SECONDS
                for one in own:
                    client = WriterAndReader(feed, start, category_id=category_id, hot=hot, own=one)
                    writing.append(threads.submit(client.write, end))
                over.wait(SECONDS / 2)
                readers.append(threads.submit(late.read_until, over))
                written = [each.result() for each in writing]
                status = writers.wait(PATIENCE)
                wait_for_lost_transactions(app)
            finally:
                over.set()
            sequences = [each.result() for each in readers]

        assert status == 0, log.read_text()
        assert set(log.read_text().split()) == set(Fate)
        # By now no product is deleted, so that nothing is hidden.
        items = feed.reader(start).read_on()
        require_truth(app, items)
        for sequence in sequences:
            for item, seen in zip(items, sequence, strict=True):
                assert seen["id"] == item["id"]
                assert seen["resource_id"] == item["resource_id"]
                assert seen["type"] == "product.hidden" or change_of(seen) == change_of(item)
        # A client began each of its changes when the one before was answered.
        places = {change_of(item): place for place, item in enumerate(items)}
        for changes in written:
            assert [places[change] for change in changes] == sorted(places[change] for change in changes)


class WriterAndReader:
    """A client that writes, and looks in the feed for each change once it is answered."""

    def __init__(self, feed: Feed, cursor: str, *, category_id: int, hot: Sequence[int], own: int) -> None:
        self._client = feed.connect()
        self._reader = feed.reader(cursor, is_patient=True)
        self._category_id = category_id
        self._hot = hot
        self._own = own
        self._own_version = 1
        self._changes: list[Change] = []

    def write(self, end: float) -> Sequence[Change]:
        """Write until a moment of the monotonic clock, but something in any case; the changes, in their order."""
        kinds = [self._create, self._edit, self._edit, self._move, self._delete_and_restore]
        while not self._changes or time.monotonic() < end:
            random.choice(kinds)()
        return self._changes

    def _create(self) -> None:
        content = {"name": "Chair", "price": "5.00", "category_id": self._category_id}
        made = self._send("POST", "/products", content)
        self._look_for("product.created", made.json["id"], 1)

    def _edit(self) -> None:
        product_id = random.choice(self._hot)
        # Different from what any other client writes, and from before.
        edit = {"attributes": {f"client-{self._own}": len(self._changes)}}
        edited = self._send("PATCH", f"/products/{product_id}", edit)
        self._look_for("product.updated", product_id, edited.json["version"])

    def _move(self) -> None:
        product_id = random.choice(self._hot)
        moved = self._send("POST", f"/products/{product_id}/stock-movements", {"delta": 1, "reason": "receipt"})
        # All writers add one piece at a time, so that the stock has counted the movements.
        self._look_for("stock.moved", product_id, moved.json["stock_after"])

    def _delete_and_restore(self) -> None:
        self._send("DELETE", f"/products/{self._own}")
        self._look_for("product.deleted", self._own, self._own_version + 1)
        restored = self._send("POST", f"/products/{self._own}/restore")
        self._own_version = restored.json["version"]
        self._look_for("product.restored", self._own, self._own_version)

    def _send(self, method: str, path: str, content: Any = None) -> Answer:
        """The answer, once the database has the time for it."""
        headers = {} if method == "POST" else {"if_match": "*"}
        answer = wait_for(
            lambda: self._client.call(method, path, content, **headers), until=lambda answer: answer.status != 503
        )
        assert answer.status in {200, 201, 204}, answer.body
        return answer

    def _look_for(self, *members: Any) -> None:
        change = Change(*members)
        assert change in [change_of(item) for item in self._reader.read_on()]
        self._changes.append(change)


def require_truth(app: Flask, items: Sequence[Item]) -> None:
    """Compare the events of the products, of which none was there before, with what the database says of each."""
    ids = [item["id"] for item in items]
    assert ids == sorted(set(ids))
    events: dict[int, list[Item]] = defaultdict(list)
    for item in items:
        if item["resource_type"] == "product":
            events[item["resource_id"]].append(item)

    trail: dict[int, list[str]] = defaultdict(list)
    with app.app_context(), unit_of_work(reading=True):
        rows = db.session.execute(select(Product.id, Product.version, Product.live)).all()
        # Who writes an entry has locked the product, so that the ids are in the order of its changes.
        entries = select(AuditEvent).where(AuditEvent.resource_type == "product").order_by(AuditEvent.id)
        for entry in db.session.scalars(entries):
            trail[entry.resource_id or 0].append(entry.action)
        moved = Counter(db.session.scalars(select(StockMovement.product_id)))

    assert events.keys() == {row.id for row in rows}
    for row in rows:
        types = [item["type"] for item in events[row.id]]
        assert [each for each in types if each != "stock.moved"] == trail[row.id]
        assert types.count("stock.moved") == moved[row.id]
        assert types[0] == "product.created"
        # Each event has raised one of the counters by one, and none of them is missing.
        counted = itertools.accumulate(types[1:], raised, initial=(1, 0))
        assert [(item["version"], item["live"]) for item in events[row.id]] == list(counted)
        assert (row.version, row.live) == (len(trail[row.id]), moved[row.id])


def raised(counters: tuple[int, int], event_type: str) -> tuple[int, int]:
    """The version and the live counter of a product after an event of this type."""
    version, live = counters
    return (version, live + 1) if event_type == "stock.moved" else (version + 1, live)


def wait_for_lost_transactions(app: Flask) -> None:
    """Wait until PostgreSQL has ended the transactions of processes that were killed; SQLite's end with the process."""
    if app.config["DATABASE_URL"].startswith("sqlite"):
        return
    writing = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_xid IS NOT NULL"
    )

    def count() -> int:
        with app.app_context(), unit_of_work(reading=True):
            return db.session.scalar(writing) or 0

    wait_for(count, until=lambda number: number == 0)


class TestATransactionThatIsHeldBeforeItsCommit:
    """On PostgreSQL alone: SQLite has one writer."""

    @pytest.mark.timeout(120 + 2 * HELD_SECONDS)
    @pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
    def test_keeps_no_event_of_others_from_the_next_reading(
        self, app_with: Callable[..., Flask], feed: Feed, make_product: Make
    ) -> None:
        own = [make_product()["id"] for _ in range(4)]
        held = make_product()["id"]
        start = feed.now()

        def write(client: Client, reader: Reader, product_id: int) -> list[tuple[Change, list[Item]]]:
            """Each change, and what was read after its answer."""
            seen: list[tuple[Change, list[Item]]] = []
            end = time.monotonic() + HELD_SECONDS
            while time.monotonic() < end:
                edited = client.patch(f"/products/{product_id}", {"attributes": {"edits": len(seen)}})
                assert edited.status == 200, edited.body
                change = Change("product.updated", product_id, edited.json["version"])
                seen.append((change, reader.read_on()))
            return seen

        onlooker = feed.reader(start)
        with holding(app_with(), partial(edit_product, held)):
            seen = at_once([partial(write, feed.connect(), feed.reader(start), product_id) for product_id in own])
            meanwhile = onlooker.read_on()
        afterwards = onlooker.read_on()

        changes = list(itertools.chain(*seen))
        assert len(changes) > len(own)
        for change, reading in changes:
            assert change in [change_of(item) for item in reading]
        assert sorted(map(change_of, meanwhile)) == sorted(change for change, _ in changes)
        assert [change_of(item) for item in afterwards] == [Change("product.updated", held, 2)]
        ids = [item["id"] for item in meanwhile + afterwards]
        assert ids == sorted(set(ids))

    @pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
    def test_makes_a_reading_no_more_work_the_more_others_write(
        self, app: Flask, app_with: Callable[..., Flask], root: Caller, make_product: Make
    ) -> None:
        own, held, numbers = make_product()["id"], make_product()["id"], itertools.count()
        measured = app_with(**{name.lower(): secret for name, secret in SECRETS.items()}, log_level="ERROR")
        caller, count = root.on(measured), RowsRead(measured, app)
        # More than PostgreSQL would scan rather than look up.
        with app.app_context(), unit_of_work():
            db.session.execute(OTHER_CHANGES, {"product_id": own})
        assert caller.get("/events?from=now").status_code == 200
        with app.app_context(), unit_of_work():
            for table in ("change_log", "change_events", "catalogue_state"):
                db.session.execute(text(f"ANALYZE {table}"))
        cursor = body_of(caller.get("/events?from=now"))["meta"]["next_cursor"]

        def write(times: int) -> None:
            for number in itertools.islice(numbers, times):
                edited = caller.patch(f"/products/{own}", {"attributes": {"edits": number}})
                assert edited.status_code == 200

        def read_on(per_page: int) -> int:
            nonlocal cursor
            page = body_of(caller.get(f"/events?cursor={cursor}&per_page={per_page}"))
            cursor = page["meta"]["next_cursor"]
            return len(page["items"])

        def rows_for_one_event() -> int:
            # An idle connection of somebody else may report just now, but hardly each time.
            rows = []
            for _ in range(3):
                write(1)
                before = count()
                # So few that the events are found by their ids, however small their table is.
                assert read_on(2) == 1
                rows.append(count() - before)
            return min(rows)

        with holding(app_with(), partial(edit_product, held)):
            at_first = rows_for_one_event()
            write(MANY)
            assert read_on(MANY) == MANY
            at_last = rows_for_one_event()

        assert at_first > 0
        assert at_last < at_first + MANY / 2


class RowsRead:
    """Counts the rows of all tables that PostgreSQL has read. Those of a connection are counted when it ends."""

    def __init__(self, app: Flask, observer: Flask) -> None:
        self._observer = observer
        self._pids: list[int] = []
        with app.app_context():
            self._engine = db.engine
            event.listen(db.engine, "connect", lambda driver, _: self._pids.append(driver.info.backend_pid))

    def __call__(self) -> int:
        """The number, with everything that the application has read, whose connections are closed for that."""
        self._engine.dispose()
        wait_for(lambda: self._ask("SELECT count(*) FROM pg_stat_activity WHERE pid = ANY(:pids)") == 0)
        return self._ask("SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_user_tables")

    def _ask(self, query: str) -> int:
        with self._observer.app_context(), unit_of_work(reading=True):
            return int(db.session.scalar(text(query), {"pids": self._pids}) or 0)


@contextmanager
def holding(app: Flask, work: Callable[[], None]) -> Iterator[None]:
    """Hold the transaction of ``work`` for the length of a block: all of it is stored, and its COMMIT not sent."""
    stored, over = threading.Event(), threading.Event()

    def wait(_connection: Connection) -> None:
        stored.set()
        over.wait()

    def run() -> None:
        with app.app_context():
            event.listen(db.engine, "commit", wait)
            with unit_of_work():
                # A transaction that is idle for half a minute would be ended.
                db.session.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
                work()

    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(run)
        try:
            assert stored.wait(PATIENCE)
            yield
        finally:
            over.set()
        running.result()


def edit_product(product_id: int) -> None:
    """Change a product in the unit of work at hand."""
    product = products.get_product(product_id, identity=EDITOR, lock=True)
    products.update_product(product, price=Decimal("7.00"))
