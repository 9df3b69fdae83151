"""Connections: how each database is set up for this application, and how a pooled one is tested before it is used."""

import sqlite3
import time
from collections.abc import Mapping
from importlib import import_module
from select import POLLIN, poll
from typing import Any

from sqlalchemy import Connection, Engine, ExceptionContext, ExecutionContext, event
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from app.core import pool_metrics, query_stats, reads, snapshots, tracing
from app.core.sqlstates import error_name_of
from app.core.transactions import is_reading, note_answer, note_commit

#: How long a writer waits for SQLite's lock.
BUSY_TIMEOUT_MS = 10_000
#: What makes a transaction of PostgreSQL a snapshot. Between two of its statements it may wait for a slow client.
_BE_SNAPSHOT = (
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;"
    f" SET LOCAL idle_in_transaction_session_timeout = '{snapshots.MAX_SECONDS}s'"
)


def set_up_engine(engine: Engine, *, session_settings: Mapping[str, str], is_pooled_by_transaction: bool) -> None:
    """Make both databases begin a transaction as this application needs it, and count statements.

    ``session_settings`` are PostgreSQL's own, by name. They are set once for each connection, unless a pooler such as
    PgBouncer gives each transaction another server connection: then at the beginning of each transaction.
    """
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        # Imported here: an installation on SQLite may have no psycopg.
        event.listen(engine, "do_connect", import_module("app.core.postgresql").connect)
        event.listen(engine, "checkout", _refuse_what_the_server_closed)
        if is_pooled_by_transaction:
            settings = "; ".join(f"SET LOCAL {name} = '{value}'" for name, value in session_settings.items())
            event.listen(engine, "begin", lambda connection: _begin_behind_a_pooler(connection, settings))
        else:
            event.listen(engine, "begin", _begin_postgresql)
    event.listen(engine, "commit", note_commit)
    event.listen(engine, "before_cursor_execute", _start_statement)
    event.listen(engine, "after_cursor_execute", _count_statement)
    if tracing.recorder is not None:
        event.listen(engine, "after_cursor_execute", _trace_statement)
        event.listen(engine, "handle_error", _trace_error)
    # Last: a connection that is refused at its checkout is not in use.
    pool_metrics.watch(engine)


def wait_without_timeout(connection: Connection) -> None:
    """Let this connection to PostgreSQL wait for answers without a timeout."""
    driver: Any = connection.connection.dbapi_connection
    driver.max_wait = None


def _set_up_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # The driver's own BEGIN is deferred, and a deferred transaction that turns into a writer fails with "database is
    # locked" whatever the busy timeout; so the driver begins nothing, and _begin_sqlite does.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", f"busy_timeout={BUSY_TIMEOUT_MS}"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    if _is_snapshot(connection):
        # Deferred: it takes no lock, and sees what its first statement sees.
        connection.exec_driver_sql("BEGIN")
        return
    # A reader begins nothing: each statement sees the last commit, and takes no lock.
    if is_reading():
        return
    if (busy_timeout := connection.get_execution_options().get("busy_timeout")) is None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        return
    connection.exec_driver_sql(f"PRAGMA busy_timeout={busy_timeout}")
    try:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    finally:
        connection.exec_driver_sql(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")


def _begin_postgresql(connection: Connection) -> None:
    # A reader commits nothing, so it is spared the BEGIN and ROLLBACK round trips.
    driver: Any = connection.connection.dbapi_connection
    needs_transaction = _is_snapshot(connection)
    is_autocommit = is_reading() and not needs_transaction
    if driver.autocommit != is_autocommit:
        driver.autocommit = is_autocommit
    if needs_transaction:
        connection.exec_driver_sql(_BE_SNAPSHOT)


def _begin_behind_a_pooler(connection: Connection, settings: str) -> None:
    # A session's setting would stay with the pooler's connection, and be the next client's as well.
    connection.exec_driver_sql(f"{settings}; {_BE_SNAPSHOT}" if _is_snapshot(connection) else settings)


def _is_snapshot(connection: Connection) -> bool:
    return snapshots.OPTION in connection.get_execution_options()


def _refuse_what_the_server_closed(driver: Any, _record: ConnectionPoolEntry, proxied: PoolProxiedConnection) -> None:
    # A ping costs as much as a small query (SQLAlchemy's pool_pre_ping). The kernel knows without one: when the server
    # closed the connection, or sent a last message, the socket is readable.
    readable = poll()
    readable.register(driver.fileno(), POLLIN)
    if readable.poll(0):
        raise InvalidatePoolError(f"{proxied} was closed by the server")


def _start_statement(
    connection: Connection, _cursor: object, _sql: str, _parameters: object, context: ExecutionContext, _many: bool
) -> None:
    reads.note_statement(context.invoked_statement)
    connection.info["started"] = time.perf_counter()


def _count_statement(connection: Connection, *_: object) -> None:
    note_answer()
    query_stats.record_query(time.perf_counter() - connection.info["started"])


def _trace_statement(connection: Connection, _cursor: object, sql: str, *_: object) -> None:
    if tracing.recorder is not None:
        seconds = time.perf_counter() - connection.info["started"]
        tracing.recorder.record_statement(connection.dialect.name, sql, seconds)


def _trace_error(context: ExceptionContext) -> None:
    # Otherwise it is no statement that the database refused, but a connection, a COMMIT, or a value that has no type.
    is_of_statement = context.statement is not None and context.execution_context is not None
    if tracing.recorder is None or context.connection is None or not is_of_statement:
        return
    seconds = time.perf_counter() - context.connection.info["started"]
    system, error = context.dialect.name, error_name_of(context.original_exception)
    tracing.recorder.record_statement(system, str(context.statement), seconds, error=error)
