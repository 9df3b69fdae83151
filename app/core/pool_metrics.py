"""Counts the connections of an engine, and the errors of its database."""

import contextlib
import gc
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.pool import ConnectionPoolEntry

from app.core.metrics import CONNECTIONS_IN_USE, CONNECTIONS_OPEN, DATABASE_ERRORS
from app.core.sqlstates import class_of

#: Whether the garbage collector is running. It may return a connection that was forgotten, in the middle of any code of
#: any thread, such as the counting of prometheus-client, whose lock the thread then holds already.
_is_collecting = False
#: What has happened in the meantime and is still to be counted.
_delayed: deque[Callable[[], None]] = deque()
_IN_USE = "is_counted_in_use"


def watch(engine: Engine) -> None:
    """Count the connections of this engine from now on, and its errors."""
    if _note_collection not in gc.callbacks:
        gc.callbacks.append(_note_collection)
    event.listen(engine, "connect", lambda *_: _count(CONNECTIONS_OPEN.inc))
    event.listen(engine, "close", lambda *_: _count(CONNECTIONS_OPEN.dec))
    event.listen(engine, "close_detached", lambda *_: _count(CONNECTIONS_OPEN.dec))
    event.listen(engine, "checkout", _check_out)
    event.listen(engine, "checkin", _check_in)
    # Taken from the pool for good; it stays open.
    event.listen(engine, "detach", _check_in)
    event.listen(engine, "handle_error", _count_error)


def count_error(error: BaseException) -> None:
    """Count an error of the driver."""
    DATABASE_ERRORS.labels(class_of(error)).inc()


def _check_out(_driver: object, record: ConnectionPoolEntry, _proxied: object) -> None:
    _info(record)[_IN_USE] = True
    _count(CONNECTIONS_IN_USE.inc)


def _check_in(_driver: object, record: ConnectionPoolEntry) -> None:
    # One that could not be made is returned, too, although it was never checked out.
    if _info(record).pop(_IN_USE, False):
        _count(CONNECTIONS_IN_USE.dec)


def _info(record: ConnectionPoolEntry) -> dict[Any, Any]:
    # Only a connection that was detached from its pool has none.
    return cast("dict[Any, Any]", record.record_info)


def _count(change: Callable[[], None]) -> None:
    _delayed.append(change)
    # Another thread may take the last.
    with contextlib.suppress(IndexError):
        while not _is_collecting:
            _delayed.popleft()()


def _note_collection(phase: str, _info: object) -> None:
    global _is_collecting  # noqa: PLW0603 -- the collector is one for the process
    _is_collecting = phase == "start"


def _count_error(context: ExceptionContext) -> None:
    if isinstance(context.original_exception, context.dialect.loaded_dbapi.Error):
        count_error(context.original_exception)
