"""Statements put to PostgreSQL through libpq, as psycopg has it, without psycopg's cursors.

A cursor parses the statement at each use and waits for the answer in steps that each hand the interpreter's lock over.
For a small question that takes as long as the rest of it.
"""

import itertools
import threading
from collections import OrderedDict
from collections.abc import Sequence
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


def ask(connection: Connection[Any], sql: str, values: Sequence[Any]) -> tuple[Sequence[tuple[Any, ...]], list[int]]:
    """The rows of the answer, and the types (OIDs) of their columns. ``sql`` has $1, $2 and so on for ``values``.

    The types of the parameters are what the statement makes of them. Raises psycopg's errors.
    """
    pgconn = connection.pgconn
    if not connection.autocommit and pgconn.transaction_status == TransactionStatus.IDLE:
        _expect(pgconn, pgconn.exec_(b"BEGIN"))
    adapt = Transformer(connection)
    # A NULL is None, which the signature of exec_prepared forgets.
    parameters: Any = adapt.dump_sequence(values, [PyFormat.TEXT] * len(values))
    result = _expect(pgconn, pgconn.exec_prepared(_name(connection, sql), parameters))
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


def _expect(pgconn: PGconn, result: PGresult) -> PGresult:
    if result.status in {ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK}:
        return result
    error = error_from_result(result)
    if pgconn.status == ConnStatus.BAD:
        # Whatever the server said last: what matters is that it is gone.
        raise OperationalError(str(error)) from error
    raise error
