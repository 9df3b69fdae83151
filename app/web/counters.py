"""What the rate limits count with: fixed windows that say with each hit what is left of them.

``limits`` hits first and asks for the rest afterwards: three round trips to Redis, and an answer that has in it what
others have used up in between.
"""

import threading
import time
from typing import Any, NamedTuple

from flask import g
from limits import RateLimitItem
from limits.storage import RedisStorage, Storage, StorageTypes
from limits.strategies import FixedWindowRateLimiter

#: Counts ARGV[2] more in a window of ARGV[1] milliseconds, and tells the count and how long the window still lasts.
#: It goes by the key's time and not by the count: a key without one, whoever left it, would lock somebody out for good.
HIT = b"""
local count = redis.call("INCRBY", KEYS[1], ARGV[2])
local left = redis.call("PTTL", KEYS[1])
if left < 0 then
    redis.call("PEXPIRE", KEYS[1], ARGV[1])
    left = tonumber(ARGV[1])
end
return {count, left}
"""


class Counted(NamedTuple):
    """A limit that was hit, what for, when its window ends, and what this hit has left of it."""

    limit: RateLimitItem
    scope: str
    reset_time: float
    remaining: int


class FixedWindows(FixedWindowRateLimiter):
    """The library's fixed windows under the library's keys, asked once a hit."""

    def __init__(self, storage: StorageTypes) -> None:
        # The library falls back to its own storage in memory, where a timer looks at every key, and that often.
        self.windows = storage if isinstance(storage, RedisWindows | MemoryWindows) else MemoryWindows()
        super().__init__(self.windows)

    def hit(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        """Count; whether that is still allowed."""
        key = item.key_for(*identifiers)
        count, end = self.windows.count(key, item.get_expiry(), cost)
        g.setdefault("counted", {})[key] = Counted(item, identifiers[-1], end, max(0, item.amount - count))
        return count <= item.amount


class RedisWindows(RedisStorage):
    """The windows of all processes; takes the place of the library's storage for these schemes."""

    STORAGE_SCHEME = ["redis", "rediss", "redis+unix"]

    def __init__(self, uri: str, **options: Any) -> None:
        super().__init__(uri, **options)
        self._hit = self.get_connection().register_script(HIT)
        self._found = False
        self._look = threading.Thread()

    def count(self, key: str, expiry: int, amount: int) -> tuple[int, float]:
        """Count ``amount`` more; the count, and when the window ends that lasts ``expiry`` seconds from its first."""
        count, left = self._hit([self.prefixed_key(key)], [expiry * 1000, amount])
        return int(count), time.time() + left / 1000

    def check(self) -> bool:
        """Whether Redis answered when it was last looked for, which happens beside: no request waits for it."""
        if self._found:
            self._found = False
            return True
        if not self._look.is_alive():
            self._look = threading.Thread(target=self._look_for_it, daemon=True)
            self._look.start()
        return False

    def _look_for_it(self) -> None:
        self._found = super().check()


class MemoryWindows(Storage):
    """The windows of this process; takes the place of the library's storage for this scheme."""

    STORAGE_SCHEME = ["memory"]
    #: As few as this are not worth looking through for those that have ended.
    FEW = 1000

    def __init__(self, uri: str | None = None, **_: Any) -> None:
        super().__init__(uri)
        self._lock = threading.Lock()
        self._windows: dict[str, tuple[int, float]] = {}
        self._many = self.FEW

    def count(self, key: str, expiry: int, amount: int) -> tuple[int, float]:
        """As in Redis."""
        now = time.time()
        with self._lock:
            count, end = self._windows.get(key, (0, now))
            if end <= now:
                self._forget_those_before(now)
                count, end = 0, now + expiry
            self._windows[key] = count + amount, end
        return count + amount, end

    def _forget_those_before(self, now: float) -> None:
        # Only when their number has doubled: then a new one costs the same, however many there are.
        if len(self._windows) >= self._many:
            self._windows = {key: window for key, window in self._windows.items() if window[1] > now}
            self._many = max(self.FEW, 2 * len(self._windows))

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        return self.count(key, expiry, amount)[0]

    def get(self, key: str) -> int:
        count, end = self._windows.get(key, (0, 0.0))
        return count if end > time.time() else 0

    def get_expiry(self, key: str) -> float:
        return max(time.time(), self._windows.get(key, (0, 0.0))[1])

    def check(self) -> bool:
        return True

    def reset(self) -> int:
        with self._lock:
            count = len(self._windows)
            self._windows.clear()
        return count

    def clear(self, key: str) -> None:
        with self._lock:
            self._windows.pop(key, None)

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        return ()
