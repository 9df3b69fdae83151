"""Metrics: the CPU that counting adds to a request, and what a scrape of four workers costs.

Run with ``make bench-metrics``. Two processes answer the same requests in turns, without a socket: one counts in files,
as a gunicorn worker does, and in the other the metrics do nothing. What is compared is the CPU of the fastest rounds.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from werkzeug.test import EnvironBuilder

from app.core.metric_files import FOLDER
from benchmarks import report
from benchmarks.catalogue import Catalogue, catalogue
from tests.servers import INHERITED, PROJECT

#: What is asked, with a number in it where each response is to be made anew.
REQUESTS = {
    "the cheapest: /livez": "/livez",
    "a list, cached": "/api/v1/products?per_page=20",
    "a list of 20": "/api/v1/products?per_page=20&max_price={number}",
    "a product, cached": "/api/v1/products/1",
}
WORKERS = 4


class Silent:
    """A value of a metric that is not counted; prometheus-client makes one for each, instead of its own."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def inc(self, amount: float) -> None:
        """Do nothing."""

    def set(self, value: float, timestamp: float | None = None) -> None:
        """Do nothing."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.metrics", description=__doc__)
    parser.add_argument("--products", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=150)
    parser.add_argument("--requests", type=int, default=30, help="of a round")
    parser.add_argument("--answer", choices=["counting", "silent", "scrape"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.answer == "scrape":
        _scrape()
    elif arguments.answer:
        _answer(is_counting=arguments.answer == "counting")
    else:
        _measure(arguments)


def _measure(arguments: argparse.Namespace) -> None:
    print(f"load {os.getloadavg()[0]:.2f} before")
    rows = []
    with ExitStack() as stack:
        made = stack.enter_context(catalogue(arguments.products))
        counting = stack.enter_context(_answering(made, "counting"))
        silent = stack.enter_context(_answering(made, "silent"))
        for title, path in REQUESTS.items():
            rounds = [_round(counting, silent, path, arguments.requests, number) for number in range(arguments.rounds)]
            # Whatever else runs on the machine only makes a round slower.
            one, other = (min(seconds) * 1e6 for seconds in zip(*rounds, strict=True))
            rows.append((title, f"{other:.0f}", f"{one:.0f}", f"{one / other:.2f}"))
        scraped = stack.enter_context(_answering(made, "scrape"))
        found = json.loads(_line(scraped))
    print("\n".join(report.table(("request", "µs without", "µs with", "ratio"), rows)))
    print(
        f"a scrape of {WORKERS} workers, {found['routes']} routes, {found['series']} series:"
        f" {found['cpu_ms']:.0f} ms of CPU, {found['bytes'] / 1e6:.2f} MB of text;"
        f" files of {found['file_bytes'] / 1e6:.1f} MB"
    )
    print(f"load {os.getloadavg()[0]:.2f} after")


def _round(
    counting: subprocess.Popen[str], silent: subprocess.Popen[str], path: str, requests: int, number: int
) -> tuple[float, float]:
    """The seconds of CPU of a request of both, who take turns at going first."""
    order = [counting, silent] if number % 2 else [silent, counting]
    taken = {}
    for process in order:
        assert process.stdin is not None  # noqa: S101 -- it is a pipe
        process.stdin.write(json.dumps({"path": path, "requests": requests, "from": 1000 + number * requests}) + "\n")
        process.stdin.flush()
        taken[process.pid] = float(_line(process)) / requests
    return taken[counting.pid], taken[silent.pid]


@contextmanager
def _answering(made: Catalogue, how: str) -> Iterator[subprocess.Popen[str]]:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:  # noqa: S108 -- private
        env = {name: os.environ[name] for name in INHERITED if name in os.environ} | made.our_environment
        env |= {"LOG_LEVEL": "ERROR", "RATE_LIMIT_DEFAULT": "1000000 per minute", "TOKEN": made.tokens[0]}
        if how != "silent":
            env[FOLDER] = folder
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.metrics", "--answer", how],
            cwd=PROJECT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None  # noqa: S101 -- it is a pipe
    line = process.stdout.readline()
    if not line:
        sys.exit("a process has ended")
    return line


def _answer(*, is_counting: bool) -> None:
    """Answer requests as they are ordered, and write what CPU they took."""
    if not is_counting:
        _silence()
    from wsgi import app  # noqa: PLC0415 -- the metrics are made as it is imported

    credentials = [("Authorization", f"Bearer {os.environ['TOKEN']}")]
    for line in sys.stdin:
        order = json.loads(line)
        environs = [
            EnvironBuilder(path=order["path"].format(number=order["from"] + number), headers=credentials).get_environ()
            for number in range(order["requests"])
        ]
        before = time.process_time()
        for environ in environs:
            _ask(app, environ)
        print(time.process_time() - before, flush=True)


def _silence() -> None:
    """Have metrics do nothing, nor requests be looked at for them."""
    from prometheus_client import values  # noqa: PLC0415 -- before the application

    values.MutexValue = Silent  # type: ignore[assignment, misc]  # it is what the application counts with
    from app.web import traffic  # noqa: PLC0415 -- the child process decides first where it counts

    traffic.begin = traffic.end = lambda *_: None  # type: ignore[assignment]  # it takes what both take


def _ask(app: Any, environ: dict[str, Any]) -> None:
    statuses: list[str] = []
    response = app(environ, lambda status, *_: statuses.append(status))
    b"".join(response)
    response.close()
    if not statuses[0].startswith("200"):
        sys.exit(f"{environ['PATH_INFO']}: {statuses[0]}")


def _scrape() -> None:
    """Have as many processes as workers count every route in every way it is called, and read what all have counted."""
    from prometheus_client import generate_latest  # noqa: PLC0415 -- the child process decides first where it counts

    from app.core.exposition import Exposition  # noqa: PLC0415 -- the child process decides first where it counts
    from app.core.metrics import REQUEST_DURATION  # noqa: PLC0415 -- the child process decides first where it counts
    from wsgi import app  # noqa: PLC0415 -- the child process decides first where it counts

    calls = [
        (rule.rule, method, status)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        for status in ("2xx", "4xx")
    ]
    children = []
    for _ in range(WORKERS):
        if not (child := os.fork()):
            for call in calls:
                REQUEST_DURATION.labels(*call).observe(0.02)
            signal.pause()
        children.append(child)
    time.sleep(5)
    exposition, before = Exposition(), time.process_time()
    texts = [generate_latest(exposition) for _ in range(5)]
    taken = (time.process_time() - before) / len(texts)
    files = [path.stat().st_blocks * 512 for path in Path(os.environ[FOLDER]).iterdir()]
    found = {
        "routes": len({rule for rule, _, _ in calls}),
        "series": texts[0].count(b"\n") - texts[0].count(b"\n#"),
        "cpu_ms": taken * 1000,
        "bytes": len(texts[0]),
        "file_bytes": sum(files),
    }
    for child in children:
        os.kill(child, signal.SIGKILL)
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
