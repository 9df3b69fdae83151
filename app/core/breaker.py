"""A circuit breaker and a bulkhead for the database: one that does not answer takes no thread with it.

Both patterns are Michael Nygard's (Release It!, chapter 5). The bulkhead bounds how many threads of a server's worker
may be in the database at once, which leaves one for what needs no database. The breaker opens when an answer is
overdue, and closes with the next one that arrives.
"""

import threading
import time

from app.core.errors import Unavailable

#: Seconds for which every place can be taken without any answer; from then on no thread waits for a place.
STALL_TIMEOUT = 0.5
#: Seconds between two probes of a database that did not answer.
PROBE_INTERVAL = 0.5


class DatabaseUnavailable(Unavailable):
    """The database does not answer; try again shortly."""


class DatabaseBusy(Unavailable):
    """The database is too busy to finish this; nothing was changed, try again shortly."""


class Breaker:
    """Lets units of work into the database and keeps them out; safe to use by many threads.

    ``places`` is the most that may be inside at once; None is any number, as in tests and on SQLite.
    """

    def __init__(self) -> None:
        self.places: int | None = None
        self._inside = 0
        self._condition = threading.Condition()
        #: When a statement was last answered, or the first unit of work came in.
        self._last_answer = time.monotonic()
        #: When the database may next be tried, while it does not answer.
        self._next_probe: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether an answer is overdue and none has arrived since."""
        return self._next_probe is not None

    def enter(self) -> None:
        """Take a place; `leave` gives it back.

        Raises ``DatabaseUnavailable`` while the breaker is open, but for one probe every half second, and
        ``DatabaseBusy`` when every place is taken and no statement was answered for half a second.
        """
        with self._condition:
            now = time.monotonic()
            if self._next_probe is not None:
                if now < self._next_probe:
                    raise DatabaseUnavailable
                self._next_probe = now + PROBE_INTERVAL
            while self.places is not None and self._inside >= self.places:
                left = self._last_answer + STALL_TIMEOUT - time.monotonic()
                if left <= 0:
                    raise DatabaseBusy
                self._condition.wait(left)
            if not self._inside:
                self._last_answer = time.monotonic()
            self._inside += 1

    def note_answer(self) -> None:
        """A statement was answered, which closes the breaker."""
        # Without the lock, because each statement comes by here: two that overlap write nearly the same.
        self._last_answer = time.monotonic()
        self._next_probe = None

    def note_overdue(self) -> None:
        """Open the breaker, because an answer is overdue.

        Call this before the error is raised: a request that waits for the same cached response must not retry it.
        """
        with self._condition:
            self._next_probe = time.monotonic() + PROBE_INTERVAL

    def leave(self) -> None:
        """Give the place back."""
        with self._condition:
            self._inside -= 1
            self._condition.notify()


#: The one of this process, which has one database.
breaker = Breaker()
