"""The log of changes, as a follower reads it: each committed change once, whatever the order of the commits."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from random import Random
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Connection, delete, event, select, text, update

from app.core import clock
from app.core.changelog import (
    LOG_TAIL,
    MAX_CHANGES,
    Follower,
    LoggedChange,
    LogPosition,
    LogRow,
    LogTail,
    tail_of,
    values_of,
)
from app.core.fastsql import Prepared
from app.core.feed import ChangeEvent
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.bulk import upserts
from app.features.categories.models import Category
from app.features.events.numbering import number_changes
from tests.conftest import Caller, body_of, rows_of

Make = Callable[..., dict[str, Any]]

TAIL = Prepared(select(LOG_TAIL))
LOG = LogRow.metadata.tables["change_log"]
on_postgresql = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)


class RolledBack(Exception):
    """What a transaction stored is undone."""


def read_tail(app: Flask, position: LogPosition) -> LogTail:
    """What the log has after a position."""
    with app.app_context(), unit_of_work(reading=True):
        tail = tail_of(position, TAIL.one_or_none(values_of(position)).log)
    assert tail is not None
    return tail


def follow(app: Flask, follower: Follower) -> Sequence[LoggedChange] | None:
    return follower.follow(read_tail(app, follower.position))


def write(app: Flask, work: Callable[[], Any]) -> None:
    with app.app_context(), unit_of_work():
        work()


def make_words_old(app: Flask) -> None:
    """Store other words of each product than the code makes of it, as a release before it may have."""
    write(app, lambda: db.session.execute(text("UPDATE products SET search_text = ' \n \n '")))


def logged_types(app: Flask) -> Sequence[str]:
    with app.app_context(), unit_of_work(reading=True):
        return db.session.scalars(select(LogRow.type).order_by(LogRow.id)).all()


def add(name: str) -> None:
    db.session.add(Category(name=name, slug=name))


@dataclass
class Late:
    """A transaction in a thread of its own that has stored everything, and waits before its COMMIT is sent."""

    app: Flask
    work: Callable[[], Any]
    stored: threading.Event = field(default_factory=threading.Event)
    may_go: threading.Event = field(default_factory=threading.Event)
    fails: bool = False
    running: Future[None] = field(default_factory=Future)

    def begin(self, threads: ThreadPoolExecutor) -> "Late":
        self.running = threads.submit(self.run)
        assert self.stored.wait(30)
        return self

    def run(self) -> None:
        HELD.transaction = self
        try:
            write(self.app, self.work)
        finally:
            HELD.transaction = None

    def hold(self) -> None:
        self.stored.set()
        assert self.may_go.wait(60)
        if self.fails:
            raise RolledBack

    def end(self, *, fails: bool = False) -> None:
        self.fails = fails
        self.may_go.set()
        with suppress(RolledBack):
            self.running.result(30)


#: The transaction of a thread that has to wait.
HELD = threading.local()


def hold(_connection: Connection) -> None:
    late: Late | None = getattr(HELD, "transaction", None)
    if late is not None:
        late.hold()


@pytest.fixture
def threads(app: Flask) -> Iterator[ThreadPoolExecutor]:
    """Threads whose transactions can be held before their COMMIT is sent."""
    with app.app_context():
        engine = db.engine
    event.listen(engine, "commit", hold)
    try:
        with ThreadPoolExecutor(8) as executor:
            yield executor
    finally:
        event.remove(engine, "commit", hold)


class TestAFollower:
    def test_learns_what_changed(self, app: Flask, root: Caller, make_product: Make, make_category: Make) -> None:
        other, brand = make_category(), body_of(root.post("/brands", {"name": "Oak"}))
        follower = Follower()
        follow(app, follower)
        product = make_product(brand_id=brand["id"])
        here, there, row_id = product["category_id"], other["id"], product["id"]

        assert [change[1:] for change in follow(app, follower) or ()][-1] == (
            "product", row_id, None,
            {"category_id": [here], "brand_id": [brand["id"]], "type_id": [], "parent_id": []},
        )  # fmt: skip
        root.patch(f"/products/{row_id}", {"price": "7.00", "category_id": there})
        [changed] = follow(app, follower) or ()
        assert changed.members is not None
        assert {"price", "category_id"} <= changed.members <= {"price", "category_id", "updated_at", "version"}
        none: dict[str, list[int]] = {"type_id": [], "parent_id": []}
        assert changed.scopes == {"category_id": sorted([here, there]), "brand_id": [brand["id"]], **none}
        root.patch(f"/products/{row_id}", {"brand_id": None})
        [changed] = follow(app, follower) or ()
        assert changed.scopes == {"category_id": [there], "brand_id": [brand["id"]], **none}
        root.post(f"/products/{row_id}/stock-movements", {"delta": 3, "reason": "receipt"})
        [moved] = follow(app, follower) or ()
        assert moved.members == frozenset({"stock"})
        assert moved.scopes == {"category_id": [there], "brand_id": [], **none}
        root.post("/products/bulk", {"items": [{"sku": product["sku"], "stock": 5, "category_id": here}]})
        [saved] = follow(app, follower) or ()
        assert saved.members == frozenset({"stock", "category_id"})
        assert saved.scopes["category_id"] == sorted([here, there])
        root.delete(f"/products/{row_id}")
        root.post(f"/products/{row_id}/restore")
        assert [change.members for change in follow(app, follower) or ()] == [None, None]

    def test_learns_of_derived_columns_that_change_alone(self, app: Flask, root: Caller, make_product: Make) -> None:
        product_id, follower = make_product(name="Chair")["id"], Follower()
        path = f"/products/{product_id}"
        make_words_old(app)
        trail = rows_of(app, "audit_events")
        follow(app, follower)

        # What is stated is as it was.
        root.patch(path, {"name": "Chair"})

        [changed] = follow(app, follower) or ()
        assert (changed.resource_id, changed.members) == (product_id, frozenset({"search_text"}))
        assert logged_types(app)[-1] == "product.updated"
        assert rows_of(app, "audit_events") == trail

    def test_learns_nothing_where_nothing_changes(self, app: Flask, root: Caller, make_product: Make) -> None:
        product_id, follower = make_product(name="Chair")["id"], Follower()
        follow(app, follower)

        root.patch(f"/products/{product_id}", {"name": "Chair"})

        assert follow(app, follower) == []

    def test_learns_of_derived_columns_beside_others(self, app: Flask, root: Caller, make_product: Make) -> None:
        product_id, follower = make_product(name="Chair", price="5.00")["id"], Follower()
        make_words_old(app)
        follow(app, follower)

        root.patch(f"/products/{product_id}", {"price": "7.77"})
        root.patch(f"/products/{product_id}", {"price": "8.88"})

        changes = follow(app, follower) or ()
        assert [change.members for change in changes] == [frozenset({"price", "search_text"}), frozenset({"price"})]
        newest = body_of(root.get(f"/audit-events?resource=product/{product_id}"))["items"][1]
        assert set(newest["after"]) == {"price"}

    @pytest.mark.parametrize("stated", [{"price": "7.77"}, {"stock": 3}])
    def test_learns_of_derived_columns_that_many_products_get(
        self, app: Flask, root: Caller, make_product: Make, stated: dict[str, Any]
    ) -> None:
        product, follower = make_product(name="Chair", price="5.00"), Follower()
        make_words_old(app)
        follow(app, follower)

        for members in (stated, {"price": "8.88"}):
            root.post("/products/bulk", {"items": [{"sku": product["sku"], **members}]})

        changes = follow(app, follower) or ()
        assert [change.members for change in changes] == [frozenset({*stated, "search_text"}), frozenset({"price"})]
        _, event = body_of(root.get(f"/audit-events?resource=product/{product['id']}"))["items"][:2]
        assert set(event["after"]) == set(stated)

    def test_learns_where_a_category_was_and_is(self, app: Flask, root: Caller, make_category: Make) -> None:
        above, beside = make_category(), make_category()
        child = make_category(parent_id=above["id"])
        follower = Follower()
        follow(app, follower)
        root.patch(f"/categories/{child['id']}", {"parent_id": beside["id"]})

        [moved] = follow(app, follower) or ()

        assert (moved.resource, moved.resource_id) == ("category", child["id"])
        assert moved.scopes == {"parent_id": sorted([above["id"], beside["id"]])}

    def test_learns_nothing_twice(self, app: Flask) -> None:
        follower = Follower()
        begin = read_tail(app, follower.position)
        write(app, lambda: add("chairs"))
        early = read_tail(app, follower.position)
        write(app, lambda: add("tables"))
        late = read_tail(app, follower.position)

        assert len(follower.follow(late) or ()) == 2
        assert follower.follow(early) == []
        assert follower.follow(begin) == []
        assert follow(app, follower) == []

    def test_forgets_where_there_is_too_much(self, app: Flask, make_category: Make) -> None:
        category_id = make_category()["id"]
        follower = Follower()
        follow(app, follower)
        rows = [
            {"sku": f"S-{n}", "name": "x", "price": Decimal(1), "currency": "USD", "category_id": category_id}
            for n in range(MAX_CHANGES + 1)
        ]
        write(app, lambda: upserts.insert_products(rows[: MAX_CHANGES - 1]))
        assert len(follow(app, follower) or ()) == MAX_CHANGES - 1
        write(app, lambda: upserts.upsert_products([{**row, "name": "y"} for row in rows]))

        assert follow(app, follower) is None
        assert follow(app, follower) == []

    def test_forgets_what_was_pruned_or_restored(self, app: Flask) -> None:
        write(app, lambda: add("chairs"))
        follower, other = Follower(), Follower()
        follow(app, follower)
        follow(app, other)
        # As after a restore: another row has the id of the last that was seen.
        write(app, lambda: db.session.execute(update(LogRow).values(created_at=clock.now())))
        assert follow(app, follower) is None
        assert follow(app, follower) == []

        write(app, lambda: db.session.execute(delete(LogRow)))
        write(app, lambda: add("tables"))
        assert follow(app, other) is None
        write(app, lambda: add("lamps"))
        assert len(follow(app, other) or ()) == 1

    @pytest.mark.parametrize("changed", [{"at": 1.0}, {"server": "of yesterday"}])
    def test_forgets_after_a_long_time_and_on_another_server(self, app: Flask, changed: dict[str, Any]) -> None:
        follower = Follower()
        write(app, lambda: add("chairs"))
        follow(app, follower)
        assert follow(app, follower) == []
        follower.position = follower.position._replace(**changed)

        assert follow(app, follower) is None
        assert follow(app, follower) == []

    def test_that_looks_stays_young_while_nothing_changes(self, app: Flask) -> None:
        follower = Follower()
        write(app, lambda: add("chairs"))
        follow(app, follower)
        looked = follower.position.at
        while follower.position.at == looked:
            assert follow(app, follower) == []

    @on_postgresql
    def test_sees_a_transaction_that_commits_late(self, app: Flask, threads: ThreadPoolExecutor) -> None:
        follower = Follower()
        late = Late(app, lambda: add("late")).begin(threads)
        write(app, lambda: add("early"))
        early = [change.resource_id for change in follow(app, follower) or ()]
        assert follow(app, follower) == []
        late.end()
        found = [change.resource_id for change in follow(app, follower) or ()]

        with app.app_context():
            ids = {row.slug: row.id for row in db.session.scalars(select(Category))}
        assert (early, found) == ([ids["early"]], [ids["late"]])

    @on_postgresql
    def test_sees_a_transaction_that_began_last_and_logged_first(self, app: Flask, threads: ThreadPoolExecutor) -> None:
        follower, begun, may_go = Follower(), threading.Event(), threading.Event()
        # What this writes for the first time would be the last transaction to end.
        assert numbered(app) == []

        def add_slowly() -> None:
            add("first")
            db.session.flush()
            begun.set()
            assert may_go.wait(30)

        first = threads.submit(write, app, add_slowly)
        assert begun.wait(30)
        # Its number is greater than that of any transaction that has ended, so no snapshot names it as running.
        last = Late(app, lambda: add("last")).begin(threads)
        may_go.set()
        first.result(30)
        seen = [len(follow(app, follower) or ()), len(numbered(app))]
        last.end()

        assert seen == [1, 1]
        assert len(follow(app, follower) or ()) == 1
        assert len(numbered(app)) == 2

    @on_postgresql
    def test_reads_an_index_however_long_the_log_is(self, app: Flask) -> None:
        """Whatever the planner knows of the values, and while a transaction is open that is older than all of it."""
        with app.app_context(), unit_of_work():
            rows = text("""
                INSERT INTO change_log (xid, created_at, type, resource_type, resource_id, row_version, scopes)
                SELECT CAST(CAST(pg_current_xact_id() AS text) AS bigint) - 20000 + n, now(), 'product.updated',
                    'product', n, 1, '{}' FROM generate_series(1, 20000) AS n
            """)
            db.session.execute(rows)
            db.session.execute(text("ANALYZE change_log"))
            db.session.execute(text("SET LOCAL plan_cache_mode = force_generic_plan"))
            last, xid = db.session.execute(text("SELECT max(id), max(xid) FROM change_log")).one()
            sql = str(select(LOG_TAIL).compile(db.engine, compile_kwargs={"literal_binds": False}))
            numbered = sql % {"log_last": "$1", "log_xmax": "$2", "log_running": "$3"}
            db.session.connection().exec_driver_sql(f"PREPARE tail AS {numbered}")
            # One that has just looked, and one that has not for 19,000 changes.
            for position in (f"{last}, {xid - 10}, '{{{xid - 19000}}}'", f"{last - 19000}, {xid - 19000}, '{{}}'"):
                asked = f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE tail ({position})"
                plan = db.session.connection().exec_driver_sql(asked).scalar_one()
                nodes = [node for node in every_node(plan[0]["Plan"]) if node.get("Relation Name") == "change_log"]
                assert {node["Node Type"] for node in nodes} <= {"Index Scan", "Bitmap Heap Scan"}
                read = sum(node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in nodes)
                assert read <= MAX_CHANGES + 50
            db.session.connection().exec_driver_sql("DEALLOCATE tail")


def numbered(app: Flask) -> list[int]:
    """The ids of the rows in the feed, after a reader has numbered what is committed."""
    with app.app_context(), unit_of_work(reading=True):
        assert not number_changes()
        return list(db.session.scalars(select(ChangeEvent.resource_id).order_by(ChangeEvent.id)))


def every_node(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from every_node(below)


@dataclass
class Story:
    """What some transactions did, and what three followers and the feed made of it."""

    app: Flask
    chance: Random
    committed: Counter[str] = field(default_factory=Counter)
    followers: list[tuple[Follower, list[int]]] = field(default_factory=lambda: [(Follower(), []) for _ in range(3)])

    def look(self, everybody: bool = False) -> None:
        """Some of the followers read the log, one of them with what it read a while ago; and the feed is read."""
        for follower, seen in self.followers:
            if everybody or self.chance.random() < 0.5:
                tails = [read_tail(self.app, follower.position) for _ in range(2)]
                for tail in tails:
                    seen += [change.resource_id for change in follower.follow(tail) or ()]
        if everybody or self.chance.random() < 0.5:
            numbered(self.app)


@on_postgresql
@pytest.mark.parametrize("seed", range(6))
def test_everybody_sees_each_committed_change_once(app: Flask, threads: ThreadPoolExecutor, seed: int) -> None:
    """Transactions begin, commit late and are rolled back in any order."""
    story, waiting = Story(app, Random(seed)), list[tuple[str, Late]]()
    try:
        for number in range(40):
            act = story.chance.choice(["begin", "begin", "commit", "commit", "roll back", "at once"])
            name = f"c{number}"
            if act == "at once":
                write(app, partial(add, name))
                story.committed[name] += 1
            elif act == "begin" and len(waiting) < 7:
                waiting.append((name, Late(app, partial(add, name)).begin(threads)))
            elif act in {"commit", "roll back"} and waiting:
                name, late = waiting.pop(story.chance.randrange(len(waiting)))
                late.end(fails=act == "roll back")
                story.committed[name] += act == "commit"
            story.look()
    finally:
        for _, late in waiting:
            late.end(fails=True)
    story.look(everybody=True)

    with app.app_context():
        ids = {row.slug: row.id for row in db.session.scalars(select(Category))}
    expected = sorted(ids.values())
    assert set(+story.committed) == ids.keys()
    assert sorted(numbered(app)) == expected
    for _, seen in story.followers:
        assert sorted(seen) == expected


@on_postgresql
def test_a_database_that_was_moved_numbers_nothing_twice(app: Flask) -> None:
    """Another server's transactions had greater numbers, which come again here one day."""
    moved = text("UPDATE change_log SET xid = xid + 100000")
    for name in ("a", "b"):
        write(app, partial(add, name))
    numbered(app)
    write(app, lambda: add("c"))
    state = text("UPDATE catalogue_state SET log_snapshot = '900000:900000:', log_xid = 900000")
    write(app, lambda: [db.session.execute(one) for one in (moved, state)])

    for name in ("d", "e", "f"):
        write(app, partial(add, name))
        numbered(app)

    with app.app_context():
        ids = list(db.session.scalars(select(Category.id).order_by(Category.id)))
    assert numbered(app) == ids


@on_postgresql
def test_readers_that_number_at_once_number_nothing_twice(app: Flask, threads: ThreadPoolExecutor) -> None:
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            with app.app_context(), unit_of_work(reading=True):
                number_changes()

    reading = [threads.submit(read) for _ in range(6)]
    for number in range(60):
        write(app, partial(add, f"c{number}"))
    over.set()
    for reader in reading:
        reader.result(30)

    with app.app_context():
        assert numbered(app) == list(db.session.scalars(select(Category.id).order_by(Category.id)))
