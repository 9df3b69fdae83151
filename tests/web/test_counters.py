"""What the rate limits count with, beside the library's own: they agree on every count, and ask less."""

import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from uuid import uuid4

import pytest
import redis
import time_machine
from hypothesis import given, settings
from hypothesis import strategies as st
from limits import RateLimitItem, parse
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import FixedWindowRateLimiter
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from app.web.counters import RECOVERY_KEY, FallbackWindows, MemoryWindows, RedisWindows, Window
from tests.live.wire import at_once, wait_for

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
KEY = "LIMITER/alice/3/1/minute"

Steps = list[tuple[RateLimitItem, str, int, float]]
Told = tuple[bool, int, float]


def hits(*pauses: float) -> st.SearchStrategy[Steps]:
    """Hits: on what rate, of whom, at what cost, and how many seconds before the next."""
    rates = [parse("3 per minute"), parse("5 per hour"), parse("2 per 2 minute")]
    return st.lists(
        st.tuples(
            st.sampled_from(rates), st.sampled_from(["alice", "bob"]), st.integers(1, 3), st.sampled_from([0, *pauses])
        ),
        max_size=40,
    )


def told_by(windows: MemoryWindows | RedisWindows, item: RateLimitItem, who: str, cost: int) -> Told:
    """What a hit is told: whether it is allowed, what is left, and when the window ends."""
    window = windows.count(item.key_for(who), item.get_expiry(), cost)
    return window.used <= item.amount, max(0, item.amount - window.used), window.ends_at


def told_by_library(limiter: FixedWindowRateLimiter, item: RateLimitItem, who: str, cost: int) -> Told:
    """The same of the library, which is asked afterwards."""
    allowed = limiter.hit(item, who, cost=cost)
    window = limiter.get_window_stats(item, who)
    return allowed, window.remaining, window.reset_time


def nearly(told: Told) -> tuple[bool, int, object]:
    """The same, should the window end within seconds of that."""
    allowed, remaining, ends_at = told
    return allowed, remaining, pytest.approx(ends_at, rel=0, abs=5)


def milliseconds_left(server: redis.Redis, key: str | bytes) -> int:
    """Of a key's time; -1 when it has none."""
    left = server.pttl(key)
    assert isinstance(left, int)
    return left


class TestInMemory:
    @given(hits(0.5, 59.5, 60, 120))
    @settings(deadline=None)
    def test_says_what_the_library_says(self, steps: Steps) -> None:
        with time_machine.travel(NOW, tick=False) as clock, pytest.MonkeyPatch.context() as patch:
            # Its timer's thread may take a new window for the one that ended.
            patch.setattr(MemoryStorage, "_MemoryStorage__schedule_expiry", lambda _: None)
            ours, theirs = MemoryWindows(), FixedWindowRateLimiter(MemoryStorage())
            for item, who, cost, pause in steps:
                assert told_by(ours, item, who, cost) == told_by_library(theirs, item, who, cost)
                clock.shift(pause)

    def test_loses_no_hit_among_threads(self) -> None:
        windows, interval = MemoryWindows(), sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            counted = at_once([lambda: [windows.count(KEY, 60).used for _ in range(5000)]] * 8)
        finally:
            sys.setswitchinterval(interval)

        assert sorted(chain.from_iterable(counted)) == list(range(1, 40_001))

    def test_keeps_no_more_than_twice_what_is_open(self) -> None:
        with time_machine.travel(NOW, tick=False) as clock:
            windows = MemoryWindows()
            for number in range(20 * windows.MIN_EVICTION_SIZE):
                windows.count(f"address:{number}", 60)
                clock.shift(0.1)

            # 600 are open at any moment.
            assert len(windows) <= 2 * windows.MIN_EVICTION_SIZE

    def test_forgets_no_open_window(self) -> None:
        windows = MemoryWindows()
        addresses = [f"address:{number}" for number in range(5 * windows.MIN_EVICTION_SIZE)]

        counts = [windows.count(address, 60).used for address in addresses * 2]

        assert counts == [1] * len(addresses) + [2] * len(addresses)


class TestInRedis:
    @pytest.fixture
    def server(self, redis_url: str) -> Iterator[redis.Redis]:
        with redis.Redis.from_url(redis_url) as client:
            yield client

    @pytest.fixture
    def key(self) -> str:
        """Of nobody before."""
        return f"LIMITER/{uuid4()}/3/1/minute"

    @given(hits(30, 60, 120))
    @settings(deadline=None, max_examples=50)
    def test_says_what_the_library_says(self, redis_url: str, steps: Steps) -> None:
        example = uuid4()
        ours = RedisWindows(redis_url, key_prefix=f"{example}-ours")
        theirs = FixedWindowRateLimiter(RedisStorage(redis_url, key_prefix=f"{example}-theirs"))
        with redis.Redis.from_url(redis_url) as server, time_machine.travel(NOW, tick=False):
            for item, who, cost, pause in steps:
                assert nearly(told_by(ours, item, who, cost)) == told_by_library(theirs, item, who, cost)
                # Its clock cannot be set; but its keys can grow older.
                for key in server.scan_iter(f"{example}-*", count=1000):
                    server.pexpire(key, max(0, milliseconds_left(server, key) - int(pause * 1000)))

    def test_has_the_keys_of_the_library(self, redis_url: str) -> None:
        item, carol = parse("3 per minute"), f"carol-{uuid4()}"
        ours, theirs = RedisWindows(redis_url), FixedWindowRateLimiter(RedisStorage(redis_url))

        left = [told_by(ours, item, carol, 1), told_by_library(theirs, item, carol, 1), told_by(ours, item, carol, 1)]

        assert [remaining for _, remaining, _ in left] == [2, 1, 0]

    def test_counts_on_after_its_scripts_are_lost(self, redis_url: str, server: redis.Redis, key: str) -> None:
        windows = RedisWindows(redis_url)
        windows.count(key, 60)
        server.script_flush()

        assert windows.count(key, 60).used == 2

    def test_ends_a_window_that_somebody_left_without_end(self, redis_url: str, server: redis.Redis, key: str) -> None:
        server.set(f"LIMITS:{key}", 7)

        assert RedisWindows(redis_url).count(key, 60).used == 8
        assert 0 < milliseconds_left(server, f"LIMITS:{key}") <= 60_000


class Unsteady(RedisWindows):
    """A Redis that can be lost and found, and counts how often it is asked."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.error: Exception | None = None
        self.asked = 0
        #: As many fail at the same moment as this waits for.
        self.together = threading.Barrier(1)
        self.looked_for = threading.Semaphore(0)
        self.answer = threading.Event()

    def count(self, key: str, expiry: int, amount: int = 1) -> Window:
        """Answer, or fail; who looks for it waits until ``answer`` is set."""
        if key == RECOVERY_KEY:
            self.looked_for.release()
            assert self.answer.wait(10)
        else:
            self.asked += 1
            self.together.wait(10)
        if self.error:
            raise self.error
        return super().count(key, expiry, amount)


class TestALostRedis:
    @pytest.fixture
    def redis_windows(self, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Unsteady:
        """A Redis, and no pause before it is looked for again."""
        monkeypatch.setattr("app.web.counters.RETRY_SECONDS", 0.0)
        return Unsteady(redis_url)

    @pytest.fixture
    def key(self) -> str:
        """Of nobody before."""
        return f"LIMITER/{uuid4()}/3/1/minute"

    @pytest.mark.parametrize(
        "error", [redis.TimeoutError(), redis.ConnectionError(), redis.ResponseError(), ValueError()]
    )
    def test_is_asked_once_and_then_looked_for_beside(
        self, redis_windows: Unsteady, key: str, error: Exception
    ) -> None:
        windows, redis_windows.error = FallbackWindows(redis_windows), error

        used = [windows.count(key, 60).used for _ in range(5)]

        # Who looks for it still waits for an answer.
        assert used == [1, 2, 3, 4, 5]
        assert redis_windows.asked == 1
        assert redis_windows.looked_for.acquire(timeout=10)
        assert not redis_windows.looked_for.acquire(blocking=False)
        redis_windows.answer.set()

    def test_counts_again_once_it_answers(self, redis_windows: Unsteady, key: str) -> None:
        windows = FallbackWindows(redis_windows)
        windows.count(key, 60)
        assert is_up() == 1
        redis_windows.error = redis.ConnectionError()
        windows.count(key, 60)
        assert is_up() == 0
        redis_windows.error = None
        redis_windows.answer.set()

        wait_for(partial(is_asked_by, windows, redis_windows))
        assert is_up() == 1

    def test_is_looked_for_until_it_answers(self, redis_windows: Unsteady, key: str) -> None:
        windows, redis_windows.error = FallbackWindows(redis_windows), redis.ConnectionError()
        redis_windows.answer.set()

        for _ in range(3):
            wait_for(partial(is_looked_for_by, windows, redis_windows))

        assert redis_windows.asked == 1

    def test_is_looked_for_once_a_second(self, redis_url: str, key: str) -> None:
        redis_windows = Unsteady(redis_url)
        windows, redis_windows.error = FallbackWindows(redis_windows), redis.ConnectionError()

        for _ in range(100):
            windows.count(key, 60)

        assert not redis_windows.looked_for.acquire(blocking=False)

    def test_is_logged_when_it_goes_and_when_it_comes(self, redis_windows: Unsteady, key: str) -> None:
        windows = FallbackWindows(redis_windows)
        redis_windows.answer.set()
        with capture_logs() as logged:
            for _ in range(2):
                windows.count(key, 60)
                redis_windows.error = redis.TimeoutError("redis://:secret@192.0.2.1")
                redis_windows.together = threading.Barrier(8)
                at_once([partial(windows.count, key, 60)] * 8)
                redis_windows.together = threading.Barrier(1)
                redis_windows.error = None
                wait_for(partial(is_asked_by, windows, redis_windows))

        assert [(line["event"], line["log_level"], line.get("error")) for line in logged] == [
            ("redis_lost", "warning", "TimeoutError"),
            ("redis_back", "warning", None),
        ] * 2


def is_up() -> float | None:
    """What the metric says of Redis."""
    return REGISTRY.get_sample_value("catalog_redis_up", {"purpose": "rate_limits"})


def is_asked_by(windows: FallbackWindows, redis_windows: Unsteady) -> bool:
    """Whether a hit is counted there."""
    asked = redis_windows.asked
    windows.count(KEY, 60)
    return redis_windows.asked > asked


def is_looked_for_by(windows: FallbackWindows, redis_windows: Unsteady) -> bool:
    """Whether somebody looks for it soon after a hit."""
    windows.count(KEY, 60)
    return redis_windows.looked_for.acquire(blocking=False)
