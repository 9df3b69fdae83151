"""A circuit breaker for each destination: one that keeps failing is left alone, and then tried by one request.

The pattern is Michael Nygard's (Release It!, chapter 5), and the state machine is pybreaker's. Two things are added to
it: pybreaker holds its lock for as long as a wrapped function runs, so that only one request at a time could go to a
destination, and its half-open state lets any number in. So its context manager is used, which runs without that lock,
and entering and leaving are serialised here, with one probe at a time.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from pybreaker import STATE_CLOSED, STATE_HALF_OPEN, CircuitBreaker, CircuitBreakerError, CircuitMemoryStorage

from app.clients.errors import CircuitOpen

#: Destinations that are remembered; of more, those that were used least recently are forgotten.
MAX_DESTINATIONS = 1024


class Breakers:
    """The circuit breakers of a client's destinations; thread-safe.

    ``is_failure`` states whether an exception is the destination's fault. Any other exception, and none, shows that the
    destination responds. ``max_failures`` in a row open its circuit, for ``reset_timeout`` seconds before a probe.
    """

    def __init__(
        self,
        is_failure: Callable[[BaseException], bool],
        *,
        max_failures: int,
        reset_timeout: float,
        max_destinations: int = MAX_DESTINATIONS,
    ) -> None:
        self._is_failure = is_failure
        self._max_failures = max_failures
        self._reset_timeout = reset_timeout
        self._max_destinations = max_destinations
        self._lock = threading.Lock()
        self._destinations: OrderedDict[str, _Destination] = OrderedDict()

    def __len__(self) -> int:
        return len(self._destinations)

    def passing(self, destination: str) -> AbstractContextManager[None]:
        """Run a block through the breaker of ``destination``; raises ``CircuitOpen`` instead of running it."""
        with self._lock:
            if destination not in self._destinations:
                self._destinations[destination] = _Destination(self._new_breaker())
            self._destinations.move_to_end(destination)
            if len(self._destinations) > self._max_destinations:
                self._destinations.popitem(last=False)
            return self._destinations[destination].passing()

    def _new_breaker(self) -> CircuitBreaker:
        return CircuitBreaker(
            fail_max=self._max_failures,
            reset_timeout=self._reset_timeout,
            state_storage=_SteadyStorage(STATE_CLOSED),
            exclude=[lambda error: not self._is_failure(error)],
            throw_new_error_on_trip=False,
        )


class _SteadyStorage(CircuitMemoryStorage):
    """Measures how long a circuit has been open by a clock that is never set: pybreaker compares times of day."""

    _opened: float | None = None

    @property
    def opened_at(self) -> datetime | None:
        """When the circuit was opened, as the time of day would have it now."""
        if self._opened is None:
            return None
        return datetime.now(UTC) - timedelta(seconds=time.monotonic() - self._opened)

    @opened_at.setter
    def opened_at(self, _: datetime) -> None:
        self._opened = time.monotonic()


class _Destination:
    def __init__(self, breaker: CircuitBreaker) -> None:
        self._breaker = breaker
        self._lock = threading.Lock()
        self._is_probed = False

    @contextmanager
    def passing(self) -> Iterator[None]:
        call, is_probe = self._enter()
        try:
            yield
        except BaseException as error:
            self._leave(call, error, is_probe=is_probe)
            raise
        self._leave(call, None, is_probe=is_probe)

    def _enter(self) -> tuple[Any, bool]:
        with self._lock:
            if self._is_probed and self._breaker.current_state != STATE_CLOSED:
                raise CircuitOpen("The destination is being tried by another request.")
            call = self._breaker.calling()
            try:
                call.__enter__()
            except CircuitBreakerError:
                raise CircuitOpen("The destination has failed repeatedly.") from None
            is_probe = self._breaker.current_state == STATE_HALF_OPEN
            self._is_probed = self._is_probed or is_probe
            return call, is_probe

    def _leave(self, call: Any, error: BaseException | None, *, is_probe: bool) -> None:
        with self._lock:
            if is_probe:
                self._is_probed = False
            call.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)
