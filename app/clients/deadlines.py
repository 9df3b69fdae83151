"""Calls with a deadline, for libraries and file systems that have none of their own."""

import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TypeVar

T = TypeVar("T")


class Overdue(Exception):
    """A call has not ended in time, or could not begin in time, because too many others have not ended."""


class Calls:
    """Runs calls in threads of their own, at most ``max_calls`` at once; thread-safe.

    A thread cannot be stopped: one that hangs keeps its place for as long as it hangs, and does not keep the process
    from ending.
    """

    def __init__(self, max_calls: int) -> None:
        self._places = threading.BoundedSemaphore(max_calls)

    def run(self, call: Callable[[], T], *, timeout: float) -> T:
        """What ``call()`` returns or raises; raises ``Overdue`` after ``timeout`` seconds. It may still end later."""
        ends = time.monotonic() + timeout
        if not self._places.acquire(timeout=timeout):
            raise Overdue
        outcomes: SimpleQueue[tuple[list[T], BaseException | None]] = SimpleQueue()
        # A daemon, because a thread that hangs must not keep the process from ending.
        thread = threading.Thread(target=self._run, args=(call, outcomes), name="call", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # The system has no more threads.
            self._places.release()
            raise Overdue from None
        try:
            results, error = outcomes.get(timeout=max(0, ends - time.monotonic()))
        except Empty:
            raise Overdue from None
        if error is not None:
            raise error
        return results[0]

    def _run(self, call: Callable[[], T], outcomes: "SimpleQueue[tuple[list[T], BaseException | None]]") -> None:
        try:
            outcomes.put(([call()], None))
        except BaseException as error:  # noqa: BLE001 -- the waiting thread raises whatever the call raised
            outcomes.put(([], error))
        finally:
            self._places.release()
