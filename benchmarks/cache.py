"""What the response cache keeps while the catalogue is written: hits, and the CPU of a request beside no cache.

Run with ``make bench-cache``. The requests are the same each time, and the same for both servers, each of which has a
database of its own. A response that took one statement, the one that says who is asking, came from the cache.
"""

import argparse
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import report
from benchmarks.catalogue import Catalogue, catalogue
from benchmarks.clients import Answered, Call, replay
from benchmarks.results import Spread
from benchmarks.servers import OURS, Running, Server, serve
from benchmarks.shop import READS, Shop, Visits, shop_of

#: Of a hundred requests, how many are writes.
WRITES = (0, 1, 5)
#: Reads before the first round of a server that has no cache to fill.
PLANNED = 200
CACHING = replace(
    OURS,
    name="caching",
    environment={name: value for name, value in OURS.environment.items() if name != "ANSWER_CACHE_BYTES"},
)
SERVERS = (CACHING, replace(OURS, name="not_caching"))


@dataclass(frozen=True)
class Plan:
    """A mix, and how much of it is asked."""

    #: The name of the mix of reads.
    mix: str
    #: Of a hundred requests.
    writes: int
    rounds: int
    requests: int
    warm_up: int
    connections: int


@dataclass(frozen=True)
class Side:
    """A server, and the database that it has for itself."""

    running: Running
    made: Catalogue


@dataclass(frozen=True)
class Round:
    """What was measured of one server in one round."""

    cpu_us: float
    answered: Sequence[Answered]

    def hit_rate(self, *kinds: str) -> float:
        """The share of the reads of these kinds that came from the cache."""
        counts = Counter(_is_hit(answered) for answered in self.answered if answered.kind in kinds)
        return counts[True] / max(1, counts.total())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cache", description=__doc__)
    parser.add_argument("--products", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=1500, help="of a round")
    parser.add_argument("--warm-up", type=int, default=4000, help="requests before the first round")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--writes", type=int, nargs="+", default=WRITES, help="of a hundred requests")
    parser.add_argument("--mix", choices=READS, default="shop", help="of the reads: lists has no searches or facets")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    with ExitStack() as stack:
        made = stack.enter_context(catalogue(arguments.products))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="catalog-bench-")))
        print(f"{made.version}, {arguments.products:,} products, load {load:.2f} before", flush=True)
        shop, measured = shop_of(made), {}
        for writes in arguments.writes:
            print(f"Measuring {100 - writes} / {writes} ...", flush=True)
            plan = Plan(
                arguments.mix, writes, arguments.rounds, arguments.requests, arguments.warm_up, arguments.connections
            )
            measured[writes] = _measure_mix(made, shop, plan, folder)
    print("\n".join(_lines(measured, [*READS[arguments.mix]])))
    print(f"load {os.getloadavg()[0]:.2f} after")


def _measure_mix(made: Catalogue, shop: Shop, plan: Plan, folder: Path) -> Mapping[str, list[Round]]:
    """The rounds of both servers, which take turns; each begins with an empty cache and a fresh catalogue."""
    measured: dict[str, list[Round]] = {server.name: [] for server in SERVERS}
    tokens = made.tokens[: plan.connections]
    visits, share = Visits(shop, f"{plan.writes} %", mix=plan.mix), plan.writes / 100
    with ExitStack() as stack:
        sides = [_side(stack, server, made, f"{server.name}_{plan.writes}", folder) for server in SERVERS]
        for side in sides:
            _require_hits_to_be_told(side, shop, tokens[0], READS[plan.mix])
        calls = visits.take(plan.warm_up, writes=share)
        for side in sides:
            replay(side.running.port, calls if side.running.server is CACHING else _without_most_reads(calls), tokens)
        for number in range(plan.rounds):
            calls = visits.take(plan.requests, writes=share)
            for side in reversed(sides) if number % 2 else sides:
                measured[side.running.server.name].append(_measure(side, calls, tokens))
    return measured


def _side(stack: ExitStack, server: Server, made: Catalogue, name: str, folder: Path) -> Side:
    own = made.copy(name)
    serving = serve(server, own.our_environment, probe="/api/v1/categories", token=own.tokens[-1], folder=folder)
    return Side(stack.enter_context(serving), own)


def _without_most_reads(calls: Sequence[Call]) -> list[Call]:
    """What makes the same catalogue of a database, and lets a server without a cache meet its plans."""
    return [call for place, call in enumerate(calls) if call.method != "GET" or place < PLANNED]


def _require_hits_to_be_told(side: Side, shop: Shop, token: str, kinds: Iterable[str]) -> None:
    """Exit unless one statement means that the cache has answered, with this server and at each kind of read."""
    visits = Visits(shop, "once and again")
    for kind in kinds:
        call: Call = getattr(visits, kind)()
        # On one connection, and so of one worker.
        first, again = replay(side.running.port, [call, call], [token])
        if (_is_hit(first), _is_hit(again)) != (False, side.running.server is CACHING):
            sys.exit(f"{side.running.server.name}, {call.path}: {first.queries} queries, and {again.queries} again")


def _is_hit(answered: Answered) -> bool:
    return answered.queries == 1


def _measure(side: Side, calls: Sequence[Call], tokens: Sequence[str]) -> Round:
    processes = side.running.processes()
    before = side.running.cpu_seconds() + side.made.cpu_seconds()
    answered = replay(side.running.port, calls, tokens)
    used = side.running.cpu_seconds() + side.made.cpu_seconds() - before
    if side.running.processes() != processes:
        sys.exit(f"{side.running.server.name}: a worker was replaced")
    return Round(used / len(calls) * 1e6, answered)


def _lines(measured: Mapping[int, Mapping[str, list[Round]]], kinds: Sequence[str]) -> Iterator[str]:
    yield ""
    head = (
        "reads / writes", "hit rate (range)", *kinds, "CPU, µs", "without a cache, µs", "with / without (range)",
    )  # fmt: skip
    rows = []
    for writes, sides in measured.items():
        caching, others = (sides[server.name] for server in SERVERS)
        ratio = Spread.of([one.cpu_us / other.cpu_us for one, other in zip(caching, others, strict=True)])
        rows.append(
            [
                f"{100 - writes} / {writes}",
                str(Spread.of([each.hit_rate(*kinds) for each in caching])),
                *(f"{Spread.of([each.hit_rate(kind) for each in caching]).median:.2f}" for kind in kinds),
                f"{Spread.of([each.cpu_us for each in caching]).median:,.0f}",
                f"{Spread.of([each.cpu_us for each in others]).median:,.0f}",
                str(ratio),
            ]
        )
    yield from report.table(head, rows)


if __name__ == "__main__":
    main()
