"""Counts requests: by the rule of their route, so that no path a client invents becomes a label of its own."""

from typing import Any

from flask import Request
from prometheus_client import Histogram

from app.core.metrics import REQUEST_DURATION, REQUESTS_IN_PROGRESS

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
#: The route of a request that fits none, and the method that is none of the above.
UNMATCHED, OTHER = "unmatched", "other"
#: The blueprint whose requests are not counted: reading the metrics must not change them.
UNCOUNTED = "monitoring"

# The library looks labels up under a lock, which costs as much as the counting.
_by_labels: dict[tuple[str, str, int], Histogram] = {}


def begin(http: Request, state: Any) -> None:
    """A request has arrived; ``state`` is its ``g``."""
    if http.blueprint != UNCOUNTED:
        state.is_in_progress = True
        REQUESTS_IN_PROGRESS.inc()


def end(http: Request, state: Any, status: int, seconds: float) -> None:
    """Its response is ready. Called again, or for a request that did not begin, this does nothing."""
    if not state.pop("is_in_progress", False):
        return
    REQUESTS_IN_PROGRESS.dec()
    rule, method = http.url_rule, http.method
    route = UNMATCHED if rule is None else rule.rule
    labels = route, method if method in METHODS else OTHER, status // 100
    counted = _by_labels.get(labels)
    if counted is None:
        counted = _by_labels[labels] = REQUEST_DURATION.labels(route, labels[1], f"{labels[2]}xx")
    counted.observe(seconds)
