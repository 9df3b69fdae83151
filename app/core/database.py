"""Transactions: how they begin on each database, where they end, and which constraint refused one."""

import contextlib
import hashlib
import re
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from select import POLLIN, poll
from typing import Any

from sqlalchemy import Connection, CursorResult, Dialect, Engine, Executable, event, func, select
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm.exc import StaleDataError
from sqlalchemy.pool import Pool, PoolProxiedConnection

from app.core.errors import PreconditionFailed, Refusal
from app.extensions import db


class _Kept(threading.local):
    """The connection that a thread read over last: to hand it back and ask for another is a tenth of a small read."""

    #: Whether threads keep any.
    allowed = False
    pooled: PoolProxiedConnection | None = None
    pool: Pool | None = None

    def take(self, pool: Pool) -> PoolProxiedConnection | None:
        """It, if it is of this pool."""
        taken, self.pooled = self.pooled, None
        if taken is None or self.pool is pool:
            return taken
        # Of another application, or of what was there before everything was disconnected: its pool takes none back.
        taken.detach()
        taken.close()
        return None

    def give(self, pooled: PoolProxiedConnection, pool: Pool) -> None:
        """Keep it, if that is allowed and no other is kept."""
        if self.pooled is not None or not self.allowed:
            pooled.close()
        else:
            self.pooled, self.pool = pooled, pool


_kept = _Kept()


@dataclass
class Reading:
    """A unit of work that writes nothing, and its one connection once it has one."""

    engine: Engine
    pooled: PoolProxiedConnection | None = None
    _connection: Connection | None = None

    def driver(self) -> Any:
        """The driver's own connection, in which every statement stands for itself."""
        if self.pooled is None:
            self.pooled = _kept.take(self.engine.pool)
        if self.pooled is None:
            try:
                self.pooled = self.engine.raw_connection()
            except self.engine.dialect.loaded_dbapi.Error:
                # SQLAlchemy meets the same, and tells it in its own words.
                self.connection()
            driver: Any = self.pooled and self.pooled.dbapi_connection
            if self.engine.dialect.name == "postgresql" and not driver.autocommit:
                driver.autocommit = True
        return self.pooled and self.pooled.dbapi_connection

    def connection(self) -> Connection:
        """The same as SQLAlchemy knows it."""
        if self._connection is None:
            self._connection = Connection(self.engine, self.pooled) if self.pooled else self.engine.connect()
            self.pooled = self._connection.connection
        return self._connection

    def close(self, *, is_good: bool) -> None:
        """Hand the connection back, or keep it for this thread's next reading if it ``is_good``."""
        if self._connection is not None:
            self._connection.close()
        elif self.pooled is not None and is_good:
            _kept.give(self.pooled, self.engine.pool)
        elif self.pooled is not None:
            self.pooled.close()


_reading: ContextVar[Reading | None] = ContextVar("reading", default=None)


@dataclass
class Tally:
    """How many statements were executed since it was opened, and the seconds that they took."""

    statements: int = 0
    seconds: float = 0.0


tally: ContextVar[Tally | None] = ContextVar("tally", default=None)


def set_up_engine(engine: Engine) -> None:
    """Make both databases begin a transaction as this application needs it, and count statements."""
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        event.listen(engine, "begin", _begin_postgresql)
        _execute_what_was_put_off(engine)
        _ping_where_in_doubt(engine)
    event.listen(engine, "before_cursor_execute", _start_statement)
    event.listen(engine, "after_cursor_execute", _count_statement)


def _set_up_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # The driver's own BEGIN is deferred, and a deferred transaction that turns into a writer fails with "database is
    # locked" whatever the busy timeout; so the driver is told to begin nothing and _begin_sqlite does.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "busy_timeout=10000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # A reader begins nothing: each statement sees the last commit, and nobody waits for it.
    if _reading.get() is None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_postgresql(connection: Connection) -> None:
    # A reader commits nothing, so it is spared the BEGIN and ROLLBACK round trips.
    driver: Any = connection.connection.dbapi_connection
    autocommit = _reading.get() is not None
    if driver.autocommit != autocommit:
        driver.autocommit = autocommit


def _execute_what_was_put_off(engine: Engine) -> None:
    # Only here, where it is needed: who runs on SQLite may have no psycopg.
    libpq = import_module("app.core.libpq")

    def forget(connection: Connection, *_: object) -> None:
        # Of a connection that was lost nothing is known any more.
        if not connection.invalidated:
            libpq.forget(connection.connection.dbapi_connection)

    def catch_up(connection: Connection, *, commits: bool = False) -> None:
        driver = connection.connection.dbapi_connection
        with driver_errors(driver, engine.dialect):
            libpq.catch_up(driver, commits=commits)

    def precede(connection: Connection, _cursor: object, statement: str, *_: object) -> None:
        # What was put off since a savepoint goes with it.
        (forget if statement.startswith("ROLLBACK TO") else catch_up)(connection)

    event.listen(engine, "before_cursor_execute", precede)
    event.listen(engine, "commit", partial(catch_up, commits=True))
    event.listen(engine, "rollback", forget)


def _ping_where_in_doubt(engine: Engine) -> None:
    # To ask the server whether a connection is still there costs as much as a small query. The kernel knows: when the
    # server closed it, or said a last word, there is something to be read that nobody asked for.
    ping = engine.dialect.do_ping

    def ping_where_in_doubt(connection: Any) -> bool:
        # A read that meets a lost connection is asked again over another.
        if _reading.get() is not None:
            return True
        news = poll()
        news.register(connection.fileno(), POLLIN)
        return not news.poll(0) or ping(connection)

    # The pool asks the dialect, and there is no event for it.
    engine.dialect.do_ping = ping_where_in_doubt  # type: ignore[method-assign, assignment]  # by name, says its type


def _start_statement(connection: Connection, *_: object) -> None:
    connection.info["started"] = time.perf_counter()


def _count_statement(connection: Connection, *_: object) -> None:
    if (current := tally.get()) is not None:
        current.statements += 1
        current.seconds += time.perf_counter() - connection.info["started"]


@contextlib.contextmanager
def unit_of_work(*, reading: bool = False) -> Iterator[None]:
    """Run a block as one transaction: committed at its end, rolled back when it raises.

    A refusal that says ``commits`` is committed and raised. ``reading`` promises that nothing is written, and spares
    the transaction. An UPDATE or DELETE that finds its row's version changed is ``PreconditionFailed``.
    """
    here = Reading(db.engine) if reading else None
    token = _reading.set(here)
    is_good = False
    try:
        yield
        is_good = True
        if not reading:
            db.session.commit()
    except Refusal as refusal:
        if refusal.commits and not reading:
            db.session.commit()
        raise
    except StaleDataError as stale:
        raise PreconditionFailed from stale
    finally:
        _reading.reset(token)
        try:
            # What was committed is none the worse for it.
            if db.session.registry.has():
                db.session.rollback()
        finally:
            if here is not None:
                here.close(is_good=is_good)


def keep_connections() -> None:
    """Let each thread keep the connection that it reads over.

    For processes whose threads are no more than the pool has room for, and live as long as the process.
    """
    _Kept.allowed = True


def driver_connection() -> tuple[Any, Dialect]:
    """The driver's connection of this unit of work, and what SQLAlchemy knows of it.

    Where something may be written, whatever is executed over it is part of the transaction.
    """
    here = _reading.get()
    if here is not None:
        return here.driver(), here.engine.dialect
    connection = db.session.connection()
    return connection.connection.dbapi_connection, connection.dialect


@contextlib.contextmanager
def driver_errors(driver: Any, dialect: Dialect) -> Iterator[None]:
    """Raise the driver's errors as SQLAlchemy's."""
    try:
        yield
    except dialect.loaded_dbapi.Error as error:
        base, is_lost = dialect.loaded_dbapi.Error, dialect.is_disconnect(error, driver, None)
        raise DBAPIError.instance(
            None, None, error, base, hide_parameters=True, connection_invalidated=is_lost, dialect=dialect
        ) from error


def reading() -> Reading | None:
    """This unit of work, if it writes nothing."""
    return _reading.get()


def run(
    statement: Executable, values: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None
) -> CursorResult[*tuple[Any, ...]]:
    """Execute a statement in this unit of work, with values for its parameters, or several times with several.

    Where nothing is written this passes the session by, which costs more than a small query.
    """
    here = _reading.get()
    connection = db.session.connection() if here is None else here.connection()
    return connection.execute(statement, values)


def release_connection() -> None:
    """End the transaction before slow work that needs neither a connection nor a lock.

    Nothing may have been written yet; what was read may have changed when the next statement begins a new one.
    """
    db.session.rollback()


def take_turns(subject: str) -> None:
    """Let one transaction at a time go on from here with ``subject``, until it ends.

    PostgreSQL takes a transaction-scoped advisory lock; on SQLite whoever writes is alone already.
    """
    if db.engine.dialect.name == "postgresql":
        db.session.execute(select(func.pg_advisory_xact_lock(_number_of(subject))))


def is_first_in_turn(subject: str) -> bool:
    """Take a turn with ``subject``, as `take_turns` does, but rather than wait tell that another has it."""
    if db.engine.dialect.name != "postgresql":
        return True
    return bool(db.session.scalar(select(func.pg_try_advisory_xact_lock(_number_of(subject)))))


def _number_of(subject: str) -> int:
    return int.from_bytes(hashlib.sha256(subject.encode()).digest()[:8], signed=True)


@contextlib.contextmanager
def refusing(refusals: Mapping[str, type[Refusal]]) -> Iterator[None]:
    """Flush at the end of the block, and answer the constraints named in ``refusals`` with those refusals."""
    try:
        yield
        db.session.flush()
    except IntegrityError as error:
        refusal = refusals.get(violated_constraint(error) or "")
        if refusal is None:
            raise
        raise refusal from error


def violated_constraint(error: IntegrityError) -> str | None:
    """The name of the constraint or unique index that was violated, where the database tells it."""
    diagnosis: Any = getattr(error.orig, "diag", None)
    if diagnosis is not None:
        name: str | None = diagnosis.constraint_name
        return name
    # SQLite names CHECK constraints, but of a UNIQUE one only its columns: "UNIQUE constraint failed: users.email".
    text = str(error.orig)
    if index := re.fullmatch(r"UNIQUE constraint failed: index '(\w+)'", text):
        return index[1]
    if columns := re.fullmatch(r"UNIQUE constraint failed: (.+)", text):
        table, names = "", []
        for column in columns[1].split(", "):
            table, name = column.split(".")
            names.append(name)
        return f"uq_{table}_{'_'.join(names)}"
    if check := re.fullmatch(r"CHECK constraint failed: (\w+)", text):
        return check[1]
    return None
