"""Transactions on both databases: how they begin, where they end, and what refused one."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from flask import Flask
from psycopg.pq import TransactionStatus
from sqlalchemy import create_engine, func, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from app.core import database
from app.core.database import (
    Tally,
    refusing,
    release_connection,
    take_turns,
    tally,
    unit_of_work,
    violated_constraint,
)
from app.core.errors import Conflict, NotFound, PreconditionFailed
from app.core.prepared import Prepared
from app.extensions import db
from app.features.categories.models import Category
from tests.conftest import rows_of

on_sqlite = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)


class Counted(Conflict):
    """Refused, and the refusal is counted."""

    commits = True


@pytest.fixture
def context(app: Flask) -> Iterator[None]:
    """An application context, as a request has one."""
    with app.app_context():
        yield


@pytest.fixture
def beside(app: Flask) -> Iterator[Callable[[str], list[Any]]]:
    """Run a statement from another connection, which waits for nobody."""
    engine = create_engine(app.config["DATABASE_URL"])

    def execute(statement: str) -> list[Any]:
        with engine.connect() as connection:
            if engine.dialect.name == "sqlite":
                connection.exec_driver_sql("PRAGMA busy_timeout = 0")
            else:
                connection.exec_driver_sql("SET lock_timeout = '100ms'")
            result = connection.execute(text(statement))
            rows = [tuple(row) for row in result] if result.returns_rows else []
            connection.commit()
            return rows

    yield execute
    engine.dispose()


def add_category(name: str = "Chairs") -> Category:
    """A new category in this session."""
    category = Category(name=name, slug=name.lower())
    db.session.add(category)
    return category


def run(app: Flask, work: Callable[[], object], *, reading: bool = False) -> None:
    """Do some work as one unit."""
    with app.app_context(), unit_of_work(reading=reading):
        work()


def add_category_and_raise(error: type[BaseException]) -> None:
    """Write something, and fail."""
    add_category("Lost")
    db.session.flush()
    raise error


def names(app: Flask) -> list[str]:
    """The names of the stored categories."""
    return [row[1] for row in rows_of(app, "categories")]


def is_in_transaction() -> bool:
    """Whether the driver's connection is in a transaction, by its own word."""
    driver: Any = db.session.connection().connection.dbapi_connection
    if isinstance(driver, sqlite3.Connection):
        return driver.in_transaction
    status: TransactionStatus = driver.info.transaction_status
    return status is not TransactionStatus.IDLE


class TestUnitOfWork:
    def test_commits_at_its_end(self, app: Flask) -> None:
        with app.app_context(), unit_of_work():
            add_category()

        assert names(app) == ["Chairs"]

    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, NotFound, Conflict])
    def test_rolls_back_when_its_block_raises(self, app: Flask, error: type[BaseException]) -> None:
        with pytest.raises(error):
            run(app, lambda: add_category_and_raise(error))

        assert names(app) == []

    def test_commits_for_a_refusal_that_must_leave_a_trace(self, app: Flask) -> None:
        with pytest.raises(Counted):
            run(app, lambda: add_category_and_raise(Counted))

        assert names(app) == ["Lost"]

    @pytest.mark.usefixtures("context")
    def test_is_in_a_transaction(self) -> None:
        with unit_of_work():
            db.session.execute(select(Category.id))

            assert is_in_transaction()

    @pytest.mark.usefixtures("context")
    def test_reads_what_it_wrote(self) -> None:
        with unit_of_work():
            add_category()
            db.session.flush()

            assert db.session.scalars(select(Category.name)).all() == ["Chairs"]

    @pytest.mark.usefixtures("context")
    def test_leaves_no_transaction_behind(self) -> None:
        with unit_of_work():
            add_category()

        assert not db.session().in_transaction()

    @pytest.mark.parametrize("change", ["UPDATE categories SET version = version + 1", "DELETE FROM categories"])
    @pytest.mark.parametrize("act", ["change", "delete"])
    def test_refuses_to_write_over_another_version(self, app: Flask, change: str, act: str) -> None:
        def write() -> None:
            category = db.session.scalars(select(Category)).one()
            # Somebody else's change, after this one has read.
            db.session.execute(text(change))
            if act == "delete":
                db.session.delete(category)
            else:
                category.name = "Stools"

        run(app, add_category)

        with pytest.raises(PreconditionFailed):
            run(app, write)

        assert names(app) == ["Chairs"]

    @pytest.mark.usefixtures("context")
    def test_counts_up_the_version_with_each_update(self) -> None:
        with unit_of_work():
            category = add_category()
        with unit_of_work():
            category.name = "Stools"

        assert category.version == 2


class TestReading:
    @pytest.mark.usefixtures("context")
    def test_begins_no_transaction(self) -> None:
        with unit_of_work(reading=True):
            db.session.execute(select(Category.id))

            assert not is_in_transaction()

    def test_sees_each_commit_of_others_at_once(self, app: Flask, beside: Callable[[str], list[Any]]) -> None:
        with app.app_context(), unit_of_work():
            add_category()

        with app.app_context(), unit_of_work(reading=True):
            before = db.session.scalar(select(Category.name))
            beside("UPDATE categories SET name = 'Stools'")
            after = db.session.scalar(select(Category.name))

        assert (before, after) == ("Chairs", "Stools")

    def test_waits_for_no_writer(self, app: Flask) -> None:
        with app.app_context(), unit_of_work():
            add_category()
            db.session.flush()
            seen = []
            reader = threading.Thread(target=lambda: seen.append(names(app)))
            reader.start()
            reader.join(timeout=5)

            assert seen == [[]]

    def test_gives_way_to_a_writer_on_the_same_connection(self, app: Flask) -> None:
        for number in range(3):
            with app.app_context(), unit_of_work(reading=True):
                db.session.execute(select(Category.id))
            with pytest.raises(RuntimeError):
                run(app, lambda: add_category_and_raise(RuntimeError))
            with app.app_context(), unit_of_work():
                add_category(f"Kept {number}")

        assert names(app) == ["Kept 0", "Kept 1", "Kept 2"]

    def test_ends_with_the_block(self, app: Flask) -> None:
        with app.app_context(), unit_of_work(reading=True):
            pass
        with app.app_context(), unit_of_work():
            db.session.execute(select(Category.id))

            assert is_in_transaction()

    def test_commits_nothing_for_a_refusal(self, app: Flask) -> None:
        def refuse() -> None:
            add_category()
            raise Counted

        with pytest.raises(Counted):
            run(app, refuse, reading=True)

        assert names(app) == []


@on_sqlite
class TestSqlite:
    def test_takes_the_write_lock_at_the_first_statement(self, app: Flask, beside: Callable[[str], list[Any]]) -> None:
        with app.app_context(), unit_of_work():
            db.session.execute(select(Category.id))

            with pytest.raises(OperationalError, match="database is locked"):
                beside("DELETE FROM categories")

    def test_takes_no_lock_to_read(self, app: Flask, beside: Callable[[str], list[Any]]) -> None:
        with app.app_context(), unit_of_work(reading=True):
            db.session.execute(select(Category.id))

            assert beside("DELETE FROM categories") == []

    def test_lets_writers_queue(self, app: Flask) -> None:
        def count_up() -> None:
            for _ in range(10):
                with app.app_context(), unit_of_work():
                    category = db.session.scalars(select(Category)).one()
                    category.name = str(int(category.name) + 1)

        with app.app_context(), unit_of_work():
            add_category("0")
        writers = [threading.Thread(target=count_up) for _ in range(4)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()

        assert names(app) == ["40"]

    @pytest.mark.parametrize(
        ("pragma", "value"), [("journal_mode", "wal"), ("synchronous", 1), ("foreign_keys", 1), ("busy_timeout", 10000)]
    )
    @pytest.mark.usefixtures("context")
    def test_is_set_up_on_each_connection(self, pragma: str, value: object) -> None:
        assert db.session.scalar(text(f"PRAGMA {pragma}")) == value


@on_postgresql
class TestPostgresql:
    @pytest.mark.parametrize(
        ("setting", "value"),
        [
            ("statement_timeout", "15s"),
            ("lock_timeout", "5s"),
            ("idle_in_transaction_session_timeout", "30s"),
            ("timezone", "UTC"),
            ("transaction_isolation", "read committed"),
        ],
    )
    @pytest.mark.usefixtures("context")
    def test_is_set_up_on_each_connection(self, setting: str, value: str) -> None:
        assert db.session.scalar(text(f"SHOW {setting}")) == value


class TestReleaseConnection:
    def test_ends_the_transaction(self, app: Flask, beside: Callable[[str], list[Any]]) -> None:
        with app.app_context(), unit_of_work():
            db.session.execute(select(Category.id).with_for_update())
            release_connection()

            assert not db.session().in_transaction()
            assert beside("DELETE FROM categories") == []


class TestTakeTurns:
    @on_postgresql
    @pytest.mark.parametrize(("subject", "others_turn"), [("tree", False), ("another", True)])
    def test_keeps_out_whoever_asks_for_the_same(self, app: Flask, subject: str, others_turn: bool) -> None:
        taken = []

        def ask() -> None:
            with app.app_context(), unit_of_work():
                db.session.execute(text("SET LOCAL lock_timeout = '50ms'"))
                try:
                    take_turns(subject)
                except OperationalError:
                    taken.append(False)
                    db.session.rollback()
                else:
                    taken.append(True)

        with app.app_context(), unit_of_work():
            take_turns("tree")
            other = threading.Thread(target=ask)
            other.start()
            other.join()

        assert taken == [others_turn]

    def test_ends_with_the_transaction(self, app: Flask) -> None:
        for _ in range(2):
            with app.app_context(), unit_of_work():
                take_turns("tree")

        with app.app_context(), unit_of_work():
            if db.engine.dialect.name == "postgresql":
                held = select(func.count()).select_from(text("pg_locks")).where(text("locktype = 'advisory'"))
                assert db.session.scalar(held) == 0


class TestRefusing:
    REFUSALS: dict[str, type[Conflict]] = {"uq_categories_slug": Counted}

    @pytest.fixture(autouse=True)
    def _rows(self, app: Flask) -> None:
        """One category."""
        with app.app_context(), unit_of_work():
            add_category()

    def test_answers_a_constraint_with_its_refusal(self, app: Flask) -> None:
        with app.app_context(), unit_of_work():
            with pytest.raises(Counted) as raised, refusing(self.REFUSALS):
                add_category()
            db.session.rollback()

        assert isinstance(raised.value.__cause__, IntegrityError)

    def test_lets_other_constraints_through(self, app: Flask) -> None:
        with app.app_context(), unit_of_work():
            with pytest.raises(IntegrityError), refusing(self.REFUSALS):
                add_category("Stools").parent_id = 2**40
            db.session.rollback()

        assert names(app) == ["Chairs"]

    def test_flushes_at_its_end(self, app: Flask) -> None:
        with app.app_context(), unit_of_work():
            with refusing(self.REFUSALS):
                category = add_category("Stools")

            assert category.id is not None

    def test_hides_what_was_stored_from_the_message(self, app: Flask) -> None:
        with app.app_context(), unit_of_work():
            with pytest.raises(IntegrityError) as raised, refusing({}):
                add_category()
            db.session.rollback()

        assert "SQL parameters hidden" in str(raised.value)


class TestViolatedConstraint:
    @pytest.mark.parametrize(
        ("message", "name"),
        [
            ("UNIQUE constraint failed: users.email", "uq_users_email"),
            ("UNIQUE constraint failed: a.b, a.c", "uq_a_b_c"),
            ("UNIQUE constraint failed: index 'uq_users_username'", "uq_users_username"),
            ("CHECK constraint failed: ck_products_status", "ck_products_status"),
            ("FOREIGN KEY constraint failed", None),
            ("NOT NULL constraint failed: users.email", None),
            ("something new", None),
        ],
    )
    def test_reads_what_sqlite_says(self, message: str, name: str | None) -> None:
        assert violated_constraint(IntegrityError("", {}, sqlite3.IntegrityError(message))) == name

    def test_is_unknown_where_no_constraint_has_a_name(self, app: Flask) -> None:
        with app.app_context(), pytest.raises(IntegrityError) as raised, unit_of_work():
            db.session.execute(text("INSERT INTO categories (id) VALUES (1)"))

        assert violated_constraint(raised.value) is None


class TestTally:
    @pytest.mark.usefixtures("context")
    def test_counts_statements_and_their_time(self) -> None:
        counted = Tally()
        token = tally.set(counted)
        with unit_of_work():
            add_category("One")
            db.session.flush()
            db.session.execute(select(Category.id))
        tally.reset(token)

        # The row, its trace in the audit trail, the question; its number and its event, which SQLite is told in two.
        assert counted.statements == {"sqlite": 6, "postgresql": 4}[db.engine.dialect.name]
        assert 0 < counted.seconds < 5


@on_postgresql
class TestKeptConnections:
    @pytest.fixture(autouse=True)
    def keeping(self, monkeypatch: pytest.MonkeyPatch, context: None) -> Iterator[None]:
        """Threads keep connections for the length of a test."""
        monkeypatch.setattr(database._Kept, "allowed", True)
        yield
        if (kept := database._kept.take(db.engine.pool)) is not None:
            kept.close()

    @staticmethod
    def read() -> int:
        """The process of the database that answers a reading."""
        with unit_of_work(reading=True):
            return int(Prepared(select(func.pg_backend_pid())).one_or_none()[0])

    def test_are_read_over_again(self) -> None:
        assert len({self.read() for _ in range(5)}) == 1

    def test_are_kept_by_their_thread_alone(self) -> None:
        mine, others = self.read(), []
        with ThreadPoolExecutor(1) as thread:
            others.append(thread.submit(self.in_context).result())

        assert mine not in others
        assert self.read() == mine

    def in_context(self) -> int:
        with self.app.app_context():
            pid = self.read()
            kept = database._kept.take(db.engine.pool)
            assert kept is not None
            kept.close()
            return pid

    @pytest.fixture(autouse=True)
    def bound(self, app: Flask) -> None:
        self.app = app

    def test_are_handed_back_after_a_failure(self) -> None:
        self.read()
        with suppress(NotFound), unit_of_work(reading=True):
            Prepared(select(func.pg_backend_pid())).one_or_none()
            raise NotFound

        assert database._kept.take(db.engine.pool) is None

    def test_are_handed_back_where_one_is_kept(self) -> None:
        with unit_of_work(reading=True):
            Prepared(select(func.pg_backend_pid())).one_or_none()
            self.read()

        pool: Any = db.engine.pool
        assert pool.checkedout() == 1

    def test_are_not_those_of_a_pool_that_is_gone(self) -> None:
        before = self.read()
        db.engine.dispose()

        assert self.read() != before

    def test_are_lost_once(self, beside: Callable[[str], list[Any]]) -> None:
        lost = self.read()
        beside(f"SELECT pg_terminate_backend({lost}, 5000)")
        with pytest.raises(DBAPIError):
            self.read()

        assert self.read() != lost
