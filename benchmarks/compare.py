"""This application beside its peers at equal work, and beside a bare WSGI hello for what it need not compute.

Run with ``make bench`` (five minutes) or ``make bench-full``. All servers read the same tables of one PostgreSQL, and
must give the same answers before anything is measured. They are loaded one at a time, in turns within each round, so
that a slow minute of the machine is everybody's; ratios are of one round, and their median is told.
"""

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import requests

from benchmarks import report, steady
from benchmarks.agreement import questions, require_agreement, require_agreement_on_create
from benchmarks.catalogue import EMAIL, PASSWORD, Catalogue, catalogue
from benchmarks.load import Load, Measured, measure, require_wrk
from benchmarks.results import Results
from benchmarks.servers import (
    CATALOGUES,
    FASTAPI,
    HELLO,
    NAIVE,
    OURS,
    OURS_WHOLE,
    Running,
    Server,
    install,
    serve,
)

_PRODUCTS = "/api/v1/products"
_LISTED = "sort_by=price&order=asc"
_DEEP_PAGE, _PER_PAGE = 4000, 20
_LOGIN_SECONDS = 3


@dataclass(frozen=True)
class Scenario:
    """What is measured: a load of each server."""

    name: str
    loads: dict[str, Load]


@dataclass(frozen=True)
class Plan:
    """How long it all takes."""

    products: int
    rounds: int
    seconds: float
    connections: tuple[int, ...]
    steady_seconds: int


QUICK = Plan(products=100_000, rounds=5, seconds=1, connections=(16,), steady_seconds=20)
FULL = Plan(products=100_000, rounds=7, seconds=4, connections=(16, 64), steady_seconds=30)


def main() -> None:
    """Measure, print, and with ``--write`` keep the results beside this file."""
    arguments = _arguments()
    plan = FULL if arguments.full else QUICK
    # A plain `kill` shall end the servers too.
    signal.signal(signal.SIGTERM, _exit)
    require_wrk()
    servers = [OURS, OURS_WHOLE, HELLO, *CATALOGUES]
    for server in servers:
        install(server)
    started = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="catalog-bench-")))
        _tell(f"Generating {plan.products:,} products ...")
        made = stack.enter_context(catalogue(plan.products))
        results = _compare(stack, folder, made, plan)
    results.minutes = (time.monotonic() - started) / 60
    report.print_results(results)
    if arguments.write:
        report.write_results(results)


def _compare(stack: ExitStack, folder: Path, made: Catalogue, plan: Plan) -> Results:
    categories, products = _choose(made)
    token = ""
    running: dict[str, Running] = {}
    results = Results(database=made.version, products=plan.products, rounds=plan.rounds, seconds=plan.seconds)

    def start(server: Server) -> None:
        own = made.our_environment if server.ours else made.peer_environment
        probe = "/livez" if not token else f"{_PRODUCTS}/{products[0]}"
        running[server.name] = stack.enter_context(serve(server, own, probe=probe, token=token, folder=folder))

    # The first start makes the token that the others are probed with; it is started again for its time.
    with ExitStack() as once:
        first = once.enter_context(serve(OURS, made.our_environment, probe="/livez", token="", folder=folder))
        token = _log_in(first)
    for server in (OURS, OURS_WHOLE, HELLO, *CATALOGUES):
        start(server)
        results.start_seconds[server.name] = running[server.name].start_seconds

    _tell("Asking each server the same ...")
    peers = [running[server.name] for server in CATALOGUES]
    require_agreement(running[OURS.name], peers, list(questions(token, categories, products)))
    body = _new_product(categories[-1])
    require_agreement_on_create(running[OURS.name], peers, token, body)

    scenarios = list(_scenarios(running, token, categories, products, body, results))
    _tell(f"Measuring {', '.join(scenario.name for scenario in scenarios)} ...")
    for scenario in scenarios:
        for name, load in scenario.loads.items():  # each meets its plans, caches and connections before it is timed
            measure(running[name], made, load, connections=plan.connections[0], seconds=1)
    for number in range(plan.rounds):
        for scenario in scenarios:
            for connections in plan.connections:
                _measure_round(number, scenario, connections, running, made, plan, results)
        _tell(f"  round {number + 1} of {plan.rounds}")
    for server in (OURS, OURS_WHOLE, *CATALOGUES):
        results.private_mib[server.name] = running[server.name].private_mib()

    _measure_logins(running, made, results)
    _tell(f"A steady mix, {steady.RATE} requests a second for {plan.steady_seconds} s ...")
    asked = steady.mix(token, _list_paths(categories), _detail_paths(products), body)
    results.steady = steady.run(running[OURS_WHOLE.name].port, asked, seconds=plan.steady_seconds)
    return results


def _measure_round(
    number: int,
    scenario: Scenario,
    connections: int,
    running: dict[str, Running],
    made: Catalogue,
    plan: Plan,
    results: Results,
) -> None:
    """Every server in turn, each round beginning with another."""
    names = list(scenario.loads)
    turn = number % len(names)
    for name in names[turn:] + names[:turn]:
        server = name.partition(":")[0]
        load = scenario.loads[name]
        measured = measure(running[server], made, load, connections=connections, seconds=plan.seconds)
        results.add(scenario.name, connections, name, measured)


def _scenarios(
    running: dict[str, Running],
    token: str,
    categories: Sequence[int],
    products: Sequence[int],
    body: dict[str, object],
    results: Results,
) -> list[Scenario]:
    equal = [OURS.name, *(server.name for server in CATALOGUES)]
    lists = Load("list", _list_paths(categories), token)
    details = Load("detail", _detail_paths(products), token)
    creates = Load("create", [_PRODUCTS], token, body=json.dumps({**body, "sku": "BENCH-@"}))
    hello = Load("hello", ["/"])
    one_list, one_product = _list_paths(categories)[0], _detail_paths(products)[0]
    scenarios = [
        Scenario("list", dict.fromkeys(equal, lists)),
        Scenario("detail", dict.fromkeys(equal, details)),
        Scenario("create", dict.fromkeys(equal, creates)),
    ]
    ours = running[OURS_WHOLE.name]
    unchanged = {}
    for name, path in (("304 product", one_product), ("304 list", one_list)):
        tag = _unchanging_tag(ours, token, path)
        if tag is None:
            results.missing.append(f"{name}: {path} has no ETag that is answered with 304, so it was not measured")
            continue
        unchanged[f"{OURS_WHOLE.name}:{name}"] = Load(name, [path], token, if_none_match=tag, most_bytes=1000)
    cached = {f"{OURS_WHOLE.name}:repeated list": Load("repeated list", [one_list], token)}
    scenarios.append(Scenario("repeated", {HELLO.name: hello, **cached, **unchanged}))
    first, deep = _walk(running[OURS.name], token)
    walked = {
        f"{OURS.name}:page 1": Load("page 1", [first], token),
        f"{OURS.name}:page {_DEEP_PAGE}": Load(f"page {_DEEP_PAGE}", [deep], token),
    }
    return [*scenarios, Scenario("keyset", walked)]


def _measure_logins(running: dict[str, Running], made: Catalogue, results: Results) -> None:
    """Logins a second; as many clients as there are threads, since more only wait for their turn to hash."""
    credentials = json.dumps({"email": EMAIL, "password": PASSWORD})
    load = Load("login", ["/api/v1/auth/login"], body=credentials.replace("@", "\\u0040"))
    for server in (OURS, NAIVE, FASTAPI):
        measured = measure(running[server.name], made, load, connections=4, seconds=_LOGIN_SECONDS)
        results.add("login", 4, server.name, measured)


def _choose(made: Catalogue) -> tuple[list[int], list[int]]:
    """Categories of at least five pages, and products all over the table."""
    categories = made.rows("SELECT category_id FROM products GROUP BY 1 HAVING count(*) >= 100 ORDER BY 1")
    products = made.rows("SELECT id FROM products WHERE id % 97 = 0 ORDER BY id")
    chosen = [number for (number,) in products]
    random.Random(1).shuffle(chosen)  # noqa: S311 -- the same order each time
    return [number for (number,) in categories], chosen


def _list_paths(categories: Sequence[int]) -> list[str]:
    paths = [f"{_PRODUCTS}?category_id={c}&{_LISTED}&page={page}" for c in categories for page in range(1, 6)]
    random.Random(2).shuffle(paths)  # noqa: S311 -- the same order each time
    return paths


def _detail_paths(products: Sequence[int]) -> list[str]:
    return [f"{_PRODUCTS}/{product}" for product in products]


def _new_product(category: int) -> dict[str, object]:
    return {
        "name": "Folding chair of beech, oiled",
        "description": "A chair that folds flat and hangs on the wall, of solid beech from the region.",
        "price": "129.90",
        "currency": "EUR",
        "category_id": category,
        "stock": 12,
        "status": "active",
        "tags": ["chair", "beech", "folding"],
        "attributes": {"width_cm": 45, "colour": "natural", "foldable": True},
        "external_id": "erp-7781",
    }


def _log_in(ours: Running) -> str:
    answer = requests.post(f"{ours.url}/api/v1/auth/login", json={"email": EMAIL, "password": PASSWORD}, timeout=30)
    if answer.status_code != 200:
        sys.exit(f"the editor could not log in: {answer.status_code} {answer.text}")
    token: str = answer.json()["access_token"]
    return token


def _unchanging_tag(ours: Running, token: str, path: str) -> str | None:
    """The entity tag of a resource, when asking again with it is answered with 304."""
    headers = {"Authorization": f"Bearer {token}"}
    tag = requests.get(ours.url + path, headers=headers, timeout=30).headers.get("ETag")
    if tag is None:
        return None
    again = requests.get(ours.url + path, headers={**headers, "If-None-Match": tag}, timeout=30)
    return tag if again.status_code == 304 else None


def _walk(ours: Running, token: str) -> tuple[str, str]:
    """The paths of the first page of a walk and of the deep one, whose cursor is found by walking in larger steps."""

    def path(cursor: str, per_page: int) -> str:
        return f"{_PRODUCTS}?{_LISTED}&per_page={per_page}&cursor={cursor}"

    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {token}"
        cursor, left = "", (_DEEP_PAGE - 1) * _PER_PAGE
        while left:
            step = min(left, 100)
            answer = session.get(ours.url + path(cursor, step), timeout=30)
            cursor = answer.json()["meta"]["next_cursor"]
            left -= step
    return path("", _PER_PAGE), path(cursor, _PER_PAGE)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("--full", action="store_true", help="longer rounds, more of them, and 64 connections too")
    parser.add_argument("--write", action="store_true", help="keep the results in benchmarks/README.md")
    return parser.parse_args()


def _exit(*_: object) -> NoReturn:
    sys.exit("ended")


def _tell(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
