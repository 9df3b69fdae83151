"""This application beside its peers at equal work, and beside a bare WSGI hello for what it need not compute.

Run with ``make bench`` (five minutes) or ``make bench-full``. All servers read the same tables of one PostgreSQL, and
must give the same answers before anything is measured. They are loaded one at a time, in turns within each round, so
that a slow minute of the machine is everybody's; ratios are of one round, and their median is told.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import requests

from benchmarks import report, scenarios, steady
from benchmarks.agreement import questions, require_agreement, require_agreement_on_create
from benchmarks.catalogue import EMAIL, PASSWORD, Catalogue, catalogue
from benchmarks.load import measure, require_wrk
from benchmarks.results import Results
from benchmarks.scenarios import Contestant, Scenario, Subject
from benchmarks.servers import CATALOGUES, HELLO, OURS, OURS_WHOLE, Running, Server, install, serve

SCENARIOS = ("list", "detail", "create", "repeated", "keyset", "login", "steady")
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


QUICK = Plan(products=100_000, rounds=5, seconds=1, connections=(16,), steady_seconds=20)
FULL = Plan(products=100_000, rounds=7, seconds=3, connections=(16, 64), steady_seconds=30)


def main() -> None:
    """Measure, print, and with ``--write`` keep the results beside this file."""
    arguments = _arguments()
    plan = replace(
        FULL if arguments.full else QUICK,
        peers=[server for server in CATALOGUES if server.name in arguments.against],
        only=arguments.only,
    )
    if arguments.rounds:
        plan = replace(plan, rounds=arguments.rounds)
    # A plain `kill` ends the servers too.
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, _exit)
    require_wrk()
    for server in (HELLO, *plan.peers):
        install(server)
    started = time.monotonic()
    with ExitStack() as stack:
        _tell(f"Generating {plan.products:,} products ...")
        made = stack.enter_context(catalogue(plan.products))
        results = Results(
            command=" ".join(["python -m benchmarks.compare", *sys.argv[1:]]),
            database=made.version,
            connections=plan.connections,
            products=plan.products,
            rounds=plan.rounds,
            seconds=plan.seconds,
        )
        _compare(stack, made, plan, results)
    results.minutes = (time.monotonic() - started) / 60
    report.print_results(results)
    if arguments.write:
        report.write_results(results)


def _compare(stack: ExitStack, made: Catalogue, plan: Plan, results: Results) -> None:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="catalog-bench-")))
    # The first start is for the token that the others are probed with.
    with serve(OURS, made.our_environment, probe="/livez", token="", folder=folder) as first:
        subject = scenarios.choose(made, _log_in(first))

    running: dict[str, Running] = {}
    for server in (OURS, OURS_WHOLE, HELLO, *plan.peers):
        own = made.our_environment if server.ours else made.peer_environment
        serving = serve(server, own, probe=subject.details[0], token=subject.token, folder=folder)
        running[server.name] = stack.enter_context(serving)
        results.start_seconds[server.name] = running[server.name].start_seconds
        results.start_cpu_seconds[server.name] = running[server.name].start_cpu_seconds

    _tell("Asking each server the same ...")
    ours, peers = running[OURS.name], [running[server.name] for server in plan.peers]
    asked = list(questions(subject.token, subject.categories, subject.products))
    require_agreement(ours, peers, asked)
    require_agreement_on_create(ours, peers, subject.token, subject.new_product)

    chosen = list(_choose_scenarios(subject, running, plan))
    _tell(f"Measuring {', '.join(scenario.name for scenario in chosen)} ...")
    for scenario in chosen:
        for each in scenario.contestants:  # each meets its plans, caches and connections before it is timed
            measure(each.server, made, each.load, connections=plan.connections[0], seconds=1)
    for number in range(plan.rounds):
        for scenario in chosen:
            for connections in plan.connections:
                for each in _in_turn(scenario.contestants, number):
                    took = measure(each.server, made, each.load, connections=connections, seconds=plan.seconds)
                    results.add(scenario.name, connections, each.label, took)
        _tell(f"  round {number + 1} of {plan.rounds}")
    for server in (OURS, OURS_WHOLE, *plan.peers):
        results.private_mib[server.name] = running[server.name].private_mib()

    if "login" in plan.only:
        for each in scenarios.logins([ours, *peers]).contestants:
            took = measure(each.server, made, each.load, connections=_LOGIN_CLIENTS, seconds=3)
            results.add("login", _LOGIN_CLIENTS, each.label, took)
    if "steady" in plan.only:
        _tell(f"A steady mix, {steady.RATE} requests a second for {plan.steady_seconds} s ...")
        mixed = steady.mix(subject.token, subject.lists, subject.details, subject.new_product)
        results.steady = steady.run(running[OURS_WHOLE.name].port, mixed, seconds=plan.steady_seconds)


def _choose_scenarios(subject: Subject, running: dict[str, Running], plan: Plan) -> Iterator[Scenario]:
    ours, whole = running[OURS.name], running[OURS_WHOLE.name]
    for scenario in scenarios.equal_work(subject, [ours, *(running[server.name] for server in plan.peers)]):
        if scenario.name in plan.only:
            yield scenario
    if "repeated" in plan.only:
        yield scenarios.repeated(subject, running[HELLO.name], whole)
    if "keyset" in plan.only:
        yield scenarios.keyset(subject, ours)


def _in_turn(contestants: Sequence[Contestant], number: int) -> Sequence[Contestant]:
    """The contestants, each round beginning with another."""
    first = number % len(contestants)
    return [*contestants[first:], *contestants[:first]]


def _log_in(ours: Running) -> str:
    credentials = {"email": EMAIL, "password": PASSWORD}
    answer = requests.post(f"{ours.url}/api/v1/auth/login", json=credentials, timeout=30)
    if answer.status_code != 200:
        sys.exit(f"the editor could not log in: {answer.status_code} {answer.text}")
    token: str = answer.json()["access_token"]
    return token


def _arguments() -> argparse.Namespace:
    peers = [server.name for server in CATALOGUES]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("--full", action="store_true", help="longer rounds, more of them, and 64 connections too")
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, default=SCENARIOS, help="what to measure")
    parser.add_argument("--against", nargs="+", choices=peers, default=peers, help="the peers")
    parser.add_argument("--rounds", type=int, help="how many rounds")
    parser.add_argument("--write", action="store_true", help="keep the results in benchmarks/README.md")
    return parser.parse_args()


def _exit(*_: object) -> NoReturn:
    sys.exit("ended")


def _tell(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
