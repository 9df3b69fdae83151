"""The counter of a process: what it counts, how much it holds, and what a database does to it that does not answer."""

import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
import time_machine
from structlog.testing import capture_logs

from app.features.search_terms.counting import SearchCounter, count_search
from app.features.search_terms.service import Count

Stored = dict[tuple[str, str], list[Count]]


class Store:
    """Keeps what a counter stores, and fails or hangs where it is asked to."""

    def __init__(self) -> None:
        self.stored: Stored = {}
        self.is_away = False
        self.calls = 0
        self.hung = threading.Event()
        self.goes_on = threading.Event()
        self.goes_on.set()

    def __call__(self, week: str, counts: Mapping[str, Count]) -> None:
        self.calls += 1
        if not self.goes_on.is_set():
            self.hung.set()
            assert self.goes_on.wait(60)
        if self.is_away:
            raise ConnectionError("oak chair")
        for term, count in counts.items():
            self.stored.setdefault((week, term), []).append(count)

    def total(self, term: str) -> tuple[int, int]:
        counts = [count for (_, stored), some in self.stored.items() if stored == term for count in some]
        return sum(one.searches for one in counts), sum(one.empty_searches for one in counts)


@pytest.fixture
def store() -> Store:
    return Store()


class TestCountSearch:
    def test_counts_searches_and_those_without_a_result(self, store: Store) -> None:
        counter = SearchCounter(store)
        for is_empty in (False, True, False):
            count_search(counter, "Oak chair", is_empty=is_empty)
        count_search(counter, "oak  CHAIR", is_empty=True)

        counter.flush()

        assert list(store.stored.values()) == [[Count(4, 2)]]

    def test_counts_nothing_that_may_be_about_a_person(self, store: Store) -> None:
        counter = SearchCounter(store)
        count_search(counter, "bob@example.com", is_empty=True)

        counter.flush()

        assert (store.stored, store.calls) == ({}, 0)

    def test_counts_each_week_by_itself(self, store: Store) -> None:
        counter = SearchCounter(store)
        # The last day of a year whose last week is the first of the next.
        for moment in (datetime(2025, 12, 28, 23, 59, tzinfo=UTC), datetime(2025, 12, 29, tzinfo=UTC)):
            with time_machine.travel(moment, tick=False):
                count_search(counter, "oak", is_empty=False)

        counter.flush()

        assert store.stored == {("2025-W52", "oak"): [Count(1, 0)], ("2026-W01", "oak"): [Count(1, 0)]}

    def test_holds_a_bounded_number_of_terms(self, store: Store) -> None:
        counter = SearchCounter(store, max_terms=3)
        for term in ("a", "b", "c", "d", "a"):
            count_search(counter, term, is_empty=False)

        counter.flush()

        assert {term: counts for (_, term), counts in store.stored.items()} == {
            "a": [Count(2, 0)],
            "b": [Count(1, 0)],
            "c": [Count(1, 0)],
        }

    def test_loses_nothing_between_threads(self, store: Store) -> None:
        counter = SearchCounter(store)

        def search() -> None:
            for number in range(500):
                count_search(counter, "oak", is_empty=number % 2 == 0)
                if number % 50 == 0:
                    counter.flush()

        threads = [threading.Thread(target=search) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        counter.flush()

        assert store.total("oak") == (2000, 1000)


class TestStoring:
    def test_that_fails_is_tried_again_with_everything(self, store: Store) -> None:
        counter = SearchCounter(store)
        store.is_away = True
        count_search(counter, "oak", is_empty=True)
        with capture_logs() as lines:
            counter.flush()
        store.is_away = False
        count_search(counter, "oak", is_empty=False)

        counter.flush()

        assert store.total("oak") == (2, 1)
        # Neither the term nor the error's text, which may quote it.
        assert "oak" not in repr(lines)
        assert [line["event"] for line in lines] == ["search_terms_not_stored"]

    def test_that_fails_for_long_keeps_a_bounded_number(self, store: Store) -> None:
        counter = SearchCounter(store, max_terms=5)
        store.is_away = True
        for number in range(20):
            count_search(counter, f"oak {number}", is_empty=False)
            counter.flush()
        store.is_away = False

        counter.flush()

        assert len(store.stored) == 5

    def test_that_hangs_delays_no_search(self, store: Store) -> None:
        counter = SearchCounter(store, every=0.01)
        store.goes_on.clear()
        count_search(counter, "oak", is_empty=False)
        assert store.hung.wait(60)

        # Each would wait for ever.
        for _ in range(100):
            count_search(counter, "oak", is_empty=False)
        store.goes_on.set()

        assert _comes_true(lambda: store.total("oak") == (101, 0))

    def test_is_done_by_a_thread_that_ends_when_nothing_is_left(self, store: Store) -> None:
        counter = SearchCounter(store, every=0.01)
        others = _threads()

        for searches in (1, 2):
            count_search(counter, "oak", is_empty=False)

            assert _comes_true(lambda expected=searches: store.total("oak") == (expected, 0))
            assert _comes_true(lambda: not _threads() - others)


def _threads() -> set[threading.Thread]:
    """The threads of counters; applications of other tests may have some."""
    return {thread for thread in threading.enumerate() if thread.name == "search-terms"}


def _comes_true(is_so: object, seconds: float = 60) -> bool:
    assert callable(is_so)
    until = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True
