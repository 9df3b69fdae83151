"""Snapshots: what they show, what they occupy, and what becomes of their connections."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, create_engine, func, insert, select, text
from sqlalchemy.exc import DBAPIError, OperationalError

from app.core import clock, snapshots
from app.core.breaker import Breaker, DatabaseBusy
from app.core.fastsql import Prepared
from app.core.snapshots import SnapshotExpired, SnapshotInTheWay, open_snapshot
from app.core.transactions import run, unit_of_work
from app.extensions import db
from app.features.categories.models import Category
from config import Pooling
from tests.live.wire import wait_for

on_postgresql = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)


@pytest.fixture(autouse=True)
def context(app: Flask) -> Iterator[None]:
    """An application context, as a request has one."""
    with app.app_context():
        yield


@pytest.fixture
def beside(app: Flask) -> Iterator[Engine]:
    """Another way into the database."""
    engine = create_engine(app.config["DATABASE_URL"])
    yield engine
    engine.dispose()


def add(engine: Engine, name: str) -> None:
    """Add a category from elsewhere."""
    now = clock.now()
    row = {"name": name, "slug": name, "search_text": name, "created_at": now, "updated_at": now, "version": 1}
    with engine.begin() as connection:
        connection.execute(insert(Category).values(row))


def names() -> list[str]:
    """The names of the categories, in this unit of work."""
    return list(run(select(Category.name).order_by(Category.id)).scalars())


def checked_out() -> int:
    """How many connections of the pool are in use."""
    number: int = db.engine.pool.checkedout()  # type: ignore[attr-defined]  # both databases' pools count
    return number


class TestASnapshot:
    def test_shows_what_its_first_statement_found(self, beside: Engine) -> None:
        add(beside, "before")
        with open_snapshot() as snapshot:
            add(beside, "just in time")
            with snapshot.reading():
                first = names()
            add(beside, "late")
            with snapshot.reading():
                second = names()

        assert first == second == ["before", "just in time"]
        with unit_of_work(reading=True):
            assert names() == ["before", "just in time", "late"]

    @on_postgresql
    def test_is_the_same_behind_a_pooler(self, app_with: Callable[..., Flask], beside: Engine) -> None:
        with app_with(database_pooling=Pooling.TRANSACTION).app_context():
            with open_snapshot() as snapshot:
                with snapshot.reading():
                    names()
                add(beside, "late")
                with snapshot.reading():
                    assert names() == []
            with unit_of_work(reading=True):
                assert names() == ["late"]

    def test_shows_compiled_statements_the_same(self, app_with: Callable[..., Flask], beside: Engine) -> None:
        count = Prepared(select(func.count(Category.id).label("number")))
        with app_with(fast_sql=True).app_context(), open_snapshot() as snapshot:
            with snapshot.reading():
                names()
            add(beside, "late")
            with snapshot.reading():
                assert count.one_or_none().number == 0

    def test_is_no_obstacle_to_a_unit_that_writes(self) -> None:
        with open_snapshot() as snapshot:
            with snapshot.reading():
                names()
            with unit_of_work():
                db.session.add(Category(name="Chairs", slug="chairs"))

            with snapshot.reading():
                assert names() == []

    def test_refuses_the_session_which_would_read_past_it(self) -> None:
        with (
            open_snapshot() as snapshot,
            snapshot.reading(),
            pytest.raises(RuntimeError, match=r"use transactions\.run"),
        ):
            db.session.scalar(select(Category.id))

    @on_postgresql
    def test_refuses_to_write(self) -> None:
        category = insert(Category).values(name="x", slug="x", version=1)
        with open_snapshot() as snapshot, snapshot.reading(), pytest.raises(DBAPIError, match="read-only"):
            run(category)

    def test_ends_after_a_while(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(snapshots, "MAX_SECONDS", -1)

        with open_snapshot() as snapshot, pytest.raises(SnapshotExpired), snapshot.reading():
            pass

        assert checked_out() == 0

    @on_postgresql
    def test_gives_way_to_a_migration(self, beside: Engine) -> None:
        def migrate() -> None:
            with beside.begin() as connection:
                connection.execute(text("ALTER TABLE categories ALTER COLUMN name SET NOT NULL"))

        waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        migration = threading.Thread(target=migrate)
        with open_snapshot() as snapshot:
            with snapshot.reading():
                names()
            migration.start()
            with beside.connect() as connection:
                wait_for(lambda: connection.scalar(waiting))

            with pytest.raises(SnapshotInTheWay), snapshot.reading():
                pass
        migration.join(timeout=60)

        assert not migration.is_alive()


class TestItsConnection:
    def test_is_the_only_one_of_its_request(self) -> None:
        with unit_of_work(reading=True):
            names()
            db.session.scalar(select(Category.id))
            with open_snapshot() as snapshot:
                with snapshot.reading():
                    names()

                assert checked_out() == 1

        assert checked_out() == 0

    def test_takes_a_place_only_while_it_is_read(self) -> None:
        guard = Breaker()
        guard.places = 1
        with open_snapshot() as snapshot:
            with snapshot.reading(guard):
                names()
                with pytest.raises(DatabaseBusy):
                    guard.enter()

            guard.enter()
            guard.leave()

    def test_is_given_back_once(self) -> None:
        snapshot = open_snapshot()
        with snapshot.reading():
            names()

        snapshot.close()
        snapshot.close()

        assert checked_out() == 0

    def test_is_given_back_where_the_transaction_cannot_begin(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: Any) -> None:
            raise OperationalError("BEGIN", {}, Exception("gone"))

        monkeypatch.setattr("sqlalchemy.Connection.begin", fail)

        with pytest.raises(OperationalError):
            open_snapshot()

        assert checked_out() == 0

    def test_is_as_any_other_afterwards(self) -> None:
        db.engine.dispose()
        with open_snapshot() as snapshot, snapshot.reading():
            names()

        with unit_of_work():
            db.session.add(Category(name="Chairs", slug="chairs"))
        with unit_of_work(reading=True):
            assert names() == ["Chairs"]
            assert checked_out() == 1

    @on_postgresql
    @pytest.mark.parametrize(
        ("setting", "within", "afterwards"),
        [
            ("transaction_isolation", "repeatable read", "read committed"),
            ("transaction_read_only", "on", "off"),
            ("idle_in_transaction_session_timeout", "15min", "30s"),
        ],
    )
    def test_has_its_settings_for_this_transaction_alone(self, setting: str, within: str, afterwards: str) -> None:
        show = text(f"SHOW {setting}")
        db.engine.dispose()
        with open_snapshot() as snapshot, snapshot.reading():
            assert run(show).scalar_one() == within

        with unit_of_work():
            assert db.session.scalar(show) == afterwards

    @on_postgresql
    def test_may_be_lost_while_it_is_idle(self, beside: Engine) -> None:
        snapshot = open_snapshot()
        with snapshot.reading():
            process = run(select(func.pg_backend_pid())).scalar_one()
        with beside.connect() as connection:
            connection.execute(text(f"SELECT pg_terminate_backend({process}, 5000)"))

        snapshot.close()

        assert checked_out() == 0
        with unit_of_work(reading=True):
            assert names() == []

    @on_postgresql
    def test_may_be_lost_before_it_is_read(self, beside: Engine) -> None:
        with open_snapshot() as snapshot:
            with snapshot.reading():
                process = run(select(func.pg_backend_pid())).scalar_one()
            with beside.connect() as connection:
                connection.execute(text(f"SELECT pg_terminate_backend({process}, 5000)"))

            with pytest.raises(OperationalError), snapshot.reading():
                names()

        assert checked_out() == 0
