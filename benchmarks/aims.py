"""What the application is to reach, and whether it does."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.load import Measured
from benchmarks.results import Results, Spread
from benchmarks.servers import DRF, FASTAPI, HELLO, LITESTAR, NAIVE, OURS

#: A peer's CPU per request as a multiple of ours: the least that is acceptable, and what is hoped for.
_CPU = {
    "list": {FASTAPI: (2.0, 3.0), NAIVE: (2.5, 4.0), DRF: (2.5, 4.0), LITESTAR: (0.65, 1.0)},
    "detail": {FASTAPI: (1.8, 2.0), NAIVE: (1.9, 3.0), LITESTAR: (0.5, 1.0)},
    "create": {FASTAPI: (1.0, 2.0), NAIVE: (1.8, 3.0)},
}
#: Our requests a second as a part of hello's.
_REPEATED = (0.3, 0.5)


@dataclass(frozen=True)
class Verdict:
    """An aim, and what was measured; ``at_most`` where less is better."""

    what: str
    floor: float
    aim: float
    measured: Spread | None
    at_most: bool = False

    @property
    def word(self) -> str:
        """Whether it is reached."""
        if self.measured is None:
            return "not measured"
        value = self.measured.median
        reaches_aim, reaches_floor = (
            (value <= bound) if self.at_most else (value >= bound) for bound in (self.aim, self.floor)
        )
        return "aim reached" if reaches_aim else "floor reached" if reaches_floor else "MISSED"


def app_cpu(measured: Measured) -> float:
    """CPU of the server per request."""
    return measured.app_cpu_us


def whole_cpu(measured: Measured) -> float:
    """CPU of the server and of the database per request."""
    return measured.app_cpu_us + measured.database_cpu_us


def rate(measured: Measured) -> float:
    """Requests a second."""
    return measured.requests_per_second


def verdicts(results: Results) -> Iterator[Verdict]:
    """Each aim, in the order in which they were set."""

    def ratio(scenario: str, name: str, to: str, take: Callable[[Measured], float]) -> Spread | None:
        section = results.section(scenario)
        return section.ratio(name, to, take) if section else None

    for scenario, bounds in _CPU.items():
        for peer, (floor, aim) in bounds.items():
            measured = ratio(scenario, peer.name, OURS.name, app_cpu)
            yield Verdict(f"{scenario}: CPU of {peer.title} / ours", floor, aim, measured)
    for label in ("repeated list", "304 list", "304 product"):
        yield Verdict(f"{label}: requests/s / hello's", *_REPEATED, ratio("repeated", label, HELLO.name, rate))
    keyset = ratio("keyset", "page 4000", "page 1", whole_cpu)
    yield Verdict("keyset: CPU of page 4000 / page 1", 2.0, 1.2, keyset, at_most=True)
    if logins := results.section("login"):
        yield Verdict("logins a second", 20, 20, logins.of(OURS.name, rate))
    if results.steady is not None:
        p99 = Spread.of([results.steady.p99_ms])
        yield Verdict("steady mix: p99 in ms", 200, 50, p99, at_most=True)
        errors = Spread.of([results.steady.errors])
        yield Verdict("steady mix: errors", 0, 0, errors, at_most=True)
    if OURS.name in results.workers and NAIVE.name in results.workers:
        ours, theirs = results.workers[OURS.name], results.workers[NAIVE.name]
        memory = Spread.of([ours.private_mib / theirs.private_mib])
        yield Verdict(f"private memory: ours / {NAIVE.title}", 1.25, 1.0, memory, at_most=True)
        starting = Spread.of([ours.start_cpu_seconds / theirs.start_cpu_seconds])
        yield Verdict(f"CPU of starting: ours / {NAIVE.title}", 1.25, 1.0, starting, at_most=True)
