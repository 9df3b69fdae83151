"""What the rate limits count with: fixed windows that say with each hit how they stand.

The storages of ``limits`` count a hit and are asked for the rest afterwards: three round trips to Redis, and an answer
that has in it what others have used since.
"""

import threading
import time
from typing import Any, NamedTuple

import structlog
from limits.storage import RedisStorage

#: Counts ARGV[2] more in a window of ARGV[1] milliseconds; answers the count and how long the window still lasts.
#: It goes by the key's time and not by the count: a key that was left without one would keep a client out for ever.
HIT = b"""
local count = redis.call("INCRBY", KEYS[1], ARGV[2])
local left = redis.call("PTTL", KEYS[1])
if left < 0 then
    redis.call("PEXPIRE", KEYS[1], ARGV[1])
    left = tonumber(ARGV[1])
end
return {count, left}
"""

#: The key that shows whether Redis counts again.
RECOVERY = "recovery"
#: Seconds from one look for a lost Redis to the next.
RETRY_EVERY = 1.0

log = structlog.get_logger(__name__)


class Window(NamedTuple):
    """How a window stands after a hit: everything used of it, and the Unix time at which it ends."""

    used: int
    ends_at: float


class RedisWindows(RedisStorage):
    """The windows of all processes, under the keys of the library's own storage."""

    def __init__(self, uri: str, **options: Any) -> None:
        super().__init__(uri, **options)
        self._hit = self.get_connection().register_script(HIT)

    def count(self, key: str, expiry: int, amount: int = 1) -> Window:
        """Count ``amount`` more in the window of ``key``, which ends ``expiry`` seconds after its first hit."""
        used, left = self._hit([self.prefixed_key(key)], [expiry * 1000, amount])
        return Window(int(used), time.time() + left / 1000)


class MemoryWindows:
    """The windows of this process. The library's own would start a thread to look through all of them at each hit."""

    #: As few as this are not worth looking through for those that have ended.
    FEW = 1000

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._windows: dict[str, Window] = {}
        self._many = self.FEW

    def __len__(self) -> int:
        return len(self._windows)

    def count(self, key: str, expiry: int, amount: int = 1) -> Window:
        """As in Redis."""
        now = time.time()
        with self._lock:
            used, ends_at = self._windows.get(key, (0, now))
            if ends_at <= now:
                self._forget_ended(now)
                used, ends_at = 0, now + expiry
            window = self._windows[key] = Window(used + amount, ends_at)
        return window

    def _forget_ended(self, now: float) -> None:
        # Only when their number has doubled: then a new one costs the same, however many there are.
        if len(self._windows) >= self._many:
            self._windows = {key: window for key, window in self._windows.items() if window.ends_at > now}
            self._many = max(self.FEW, 2 * len(self._windows))


class FallbackWindows:
    """The windows in Redis, and those of this process while Redis does not answer.

    The one request that finds Redis lost waits for its timeout. From then on a thread looks for it, at most once in
    `RETRY_EVERY`, and no request does. Loss and return are logged once each.
    """

    def __init__(self, redis: RedisWindows) -> None:
        self._redis = redis
        self._memory = MemoryWindows()
        self._is_lost = False
        self._lock = threading.Lock()
        self._next_look = 0.0

    def count(self, key: str, expiry: int, amount: int = 1) -> Window:
        """As in Redis, which may have failed in any way."""
        if not self._is_lost:
            try:
                return self._redis.count(key, expiry, amount)
            except Exception as error:  # noqa: BLE001 -- something else that listens there can answer with anything
                self._lose(error)
        self._look()
        return self._memory.count(key, expiry, amount)

    def _lose(self, error: Exception) -> None:
        with self._lock:
            if not self._is_lost:
                self._is_lost, self._next_look = True, time.monotonic() + RETRY_EVERY
                log.warning("redis_lost", error=type(error).__name__, effect="each process counts its own limits")

    def _look(self) -> None:
        with self._lock:
            if not self._is_lost or time.monotonic() < self._next_look:
                return
            self._next_look = float("inf")
        try:
            threading.Thread(target=self._find, daemon=True).start()
        except RuntimeError:  # the system has no thread to give
            self._next_look = time.monotonic() + RETRY_EVERY

    def _find(self) -> None:
        try:
            # A Redis that answers PING may still refuse to count: it loads, is full, or is a replica.
            self._redis.count(RECOVERY, 1)
        except Exception:  # noqa: BLE001 -- as above
            self._next_look = time.monotonic() + RETRY_EVERY
        else:
            self._is_lost = False
            log.warning("redis_back")
