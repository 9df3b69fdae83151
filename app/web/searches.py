"""Counts searches of the catalogue, whether their response is made or comes from the cache.

A list that `counts_searches` notes the search of its first page, and the response cache keeps the note with the
response. A part of the application that wants to know of searches registers with `on_search`.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from flask import Flask, current_app, g

from app.core.listing import Criteria
from app.core.metrics import SEARCHES


@dataclass(frozen=True, slots=True)
class Search:
    """What was searched for, as the client wrote it, and whether there was nothing to be found.

    Where it ``is_filtered``, something else than the words may be the reason.
    """

    text: str
    is_empty: bool
    is_filtered: bool


#: Is called with each search, within its request and after its unit of work; it must neither fail nor wait.
Observe = Callable[[Search], None]

_found, _empty = SEARCHES.labels("found"), SEARCHES.labels("empty")


def init_app(app: Flask) -> None:
    """Register the metric as the first that wants to know of searches."""
    app.extensions["search_observers"] = [_count]


def on_search(app: Flask, observe: Observe) -> None:
    """Have a function called with each search."""
    app.extensions["search_observers"].append(observe)


def note_first_page(criteria: Criteria, items: Collection[object], *, is_filtered: bool) -> None:
    """Note the search of the request at hand, unless it turns a page."""
    if criteria.search and criteria.page == 1 and not criteria.cursor:
        note(Search(criteria.search, is_empty=not items, is_filtered=is_filtered))


def note(search: Search | None) -> None:
    """Note what the response to the request at hand is the result of."""
    g.search = search


def noted() -> Search | None:
    """What was noted."""
    search: Search | None = g.get("search")
    return search


def count_noted() -> None:
    """Call the registered functions with the search that was noted, if there is one."""
    if (search := noted()) is not None:
        for observe in current_app.extensions["search_observers"]:
            observe(search)


def _count(search: Search) -> None:
    (_empty if search.is_empty else _found).inc()
