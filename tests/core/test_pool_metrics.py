"""What is counted of the database: connections, statements, errors."""

import gc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask
from sqlalchemy import Engine, create_engine, func, select, text
from sqlalchemy.exc import DBAPIError

from app.core import pool_metrics
from app.core.fastsql import Prepared
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.categories.models import Category
from tests.exposed import Exposed

OPEN, IN_USE = "catalog_database_connections_open", "catalog_database_connections_in_use"
ERRORS, STATEMENTS = "catalog_database_errors_total", "catalog_database_statements_total"


@pytest.fixture
def engine(app: Flask) -> Iterator[Engine]:
    """An engine that is set up as the application's is, with a pool of its own."""
    with app.app_context():
        made = create_engine(db.engine.url, pool_size=2)
    pool_metrics.watch(made)
    yield made
    made.dispose()


@pytest.fixture
def gauges(app: Flask) -> Callable[[], tuple[float, float]]:
    """How many connections are open, and how many of them in use, more than at the start."""
    before = Exposed.of_app(app)

    def read() -> tuple[float, float]:
        grown = Exposed.of_app(app).since(before)
        return grown.value(OPEN), grown.value(IN_USE)

    return read


Gauges = Callable[[], tuple[float, float]]


class TestConnections:
    def test_are_counted_while_they_are_open_and_in_use(self, engine: Engine, gauges: Gauges) -> None:
        with engine.connect(), engine.connect():
            assert gauges() == (2, 2)
        assert gauges() == (2, 0)
        with engine.connect():
            assert gauges() == (2, 1)
        engine.dispose()

        assert gauges() == (0, 0)

    def test_that_are_lost_are_neither(self, engine: Engine, gauges: Gauges) -> None:
        with engine.connect() as connection:
            connection.invalidate()
            assert gauges()[0] == 0

        assert gauges() == (0, 0)

    def test_that_are_detached_are_counted_until_they_are_closed(self, engine: Engine, gauges: Gauges) -> None:
        with engine.connect() as connection:
            connection.detach()
            assert gauges() == (1, 0)

        assert gauges() == (0, 0)

    def test_that_cannot_be_made_are_not_counted(self, app: Flask, gauges: Gauges) -> None:
        nowhere = create_engine("sqlite:////nowhere/there.db")
        pool_metrics.watch(nowhere)
        before = Exposed.of_app(app)

        with pytest.raises(DBAPIError):
            nowhere.connect()

        assert gauges() == (0, 0)
        assert Exposed.of_app(app).since(before).value(ERRORS, sqlstate_class="SQLITE_CANTOPEN") == 1

    def test_that_the_garbage_collector_returns_are_counted_with_the_next(
        self, engine: Engine, gauges: Gauges, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pool_metrics, "_is_collecting", True)
        engine.connect().close()
        assert gauges() == (0, 0)
        monkeypatch.setattr(pool_metrics, "_is_collecting", False)
        with engine.connect():
            assert gauges() == (1, 1)

        assert gauges() == (1, 0)

    def test_are_counted_by_many_threads(self, engine: Engine, gauges: Gauges) -> None:
        def connect(_: int) -> None:
            for _ in range(50):
                engine.connect().close()

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(connect, range(8)))
        engine.dispose()

        assert gauges() == (0, 0)

    def test_know_when_the_garbage_collector_runs(self, engine: Engine) -> None:
        seen: list[bool] = []

        class Cycle:
            def __init__(self) -> None:
                self.itself = self

            def __del__(self) -> None:
                seen.append(pool_metrics._is_collecting)

        Cycle()
        gc.collect()

        assert seen == [True]
        assert not pool_metrics._is_collecting


class TestStatements:
    def test_are_counted_whichever_way_they_take(self, app: Flask) -> None:
        before = Exposed.of_process()
        with app.app_context(), unit_of_work(reading=True):
            db.session.execute(text("SELECT 1"))
            Prepared(select(Category.id)).all()

        grown = Exposed.of_process().since(before)
        assert grown.value(STATEMENTS) == 2
        assert 0 < grown.value("catalog_database_statement_seconds_total") < 30


class TestErrors:
    def test_are_counted_by_the_class_of_their_code(self, app: Flask, backend: str) -> None:
        before = Exposed.of_app(app)
        with app.app_context(), unit_of_work():
            statement = text("INSERT INTO categories (id) VALUES (NULL)")
            with pytest.raises(DBAPIError):
                db.session.execute(statement)
            db.session.rollback()

        expected = "23" if backend == "postgresql" else "SQLITE_CONSTRAINT"
        assert Exposed.of_app(app).since(before).value(ERRORS, sqlstate_class=expected) == 1

    def test_are_counted_where_the_session_is_bypassed(self, app: Flask, backend: str) -> None:
        before = Exposed.of_app(app)
        wrong = Prepared(select(func.no_such_function(Category.id)))
        with app.app_context(), unit_of_work(reading=True), pytest.raises(DBAPIError):
            wrong.all()

        expected = "42" if backend == "postgresql" else "SQLITE_ERROR"
        assert Exposed.of_app(app).since(before).value(ERRORS, sqlstate_class=expected) == 1
