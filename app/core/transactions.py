"""Units of work: how a transaction begins, where it ends, and when it is retried."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from sqlalchemy import Connection, CursorResult, Engine, Executable, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, SessionTransaction
from sqlalchemy.orm.exc import StaleDataError

from app.core import (
    changes,  # noqa: F401 -- for its listeners: what a transaction changed is stored as it commits
    tracing,
)
from app.core.breaker import Breaker
from app.core.errors import PreconditionFailed, Refusal
from app.core.sqlstates import is_transient
from app.core.tracing import Kind
from app.extensions import db

T = TypeVar("T")

#: How often a unit of work is tried while the database loses it before its COMMIT was sent.
ATTEMPTS = 3


@dataclass(eq=False)
class Unit:
    """One unit of work. ``guard`` is the breaker that it has to pass before it uses the database."""

    reading: bool = False
    guard: Breaker | None = None
    #: The unit within which this one began.
    outer: "Unit | None" = None
    #: The connection of the snapshot that this unit reads, which is not its own to hand back.
    over: Connection | None = None
    has_entered: bool = False
    #: Whether it ends in a rollback even where it succeeds.
    is_dry_run: bool = False
    #: Whether COMMIT was sent: from then on only the database knows whether the work is done.
    commit_sent: bool = False
    #: Whether the database let a statement of this unit wait for longer than it may.
    is_overdue: bool = False
    _connection: Connection | None = None

    @property
    def is_kept(self) -> bool:
        """Whether what it writes is committed."""
        return not self.reading and not self.is_dry_run

    def enter(self) -> None:
        """Pass the guard, once; raises ``DatabaseUnavailable`` and ``DatabaseBusy``."""
        if not self.has_entered:
            if self.guard is not None:
                self.guard.enter()
            self.has_entered = True

    @cached_property
    def engine(self) -> Engine:
        """The engine of the application at hand, which Flask-SQLAlchemy looks up at each use."""
        return db.engine

    def connection(self) -> Connection:
        """The connection of a unit that writes nothing: that of a snapshot, or else one in autocommit."""
        if self.over is not None:
            self.enter()
            return self.over
        if self._connection is None:
            self.enter()
            self._connection = self.engine.connect()
        return self._connection

    def note_answer(self) -> None:
        """The database has answered a statement."""
        if self.guard is not None:
            self.guard.note_answer()
        if self.outer is not None:
            self.outer.note_answer()

    def note_overdue(self) -> None:
        """The database has not answered a statement in the time that it had."""
        self.is_overdue = True
        if self.guard is not None:
            self.guard.note_overdue()
        if self.outer is not None:
            self.outer.note_overdue()

    def release(self) -> None:
        """Hand the connection back; the next statement gets another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def close(self) -> None:
        """Hand the connection back, and give up the place behind the guard."""
        try:
            self.release()
        finally:
            if self.is_overdue:
                # The idle connections lead to the same server.
                self.engine.dispose()
            if self.guard is not None and self.has_entered:
                self.guard.leave()


#: The unit of work at hand. A ContextVar, because listeners of the engine and the session must know how to begin.
_current: ContextVar[Unit | None] = ContextVar("unit_of_work", default=None)


@contextlib.contextmanager
def unit_of_work(
    *, reading: bool = False, guard: Breaker | None = None, over: Connection | None = None
) -> Iterator[Unit]:
    """Run a block as one transaction: committed at its end, rolled back when it raises.

    A refusal that says ``commits`` is committed and raised. ``reading`` promises that nothing is written, and spares
    the transaction; its statements then go ``over`` a connection, if one is given (`core.snapshots`). After
    `roll_back_at_end` nothing is committed. An UPDATE or DELETE that finds its row's version changed is
    ``PreconditionFailed``.
    """
    unit = Unit(reading, guard, _current.get(), over)
    token = _current.set(unit)
    try:
        yield unit
        if unit.is_kept:
            _commit(unit)
    except Refusal as refusal:
        if refusal.commits and unit.is_kept:
            _commit(unit)
        raise
    except StaleDataError as stale:
        raise PreconditionFailed from stale
    finally:
        try:
            # After a COMMIT this does nothing.
            if db.session.registry.has():
                db.session.rollback()
        finally:
            _current.reset(token)
            unit.close()


def _commit(unit: Unit) -> None:
    # Nothing is sent where the session has begun no transaction.
    if tracing.recorder is None or not db.session().in_transaction():
        db.session.commit()
        return
    # The engine has no event after a COMMIT, which waits for the disk. What is stored just before it belongs to it.
    attributes = {"db.system.name": unit.engine.dialect.name, "db.operation.name": "COMMIT"}
    with tracing.span("COMMIT", kind=Kind.CLIENT, attributes=attributes):
        db.session.commit()


def in_unit_of_work(
    work: Callable[..., T],
    *args: Any,
    reading: bool = False,
    guard: Breaker | None = None,
    attempts: int = ATTEMPTS,
) -> T:
    """What ``work(*args)`` returns, done as one unit of work, which is retried where the database lost it.

    There are at most ``attempts``. A lost connection, a deadlock and a plan that an ALTER TABLE made stale say nothing
    about the request, and before COMMIT is sent nothing has happened: so the work is retried. An overdue answer is not
    waited for again.
    """
    for attempt in range(1, attempts + 1):
        unit = None
        try:
            with unit_of_work(reading=reading, guard=guard) as unit:
                result = work(*args)
        except DBAPIError as error:
            is_final = attempt == attempts or (unit is not None and unit.commit_sent)
            if is_final or not is_transient(error):
                raise
        else:
            return result
    raise AssertionError


def write_apart(statement: Executable, values: Mapping[str, Any] | None = None) -> None:
    """Execute a statement in a transaction of its own, within a unit of work or without one.

    A unit that only reads gives its connection back before, so that no such request holds two. One that writes keeps
    its transaction, with what it has changed and locked, and the statement has a second connection: it must not wait
    for anything that such a unit locks.
    """
    unit = _current.get()
    if unit is not None and not unit.reading:
        _write_beside(unit, statement, values)
        return
    if unit is not None:
        unit.release()
    release_connection()
    in_unit_of_work(run, statement, values)


def _write_beside(unit: Unit, statement: Executable, values: Mapping[str, Any] | None) -> None:
    # Its COMMIT is not the one of the unit at hand.
    token = _current.set(Unit(outer=unit))
    try:
        with unit.engine.begin() as beside:
            beside.execute(statement, values)
    finally:
        _current.reset(token)


def roll_back_at_end() -> None:
    """Make the unit of work at hand a dry run, which ends in a rollback even where it succeeds.

    What is stored as a transaction commits, the audit trail and the log of changes, is not stored. Every constraint is
    checked by its statement and none at the COMMIT, so that a dry run is refused like the work itself.
    """
    if (unit := _current.get()) is not None:
        unit.is_dry_run = True


def begin_without_waiting() -> None:
    """Begin a unit of work that raises ``OperationalError`` rather than wait for other writers.

    It waits for 5 ms: for SQLite's one writer at the beginning, for PostgreSQL's locks at each statement.
    """
    connection = db.session.connection(execution_options={"busy_timeout": 5})
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL lock_timeout = '5ms'")


def current_unit() -> Unit | None:
    """The unit of work at hand."""
    return _current.get()


def is_reading() -> bool:
    """Whether the unit of work at hand writes nothing, and so needs no transaction; a snapshot is one."""
    unit = _current.get()
    return unit is not None and unit.reading and unit.over is None


def run(
    statement: Executable, values: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None
) -> CursorResult[*tuple[Any, ...]]:
    """Execute a statement in this unit of work, with values for its parameters, or several times with several.

    Where nothing is written this passes the session by, which costs more than a small query, if FAST_SQL is on. So it
    does in a snapshot.
    """
    return connection().execute(statement, values)


def connection() -> Connection:
    """The connection of this unit of work. Where something may be written it is in the session's transaction."""
    unit = _current.get()
    if unit is not None and (unit.over is not None or (unit.reading and is_fast())):
        return unit.connection()
    return db.session.connection()


def is_fast() -> bool:
    """Whether statements may pass the session by, as FAST_SQL says."""
    unit = _current.get()
    engine = unit.engine if unit is not None else db.engine
    return bool(engine.get_execution_options().get("fast_sql", True))


def release_connection() -> None:
    """End the transaction before slow work that needs neither a connection nor a lock.

    Nothing may have been written yet; what was read may have changed when the next statement begins a new one.
    """
    db.session.rollback()


@event.listens_for(Session, "after_transaction_create")
def _enter_unit(_session: Session, transaction: SessionTransaction) -> None:
    # Before the session asks the pool for a connection.
    unit = _current.get()
    if unit is not None and transaction.parent is None:
        if unit.over is not None:
            raise RuntimeError("the session would not read the snapshot: use transactions.run")
        unit.enter()


def note_answer() -> None:
    """Note that the database has answered a statement."""
    if (unit := _current.get()) is not None:
        unit.note_answer()


def note_commit(_connection: Connection) -> None:
    """Note that COMMIT is about to be sent; a listener of the engine."""
    if (unit := _current.get()) is not None:
        unit.commit_sent = True
