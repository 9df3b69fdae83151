"""How many statements a request puts to the database, and how long they take."""

from contextvars import ContextVar
from dataclasses import dataclass

from app.core.metrics import STATEMENT_SECONDS, STATEMENTS


@dataclass
class QueryStats:
    """The number of statements that were executed, and the seconds that they took."""

    statements: int = 0
    seconds: float = 0.0


#: Of the request at hand. A ContextVar, because statements are counted by listeners that see no request.
current_stats: ContextVar[QueryStats | None] = ContextVar("query_stats", default=None)


def record_query(seconds: float) -> None:
    """Count a statement that took this many ``seconds``: for the request at hand, or else in the metrics."""
    if (stats := current_stats.get()) is None:
        _add(1, seconds)
    else:
        stats.statements += 1
        stats.seconds += seconds


def end_request(stats: QueryStats) -> None:
    """Add the statements of a request to the metrics, all at once; a stream counts singly afterwards."""
    if current_stats.get() is stats:
        current_stats.set(None)
        _add(stats.statements, stats.seconds)


def _add(statements: int, seconds: float) -> None:
    STATEMENTS.inc(statements)
    STATEMENT_SECONDS.inc(seconds)
