"""Load by wrk, and what a request of it cost: the server, the database, and whoever waited."""

import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.catalogue import Catalogue
from benchmarks.servers import Running
from tests.servers import PROJECT

_SCRIPT = PROJECT / "benchmarks" / "wrk" / "requests.lua"


@dataclass(frozen=True)
class Load:
    """What is asked, over and over: the paths in turn. In a ``body``, @ stands for a number that is used once."""

    name: str
    paths: Sequence[str]
    token: str = ""
    body: str = ""
    if_none_match: str = ""
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


#: The numbers that no body has had yet.
_numbers = itertools.count(1, 10**6)


def require_wrk() -> None:
    """Exit unless wrk is there."""
    if shutil.which("wrk") is None:
        sys.exit("The comparison loads the servers with wrk: install it, as in 'apt-get install wrk'.")


def measure(running: Running, catalogue: Catalogue, load: Load, *, connections: int, seconds: float) -> Measured:
    """Load a server for some seconds. Exits on any error answer or error of a socket, and if a worker ended."""
    processes = running.processes()
    app_before, database_before = running.cpu_seconds(), catalogue.cpu_seconds()
    result = _wrk(running.url, load, connections, seconds)
    app, database = running.cpu_seconds() - app_before, catalogue.cpu_seconds() - database_before
    requests = result["requests"]
    if load.may_be_busy:
        requests -= result.pop("status")
    errors = {kind: result[kind] for kind in ("connect", "read", "write", "timeout", "status") if result.get(kind)}
    if running.processes() != processes:
        errors["workers that were replaced"] = 1
    if errors or requests <= 0 or result["bytes"] / requests > load.most_bytes:
        log = running.log.read_text("utf-8", "replace")[-4000:]
        sys.exit(f"{running.server.name}, {load.name}: bad answers {errors}, {result}\n{log}")
    return Measured(
        requests_per_second=requests / result["seconds"],
        p50_ms=result["p50"] / 1000,
        p99_ms=result["p99"] / 1000,
        app_cpu_us=app / requests * 1e6,
        database_cpu_us=database / requests * 1e6,
    )


def _wrk(url: str, load: Load, connections: int, seconds: float) -> dict[str, float]:
    given = {"TOKEN": load.token, "IF_NONE_MATCH": load.if_none_match, "BODY": load.body}
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as paths:
        paths.write("\n".join(load.paths) + "\n")
        paths.flush()
        environment = {name: value for name, value in given.items() if value}
        environment |= {"PATH": os.environ["PATH"], "REQUESTS": paths.name, "START": str(next(_numbers))}
        # wrk takes whole seconds only.
        command = ["wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds:.0f}s"]
        command += ["--timeout", "10s", "--script", str(_SCRIPT), url]
        done = subprocess.run(
            command, env=environment, check=False, capture_output=True, text=True, timeout=seconds + 30
        )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or len(lines) != 1:
        sys.exit(f"wrk failed: {done.stdout}{done.stderr}")
    result: dict[str, float] = json.loads(lines[0])
    return result
