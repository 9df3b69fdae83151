"""Load by wrk, and what a request of it cost: the server, the database, the load itself, and whoever waited."""

import itertools
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.catalogue import Catalogue
from benchmarks.servers import Running
from tests.servers import PROJECT

_SCRIPT = PROJECT / "benchmarks" / "wrk" / "requests.lua"
#: More requests a second than any server answers that computes something; each is made before the load begins.
MOST_PER_SECOND = 10_000
#: How long a server may answer nothing.
_MOST_SECONDS = 8


@dataclass(frozen=True)
class Request:
    """A request; with a ``body`` it is a POST, and each @ in it stands for a number that is used once."""

    path: str
    body: str = ""


@dataclass(frozen=True)
class Load:
    """What is asked. ``make`` gives the request of a number, which must be another for each number."""

    name: str
    make: Callable[[int], Request]
    #: Bearer tokens, which a server is sent in turn through all the rounds; without any it is asked without one.
    tokens: Sequence[str] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Whether the one request, with the one token, is sent over and over.
    repeats: bool = False
    #: An answer that is larger was not the one that was meant: a body where there should be 304.
    most_bytes: int = 1024 * 1024
    #: Whether a server that has too much to do may say so: such answers are no errors, and are not counted.
    may_be_busy: bool = False


@dataclass(frozen=True)
class Measured:
    """One round against one server; microseconds of CPU per request, milliseconds of waiting."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    app_cpu_us: float
    database_cpu_us: float
    #: Of wrk, which runs on the same machine.
    load_cpu_us: float


#: The numbers that no body has had yet.
_numbers = itertools.count(1)
#: How many tokens each server has been sent.
_sent: Counter[str] = Counter()


def require_wrk() -> None:
    """Exit unless wrk is there."""
    if shutil.which("wrk") is None:
        sys.exit("The comparison loads the servers with wrk: install it, as in 'apt-get install wrk'.")


def measure(
    running: Running, catalogue: Catalogue, load: Load, *, connections: int, seconds: int, number: int = 0
) -> Measured:
    """Load a server for some seconds with the requests of a round, ``number`` of them being over.

    A server that has answered nothing by then is given twice as long. Exits on any error answer, any error of a socket,
    a worker that ended, and requests that would have repeated.
    """
    count = 1 if load.repeats else MOST_PER_SECOND * seconds
    requests_made = [load.make(place) for place in range(number * count, (number + 1) * count)]
    processes = running.processes()
    app_before, database_before, wrk_before = running.cpu_seconds(), catalogue.cpu_seconds(), _children_cpu_seconds()
    result = _wrk(running, load, requests_made, connections, seconds)
    app, database = running.cpu_seconds() - app_before, catalogue.cpu_seconds() - database_before
    wrk = _children_cpu_seconds() - wrk_before
    requests = result["requests"]
    if not load.repeats and requests + connections > count:
        sys.exit(f"{running.server.name}, {load.name}: {requests:.0f} requests, of which only {count} were different")
    # What was on its way at the end was sent as well.
    _sent[running.server.name] += int(requests) + connections
    if load.may_be_busy:
        requests -= result.pop("status")
    errors = {kind: result[kind] for kind in ("connect", "read", "write", "timeout", "status") if result.get(kind)}
    if running.processes() != processes:
        errors["workers that were replaced"] = 1
    if not errors and requests <= 0 and seconds < _MOST_SECONDS:
        return measure(running, catalogue, load, connections=connections, seconds=2 * seconds, number=number)
    if errors or requests <= 0 or result["bytes"] / requests > load.most_bytes:
        log = running.log.read_text("utf-8", "replace")[-4000:]
        sys.exit(f"{running.server.name}, {load.name}: bad answers {errors}, {result}\n{log}")
    return Measured(
        requests_per_second=requests / result["seconds"],
        p50_ms=result["p50"] / 1000,
        p99_ms=result["p99"] / 1000,
        app_cpu_us=app / requests * 1e6,
        database_cpu_us=database / requests * 1e6,
        load_cpu_us=wrk / requests * 1e6,
    )


def _wrk(running: Running, load: Load, requests: Sequence[Request], connections: int, seconds: int) -> dict[str, float]:
    with tempfile.NamedTemporaryFile(suffix=".http") as file:
        file.writelines(_as_sent(running, load, requests))
        file.flush()
        # wrk takes whole seconds only.
        command = ["wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"]
        command += ["--timeout", "10s", "--script", str(_SCRIPT), running.url]
        environment = {"PATH": os.environ["PATH"], "REQUESTS": file.name}
        done = subprocess.run(
            command, env=environment, check=False, capture_output=True, text=True, timeout=seconds + 30
        )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or len(lines) != 1:
        sys.exit(f"wrk failed: {done.stdout}{done.stderr}")
    result: dict[str, float] = json.loads(lines[0])
    return result


def _as_sent(running: Running, load: Load, requests: Sequence[Request]) -> Iterator[bytes]:
    """The requests as they go over the wire, each with the next of the tokens."""
    common = "".join(f"{name}: {value}\r\n" for name, value in load.headers.items())
    common = f"Host: 127.0.0.1:{running.port}\r\nAccept: */*\r\n{common}"
    # Where this server has come to: between two uses of a token it has been sent all the others.
    first = 0 if load.repeats else _sent[running.server.name]
    for place, request in enumerate(requests, first):
        head = common
        if load.tokens:
            head += f"Authorization: Bearer {load.tokens[place % len(load.tokens)]}\r\n"
        body = request.body.replace("@", f"{next(_numbers):09}") if "@" in request.body else request.body
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body.encode())}\r\n"
        yield f"{'POST' if body else 'GET'} {request.path} HTTP/1.1\r\n{head}\r\n{body}\0".encode()


def _children_cpu_seconds() -> float:
    """The CPU time of the processes that this one has waited for: no server among them while it is measured."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
