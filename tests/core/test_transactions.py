"""Transactions on both databases: how they begin, where they end, and what refused one."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import create_engine, func, select, text
from sqlalchemy.exc import IntegrityError, OperationalError

from app.core.breaker import Breaker, DatabaseUnavailable
from app.core.constraints import refusing, violated_constraint
from app.core.errors import Conflict, NotFound, PreconditionFailed
from app.core.fastsql import Prepared
from app.core.locks import advisory_lock
from app.core.query_stats import QueryStats, current_stats
from app.core.transactions import (
    ATTEMPTS,
    connection,
    in_unit_of_work,
    release_connection,
    roll_back_at_end,
    run,
    unit_of_work,
)
from app.extensions import db
from app.features.categories.models import Category
from app.features.products.models import Product
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


def do(app: Flask, work: Callable[[], object], *, reading: bool = False) -> None:
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
    return str(driver.info.transaction_status.name) != "IDLE"


class TestUnitOfWork:
    def test_commits_at_its_end(self, app: Flask) -> None:
        with app.app_context(), unit_of_work():
            add_category()

        assert names(app) == ["Chairs"]

    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, NotFound, Conflict])
    def test_rolls_back_when_its_block_raises(self, app: Flask, error: type[BaseException]) -> None:
        with pytest.raises(error):
            do(app, lambda: add_category_and_raise(error))

        assert names(app) == []

    def test_commits_for_a_refusal_that_must_leave_a_trace(self, app: Flask) -> None:
        with pytest.raises(Counted):
            do(app, lambda: add_category_and_raise(Counted))

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

        do(app, add_category)

        with pytest.raises(PreconditionFailed):
            do(app, write)

        assert names(app) == ["Chairs"]

    @pytest.mark.usefixtures("context")
    def test_counts_up_the_version_with_each_update(self) -> None:
        with unit_of_work():
            category = add_category()
        with unit_of_work():
            category.name = "Stools"

        assert category.version == 2


class TestADryRun:
    def test_rolls_back_at_its_end(self, app: Flask) -> None:
        with app.app_context():
            with unit_of_work():
                roll_back_at_end()
                add_category()
                db.session.flush()

                assert db.session.scalars(select(Category.name)).all() == ["Chairs"]
            assert not db.session().in_transaction()

        assert names(app) == []

    def test_rolls_back_for_a_refusal_that_must_leave_a_trace(self, app: Flask) -> None:
        def count_and_refuse() -> None:
            roll_back_at_end()
            add_category_and_raise(Counted)

        with pytest.raises(Counted):
            do(app, count_and_refuse)

        assert names(app) == []

    def test_is_over_with_its_unit_of_work(self, app: Flask) -> None:
        do(app, roll_back_at_end)
        do(app, add_category)

        assert names(app) == ["Chairs"]


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
                do(app, lambda: add_category_and_raise(RuntimeError))
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
            do(app, refuse, reading=True)

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
            ("statement_timeout", "4500ms"),
            ("lock_timeout", "4s"),
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


@on_postgresql
class TestInUnitOfWork:
    @pytest.fixture
    def tried(self) -> list[int]:
        """The server processes over which the work was tried."""
        return []

    def add_over(self, tried: list[int], *, cut: Callable[[str], list[Any]], times: int) -> None:
        """Add a category over a connection that is cut so many times before the end."""
        tried.append(db.session.execute(select(func.pg_backend_pid())).scalar_one())
        add_category(f"Try {len(tried)}")
        db.session.flush()
        if len(tried) <= times:
            cut(f"SELECT pg_terminate_backend({tried[-1]}, 5000)")
        db.session.execute(select(Category.id))

    @pytest.mark.usefixtures("context")
    def test_does_work_anew_that_lost_its_connection(
        self, app: Flask, beside: Callable[[str], list[Any]], tried: list[int]
    ) -> None:
        in_unit_of_work(partial(self.add_over, tried, cut=beside, times=2))

        assert len(set(tried)) == 3
        assert names(app) == ["Try 3"]

    @pytest.mark.usefixtures("context")
    def test_does_a_dry_run_anew_that_lost_its_connection(
        self, app: Flask, beside: Callable[[str], list[Any]], tried: list[int]
    ) -> None:
        def add_and_undo() -> None:
            roll_back_at_end()
            self.add_over(tried, cut=beside, times=2)

        in_unit_of_work(add_and_undo)

        assert len(set(tried)) == 3
        assert names(app) == []

    @pytest.mark.usefixtures("context")
    @pytest.mark.parametrize("reading", [True, False])
    def test_takes_no_connection_that_is_as_old_as_the_lost_one(
        self, beside: Callable[[str], list[Any]], tried: list[int], reading: bool
    ) -> None:
        process = Prepared(select(func.pg_backend_pid().label("id")))
        # What tests with many threads have left in the pool.
        db.engine.dispose()
        with ExitStack() as stack:
            connections = [stack.enter_context(db.engine.connect()) for _ in range(4)]
            old = {connection.scalar(select(func.pg_backend_pid())) for connection in connections}

        def work() -> None:
            tried.append(process.one_or_none().id)
            if len(tried) == 1:
                beside(f"SELECT pg_terminate_backend({tried[0]}, 5000)")
                process.one_or_none()

        in_unit_of_work(work, reading=reading)

        assert tried[0] in old
        assert tried[1] not in old

    @pytest.mark.usefixtures("context")
    def test_gives_up_in_the_end(self, app: Flask, beside: Callable[[str], list[Any]], tried: list[int]) -> None:
        with pytest.raises(OperationalError):
            in_unit_of_work(partial(self.add_over, tried, cut=beside, times=99))

        assert len(tried) == ATTEMPTS
        assert names(app) == []

    @pytest.mark.usefixtures("context")
    def test_does_nothing_anew_whose_commit_was_sent(
        self, beside: Callable[[str], list[Any]], tried: list[int]
    ) -> None:
        """The server dies of the COMMIT: whether it has committed, nobody can tell."""
        beside("CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS "
               "$$BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END$$")  # fmt: skip
        beside("CREATE CONSTRAINT TRIGGER die AFTER INSERT ON categories "
               "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION die()")  # fmt: skip
        try:
            with pytest.raises(OperationalError):
                in_unit_of_work(partial(self.add_over, tried, cut=beside, times=0))
        finally:
            beside("DROP FUNCTION die() CASCADE")

        assert len(tried) == 1

    @pytest.mark.usefixtures("context")
    def test_does_work_anew_whose_plan_a_migration_made_stale(
        self, app: Flask, beside: Callable[[str], list[Any]]
    ) -> None:
        external = Prepared(select(Product.external_id))
        kinds = iter(["text", "varchar(99)", "text", "varchar(128)"])
        for _ in range(2):
            for reading in (True, False):
                in_unit_of_work(external.all, reading=reading)
                beside(f"ALTER TABLE products ALTER COLUMN external_id TYPE {next(kinds)}")
                assert in_unit_of_work(external.all, reading=reading) == []


class TestAGuard:
    @pytest.fixture
    def guard(self) -> Breaker:
        """A breaker that counts nothing until it is asked."""
        return Breaker()

    @pytest.mark.usefixtures("context")
    @pytest.mark.parametrize("reading", [True, False])
    def test_is_passed_once_the_database_is_needed(self, guard: Breaker, reading: bool) -> None:
        guard.note_overdue()

        with unit_of_work(reading=True, guard=guard):
            pass
        with pytest.raises(DatabaseUnavailable), unit_of_work(reading=reading, guard=guard):
            db.session.execute(select(Category.id))
        with pytest.raises(DatabaseUnavailable), unit_of_work(reading=True, guard=guard):
            Prepared(select(Category.id)).all()

    @on_postgresql
    @pytest.mark.usefixtures("context")
    def test_opens_when_an_answer_is_overdue(self, guard: Breaker) -> None:
        def sleep() -> None:
            connection().connection.dbapi_connection.max_wait = 0.2  # type: ignore[union-attr]  # ours
            try:
                run(select(func.pg_sleep(30)))
            finally:
                # Before the error is raised: a request that waits for the same cached response would retry the query.
                assert guard.is_open

        for reading in (True, False):
            with pytest.raises(OperationalError) as raised:
                in_unit_of_work(sleep, reading=reading, guard=guard)

            assert raised.value.connection_invalidated
            guard.note_answer()


class TestTakeTurns:
    @on_postgresql
    @pytest.mark.parametrize(("subject", "others_turn"), [("tree", False), ("another", True)])
    def test_keeps_out_whoever_asks_for_the_same(self, app: Flask, subject: str, others_turn: bool) -> None:
        taken = []

        def ask() -> None:
            with app.app_context(), unit_of_work():
                db.session.execute(text("SET LOCAL lock_timeout = '50ms'"))
                try:
                    advisory_lock(subject)
                except OperationalError:
                    taken.append(False)
                    db.session.rollback()
                else:
                    taken.append(True)

        with app.app_context(), unit_of_work():
            advisory_lock("tree")
            other = threading.Thread(target=ask)
            other.start()
            other.join()

        assert taken == [others_turn]

    def test_ends_with_the_transaction(self, app: Flask) -> None:
        for _ in range(2):
            with app.app_context(), unit_of_work():
                advisory_lock("tree")

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
        counted = QueryStats()
        token = current_stats.set(counted)
        with unit_of_work():
            add_category("One")
            db.session.flush()
            db.session.execute(select(Category.id))
        current_stats.reset(token)

        # The row and the question; its trace in the audit trail, its number and its event, which PostgreSQL has in one.
        assert counted.statements == {"sqlite": 6, "postgresql": 3}[db.engine.dialect.name]
        assert 0 < counted.seconds < 5
