"""Live streams: what a thousand that are open leave to the lists, in what memory, and how soon a change is everywhere.

Run with ``make bench-streams``. The lists and the streams have processes of their own on one database, as in
deploy/compose.yaml; with ``--together`` one process has both. Rounds with and without streams take turns, and a price
is changed in all of them, so that each stream has something to send.
"""

import argparse
import http.client
import json
import os
import re
import selectors
import socket
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import report
from benchmarks.catalogue import Catalogue, catalogue
from benchmarks.results import Spread
from tests.servers import GunicornServer, gunicorn_server

API = "/api/v1"
#: Connections that read lists.
READERS = 4
#: Seconds between two changes of a price.
WRITE_INTERVAL = 1.0


@dataclass(frozen=True)
class Round:
    """Milliseconds of the lists of one round."""

    latencies: Sequence[float]

    @property
    def p50(self) -> float:
        """The median."""
        return statistics.median(self.latencies)

    @property
    def p99(self) -> float:
        """The 99th percentile."""
        return statistics.quantiles(self.latencies, n=100)[98]


class Streams:
    """Open streams, which a thread drains; it notes when each event has come to the first and to the last of them."""

    def __init__(self, port: int, tokens: Sequence[str], number: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._number = number
        #: When an event came, by its id.
        self._arrivals: dict[bytes, list[float]] = {}
        self._over = threading.Event()
        self._sockets = [self._open(port, tokens[place % len(tokens)]) for place in range(number)]
        self._thread = threading.Thread(target=self._drain)
        self._thread.start()

    def delays(self, sent: Sequence[float]) -> Iterator[tuple[float, float]]:
        """Seconds from each change to its first and to its last arrival, where it has come everywhere."""
        for arrivals in self._arrivals.values():
            if len(arrivals) == self._number and (before := [moment for moment in sent if moment < arrivals[0]]):
                yield arrivals[0] - before[-1], arrivals[-1] - before[-1]

    def close(self) -> None:
        """Leave."""
        self._over.set()
        self._thread.join()
        self._selector.close()
        for connection in self._sockets:
            connection.close()

    def _open(self, port: int, token: str) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", port), timeout=60)
        head = f"GET {API}/events/stream HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
        connection.sendall(head.encode())
        begun = b""
        while b"\nid: " not in begun:
            received = connection.recv(65536)
            if not received or b"HTTP/1.1 200" not in begun + received:
                sys.exit(f"no stream: {(begun + received)[:300]!r}")
            begun += received
        connection.setblocking(False)
        self._selector.register(connection, selectors.EVENT_READ)
        return connection

    def _drain(self) -> None:
        while not self._over.is_set():
            for key, _ in self._selector.select(0.1):
                received, now = key.fileobj.recv(262144), time.monotonic()  # type: ignore[union-attr]  # a socket
                if not received:
                    sys.exit("a stream has ended")
                for event in re.findall(rb"id: (\S+)\nevent: ", received):
                    self._arrivals.setdefault(event, []).append(now)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streams", description=__doc__)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--products", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6, help="of a round")
    parser.add_argument("--together", action="store_true", help="streams in the process of the lists")
    arguments = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.2f} before")
    with ExitStack() as stack:
        made = stack.enter_context(catalogue(arguments.products))
        lists, streams = _serve(stack, made, arguments.streams, together=arguments.together)
        without, beside, delays, memory = _measure(made, lists, streams, arguments)
    print("\n".join(_lines(without, beside)))
    first, last = zip(*delays, strict=True)
    print(
        f"{arguments.streams} streams: {memory:.0f} MiB more; a change is at the first after"
        f" {statistics.median(first):.2f} s and at the last after {statistics.median(last):.2f} s"
        f" (at most {max(last):.2f} s, {len(last)} changes)"
    )
    print(f"load {os.getloadavg()[0]:.2f} after")


def _serve(stack: ExitStack, made: Catalogue, number: int, *, together: bool) -> tuple[GunicornServer, GunicornServer]:
    """The server of the lists and that of the streams."""
    env = {**made.our_environment, "RATE_LIMIT_ENABLED": "false", "LOG_LEVEL": "ERROR", "ANSWER_CACHE_BYTES": "0"}
    if together:
        server = stack.enter_context(gunicorn_server({**env, "MAX_STREAMS": str(number)}, workers=1, threads=3))
        return server, server
    lists = stack.enter_context(gunicorn_server({**env, "MAX_STREAMS": "0"}, workers=1, threads=3))
    return lists, stack.enter_context(gunicorn_server({**env, "MAX_STREAMS": str(number)}, workers=1, threads=3))


def _measure(
    made: Catalogue, lists: GunicornServer, streams: GunicornServer, arguments: argparse.Namespace
) -> tuple[list[Round], list[Round], list[tuple[float, float]], float]:
    """Rounds without streams and with them, the delays of changes in seconds, and the streams' memory in MiB."""
    without: list[Round] = []
    beside: list[Round] = []
    delays: list[tuple[float, float]] = []
    _read(lists.port, made.tokens, 2.0)
    before = memory = _resident(streams)
    for _ in range(arguments.rounds):
        with _writing(lists.port, made.tokens[-1]):
            without.append(_read(lists.port, made.tokens, arguments.seconds))
        opened = Streams(streams.port, made.tokens, arguments.streams)
        try:
            with _writing(lists.port, made.tokens[-1]) as sent:
                beside.append(_read(lists.port, made.tokens, arguments.seconds))
                memory = max(memory, _resident(streams))
            # The last change is on its way.
            time.sleep(2 * WRITE_INTERVAL)
            delays += opened.delays(sent)
        finally:
            opened.close()
        time.sleep(2)
    return without, beside, delays, memory - before


def _resident(server: GunicornServer) -> float:
    """The memory of the worker, in MiB."""
    (worker,) = re.findall(r"Booting worker with pid: (\d+)", server.log())
    (kilobytes,) = re.findall(r"^VmRSS:\s+(\d+)", Path(f"/proc/{worker}/status").read_text("utf-8"), re.MULTILINE)
    return int(kilobytes) / 1024


def _read(port: int, tokens: Sequence[str], seconds: float) -> Round:
    """Read lists from several connections for so long."""
    end = time.monotonic() + seconds
    with ThreadPoolExecutor(READERS) as threads:
        reading = [threads.submit(_read_on, port, tokens[place], end, place) for place in range(READERS)]
        return Round([latency for each in reading for latency in each.result()])


def _read_on(port: int, token: str, end: float, place: int) -> list[float]:
    connection, latencies, page = http.client.HTTPConnection("127.0.0.1", port, timeout=60), [], place
    while time.monotonic() < end:
        page = page % 50 + 1
        began = time.perf_counter()
        path = f"{API}/products?page={page}&per_page=20"
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        content = response.read()
        latencies.append((time.perf_counter() - began) * 1000)
        if response.status != 200:
            sys.exit(f"{path}: {response.status} {content[:300]!r}")
    connection.close()
    return latencies


@contextmanager
def _writing(port: int, token: str) -> Iterator[list[float]]:
    """Change a price every second for the length of a block; yields when each change was acknowledged."""
    over, sent = threading.Event(), list[float]()

    def write() -> None:
        connection, number = http.client.HTTPConnection("127.0.0.1", port, timeout=60), time.time_ns() % 100_000
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "If-Match": "*"}
        while not over.wait(WRITE_INTERVAL):
            number += 1
            body = json.dumps({"price": f"{number / 100:.2f}"})
            connection.request("PATCH", f"{API}/products/1", body, headers)
            response = connection.getresponse()
            if response.status != 200:
                sys.exit(f"a price: {response.status} {response.read()[:300]!r}")
            response.read()
            sent.append(time.monotonic())
        connection.close()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield sent
    finally:
        over.set()
        thread.join()


def _lines(without: Sequence[Round], beside: Sequence[Round]) -> Iterator[str]:
    """The lists of both kinds of rounds, and the ratio round by round."""
    ratio = Spread.of([one.p99 / other.p99 for one, other in zip(beside, without, strict=True)])
    rows = [
        [
            name,
            f"{statistics.median(each.p50 for each in rounds):.1f}",
            str(Spread.of([each.p99 for each in rounds])),
            last,
        ]
        for name, rounds, last in (("none", without, "1.00"), ("open", beside, str(ratio)))
    ]
    yield from report.table(("streams", "lists p50, ms", "p99, ms (range)", "p99 / none (range)"), rows)


if __name__ == "__main__":
    main()
