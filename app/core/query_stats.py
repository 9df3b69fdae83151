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
    """Count a statement that took this many ``seconds``, for the process and for the request at hand."""
    STATEMENTS.inc()
    STATEMENT_SECONDS.inc(seconds)
    if (stats := current_stats.get()) is not None:
        stats.statements += 1
        stats.seconds += seconds
