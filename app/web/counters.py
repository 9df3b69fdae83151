"""The counters of the rate limits: fixed windows, in Redis or in memory, whose state comes back with each hit.

The storages of ``limits`` count a hit and need further calls for the state of the window: three round trips to Redis,
and a state that includes the hits of other requests since.
"""

import threading
import time
from typing import Any, NamedTuple

import structlog
from limits.storage import RedisStorage

from app.core import tracing
from app.core.metrics import REDIS_UP
from app.core.tracing import Kind

#: Adds ARGV[2] to a window of ARGV[1] milliseconds; returns the count and the milliseconds that the window still lasts.
#: It sets the expiry wherever the key has none, and not only at a count of 1: a key that was left without an expiry
#: would lock a client out indefinitely.
HIT_SCRIPT = b"""
local count = redis.call("INCRBY", KEYS[1], ARGV[2])
local left = redis.call("PTTL", KEYS[1])
if left < 0 then
    redis.call("PEXPIRE", KEYS[1], ARGV[1])
    left = tonumber(ARGV[1])
end
return {count, left}
"""

#: The key that a probe counts, to find out whether Redis is available again.
RECOVERY_KEY = "recovery"
#: Seconds between two probes of an unavailable Redis.
RETRY_SECONDS = 1.0

log = structlog.get_logger(__name__)


class Window(NamedTuple):
    """The state of a window after a hit: the hits in it, and the Unix time in seconds at which it ends."""

    used: int
    ends_at: float


class RedisWindows(RedisStorage):
    """The windows of all processes, in Redis, under the same keys as the library's own storage."""

    def __init__(self, uri: str, **options: Any) -> None:
        super().__init__(uri, **options)
        self._hit = self.get_connection().register_script(HIT_SCRIPT)

    def count(self, key: str, expiry: int, amount: int = 1) -> Window:
        """Add ``amount`` to the window of ``key``, which ends ``expiry`` seconds after its first hit; may raise."""
        # The keys are left out: they have addresses and the ids of users.
        with tracing.span("EVALSHA", kind=Kind.CLIENT, attributes={"db.system.name": "redis"}):
            used, left = self._hit([self.prefixed_key(key)], [expiry * 1000, amount])
        return Window(int(used), time.time() + left / 1000)


class MemoryWindows:
    """The windows of this process; thread-safe.

    The library's own storage was rejected: at each hit it starts a thread that scans all windows for expired ones.
    """

    #: No eviction below this many windows.
    MIN_EVICTION_SIZE = 1000

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._windows: dict[str, Window] = {}
        self._next_eviction_size = self.MIN_EVICTION_SIZE

    def __len__(self) -> int:
        return len(self._windows)

    def count(self, key: str, expiry: int, amount: int = 1) -> Window:
        """Add ``amount`` to the window of ``key``, as `RedisWindows.count` does."""
        now = time.time()
        with self._lock:
            used, ends_at = self._windows.get(key, (0, now))
            if ends_at <= now:
                self._evict_expired(now)
                used, ends_at = 0, now + expiry
            window = self._windows[key] = Window(used + amount, ends_at)
        return window

    def _evict_expired(self, now: float) -> None:
        # Only when their number has doubled: the amortised cost of a new window is constant then.
        if len(self._windows) >= self._next_eviction_size:
            self._windows = {key: window for key, window in self._windows.items() if window.ends_at > now}
            self._next_eviction_size = max(self.MIN_EVICTION_SIZE, 2 * len(self._windows))


class FallbackWindows:
    """The windows in Redis, or those of this process while Redis is unavailable; thread-safe.

    Only the requests that are in Redis when it fails wait for its timeout. From then on requests count in memory, and a
    thread of its own probes Redis, at most once in `RETRY_SECONDS`. Loss and recovery are logged once each.
    """

    def __init__(self, redis: RedisWindows) -> None:
        self._redis = redis
        self._memory = MemoryWindows()
        self._is_lost = False
        self._lock = threading.Lock()
        self._next_probe = 0.0
        self._is_up = REDIS_UP.labels("rate_limits")
        self._is_up.set(1)

    def count(self, key: str, expiry: int, amount: int = 1) -> Window:
        """Add ``amount`` to the window of ``key``; raises no error of Redis."""
        if not self._is_lost:
            try:
                return self._redis.count(key, expiry, amount)
            except Exception as error:  # noqa: BLE001 -- a server that is no Redis can make the client raise anything
                self._fall_back(error)
        self._start_probe()
        return self._memory.count(key, expiry, amount)

    def can_count(self) -> bool:
        """Have Redis count once, whatever became of it before; whether it did."""
        try:
            self._redis.count(RECOVERY_KEY, 1)
        except Exception:  # noqa: BLE001 -- a server that is no Redis can make the client raise anything
            return False
        return True

    def _fall_back(self, error: Exception) -> None:
        with self._lock:
            if not self._is_lost:
                self._is_lost, self._next_probe = True, time.monotonic() + RETRY_SECONDS
                self._is_up.set(0)
                log.warning("redis_lost", error=type(error).__name__, effect="each process counts its own limits")

    def _start_probe(self) -> None:
        with self._lock:
            if not self._is_lost or time.monotonic() < self._next_probe:
                return
            self._next_probe = float("inf")
        try:
            threading.Thread(target=self._probe, daemon=True).start()
        except RuntimeError:  # the system cannot start another thread
            self._next_probe = time.monotonic() + RETRY_SECONDS

    def _probe(self) -> None:
        try:
            # Not PING: a Redis that answers it may still refuse to count, because it is loading, full, or a replica.
            self._redis.count(RECOVERY_KEY, 1)
        except Exception:  # noqa: BLE001 -- as above
            self._next_probe = time.monotonic() + RETRY_SECONDS
        else:
            self._is_up.set(1)
            self._is_lost = False
            log.warning("redis_back")
