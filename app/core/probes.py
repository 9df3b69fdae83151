"""Looking at something that may hang: in a thread of its own, and not more often than it is worth, however many ask."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog

T = TypeVar("T")

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Sight(Generic[T]):
    """What a look has found, how many seconds it took, and when it ended, as `time.monotonic` has it."""

    value: T
    seconds: float
    ended_at: float

    @property
    def age(self) -> float:
        """Seconds since the look."""
        return time.monotonic() - self.ended_at


class Probe(Generic[T]):
    """Calls ``look`` when what it has found last is older than ``max_age`` seconds; thread-safe.

    All who ask meanwhile wait for one and the same look, until it has taken ``timeout`` seconds; or, with less
    ``patience``, so long, and then get what the look before has found, unless that is ``timeout`` seconds older than
    ``max_age``. A look that hangs keeps its thread, and no other is begun until it ends.
    """

    def __init__(self, look: Callable[[], T], *, max_age: float, timeout: float, patience: float | None = None) -> None:
        self._look, self._max_age, self._timeout = look, max_age, timeout
        self._patience = timeout if patience is None else patience
        self._condition = threading.Condition()
        self._sight: Sight[T] | None = None
        #: When the look that has not ended began.
        self._begun_at: float | None = None

    def begin(self) -> None:
        """Begin a look, if it is time for one and none is under way; returns at once."""
        with self._condition:
            if self._begun_at is not None or (self._sight is not None and self._sight.age < self._max_age):
                return
            self._begun_at = time.monotonic()
        # A daemon, because a thread that hangs must not keep the process from ending.
        thread = threading.Thread(target=self._run, name="probe", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # The system has no more threads.
            self._end(None)

    def read(self) -> Sight[T] | None:
        """What was found last; None where the look failed, or has not ended in time."""
        self.begin()
        with self._condition:
            while self._begun_at is not None:
                last = self._sight
                is_recent = last is not None and last.age < self._max_age + self._timeout
                left = self._begun_at + (self._patience if is_recent else self._timeout) - time.monotonic()
                if left <= 0:
                    return last if is_recent else None
                self._condition.wait(left)
            return self._sight

    def _run(self) -> None:
        started = time.monotonic()
        sight = None
        try:
            value = self._look()
            ended = time.monotonic()
            sight = Sight(value, ended - started, ended)
        except Exception as error:  # a look says itself what may go wrong, so this is a fault, which must not be silent
            log.exception("probe_failed", exc_info=error)
        finally:
            self._end(sight)

    def _end(self, sight: Sight[T] | None) -> None:
        with self._condition:
            self._sight, self._begun_at = sight, None
            self._condition.notify_all()
