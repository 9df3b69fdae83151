"""The breaker and the bulkhead: who is let in, who is kept out, and when that changes."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.core import breaker as module
from app.core.breaker import Breaker, DatabaseBusy, DatabaseUnavailable


@pytest.fixture
def breaker() -> Breaker:
    """Two places, both free."""
    breaker = Breaker()
    breaker.places = 2
    return breaker


def pass_time(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let the breaker's clock go forward."""
    now = time.monotonic() + seconds
    monkeypatch.setattr("app.core.breaker.time.monotonic", lambda: now)


class TestPlaces:
    def test_are_taken_and_given_back(self, breaker: Breaker) -> None:
        for _ in range(5):
            breaker.enter()
            breaker.leave()

    def test_are_waited_for_while_others_move(self, breaker: Breaker) -> None:
        breaker.enter()
        breaker.enter()
        with ThreadPoolExecutor(1) as thread:
            waiting = thread.submit(breaker.enter)
            breaker.leave()

            assert waiting.result(timeout=10) is None

    def test_are_waited_for_while_statements_are_answered(
        self, breaker: Breaker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        breaker.enter()
        breaker.enter()
        pass_time(monkeypatch, 100)
        breaker.note_answer()
        with ThreadPoolExecutor(1) as thread:
            waiting = thread.submit(breaker.enter)
            time.sleep(0.1)
            assert not waiting.done()
            breaker.leave()

            assert waiting.result(timeout=10) is None

    def test_are_refused_once_nothing_was_answered_for_a_while(
        self, breaker: Breaker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        breaker.enter()
        breaker.enter()
        pass_time(monkeypatch, module.STALL_TIMEOUT)

        with pytest.raises(DatabaseBusy):
            breaker.enter()

    def test_are_not_refused_after_a_quiet_hour(self, breaker: Breaker, monkeypatch: pytest.MonkeyPatch) -> None:
        pass_time(monkeypatch, 3600)
        breaker.enter()
        breaker.enter()
        with ThreadPoolExecutor(1) as thread:
            waiting = thread.submit(breaker.enter)
            breaker.leave()

            assert waiting.result(timeout=10) is None

    def test_are_never_more_than_allowed(self, breaker: Breaker) -> None:
        inside, most, lock = [0], [0], threading.Lock()

        def use() -> None:
            breaker.enter()
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            time.sleep(0.001)
            with lock:
                inside[0] -= 1
            breaker.leave()

        with ThreadPoolExecutor(8) as threads:
            for done in [threads.submit(use) for _ in range(80)]:
                done.result()

        assert most[0] == 2


class TestAnAnswerThatIsOverdue:
    def test_keeps_everybody_out(self, breaker: Breaker) -> None:
        breaker.enter()
        breaker.note_overdue()
        breaker.leave()

        for _ in range(3):
            with pytest.raises(DatabaseUnavailable):
                breaker.enter()

    def test_lets_one_try_now_and_then(self, breaker: Breaker, monkeypatch: pytest.MonkeyPatch) -> None:
        breaker.enter()
        breaker.note_overdue()
        breaker.leave()
        pass_time(monkeypatch, module.PROBE_INTERVAL)

        breaker.enter()
        with pytest.raises(DatabaseUnavailable):
            breaker.enter()

    def test_is_over_with_the_next_answer(self, breaker: Breaker, monkeypatch: pytest.MonkeyPatch) -> None:
        breaker.enter()
        breaker.note_overdue()
        breaker.leave()
        pass_time(monkeypatch, module.PROBE_INTERVAL)
        breaker.enter()
        breaker.note_answer()

        assert not breaker.is_open
        breaker.enter()
