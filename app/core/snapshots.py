"""Snapshots: one state of the database, which several units of work read one after the other."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from app.core.breaker import Breaker
from app.core.transactions import current_unit, release_connection, run, unit_of_work
from app.extensions import db

#: Seconds for which a snapshot can be read. Meanwhile PostgreSQL's vacuum removes no row that has changed since, and
#: SQLite's write-ahead log grows.
MAX_SECONDS = 900
#: The execution option of a connection that makes its next transaction a snapshot; `core.connections` begins it.
OPTION = "snapshot"


class SnapshotExpired(Exception):
    """A snapshot has been open for longer than `MAX_SECONDS`."""


class SnapshotInTheWay(Exception):
    """A change of the schema waits for the tables that a snapshot has read."""


# A reader's locks conflict with nothing else. Every other reader would wait behind such a change.
_IS_IN_THE_WAY = text(
    "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid)))"
)


class Snapshot:
    """One state of the database, as its first statement finds it, however much is written meanwhile.

    It is a transaction over a connection of its own: REPEATABLE READ and READ ONLY on PostgreSQL, a read transaction on
    SQLite. No writer waits for it. One thread at a time uses it. It is a context manager, which closes it at the end.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._end = time.monotonic() + MAX_SECONDS

    def __enter__(self) -> "Snapshot":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def reading(self, guard: Breaker | None = None) -> Iterator[None]:
        """A unit of work whose statements read this snapshot, by `transactions.run`, and pass ``guard``.

        Between two units the snapshot occupies its connection and no place behind the guard. A unit that begins too
        late raises `SnapshotExpired`, and one for which a migration waits `SnapshotInTheWay`.
        """
        if time.monotonic() > self._end:
            raise SnapshotExpired(f"it has been open for {MAX_SECONDS} s")
        with unit_of_work(reading=True, guard=guard, over=self._connection):
            if self._connection.dialect.name == "postgresql" and run(_IS_IN_THE_WAY).scalar_one():
                raise SnapshotInTheWay("another session waits for it")
            yield

    def close(self) -> None:
        """Hand the connection back; a second time this does nothing."""
        try:
            self._connection.close()
        except DBAPIError:
            # The connection was lost while it was idle, and its rollback has found out: there is nothing to roll back.
            self._connection.close()


def open_snapshot() -> Snapshot:
    """A snapshot of the database, to be closed by the caller. Its first statement determines what it sees.

    The unit of work at hand, which only reads, gives its connection back before, so that no request holds two. Raises
    SQLAlchemy's errors, and ``DatabaseUnavailable`` and ``DatabaseBusy`` of the unit's guard.
    """
    if (unit := current_unit()) is not None:
        unit.enter()
        unit.release()
    release_connection()
    connection = db.engine.connect().execution_options(**{OPTION: True})
    try:
        connection.begin()
    except BaseException:
        connection.close()
        raise
    return Snapshot(connection)
