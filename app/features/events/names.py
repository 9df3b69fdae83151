"""The names of changes, and filters of names: a change has a name that fits, or is left out.

A filter is a name such as ``price.changed``, or a pattern: ``product.*``, ``*.deleted``, ``*``.
"""

from collections.abc import Iterable, Mapping
from functools import cache

from app.core.changelog import announced_models

ANYTHING = "*"


@cache
def all_names() -> Mapping[str, str]:
    """Every name that a change can have, each with a sentence for clients."""
    return {name: sentence for model in announced_models() for name, sentence in model.event_names().items()}


@cache
def all_filters() -> frozenset[str]:
    """The names, and the patterns that fit one of them."""
    parts = [name.split(".") for name in all_names()]
    patterns = {f"{first}.{ANYTHING}" for first, _ in parts} | {f"{ANYTHING}.{second}" for _, second in parts}
    return frozenset({ANYTHING, *patterns, *all_names()})


def matches(filters: Iterable[str], names: Iterable[str]) -> bool:
    """Whether one of ``filters`` fits one of the ``names`` of a change; no filter fits nothing."""
    fitting = {filter_ for name in names for filter_ in _filters_of(name)}
    return not fitting.isdisjoint(filters)


def _filters_of(name: str) -> tuple[str, ...]:
    """The filters that fit a name."""
    first, _, second = name.partition(".")
    return name, f"{first}.{ANYTHING}", f"{ANYTHING}.{second}", ANYTHING
