"""The circuit breakers: when they open, whom they let through, and that they stay bounded; with real threads."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from app.clients.breakers import Breakers
from app.clients.errors import CircuitOpen


class Down(Exception):
    """The destination's fault."""


def breakers(*, reset_timeout: float = 3600, max_destinations: int = 1024) -> Breakers:
    """Breakers that open after three failures."""
    return Breakers(
        lambda error: isinstance(error, Down),
        max_failures=3,
        reset_timeout=reset_timeout,
        max_destinations=max_destinations,
    )


def call(among: Breakers, destination: str = "a", error: Exception | None = None) -> None:
    """Make a call that fails, if there is an ``error``."""
    with among.passing(destination):
        if error is not None:
            raise error


def fail(among: Breakers, times: int, destination: str = "a") -> None:
    for _ in range(times):
        with pytest.raises(Down):
            call(among, destination, Down())


class TestOpening:
    def test_takes_failures_in_a_row(self) -> None:
        among = breakers()
        fail(among, 2)
        call(among)
        fail(among, 2)
        call(among)
        fail(among, 3)

        with pytest.raises(CircuitOpen):
            call(among)

    def test_is_not_for_other_errors(self) -> None:
        among = breakers()
        fail(among, 2)
        for _ in range(5):
            with pytest.raises(KeyError):
                call(among, error=KeyError())
        fail(among, 2)

        call(among)

    def test_is_for_one_destination(self) -> None:
        among = breakers()
        fail(among, 3)

        call(among, "b")

    def test_counts_what_fails_at_once(self) -> None:
        for _ in range(50):
            among = breakers()
            together = threading.Barrier(3)

            def fail_together(among: Breakers = among, together: threading.Barrier = together) -> None:
                with among.passing("a"):
                    together.wait(timeout=10)
                    raise Down

            with ThreadPoolExecutor(3) as threads:
                for each in [threads.submit(fail_together) for _ in range(3)]:
                    assert isinstance(each.exception(timeout=10), Down)
            with pytest.raises(CircuitOpen):
                call(among)

    def test_stops_no_call_that_is_under_way(self) -> None:
        among = breakers()
        with among.passing("a"):
            fail(among, 3)


class TestHalfOpen:
    def test_closes_after_a_success(self) -> None:
        among = breakers(reset_timeout=0)
        fail(among, 3)

        call(among)
        fail(among, 2)
        call(among)

    def test_opens_again_after_a_failure(self) -> None:
        among = breakers(reset_timeout=0)
        fail(among, 3)
        # One failure is enough from here on, and not three: were the circuit closed, others could enter meanwhile.
        fail(among, 1)
        with among.passing("a"), pytest.raises(CircuitOpen):
            call(among)

    def test_lets_one_probe_through_at_a_time(self) -> None:
        for _ in range(50):
            among = breakers(reset_timeout=0)
            fail(among, 3)
            start, end = threading.Barrier(8), threading.Event()
            entered: list[int] = []
            refused: list[int] = []

            def probe(
                among: Breakers = among,
                start: threading.Barrier = start,
                end: threading.Event = end,
                entered: list[int] = entered,
                refused: list[int] = refused,
            ) -> None:
                start.wait(timeout=10)
                try:
                    with among.passing("a"):
                        entered.append(1)
                        end.wait(timeout=10)
                except CircuitOpen:
                    refused.append(1)
                if len(refused) == 7:
                    end.set()

            with ThreadPoolExecutor(8) as threads:
                for each in [threads.submit(probe) for _ in range(8)]:
                    each.result(timeout=20)
            assert (len(entered), len(refused)) == (1, 7)
            call(among)

    def test_lets_the_next_probe_through_after_one_that_was_abandoned(self) -> None:
        among = breakers(reset_timeout=0)
        fail(among, 3)
        with pytest.raises(KeyboardInterrupt), among.passing("a"):
            raise KeyboardInterrupt

        call(among)

    def test_is_not_closed_by_a_call_from_before(self) -> None:
        among = breakers(reset_timeout=0)
        with among.passing("a"):
            fail(among, 3)
        with among.passing("a"), pytest.raises(CircuitOpen):
            call(among)

    @pytest.mark.parametrize("hours", [-24, 24])
    def test_does_not_depend_on_the_time_of_day(self, hours: int) -> None:
        short, long = breakers(reset_timeout=0.01), breakers()
        fail(short, 3)
        fail(long, 3)
        threading.Event().wait(0.02)
        with time_machine.travel(datetime.now(UTC) + timedelta(hours=hours)):
            call(short)
            with pytest.raises(CircuitOpen):
                call(long)


class TestNumber:
    def test_is_bounded(self) -> None:
        among = breakers(max_destinations=10)
        for number in range(1000):
            call(among, str(number))

        assert len(among) == 10

    def test_keeps_what_was_used_last(self) -> None:
        among = breakers(max_destinations=3)
        fail(among, 3, "dead")
        for number in range(10):
            call(among, str(number))
            with pytest.raises(CircuitOpen):
                call(among, "dead")
