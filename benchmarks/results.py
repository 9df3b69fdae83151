"""What was measured, and the ratios of it."""

import statistics
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.load import Measured


@dataclass(frozen=True)
class Spread:
    """A median, and the least and the most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        """The spread of some values."""
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        if self.least == self.most:
            return f"{self.median:.2f}"
        return f"{self.median:.2f} ({self.least:.2f}–{self.most:.2f})"


@dataclass(frozen=True)
class Steady:
    """Requests at a fixed rate, waited for since the moment at which each was due."""

    requests: int
    errors: int
    p50_ms: float
    p99_ms: float


@dataclass
class Results:
    """Everything that a run found."""

    command: str
    database: str
    connections: tuple[int, ...]
    products: int
    rounds: int
    seconds: float
    minutes: float = 0
    #: By scenario and connections, then by server; one for each round.
    measured: dict[tuple[str, int], dict[str, list[Measured]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    start_seconds: dict[str, float] = field(default_factory=dict)
    start_cpu_seconds: dict[str, float] = field(default_factory=dict)
    private_mib: dict[str, float] = field(default_factory=dict)
    steady: Steady | None = None

    def add(self, scenario: str, connections: int, name: str, measured: Measured) -> None:
        """Remember a round."""
        self.measured[scenario, connections][name].append(measured)

    def of(self, scenario: str, connections: int, name: str, take: Callable[[Measured], float]) -> Spread:
        """One figure of a server over the rounds."""
        return Spread.of([take(measured) for measured in self.measured[scenario, connections][name]])

    def ratio(
        self, scenario: str, connections: int, name: str, to: str, take: Callable[[Measured], float]
    ) -> Spread | None:
        """One figure of a server as a multiple of another's in the same round; None when either was not measured."""
        each = self.measured[scenario, connections]
        if name not in each or to not in each:
            return None
        return Spread.of([take(one) / take(other) for one, other in zip(each[name], each[to], strict=True)])
