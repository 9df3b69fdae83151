"""Connections to PostgreSQL that wait for an answer no longer than they may. Imported only where psycopg is needed."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import psycopg
from psycopg import errors
from sqlalchemy import Dialect

from app.core.transactions import current_unit


class AnswerOverdue(psycopg.OperationalError):
    """The server did not answer in the time that it had; the connection is closed."""

    is_overdue: ClassVar[bool] = True


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that is closed rather than waited for.

    PostgreSQL ends a statement itself after its ``statement_timeout``. Only a server that hangs, or that the network
    has cut off without a word, lets ``max_wait`` pass: seconds for any one answer; None waits without a timeout.
    """

    max_wait: float | None = None
    #: How often a plan of any connection of this process was found stale.
    _stale_plans: ClassVar[int] = 0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._deallocated_at = BoundedConnection._stale_plans

    @cached_property
    def _cursor(self) -> psycopg.RawCursor[Any]:
        # Made when it is first used: a cursor takes over how its connection reads values, which is set up after this.
        return psycopg.RawCursor(self)

    def execute_prepared(self, sql: str, parameters: Sequence[Any]) -> psycopg.RawCursor[Any]:
        """Execute a statement with $1, $2 and so on as a prepared one; the cursor is good until the next.

        Where an ALTER TABLE has made its plan stale, or a pooler has lost it, every connection of this process
        deallocates its plans. In autocommit the statement is executed again; in a transaction the error is raised.
        """
        if self._deallocated_at != BoundedConnection._stale_plans:
            self._deallocate_plans()
        try:
            return self._cursor.execute(sql, parameters, prepare=True)
        except (errors.FeatureNotSupported, errors.InvalidSqlStatementName):
            # The other connections have the same stale plans, and the retry uses one of them.
            BoundedConnection._stale_plans += 1
            if not self.autocommit:
                raise
            self._deallocate_plans()
            return self._cursor.execute(sql, parameters, prepare=True)

    def _deallocate_plans(self) -> None:
        self._deallocated_at = BoundedConnection._stale_plans
        # psycopg recognizes the command and drops its names as well, but only for a text that it has not seen before.
        self.execute(f"DEALLOCATE ALL /* {self._deallocated_at} */".encode())

    def wait(self, gen: Any, *args: Any, **options: Any) -> Any:
        """Wait for an answer; raises `AnswerOverdue` when it does not come in time."""
        options.setdefault("timeout", self.max_wait)
        try:
            return super().wait(gen, *args, **options)
        except psycopg.OperationalError as error:
            # A statement that the server refused, or lost with the connection, is no longer active.
            if self.info.transaction_status.name != "ACTIVE":
                raise
            self.close()
            raise _overdue() from error


def connect(_dialect: Dialect, _record: object, arguments: list[Any], options: dict[str, Any]) -> BoundedConnection:
    """Make a connection as SQLAlchemy's event ``do_connect`` asks for one; ``max_wait`` is an option of ours."""
    options = dict(options)
    max_wait = options.pop("max_wait", None)
    try:
        connection = BoundedConnection.connect(*arguments, **options)
    except errors.ConnectionTimeout as error:
        raise _overdue() from error
    connection.max_wait = max_wait
    return connection


def _overdue() -> AnswerOverdue:
    if (unit := current_unit()) is not None:
        unit.note_overdue()
    return AnswerOverdue("the server does not answer")
