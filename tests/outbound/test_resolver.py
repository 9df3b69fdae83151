"""Lookups: the system's answers, those that hang, and those that are too many."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from app.clients.errors import OutboundError, Phase, TimedOut, Unresolvable
from app.clients.resolver import MAX_LOOKUPS, Resolver


class Hanging:
    """A lookup that hangs until it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.running = threading.Semaphore(0)

    def __call__(self, host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        self.running.release()
        self.let_go.wait(60)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", port))]


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    look_up = Hanging()
    yield look_up
    look_up.let_go.set()


def test_finds_this_machine_by_name() -> None:
    assert {"127.0.0.1", "::1"} & set(Resolver().addresses_of("localhost", 80, timeout=60))


def test_finds_an_address_by_itself() -> None:
    assert Resolver().addresses_of("192.0.2.1", 80, timeout=60) == ["192.0.2.1"]


def test_finds_each_address_once_and_in_order() -> None:
    def look_up(*_: Any, **__: Any) -> list[tuple[Any, ...]]:
        return [(0, 0, 0, "", (address, 80)) for address in ("192.0.2.2", "192.0.2.1", "192.0.2.2")]

    assert Resolver(look_up).addresses_of("a.test", 80, timeout=60) == ["192.0.2.2", "192.0.2.1"]


@pytest.mark.parametrize("host", ["a" * 64 + ".test", "a..test", "", "\udcff"])
def test_refuses_what_is_no_name(host: str) -> None:
    with pytest.raises(Unresolvable):
        Resolver().addresses_of(host, 80, timeout=60)


def test_waits_no_longer_than_it_may(hanging: Hanging) -> None:
    with pytest.raises(TimedOut) as raised:
        Resolver(hanging).addresses_of("a.test", 80, timeout=0.05)

    assert raised.value.phase is Phase.RESOLVE


def test_runs_so_many_lookups_at_once_and_recovers(hanging: Hanging) -> None:
    resolver = Resolver(hanging)

    def look_up(timeout: float) -> list[str] | None:
        try:
            return resolver.addresses_of("a.test", 80, timeout=timeout)
        except OutboundError:
            return None

    with ThreadPoolExecutor(MAX_LOOKUPS) as threads:
        waiting = [threads.submit(look_up, 60) for _ in range(MAX_LOOKUPS)]
        for _ in waiting:
            assert hanging.running.acquire(timeout=30)
        # One more does not even begin.
        assert look_up(0.05) is None
        assert not hanging.running.acquire(blocking=False)
        hanging.let_go.set()

        assert [each.result(timeout=60) for each in waiting] == [["192.0.2.1"]] * MAX_LOOKUPS
    assert [look_up(60) for _ in range(2 * MAX_LOOKUPS)] == [["192.0.2.1"]] * 2 * MAX_LOOKUPS


def test_gives_the_place_back_when_the_system_has_no_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver = Resolver()
    with monkeypatch.context() as context:
        context.setattr(threading.Thread, "start", _fail)
        for _ in range(2 * MAX_LOOKUPS):
            with pytest.raises(Unresolvable):
                resolver.addresses_of("192.0.2.1", 80, timeout=5)

    assert resolver.addresses_of("192.0.2.1", 80, timeout=60) == ["192.0.2.1"]


def _fail(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")
