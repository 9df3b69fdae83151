"""This application beside its peers at equal work, and beside a bare WSGI hello for what it need not compute.

Run with ``make bench`` or ``make bench-full``. All servers read the same tables of one PostgreSQL, and must give the
same answers before anything is measured. They are loaded one at a time, in turns within each round, so that a slow
minute of the machine is everybody's; ratios are of one round, and their median is told. Each scenario is printed, and
with ``--write`` kept, as soon as it is measured: a run that was interrupted goes on with ``--only`` what it lacks.
"""

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from benchmarks import report, scenarios, steady
from benchmarks.agreement import questions, require_agreement, require_agreement_on_writes
from benchmarks.catalogue import Catalogue, catalogue
from benchmarks.load import measure, require_wrk
from benchmarks.results import Results, Section, Workers
from benchmarks.scenarios import Contestant, Scenario, Subject
from benchmarks.servers import CATALOGUES, HELLO, OURS, OURS_WHOLE, Running, Server, install, serve

SCENARIOS = (
    "list", "detail", "category", "search", "search-miss", "facets", "repeated", "keyset", "create", "create-durable",
    "stock", "mix", "login", "steady",
)  # fmt: skip
#: Clients that log in at the same time: more would only wait for their turn to hash.
_LOGIN_CLIENTS = 4


@dataclass(frozen=True)
class Plan:
    """What is measured, and for how long."""

    products: int
    rounds: int
    #: Of a round against one server; wrk takes whole ones only.
    seconds: int
    connections: tuple[int, ...]
    steady_seconds: int
    peers: Sequence[Server] = CATALOGUES
    only: Sequence[str] = SCENARIOS
    write: bool = False


QUICK = Plan(products=100_000, rounds=5, seconds=1, connections=(16,), steady_seconds=20)
FULL = Plan(products=100_000, rounds=7, seconds=3, connections=(16, 64), steady_seconds=30)


def main() -> None:
    """Measure, print, and with ``--write`` keep the results beside this file."""
    arguments = _arguments()
    plan = FULL if arguments.full else QUICK
    plan = replace(
        plan,
        peers=[server for server in CATALOGUES if server.name in arguments.against],
        only=arguments.only,
        rounds=arguments.rounds or plan.rounds,
        products=arguments.products or plan.products,
        write=arguments.write,
    )
    # A plain `kill` ends the servers too.
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, _exit)
    require_wrk()
    for server in (HELLO, *plan.peers):
        install(server)
    with ExitStack() as stack:
        _tell(f"Generating {plan.products:,} products ...")
        made = stack.enter_context(catalogue(plan.products))
        results = Results.read(report.RESULTS) if plan.write else Results()
        _compare(stack, made, plan, results)
    report.print_results(results)


def _compare(stack: ExitStack, made: Catalogue, plan: Plan, results: Results) -> None:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="catalog-bench-")))
    subject = scenarios.choose(made)
    running: dict[str, Running] = {}
    for server in (OURS, OURS_WHOLE, HELLO, *plan.peers):
        own = made.our_environment if server.ours else made.peer_environment
        probe = subject.detail(0).path
        serving = serve(server, own, probe=probe, token=subject.tokens[0], folder=folder)
        running[server.name] = stack.enter_context(serving)

    _tell("Asking each server the same ...")
    ours, peers = running[OURS.name], [running[server.name] for server in plan.peers]
    require_agreement(ours, peers, list(questions(subject)))
    require_agreement_on_writes(ours, peers, subject)

    how = _how(plan, made)
    for scenario in _choose_scenarios(subject, running, plan):
        _tell(f"Measuring {scenario.name} ...")
        with made.durable() if scenario.durable else nullcontext():
            _keep(_measure(scenario, made, plan, how), plan, results)
    for server in (OURS, OURS_WHOLE, *plan.peers):
        each = running[server.name]
        results.workers[server.name] = Workers(each.private_mib(), each.start_seconds, each.start_cpu_seconds)
    if "steady" in plan.only:
        _tell(f"A steady mix, {steady.RATE} requests a second for {plan.steady_seconds} s ...")
        mixed, port = scenarios.steady_mix(subject), running[OURS_WHOLE.name].port
        results.steady = steady.run(port, mixed, subject.tokens[0], seconds=plan.steady_seconds)
    if plan.write:
        report.write_results(results)


def _measure(scenario: Scenario, made: Catalogue, plan: Plan, how: str) -> list[Section]:
    """The rounds of a scenario at each load, after one that lets each server meet its plans and connections."""
    loads = (_LOGIN_CLIENTS,) if scenario.name == "login" else plan.connections
    sections = [Section(scenario.name, connections, how) for connections in loads]
    for each in scenario.contestants:
        measure(each.server, made, each.load, connections=loads[0], seconds=1)
    for number in range(plan.rounds):
        for place, section in enumerate(sections):
            for each in _in_turn(scenario.contestants, number):
                took = measure(
                    each.server,
                    made,
                    each.load,
                    connections=section.connections,
                    seconds=plan.seconds,
                    number=1 + number * len(sections) + place,
                )
                section.add(each.label, took)
    for section in sections:
        # In the order of the contestants, in whichever they took their turns.
        section.measured = {each.label: section.measured[each.label] for each in scenario.contestants}
    return sections


def _keep(sections: list[Section], plan: Plan, results: Results) -> None:
    results.replace(sections)
    for section in sections:
        report.print_section(section)
    if plan.write:
        report.write_results(results)


def _choose_scenarios(subject: Subject, running: dict[str, Running], plan: Plan) -> Iterator[Scenario]:
    """What is measured, in an order in which what writes comes last."""
    ours, peers = running[OURS.name], [running[server.name] for server in plan.peers]
    made = {scenario.name: scenario for scenario in scenarios.equal_work(subject, ours, peers)}
    for name in SCENARIOS:
        if name not in plan.only:
            continue
        if name in made:
            yield made[name]
        elif name == "repeated":
            yield scenarios.repeated(subject, running[HELLO.name], running[OURS_WHOLE.name])
        elif name == "keyset":
            yield scenarios.keyset(subject, ours)
        elif name == "login":
            yield scenarios.logins([ours, *peers])


def _in_turn(contestants: Sequence[Contestant], number: int) -> Sequence[Contestant]:
    """The contestants, each round beginning with another."""
    first = number % len(contestants)
    return [*contestants[first:], *contestants[:first]]


def _how(plan: Plan, made: Catalogue) -> str:
    command = " ".join(["python -m benchmarks.compare", *sys.argv[1:]])
    return (
        f"`{command}`, {datetime.now(UTC):%Y-%m-%d}: {plan.products:,} products in {made.version},"
        f" {plan.rounds} rounds of {plan.seconds} s."
    )


def _arguments() -> argparse.Namespace:
    peers = [server.name for server in CATALOGUES]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("--full", action="store_true", help="longer rounds, more of them, and 64 connections too")
    parser.add_argument("--only", type=_names_among(SCENARIOS), default=SCENARIOS, help=", ".join(SCENARIOS))
    parser.add_argument("--against", type=_names_among(peers), default=peers, help=", ".join(peers))
    parser.add_argument("--rounds", type=int, help="how many rounds")
    parser.add_argument("--products", type=int, help="how many products")
    parser.add_argument("--write", action="store_true", help="keep the results in benchmarks/README.md")
    return parser.parse_args()


def _names_among(known: Sequence[str]) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        given = text.split(",")
        if unknown := set(given) - set(known):
            raise argparse.ArgumentTypeError(f"no such name: {', '.join(sorted(unknown))}")
        return given

    return names


def _exit(*_: object) -> NoReturn:
    sys.exit("ended")


def _tell(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
