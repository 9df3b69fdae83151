"""What the rate limits count with, beside the library's own: they agree on every count, and ask less."""

import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain
from uuid import uuid4

import pytest
import redis
import time_machine
from flask import Flask, g
from hypothesis import given, settings
from hypothesis import strategies as st
from limits import RateLimitItem, WindowStats, parse
from limits.storage import MemoryStorage, RedisStorage, storage_from_string
from limits.strategies import FixedWindowRateLimiter

from app.web.counters import FixedWindows, MemoryWindows, RedisWindows
from tests.live.wire import at_once, wait_for
from tests.servers import free_port, valkey_server

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
KEY = "LIMITER/alice/3/1/minute"

#: Each context of its stands for a request.
bare = Flask("bare")

Steps = list[tuple[RateLimitItem, str, int, float]]


def hits(*pauses: float) -> st.SearchStrategy[Steps]:
    """Hits: on what rate, of whom, at what cost, and how many seconds before the next."""
    rates = [parse("3 per minute"), parse("5 per hour"), parse("2 per 2 minute")]
    return st.lists(
        st.tuples(
            st.sampled_from(rates), st.sampled_from(["alice", "bob"]), st.integers(1, 3), st.sampled_from([0, *pauses])
        ),
        max_size=40,
    )


def told_by(limiter: FixedWindowRateLimiter, item: RateLimitItem, who: str, cost: int) -> tuple[bool, WindowStats]:
    """What one request hears: whether it may, and how its window stands."""
    with bare.app_context():
        allowed = limiter.hit(item, who, cost=cost)
        for counted in g.get("counted", {}).values():
            return allowed, WindowStats(counted.reset_time, counted.remaining)
        return allowed, limiter.get_window_stats(item, who)


def seen_by(limiter: FixedWindowRateLimiter, item: RateLimitItem, who: str) -> tuple[bool, WindowStats]:
    """What one hears who only looks."""
    with bare.app_context():
        return limiter.test(item, who), limiter.get_window_stats(item, who)


def nearly(heard: tuple[bool, WindowStats]) -> tuple[bool, tuple[object, int]]:
    """The same, whenever the window ends within seconds of that."""
    allowed, window = heard
    return allowed, (pytest.approx(window.reset_time, rel=0, abs=5), window.remaining)


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
            ours, theirs = FixedWindows(MemoryWindows()), FixedWindowRateLimiter(MemoryStorage())
            for item, who, cost, pause in steps:
                assert told_by(ours, item, who, cost) == told_by(theirs, item, who, cost)
                clock.shift(pause)
                assert seen_by(ours, item, who) == seen_by(theirs, item, who)

    def test_loses_no_hit_among_threads(self) -> None:
        windows, interval = MemoryWindows(), sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            counted = at_once([lambda: [windows.count(KEY, 60, 1)[0] for _ in range(5000)]] * 8)
        finally:
            sys.setswitchinterval(interval)

        assert sorted(chain.from_iterable(counted)) == list(range(1, 40_001))

    def test_keeps_no_more_than_twice_what_is_open(self) -> None:
        with time_machine.travel(NOW, tick=False) as clock:
            windows = MemoryWindows()
            for number in range(20 * windows.FEW):
                windows.count(f"address:{number}", 60, 1)
                clock.shift(0.1)

            # 600 are open at any moment.
            assert windows.reset() <= 2 * windows.FEW

    def test_forgets_no_open_window(self) -> None:
        windows = MemoryWindows()
        addresses = [f"address:{number}" for number in range(5 * windows.FEW)]

        counts = [windows.count(address, 60, 1)[0] for address in addresses * 2]

        assert counts == [1] * len(addresses) + [2] * len(addresses)

    def test_is_what_the_library_falls_back_to(self) -> None:
        assert isinstance(FixedWindows(MemoryStorage()).storage, MemoryWindows)

    def test_clears_one_window(self) -> None:
        windows = MemoryWindows()
        windows.incr(KEY, 60)

        windows.clear(KEY)

        assert (windows.get(KEY), windows.incr(KEY, 60)) == (0, 1)


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
        ours = FixedWindows(RedisWindows(redis_url, key_prefix=f"{example}-ours"))
        theirs = FixedWindowRateLimiter(RedisStorage(redis_url, key_prefix=f"{example}-theirs"))
        with redis.Redis.from_url(redis_url) as server, time_machine.travel(NOW, tick=False):
            for item, who, cost, pause in steps:
                assert nearly(told_by(ours, item, who, cost)) == told_by(theirs, item, who, cost)
                # Its clock cannot be set; but its keys can grow older.
                for key in server.scan_iter(f"{example}-*", count=1000):
                    server.pexpire(key, max(0, milliseconds_left(server, key) - int(pause * 1000)))
                assert nearly(seen_by(ours, item, who)) == seen_by(theirs, item, who)

    def test_has_the_keys_of_the_library(self, redis_url: str) -> None:
        item, carol = parse("3 per minute"), f"carol-{uuid4()}"
        ours, theirs = FixedWindows(RedisWindows(redis_url)), FixedWindowRateLimiter(RedisStorage(redis_url))

        allowed = [told_by(limiter, item, carol, 1)[0] for limiter in (ours, theirs, ours, theirs)]

        assert allowed == [True, True, True, False]

    def test_counts_on_after_its_scripts_are_lost(self, redis_url: str, server: redis.Redis, key: str) -> None:
        windows = RedisWindows(redis_url)
        windows.count(key, 60, 1)
        server.script_flush()

        assert windows.count(key, 60, 1)[0] == 2

    def test_ends_a_window_that_somebody_left_without_end(self, redis_url: str, server: redis.Redis, key: str) -> None:
        server.set(f"LIMITS:{key}", 7)

        assert RedisWindows(redis_url).count(key, 60, 1)[0] == 8
        assert 0 < milliseconds_left(server, f"LIMITS:{key}") <= 60_000


class TestLookingForALostRedis:
    def test_waits_for_nobody(self, monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
        looking, answered = threading.Semaphore(0), threading.Event()

        def hang(_: RedisStorage) -> bool:
            looking.release()
            return answered.wait(10)

        monkeypatch.setattr(RedisStorage, "check", hang)
        windows = RedisWindows(redis_url)

        assert [windows.check() for _ in range(5)] == [False] * 5
        assert looking.acquire(timeout=10)
        assert not looking.acquire(blocking=False)
        answered.set()
        wait_for(windows.check)

    def test_finds_it_anew_each_time(self, redis_url: str) -> None:
        windows = RedisWindows(redis_url)
        wait_for(windows.check)

        assert not windows.check()
        wait_for(windows.check)

    def test_goes_on_while_it_is_gone(self) -> None:
        port = free_port()
        windows = RedisWindows(f"redis://127.0.0.1:{port}")
        assert not windows.check()

        with valkey_server(port=port):
            wait_for(windows.check)


@pytest.mark.parametrize(
    ("uri", "storage"),
    [
        ("memory://", MemoryWindows),
        ("redis://localhost/0", RedisWindows),
        ("rediss://localhost/0", RedisWindows),
        ("redis+unix:///run/redis.sock", RedisWindows),
    ],
)
def test_takes_the_place_of_the_storage_for(uri: str, storage: type) -> None:
    assert type(storage_from_string(uri)) is storage
