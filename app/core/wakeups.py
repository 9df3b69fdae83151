"""What ends a worker's pause between two polls: a signal, another thread, and a commit that NOTIFYs.

PostgreSQL sends a NOTIFY to each connection that LISTENs. A message says only that there may be a job, and polling goes
on beside it: a connection that is lost, or that hangs, delays jobs until the next poll and no more.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from typing import Any

import structlog

from app.core.jobs import CHANNEL
from app.extensions import db

#: Seconds between two attempts to listen, doubled with each that fails up to the second.
MIN_BACKOFF, MAX_BACKOFF = 1.0, 30.0

log = structlog.get_logger(__name__)


class Alarm:
    """Ends the wait of one thread. Unlike that of an Event, ``ring`` may be called in a handler of signals."""

    def __init__(self) -> None:
        self._rings: queue.SimpleQueue[None] = queue.SimpleQueue()

    def ring(self) -> None:
        """End the wait at hand, or else the next one."""
        self._rings.put(None)

    def wait(self, seconds: float) -> None:
        """Wait for a ring, for so many seconds at most; what rang before counts."""
        with suppress(queue.Empty):
            self._rings.get(timeout=seconds)
            # Rings that came at once are one.
            while True:
                self._rings.get_nowait()


class Listener:
    """A thread that listens for NOTIFY on a connection of its own, and calls ``on_notify``; for PostgreSQL.

    Used as a context manager, it runs for the length of the block. ``context`` makes a context of the application.
    A lost connection is replaced; TCP's keepalives find one that died without a word within about ten seconds.
    """

    def __init__(self, context: Callable[[], AbstractContextManager[object]], on_notify: Callable[[], object]) -> None:
        self._context, self._on_notify = context, on_notify
        self._over = threading.Event()
        self._backoff = MIN_BACKOFF
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)

    def __enter__(self) -> "Listener":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                with _connect(self._context) as driver:
                    self._listen(driver)
            except Exception as error:  # noqa: BLE001 -- the driver's or the pool's, and polling makes up for all
                log.warning("listening_failed", error=type(error).__name__, retry_in=self._backoff)
                self._over.wait(self._backoff)
                self._backoff = min(2 * self._backoff, MAX_BACKOFF)

    def _listen(self, driver: Any) -> None:
        driver.execute(f"LISTEN {CHANNEL}")
        if self._backoff > MIN_BACKOFF:
            log.info("listening_again")
            self._backoff = MIN_BACKOFF
        # What was committed while this did not listen.
        self._on_notify()
        while not self._over.is_set():
            for _ in driver.notifies(timeout=1, stop_after=1):
                self._on_notify()


@contextmanager
def _connect(context: Callable[[], AbstractContextManager[object]]) -> Iterator[Any]:
    """A connection of the driver that is set up as those of the pool are, and never goes back to it."""
    with context():
        pooled = db.engine.raw_connection()
    with closing(pooled):
        driver: Any = pooled.driver_connection
        pooled.detach()
        driver.autocommit = True
        yield driver
