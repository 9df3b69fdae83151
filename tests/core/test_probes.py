"""Probes: one look for all who ask, no more often than it is worth, and none that is waited for without end."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from structlog.testing import capture_logs

from app.core.probes import Probe
from tests.live.wire import wait_for


class Looking:
    """A look that can be held up, and counts how often it was begun."""

    def __init__(self) -> None:
        self.begun = 0
        self.may_end = threading.Event()

    def __call__(self) -> int:
        self.begun += 1
        assert self.may_end.wait(30)
        return self.begun


@pytest.fixture
def looking() -> Looking:
    return Looking()


class TestProbe:
    def test_looks_once_for_all_who_ask_at_once(self, looking: Looking) -> None:
        probe = Probe(looking, max_age=3600, timeout=30)

        with ThreadPoolExecutor(8) as threads:
            asking = [threads.submit(probe.read) for _ in range(8)]
            wait_for(lambda: looking.begun)
            looking.may_end.set()
            found = [each.result() for each in asking]

        assert [sight and sight.value for sight in found] == [1] * 8
        assert looking.begun == 1

    def test_looks_again_when_what_it_has_seen_is_old(self, looking: Looking) -> None:
        looking.may_end.set()
        probe = Probe(looking, max_age=0, timeout=30)

        found = [probe.read() for _ in range(3)]

        assert [sight and sight.value for sight in found] == [1, 2, 3]

    def test_waits_no_longer_than_it_may_and_begins_no_second_look(self, looking: Looking) -> None:
        probe = Probe(looking, max_age=0, timeout=0.05)

        assert [probe.read() for _ in range(3)] == [None] * 3
        assert looking.begun == 1

    def test_sees_again_when_what_hung_has_answered(self, looking: Looking) -> None:
        probe = Probe(looking, max_age=3600, timeout=0.05)
        assert probe.read() is None

        looking.may_end.set()

        sight = wait_for(probe.read)
        assert sight is not None
        assert sight.value == 1

    def test_without_patience_has_what_was_seen_before_at_once(self, looking: Looking) -> None:
        probe = Probe(looking, max_age=0, timeout=30, patience=0)
        looking.may_end.set()
        wait_for(lambda: (sight := probe.read()) and sight.value == 1)
        looking.may_end.clear()

        found = [probe.read() for _ in range(3)]
        looking.may_end.set()

        assert [sight and sight.value for sight in found] == [1] * 3
        assert looking.begun == 2
        assert wait_for(lambda: (sight := probe.read()) and sight.value > 1)

    def test_without_patience_has_nothing_when_that_is_too_old(self, looking: Looking) -> None:
        probe = Probe(looking, max_age=0, timeout=0.05, patience=0)
        looking.may_end.set()
        wait_for(lambda: probe.read() is not None)
        looking.may_end.clear()

        assert wait_for(probe.read, until=lambda sight: sight is None) is None
        looking.may_end.set()

    def test_says_how_long_a_look_took_and_how_old_it_is(self, looking: Looking) -> None:
        looking.may_end.set()
        sight = Probe(looking, max_age=3600, timeout=30).read()

        assert sight is not None
        assert sight.seconds >= 0
        assert wait_for(lambda: sight.age, until=lambda age: age > 0.02)

    def test_logs_a_look_that_fails_and_goes_on(self) -> None:
        outcomes = iter([ZeroDivisionError, None])

        def look() -> str:
            if error := next(outcomes):
                raise error
            return "there"

        probe = Probe(look, max_age=3600, timeout=30)
        with capture_logs() as lines:
            first, second = probe.read(), probe.read()

        assert first is None
        assert second is not None
        assert second.value == "there"
        assert [line["event"] for line in lines] == ["probe_failed"]
