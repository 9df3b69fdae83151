"""Connections to PostgreSQL that wait for an answer no longer than they may. Imported only where psycopg is needed."""

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
    has cut off without a word, lets ``max_wait`` pass: seconds for any one answer; None waits for ever.
    """

    max_wait: float | None = None
    #: After one of these every prepared statement must be forgotten: a table has changed, or a pooler has lost them.
    stale_plan_errors = (errors.FeatureNotSupported, errors.InvalidSqlStatementName)

    @cached_property
    def raw_cursor(self) -> psycopg.RawCursor[Any]:
        """A cursor to be used again and again, for statements with $1, $2 and so on."""
        return psycopg.RawCursor(self)

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
        unit.is_overdue = True
    return AnswerOverdue("the server does not answer")
