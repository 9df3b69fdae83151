"""What the rate limits count with: fixed windows that say with each hit what is left of them.

``limits`` hits first and asks for the rest afterwards: three round trips to Redis, and an answer that has in it what
others have used up in between.
"""

import threading
import time
from collections.abc import Callable

from flask import g
from limits import RateLimitItem, WindowStats
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


class FixedWindows(FixedWindowRateLimiter):
    """The library's fixed windows under the library's keys, asked once a hit."""

    def __init__(self, storage: StorageTypes) -> None:
        if isinstance(storage, RedisStorage):
            super().__init__(storage)
            self._count = _counting_in(storage)
        else:
            # Where it falls back the library brings its own storage, whose timer looks at every key, and that often.
            windows = Windows()
            super().__init__(windows)
            self._count = windows.count

    def hit(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        """Count; whether that is still allowed."""
        key = item.key_for(*identifiers)
        count, end = self._count(key, item.get_expiry(), cost)
        g.setdefault("windows", {})[key] = WindowStats(end, max(0, item.amount - count))
        return count <= item.amount

    def get_window_stats(self, item: RateLimitItem, *identifiers: str) -> WindowStats:
        """When the window ends, and what this request's hit has left of it."""
        windows: dict[str, WindowStats] = g.get("windows", {})
        return windows.get(item.key_for(*identifiers)) or super().get_window_stats(item, *identifiers)


class Windows(Storage):
    """The windows of one process, in memory."""

    STORAGE_SCHEME = None
    #: As few as this are not worth looking through for those that have ended.
    FEW = 1000

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._windows: dict[str, tuple[int, float]] = {}
        self._many = self.FEW

    def count(self, key: str, expiry: int, amount: int = 1) -> tuple[int, float]:
        """Count ``amount`` more; the count, and when the window ends that lasts ``expiry`` seconds from its first."""
        now = time.time()
        with self._lock:
            count, end = self._windows.get(key, (0, now))
            if end <= now:
                count, end = 0, now + expiry
                self._forget(now)
            self._windows[key] = count + amount, end
        return count + amount, end

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

    def _forget(self, now: float) -> None:
        # Looking only when the number has doubled costs each new window the same, however many there are.
        if len(self._windows) >= self._many:
            self._windows = {key: window for key, window in self._windows.items() if window[1] > now}
            self._many = max(self.FEW, 2 * len(self._windows))


def _counting_in(storage: RedisStorage) -> Callable[[str, int, int], tuple[int, float]]:
    hit = storage.get_connection().register_script(HIT)

    def count(key: str, expiry: int, amount: int) -> tuple[int, float]:
        counted, left = hit([storage.prefixed_key(key)], [expiry * 1000, amount])
        return int(counted), time.time() + left / 1000

    return count
