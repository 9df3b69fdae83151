"""Looks host names up, and stops waiting when the time is up: the system's resolver has no timeout of its own."""

import socket
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from app.clients.errors import Phase, TimedOut, Unresolvable

#: Lookups at once. One that hangs occupies its thread for as long as the system's resolver waits, half a minute or so.
MAX_LOOKUPS = 64

LookUp = Callable[..., list[tuple[Any, ...]]]


class Resolver:
    """The addresses of host names; thread-safe. ``look_up`` has the signature of `socket.getaddrinfo`, the default."""

    def __init__(self, look_up: LookUp = socket.getaddrinfo) -> None:
        self._look_up = look_up
        self._places = threading.BoundedSemaphore(MAX_LOOKUPS)

    def addresses_of(self, host: str, port: int, *, timeout: float) -> list[str]:
        """The addresses of ``host``, in the order in which to try them: those of one lookup, each once.

        ``timeout`` is in seconds. Raises ``Unresolvable`` and ``TimedOut``.
        """
        ends = time.monotonic() + timeout
        if not self._places.acquire(timeout=timeout):
            raise TimedOut(Phase.RESOLVE)
        found: SimpleQueue[list[str] | None] = SimpleQueue()
        # A daemon, because a thread that hangs must not keep the process from ending.
        thread = threading.Thread(target=self._run, args=(host, port, found), name="lookup", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # The system has no more threads.
            self._places.release()
            raise Unresolvable(f"{host[:253]!a} cannot be looked up now.") from None
        try:
            addresses = found.get(timeout=max(0, ends - time.monotonic()))
        except Empty:
            raise TimedOut(Phase.RESOLVE) from None
        if not addresses:
            raise Unresolvable(f"{host[:253]!a} has no address.")
        return addresses

    def _run(self, host: str, port: int, found: "SimpleQueue[list[str] | None]") -> None:
        try:
            answers = self._look_up(host, port, type=socket.SOCK_STREAM)
            found.put(list(dict.fromkeys(str(answer[4][0]) for answer in answers)))
        except (OSError, UnicodeError):
            # UnicodeError is for a label that is empty or longer than 63 characters.
            found.put(None)
        finally:
            self._places.release()
