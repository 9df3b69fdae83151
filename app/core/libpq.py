"""Statements put to PostgreSQL through libpq, as psycopg has it, without psycopg's cursors.

A cursor parses the statement at each use and waits for the answer in steps that each hand the interpreter's lock over.
For a small question that takes as long as the rest of it.
"""

import itertools
import threading
from collections import OrderedDict
from collections.abc import Sequence
from select import POLLIN, POLLOUT, poll
from typing import Any
from weakref import WeakKeyDictionary

from psycopg import Connection, OperationalError
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult

#: The statements that a connection keeps prepared, as many as psycopg does; the server has memory for each.
MOST_PREPARED = 100

_prepared: WeakKeyDictionary[Connection[Any], OrderedDict[str, bytes]] = WeakKeyDictionary()
_lock = threading.Lock()
_numbers = itertools.count()


def ask(
    connection: Connection[Any], sql: str, values: Sequence[Any], *, commits: bool = False
) -> tuple[Sequence[tuple[Any, ...]], list[int]]:
    """The rows of the answer, and the types (OIDs) of their columns. ``sql`` has $1, $2 and so on for ``values``.

    The types of the parameters are what the statement makes of them. Out of autocommit a transaction begins with it,
    unless one has, and ends with it if it ``commits``: psycopg finds nothing left to commit. Raises psycopg's errors.
    """
    pgconn = connection.pgconn
    begins = not connection.autocommit and pgconn.transaction_status == TransactionStatus.IDLE
    adapt = Transformer(connection)
    # A NULL is None, which the signature of exec_prepared forgets.
    parameters: Any = adapt.dump_sequence(values, [PyFormat.TEXT] * len(values))
    name = _name(connection, sql)
    if begins or commits:
        result = _execute_within(pgconn, name, parameters, begins=begins, commits=commits)
    else:
        result = _expect(pgconn, pgconn.exec_prepared(name, parameters))
    adapt.set_pgresult(result)
    return adapt.load_rows(0, result.ntuples, tuple), [result.ftype(index) for index in range(result.nfields)]


def _name(connection: Connection[Any], sql: str) -> bytes:
    """What a prepared statement is called on this connection; it is prepared unless it is."""
    with _lock:
        names = _prepared.setdefault(connection, OrderedDict())
    name = names.get(sql)
    if name is not None:
        names.move_to_end(sql)
        return name
    pgconn, name = connection.pgconn, b"catalog_%d" % next(_numbers)
    if len(names) >= MOST_PREPARED:
        _, oldest = names.popitem(last=False)
        _expect(pgconn, pgconn.exec_(b"DEALLOCATE " + oldest))
    _expect(pgconn, pgconn.prepare(name, sql.encode()))
    names[sql] = name
    return name


def _execute_within(
    pgconn: PGconn, name: bytes, parameters: Sequence[bytes | None], *, begins: bool, commits: bool
) -> PGresult:
    """The result of a statement that is sent together with its BEGIN or COMMIT: one way to the server and back.

    What waits for the locks of a transaction then waits for no more than the server does, and not for this process to
    find the time to say COMMIT.
    """
    pgconn.enter_pipeline_mode()
    try:
        if begins:
            pgconn.send_query_params(b"BEGIN", None)
        pgconn.send_query_prepared(name, parameters)
        if commits:
            pgconn.send_query_params(b"COMMIT", None)
        pgconn.pipeline_sync()
        results = _receive(pgconn)
    finally:
        if pgconn.status == ConnStatus.OK:
            pgconn.exit_pipeline_mode()
    # The first that went wrong comes before those that were therefore left out.
    return [_expect(pgconn, result) for result in results][begins]


def _receive(pgconn: PGconn) -> list[PGresult]:
    """The results until the end of the pipeline, one for each statement."""
    results: list[PGresult] = []
    while True:
        to_send = pgconn.flush()
        while not pgconn.is_busy():
            result = pgconn.get_result()
            if result is None:
                continue  # between two statements
            if result.status == ExecStatus.PIPELINE_SYNC:
                return results
            results.append(result)
        news = poll()
        news.register(pgconn.socket, POLLIN | POLLOUT if to_send else POLLIN)
        news.poll()
        pgconn.consume_input()


def _expect(pgconn: PGconn, result: PGresult) -> PGresult:
    if result.status in {ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK}:
        return result
    error = error_from_result(result)
    if pgconn.status == ConnStatus.BAD:
        # Whatever the server said last: what matters is that it is gone.
        raise OperationalError(str(error)) from error
    raise error
