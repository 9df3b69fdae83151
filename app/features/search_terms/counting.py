"""The counter of a process: searches are counted in memory, and a thread stores them now and then.

A search waits for a lock of memory and for nothing else. A database that hangs, refuses or is away delays the thread
alone, which keeps its counts and tries again. What is not stored when the process ends is lost: at most the searches of
one interval, or those of an outage.
"""

import threading
import time
from collections.abc import Callable, Mapping

import structlog
from flask import Flask

from app.core import clock
from app.features.search_terms.service import Count, store_counts, week_of
from app.features.search_terms.terms import term_of
from app.web import searches

#: Different terms that a process counts until they are stored: clients can make up any number.
MAX_TERMS = 1000

log = structlog.get_logger(__name__)


class SearchCounter:
    """Counts searches by week and term, at most ``max_terms`` different ones. Threads may use it at once.

    ``store`` gets the counts of one week, and may fail. A thread calls it ``every`` so many seconds, from the first
    search on until there is nothing to store; without it there is none, and `flush` does its work.
    """

    def __init__(
        self,
        store: Callable[[str, Mapping[str, Count]], None],
        *,
        every: float | None = None,
        max_terms: int = MAX_TERMS,
    ) -> None:
        self._store = store
        self._every = every
        self._max_terms = max_terms
        self._counts: dict[tuple[str, str], Count] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def count_search(self, term: str, *, is_empty: bool) -> None:
        """Count a search by its term; a new term is dropped where there are too many."""
        with self._lock:
            self._add((week_of(clock.now()), term), Count(1, int(is_empty)))
            if self._thread is None and self._every is not None:
                # As late as this: a thread that was started before a fork is not in the child.
                self._thread = threading.Thread(target=self._run, args=(self._every,), name="search-terms", daemon=True)
                self._thread.start()

    def flush(self) -> None:
        """Store what was counted; what could not be stored is counted on."""
        with self._lock:
            counts, self._counts = self._counts, {}
        by_week: dict[str, dict[str, Count]] = {}
        for (week, term), count in counts.items():
            by_week.setdefault(week, {})[term] = count
        for week, of_week in by_week.items():
            try:
                self._store(week, of_week)
            except Exception as error:  # noqa: BLE001 -- whatever it is, the next time may succeed, and no reader waits
                # Without the error's text, which may quote terms.
                log.warning("search_terms_not_stored", error=type(error).__name__, terms=len(of_week))
                self._put_back(week, of_week)

    def _put_back(self, week: str, counts: Mapping[str, Count]) -> None:
        with self._lock:
            for term, count in counts.items():
                self._add((week, term), count)

    def _add(self, key: tuple[str, str], count: Count) -> None:
        if key in self._counts or len(self._counts) < self._max_terms:
            before = self._counts.get(key, Count(0, 0))
            self._counts[key] = Count(before.searches + count.searches, before.empty_searches + count.empty_searches)

    def _run(self, every: float) -> None:
        while not self._is_done():
            time.sleep(every)
            self.flush()

    def _is_done(self) -> bool:
        """Whether nothing is left to store: then this thread ends, and the next search starts another."""
        with self._lock:
            if self._counts:
                return False
            self._thread = None
            return True


def init_app(app: Flask) -> None:
    """Give the application its counter, which stores as often as SEARCH_TERMS_INTERVAL says; with 0 there is none."""
    every = app.config["SEARCH_TERMS_INTERVAL"]
    if not every:
        return

    def store(week: str, counts: Mapping[str, Count]) -> None:
        with app.app_context():
            store_counts(week, counts)

    app.extensions["search_counter"] = counter = SearchCounter(store, every=every)
    # With another filter, the words may not be why nothing was found.
    searches.on_search(app, lambda one: count_search(counter, one.text, is_empty=one.is_empty and not one.is_filtered))


def count_search(counter: SearchCounter, search: str, *, is_empty: bool) -> None:
    """Count a search as a client wrote it, unless it may be about a person or a secret."""
    term = term_of(search)
    if term is not None:
        counter.count_search(term, is_empty=is_empty)
