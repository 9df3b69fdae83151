"""What was measured, the ratios of it, and the file that keeps it."""

import json
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

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


@dataclass(frozen=True)
class Workers:
    """What the workers of a server take: MiB of private memory of one, and seconds until the first answer."""

    private_mib: float
    start_seconds: float
    start_cpu_seconds: float


@dataclass
class Section:
    """A scenario at one load, and how it was measured."""

    scenario: str
    connections: int
    #: The command, the day, the rounds and the machine.
    how: str
    #: By server; one for each round.
    measured: dict[str, list[Measured]] = field(default_factory=dict)

    def add(self, name: str, measured: Measured) -> None:
        """Keep a round."""
        self.measured.setdefault(name, []).append(measured)

    def of(self, name: str, take: Callable[[Measured], float]) -> Spread:
        """One figure of a server over the rounds."""
        return Spread.of([take(measured) for measured in self.measured[name]])

    def ratio(self, name: str, to: str, take: Callable[[Measured], float]) -> Spread | None:
        """One figure of a server as a multiple of another's in the same round; None when either was not measured."""
        if name not in self.measured or to not in self.measured:
            return None
        pairs = zip(self.measured[name], self.measured[to], strict=True)
        return Spread.of([take(one) / take(other) for one, other in pairs])


@dataclass
class Results:
    """Everything that was found, by scenario; a later run replaces those that it measures."""

    sections: list[Section] = field(default_factory=list)
    workers: dict[str, Workers] = field(default_factory=dict)
    steady: Steady | None = None

    def section(self, scenario: str) -> Section | None:
        """A scenario at the first load that it was measured at."""
        return next((each for each in self.sections if each.scenario == scenario), None)

    def replace(self, sections: list[Section]) -> None:
        """Put the sections of one scenario in the place of what there was of it."""
        name = sections[0].scenario
        kept = [each for each in self.sections if each.scenario != name]
        place = next((n for n, each in enumerate(self.sections) if each.scenario == name), len(kept))
        self.sections = [*kept[:place], *sections, *kept[place:]]

    @classmethod
    def read(cls, file: Path) -> "Results":
        """What a file keeps; nothing where it is not there."""
        if not file.exists():
            return cls()
        kept = json.loads(file.read_text("utf-8"))
        sections = [
            Section(
                section["scenario"],
                section["connections"],
                section["how"],
                {name: [Measured(**each) for each in rounds] for name, rounds in section["measured"].items()},
            )
            for section in kept["sections"]
        ]
        workers = {name: Workers(**each) for name, each in kept["workers"].items()}
        return cls(sections, workers, Steady(**kept["steady"]) if kept["steady"] else None)

    def write(self, file: Path) -> None:
        """Keep everything in a file, a line for each round of a server."""
        rounded = json.loads(json.dumps(asdict(self)), parse_float=lambda number: round(float(number), 3))
        text = json.dumps(rounded, indent=1)
        file.write_text(text + "\n", "utf-8")
