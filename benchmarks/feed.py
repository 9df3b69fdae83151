"""What the change feed costs those who write: creates a second with it and without it, and what they wait for.

Run with ``make bench-feed``. Commits wait for the disk, as in production. The same creates are sent to two servers, and
executed by processes that have the application and no server, which shows what the database allows. Only public entry
points and the API are used, so that the figures of before and after a change of the feed can be compared.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psycopg
import requests

from app import create_app
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.products.creation import create_row
from benchmarks import report
from benchmarks.catalogue import SECRETS, Catalogue, catalogue
from benchmarks.clients import Call, replay
from benchmarks.feedless import leave_out_feed
from benchmarks.results import Spread
from benchmarks.scenarios import NEW_PRODUCT, PRODUCTS
from benchmarks.servers import OURS, Running, Server, serve
from config import Config, Environment

#: Seconds before what is measured of a round, in which connections are opened.
WARM_UP = 1.5
#: Between two looks at what the sessions wait for.
LOOK_EVERY = 0.02
#: Processes that write without a server: in one alone, Python's lock would hide what the database does.
WRITERS = 4
#: Each server may have two connections for each of its threads.
_OPTIONS = {"max_connections": "400", "track_wal_io_timing": "on"}
_EVENTS = "/api/v1/events"
_SESSIONS = """
    SELECT state, coalesce(wait_event_type, ''), coalesce(wait_event, '') FROM pg_stat_activity
    WHERE datname = current_database() AND state IN ('active', 'idle in transaction') AND pid <> pg_backend_pid()
"""

#: Creates products until a moment, and gives the moments at which each was created.
Create = Callable[[float], list[float]]


@dataclass(frozen=True)
class Contestant:
    """Who creates products, at which level, with the feed or without it."""

    level: str
    has_feed: bool
    create: Create


@dataclass(frozen=True)
class Round:
    """What was measured of one contestant in one round."""

    creates_per_second: float
    #: How often an active session was seen waiting, by type and event, and how often at all.
    waits: Counter[tuple[str, str]]
    #: Sessions, on average, whose transaction waits for its client: if they are many, not the database is the limit.
    idle_in_transaction: float
    creates_per_flush: float
    flush_ms: float
    #: Of reading the events of the round afterwards; None without a feed.
    read_ms_per_event: float | None

    def share(self, kind: str) -> float:
        """The share of the active sessions that wait for this type of event."""
        return sum(seen for (each, _), seen in self.waits.items() if each == kind) / max(1, self.waits.total())


@dataclass(frozen=True)
class Writer:
    """A process that creates products without a server, over a connection for each of its threads."""

    name: str
    url: str
    category: int
    threads: int
    has_feed: bool


@dataclass
class Writers:
    """The processes that create products without a server, by the pipes to them."""

    pipes: list[Connection] = field(default_factory=list)

    def create(self, until: float) -> list[float]:
        """Create products until a moment; exits with what went wrong."""
        for pipe in self.pipes:
            pipe.send(until)
        return [moment for pipe in self.pipes for moment in _received(pipe)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.feed", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3, help="of a round of each contestant")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--products", type=int, default=10_000)
    parser.add_argument(
        "--delay-ms",
        type=float,
        nargs="+",
        default=[0, 2],
        help="a commit waits so much longer before it flushes (PostgreSQL's commit_delay, at most 100)",
    )
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    with ExitStack() as stack:
        made = stack.enter_context(catalogue(arguments.products, options=_OPTIONS))
        stack.enter_context(made.durable())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="catalog-bench-")))
        reader, contestants = _contestants(stack, made, folder, arguments.connections)
        print(f"{made.version}, load {load:.2f} before", flush=True)
        for delay in arguments.delay_ms:
            _delay_flushes(made, delay)
            measured = _rounds(made, reader, contestants, arguments.rounds, arguments.seconds)
            print("\n".join(_lines(measured, delay, arguments.connections)), flush=True)
        print(f"load {os.getloadavg()[0]:.2f} after")


def _contestants(stack: ExitStack, made: Catalogue, folder: Path, connections: int) -> tuple[Running, list[Contestant]]:
    """A server that reads the feed, and all who create, in two pairs."""
    ((category,),) = made.rows("SELECT min(category_id) FROM products")
    whole = replace(OURS, name="with_feed", size=connections + 1)
    feedless = ("-m", "gunicorn", "benchmarks.feedless:create_app()")
    servers = (whole, replace(whole, name="without_feed", arguments=feedless))
    running = [stack.enter_context(_serving(server, made, folder)) for server in servers]
    contestants = [
        Contestant("application", server is running[0], _creating(server, made.tokens[:connections], category))
        for server in running
    ]
    for has_feed in (True, False):
        writers = stack.enter_context(_writing(made, category, connections, has_feed=has_feed))
        contestants.append(Contestant("database", has_feed, writers.create))
    return running[0], contestants


def _serving(server: Server, made: Catalogue, folder: Path) -> Any:
    return serve(server, made.our_environment, probe=f"{PRODUCTS}?per_page=1", token=made.tokens[0], folder=folder)


def _creating(running: Running, tokens: Sequence[str], category: int) -> Create:
    numbers = itertools.count()

    def calls(until: float) -> Iterator[Call]:
        while time.monotonic() < until:
            key = f"{running.server.name}-{next(numbers)}"
            yield Call("create", "POST", PRODUCTS, json.dumps(_new_product(key, category)))

    return lambda until: [answered.moment for answered in replay(running.port, calls(until), tokens)]


def _new_product(key: str, category: int) -> dict[str, object]:
    return {**NEW_PRODUCT, "category_id": category, "sku": key, "external_id": key}


@contextmanager
def _writing(made: Catalogue, category: int, connections: int, *, has_feed: bool) -> Iterator[Writers]:
    """Processes that write; they end when their pipes are closed."""
    spawn = multiprocessing.get_context("spawn")
    writers, processes = Writers(), []
    try:
        for number in range(WRITERS):
            ours, theirs = spawn.Pipe()
            name = f"writer-{'with' if has_feed else 'without'}-{number}"
            writer = Writer(name, made.url, category, connections // WRITERS, has_feed)
            process = spawn.Process(target=_write, args=(theirs, writer))
            process.start()
            theirs.close()
            processes.append(process)
            writers.pipes.append(ours)
        for pipe in writers.pipes:
            _received(pipe)
        yield writers
    finally:
        for pipe in writers.pipes:
            pipe.close()
        for process in processes:
            process.join(timeout=10)
            if process.is_alive():
                process.terminate()


def _received(pipe: Connection) -> list[float]:
    """What a writer has to report; exits if that is an error."""
    if not pipe.poll(timeout=120):
        sys.exit("a writer does not answer")
    received: list[float] | str = pipe.recv()
    if isinstance(received, str):
        sys.exit(f"a writer failed: {received}")
    return received


def _write(pipe: Connection, writer: Writer) -> None:
    """A process that writes: it receives a moment, creates products until then, and sends the moments of each."""
    if not writer.has_feed:
        leave_out_feed()
    config = Config.from_environment(
        {},
        app_env=Environment.TESTING,
        database_url=writer.url,
        web_threads=writer.threads,
        log_level="ERROR",
        **SECRETS,
    )
    app = create_app(config)
    numbers = itertools.count()

    def create_until(until: float) -> list[float]:
        moments = []
        while time.monotonic() < until:
            key = f"{writer.name}-{next(numbers)}"
            with app.app_context(), unit_of_work():
                create_row({**_new_product(key, writer.category), "price": Decimal("129.90")})
            moments.append(time.monotonic())
        return moments

    with ThreadPoolExecutor(writer.threads) as pool:
        pipe.send([])
        while True:
            try:
                until = pipe.recv()
            except EOFError:
                break
            try:
                writing = [pool.submit(create_until, until) for _ in range(writer.threads)]
                pipe.send([moment for each in writing for moment in each.result()])
            except Exception as error:  # noqa: BLE001 -- the other process ends the run with it
                pipe.send(f"{type(error).__name__}: {error}")
    with app.app_context():
        db.engine.dispose()


def _delay_flushes(made: Catalogue, milliseconds: float) -> None:
    """Let the one that flushes the log sleep before it does, as if the disk took so much longer.

    Unlike at a slow disk, commits that come during the sleep are still in that flush.
    """
    made.configure({"commit_delay": str(round(milliseconds * 1000)), "commit_siblings": "0"})


def _rounds(
    made: Catalogue, reader: Running, contestants: Sequence[Contestant], rounds: int, seconds: float
) -> Mapping[tuple[str, bool], list[Round]]:
    """The rounds of each contestant, which take turns, each round beginning with another."""
    measured: dict[tuple[str, bool], list[Round]] = {(each.level, each.has_feed): [] for each in contestants}
    for number in range(rounds):
        first = number % len(contestants)
        for each in (*contestants[first:], *contestants[:first]):
            measured[each.level, each.has_feed].append(_measure(made, reader, each, seconds))
    return measured


def _measure(made: Catalogue, reader: Running, contestant: Contestant, seconds: float) -> Round:
    """Let a contestant create products for some seconds; exits unless the feed has each of them, or none."""
    cursor = _read_events(reader, made.tokens[0], {"from": "now"})[1]
    with psycopg.connect(made.conninfo, autocommit=True) as watcher:
        flushes, flushing_ms = _flushes(watcher)
        begin = time.monotonic() + WARM_UP
        end = begin + seconds
        with ThreadPoolExecutor(1) as pool:
            creating = pool.submit(contestant.create, end)
            time.sleep(max(0.0, begin - time.monotonic()))
            waits, idle, looks = Counter[tuple[str, str]](), 0, 0
            while (now := time.monotonic()) < end and not creating.done():
                sessions = watcher.execute(_SESSIONS).fetchall()
                active = [(kind, name) for state, kind, name in sessions if state == "active"]
                waits.update(active)
                idle, looks = idle + len(sessions) - len(active), looks + 1
                time.sleep(max(0.0, now + LOOK_EVERY - time.monotonic()))
            moments = creating.result()
        flushes_at_end, flushing_ms_at_end = _flushes(watcher)
    flushes, flushing_ms = flushes_at_end - flushes, flushing_ms_at_end - flushing_ms
    created = sum(begin <= moment < end for moment in moments)
    started = time.monotonic()
    events, _ = _read_events(reader, made.tokens[0], {"cursor": cursor})
    took = time.monotonic() - started
    if events != (len(moments) if contestant.has_feed else 0):
        sys.exit(f"{contestant.level}: {len(moments)} products were created, and {events} are in the feed")
    return Round(
        creates_per_second=created / seconds,
        waits=waits,
        idle_in_transaction=idle / max(1, looks),
        creates_per_flush=len(moments) / max(1, flushes),
        flush_ms=flushing_ms / max(1, flushes),
        read_ms_per_event=took * 1000 / events if events else None,
    )


def _flushes(watcher: psycopg.Connection[Any]) -> tuple[int, float]:
    """How often the log has been flushed, and the milliseconds of it, of all who committed so far.

    A session adds its own numbers once a second, or when it ends: so the idle sessions of the application are ended.
    """
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    watcher.execute(f"SELECT pg_terminate_backend(pid) {others}")
    deadline = time.monotonic() + 10
    while watcher.execute(f"SELECT 1 {others} LIMIT 1").fetchone():
        if time.monotonic() > deadline:
            sys.exit("the idle sessions of the application do not end")
        time.sleep(0.01)
    row = watcher.execute("SELECT wal_sync, wal_sync_time FROM pg_stat_wal").fetchone()
    flushes, milliseconds = row or (0, 0.0)
    return flushes, milliseconds


def _read_events(reader: Running, token: str, query: Mapping[str, str]) -> tuple[int, str]:
    """How many products were created after a cursor, and the cursor after that."""
    created, more = 0, True
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {token}"
        while more:
            answer = session.get(f"{reader.url}{_EVENTS}?{urlencode({**query, 'per_page': '100'})}", timeout=30)
            if answer.status_code != 200:
                sys.exit(f"the feed is not answered: {answer.status_code} {answer.text}")
            page = answer.json()
            created += sum(item["type"] == "product.created" for item in page["items"])
            more, query = page["meta"]["has_more"], {"cursor": page["meta"]["next_cursor"]}
    return created, query["cursor"]


def _lines(measured: Mapping[tuple[str, bool], list[Round]], delay: float, connections: int) -> Iterator[str]:
    yield ""
    yield f"{connections} connections, flushes delayed by {delay:g} ms" if delay else f"{connections} connections"
    yield ""
    head = (
        "", "creates/s", "with / without feed (range)", "wait for a lock", "for an LWLock", "for I/O",
        "idle in transaction", "creates a flush", "ms a flush", "ms to read an event", "most frequent waits",
    )  # fmt: skip
    rows = []
    for (level, has_feed), rounds in measured.items():
        ratio = "–"
        if has_feed:
            pairs = zip(rounds, measured[level, False], strict=True)
            ratio = str(Spread.of([one.creates_per_second / other.creates_per_second for one, other in pairs]))
        reading = [each.read_ms_per_event for each in rounds if each.read_ms_per_event is not None]
        rows.append(
            [
                f"{level}, {'with' if has_feed else 'without'} the feed",
                f"{Spread.of([each.creates_per_second for each in rounds]).median:,.0f}",
                ratio,
                *(
                    f"{Spread.of([each.share(kind) for each in rounds]).median:.0%}"
                    for kind in ("Lock", "LWLock", "IO")
                ),
                f"{Spread.of([each.idle_in_transaction for each in rounds]).median:.0f}",
                f"{Spread.of([each.creates_per_flush for each in rounds]).median:.1f}",
                f"{Spread.of([each.flush_ms for each in rounds]).median:.2f}",
                f"{Spread.of(reading).median:.2f}" if reading else "–",
                _most_frequent(rounds),
            ]
        )
    yield from report.table(head, rows)


def _most_frequent(rounds: Sequence[Round]) -> str:
    """The three events that active sessions waited for most often, but for none at all."""
    seen = Counter[tuple[str, str]]()
    for each in rounds:
        seen.update(each.waits)
    most = [(name, count) for (kind, name), count in seen.most_common(4) if kind][:3]
    return ", ".join(f"{name} {count / seen.total():.0%}" for name, count in most)


if __name__ == "__main__":
    main()
