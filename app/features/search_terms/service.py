"""Use cases of search terms: store what was counted, look at it, and delete what is old."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

from sqlalchemy import ColumnElement, Select, and_, func, or_, select

from app.core import clock
from app.core.listing import Listing, OneOf
from app.core.pruning import delete_batch
from app.core.transactions import in_unit_of_work, run
from app.core.upserts import insert_into
from app.features.search_terms.models import SearchTerm

#: Terms that were searched for less often in a week are not shown.
MIN_SEARCHES = 2
#: A week stores so many different terms, and then counts those alone: clients can make up any number.
MAX_TERMS_PER_WEEK = 100_000
RETENTION = timedelta(weeks=8)


class Count(NamedTuple):
    """How often a term was searched for, and how often nothing was found."""

    searches: int
    empty_searches: int


def _has_results(_none: int) -> ColumnElement[bool]:
    """The condition for results=0, the one value that is taken: nothing was found, at least once."""
    return SearchTerm.empty_searches > 0


LISTING = Listing(
    filters={"week": OneOf(SearchTerm.week), "results": _has_results},
    sorts={
        "searches": SearchTerm.searches,
        "empty_searches": SearchTerm.empty_searches,
        "term": SearchTerm.term,
        "week": SearchTerm.week,
        "id": SearchTerm.id,
    },
    tie_breaker=SearchTerm.id,
)


def week_of(moment: datetime) -> str:
    """The week of a moment, such as 2026-W05 (ISO 8601). Weeks compare as texts."""
    year, week, _ = moment.isocalendar()
    return f"{year}-W{week:02}"


def all_terms() -> Select[SearchTerm]:
    """The terms that were searched for more than once in their week."""
    return select(SearchTerm).where(SearchTerm.searches >= MIN_SEARCHES)


def store_counts(week: str, counts: Mapping[str, Count], *, max_terms: int = MAX_TERMS_PER_WEEK) -> None:
    """Add to what is stored of a week, and first make room for what is new, each in a transaction of its own."""
    in_unit_of_work(partial(make_room, week, counts, max_terms=max_terms))
    in_unit_of_work(partial(add_counts, week, counts, max_terms=max_terms))


def make_room(week: str, terms: Collection[str], *, max_terms: int = MAX_TERMS_PER_WEEK) -> int:
    """Delete the oldest terms of a week that are not shown, as many as are new, once it is more than half full.

    Else one client who makes terms up would keep those of all others out for a week. Returns how many were deleted.
    """
    if 2 * _number_of_terms(week) <= max_terms:
        return 0
    of_week = SearchTerm.week == week
    is_unshown = and_(of_week, SearchTerm.searches < MIN_SEARCHES, SearchTerm.term.not_in(terms))
    return delete_batch(
        SearchTerm, is_unshown, order=SearchTerm.id.asc(), max_rows=len(terms) - len(_stored(week, terms))
    )


def add_counts(week: str, counts: Mapping[str, Count], *, max_terms: int = MAX_TERMS_PER_WEEK) -> None:
    """Add to what is stored of a week; new terms only while it has fewer than ``max_terms``."""
    # In one order, so that two processes do not lock each other's rows.
    rows = [
        {"week": week, "term": term, **counts[term]._asdict()} for term in _admitted(week, sorted(counts), max_terms)
    ]
    if not rows:
        return
    statement = insert_into(SearchTerm)
    added = {
        name: SearchTerm.metadata.tables["search_terms"].c[name] + statement.excluded[name] for name in Count._fields
    }
    run(statement.on_conflict_do_update(index_elements=["week", "term"], set_=added), rows)


def prune_terms() -> int:
    """Delete a batch of the terms of weeks that ended `RETENTION` ago, or ended with too few searches; their number."""
    now = clock.now()
    is_old = SearchTerm.week < week_of(now - RETENTION)
    is_unshown = and_(SearchTerm.week < week_of(now - timedelta(days=1)), SearchTerm.searches < MIN_SEARCHES)
    return delete_batch(SearchTerm, or_(is_old, is_unshown))


def _admitted(week: str, terms: Sequence[str], max_terms: int) -> Sequence[str]:
    """The terms that are stored in a week already, and as many of the others as it has room for."""
    room = max_terms - _number_of_terms(week)
    if room >= len(terms):
        return terms
    there = _stored(week, terms)
    new = [term for term in terms if term not in there]
    return sorted([*there, *new[: max(0, room)]])


def _number_of_terms(week: str) -> int:
    number: int = run(select(func.count()).select_from(SearchTerm).where(SearchTerm.week == week)).scalar_one()
    return number


def _stored(week: str, terms: Collection[str]) -> set[str]:
    """Those of the terms that are stored in a week."""
    return set(run(select(SearchTerm.term).where(SearchTerm.week == week, SearchTerm.term.in_(terms))).scalars())
