"""Statements put to PostgreSQL through libpq, as psycopg has it, without psycopg's cursors.

A cursor parses the statement at each use and waits for the answer in steps that each hand the interpreter's lock over.
For a small question that takes as long as the rest of it.
"""

import itertools
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
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

#: The name of a prepared statement, and its parameters.
_Call = tuple[bytes, Any]


@dataclass
class _Known:
    """What is known of a connection: the names of its statements, and those that go along with the next one."""

    names: OrderedDict[str, bytes] = field(default_factory=OrderedDict)
    put_off: list[_Call] = field(default_factory=list)


_known: WeakKeyDictionary[Connection[Any], _Known] = WeakKeyDictionary()
_lock = threading.Lock()
_numbers = itertools.count()


def ask(
    connection: Connection[Any], sql: str, values: Sequence[Any], *, commits: bool = False
) -> tuple[Sequence[tuple[Any, ...]], list[int]]:
    """The rows of the answer, and the types (OIDs) of their columns. ``sql`` has $1, $2 and so on for ``values``.

    The types of the parameters are what the statement makes of them. Out of autocommit a transaction begins with it,
    unless one has, and ends with it if it ``commits``: psycopg finds nothing left to commit. Raises psycopg's errors.
    """
    known, adapt = _know(connection), Transformer(connection)
    call = _call(connection, known, adapt, sql, values)
    if connection.autocommit and not commits:
        result = _expect(connection.pgconn, connection.pgconn.exec_prepared(*call))
    else:
        result = _execute(connection, known, call, commits=commits)
    adapt.set_pgresult(result)
    return adapt.load_rows(0, result.ntuples, tuple), [result.ftype(index) for index in range(result.nfields)]


def put_off(connection: Connection[Any], sql: str, values: Sequence[Any]) -> None:
    """Execute a statement before the next one over this connection, but on the same way to the server."""
    known = _know(connection)
    known.put_off.append(_call(connection, known, Transformer(connection), sql, values))


def catch_up(connection: Connection[Any], *, commits: bool = False) -> None:
    """Execute what was put off; whoever passes this module by needs it done."""
    known = _know(connection)
    if known.put_off:
        _execute(connection, known, known.put_off.pop(), commits=commits)


def forget(connection: Connection[Any]) -> None:
    """Do not execute what was put off."""
    _know(connection).put_off.clear()


def _know(connection: Connection[Any]) -> _Known:
    with _lock:
        known = _known.get(connection)
        if known is None:
            known = _known[connection] = _Known()
        return known


def _call(connection: Connection[Any], known: _Known, adapt: Any, sql: str, values: Sequence[Any]) -> _Call:
    """The statement, which is prepared unless it is, and its parameters as they are sent."""
    parameters = adapt.dump_sequence(values, [PyFormat.TEXT] * len(values))
    name = known.names.get(sql)
    if name is not None:
        known.names.move_to_end(sql)
        return name, parameters
    pgconn, name = connection.pgconn, b"catalog_%d" % next(_numbers)
    if len(known.names) >= MOST_PREPARED:
        _, oldest = known.names.popitem(last=False)
        _expect(pgconn, pgconn.exec_(b"DEALLOCATE " + oldest))
    _expect(pgconn, pgconn.prepare(name, sql.encode()))
    known.names[sql] = name
    return name, parameters


def _execute(connection: Connection[Any], known: _Known, call: _Call, *, commits: bool) -> PGresult:
    """The result of a statement that is sent together with BEGIN, COMMIT and what was put off, all on one way.

    Whoever waits for the locks of a transaction then waits for no more than the server does, and not for this process
    to find the time to say COMMIT.
    """
    pgconn = connection.pgconn
    begins = not connection.autocommit and pgconn.transaction_status == TransactionStatus.IDLE
    before, known.put_off = known.put_off, []
    if not (begins or before or commits):
        return _expect(pgconn, pgconn.exec_prepared(*call))
    pgconn.enter_pipeline_mode()
    try:
        if begins:
            pgconn.send_query_params(b"BEGIN", None)
        for one in (*before, call):
            pgconn.send_query_prepared(*one)
        if commits:
            pgconn.send_query_params(b"COMMIT", None)
        pgconn.pipeline_sync()
        results = _receive(pgconn)
    finally:
        if pgconn.status == ConnStatus.OK:
            pgconn.exit_pipeline_mode()
    # The first that went wrong comes before those that were left out because of it.
    return [_expect(pgconn, result) for result in results][begins + len(before)]


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
