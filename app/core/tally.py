"""How many statements a request puts to the database, and how long they take."""

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass
class Tally:
    """How many statements were executed since it was opened, and the seconds that they took."""

    statements: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one statement."""
        self.statements += 1
        self.seconds += seconds


#: The tally of the request at hand; a ContextVar, because statements are counted by listeners that see no request.
tally: ContextVar[Tally | None] = ContextVar("tally", default=None)


def count(seconds: float) -> None:
    """Add a statement that took this many ``seconds`` to the request's tally; without a request, do nothing."""
    if (current := tally.get()) is not None:
        current.add(seconds)
