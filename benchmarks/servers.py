"""The servers that are compared: how each is installed into an environment of its own, started and ended."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import requests

from benchmarks import procfs
from tests.servers import INHERITED, PROJECT, free_port

PEERS = PROJECT / "benchmarks" / "peers"
ENVIRONMENTS = PROJECT / ".bench"
WORKERS = 2
_GUNICORN = (
    "-m", "gunicorn", "--bind", "127.0.0.1:{port}", "--workers", str(WORKERS), "--worker-class", "gthread",
    "--threads", "{size}", "--keep-alive", "75", "--log-level", "error", "--no-control-socket",
)  # fmt: skip
#: gunicorn takes it where it is there, and parses in Python elsewhere.
_PARSER = "gunicorn_h1c"
_UVICORN = (
    "-m", "uvicorn", "--host", "127.0.0.1", "--port", "{port}", "--workers", str(WORKERS), "--loop", "uvloop",
    "--http", "httptools", "--no-access-log", "--log-level", "error",
    "--timeout-worker-healthcheck", "60",  # on a busy machine it would replace workers in the middle of a round
    "app:app",
)  # fmt: skip


@dataclass(frozen=True)
class Server:
    """A server to compare. ``size``: a worker's threads, or its database connections where it is asynchronous."""

    name: str
    title: str
    arguments: Sequence[str]
    size: int
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)
    ours: bool = False
    #: Whether it also answers what a shop asks: searches, trees of categories, facets, movements of stock.
    is_shop: bool = False

    @property
    def folder(self) -> Path:
        """Where it is run."""
        return PROJECT if self.ours else PEERS / self.name

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return Path(sys.executable) if self.ours else ENVIRONMENTS / self.name / "bin" / "python"

    @property
    def pins(self) -> str:
        """The packages of a peer's environment, with gunicorn's C parser where that is installed for us."""
        pinned = (self.folder / "requirements.txt").read_text("utf-8")
        uses_gunicorn, parser = "gunicorn" in self.arguments, version_of(_PARSER)
        return pinned + (f"{_PARSER}=={parser}\n" if uses_gunicorn and parser else "")


#: Ours at equal work: no limiter, no access log, nothing remembered between requests.
OURS = Server(
    "ours",
    "This",
    ("-m", "gunicorn", "wsgi:app"),
    size=1,
    environment={"RATE_LIMIT_ENABLED": "false", "LOG_LEVEL": "ERROR", "ANSWER_CACHE_BYTES": "0"},
    ours=True,
)
#: Ours as it is deployed: limits, the access log, and whatever it remembers between requests.
OURS_WHOLE = Server(
    "ours_whole",
    "This, with limits, log and cache",
    ("-m", "gunicorn", "wsgi:app"),
    size=1,
    environment={
        "RATE_LIMIT_DEFAULT": "1000000 per minute",
        "RATE_LIMIT_LOGIN": "1000000 per minute",
        "LOG_LEVEL": "INFO",
    },
    ours=True,
)
#: The same kind of worker, and as many threads, as ours.
HELLO = Server("hello", "bare WSGI hello", (*_GUNICORN, "app:app"), size=1)
#: The sizes are the best of those that peers/README.md tells.
NAIVE = Server("naive_flask", "Flask of the textbooks", (*_GUNICORN, "app:main()"), size=1, is_shop=True)
FASTAPI = Server("fastapi_peer", "FastAPI, SQLAlchemy async", _UVICORN, size=8, is_shop=True)
DRF = Server("drf_peer", "Django REST Framework", (*_GUNICORN, "app:app"), size=1)
NINJA = Server("ninja_peer", "Django Ninja", (*_GUNICORN, "app:app"), size=1)
LITESTAR = Server("litestar_peer", "Litestar, raw asyncpg", _UVICORN, size=8)
LIMIT = Server("wsgi_limit", "WSGI by hand", (*_GUNICORN, "app:app"), size=1)
CATALOGUES = (NAIVE, FASTAPI, DRF, NINJA, LITESTAR, LIMIT)


@dataclass(frozen=True)
class Running:
    """A server that answers: where, and its first process."""

    server: Server
    port: int
    process: subprocess.Popen[bytes]
    log: Path
    #: From the start of the process until the first good answer.
    start_seconds: float
    #: The CPU time of the same, which a busy machine changes less.
    start_cpu_seconds: float

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def cpu_seconds(self) -> float:
        """The CPU time of all its processes since they began."""
        return procfs.cpu_seconds(self.process.pid)

    def processes(self) -> frozenset[int]:
        """All its processes."""
        return frozenset(procfs.family(self.process.pid))

    def private_mib(self) -> float:
        """The private memory of a worker, in MiB."""
        return procfs.private_mib_of_workers(self.process.pid, WORKERS)


def version_of(package: str) -> str | None:
    """The version that is installed beside this, if any."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def install(server: Server) -> None:
    """Put a peer's pinned packages into its environment, unless they are there. Exits with what went wrong."""
    if server.ours:
        return
    pinned, home = server.pins, ENVIRONMENTS / server.name
    stamp = home / "installed.txt"
    if stamp.exists() and stamp.read_text("utf-8") == pinned:
        return
    print(f"Installing {server.name} into {home.relative_to(PROJECT)} ...", flush=True)
    shutil.rmtree(home, ignore_errors=True)
    uv = shutil.which("uv")
    if uv:
        make = [uv, "venv", "--quiet", "--python", sys.executable, str(home)]
        # Compiled as pip does it: the first start is timed.
        fill = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(server.python)]
        fill += ["--requirement", "-"]
    else:
        make = [sys.executable, "-m", "venv", str(home)]
        fill = [str(server.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
        fill += ["--requirement", "/dev/stdin"]
    for command in (make, fill):
        done = subprocess.run(command, input=pinned, check=False, capture_output=True, text=True, timeout=300)
        if done.returncode:
            sys.exit(f"{server.name} could not be installed, so there is no comparison:\n{done.stdout}{done.stderr}")
    stamp.write_text(pinned, "utf-8")


@contextmanager
def serve(server: Server, environment: Mapping[str, str], *, probe: str, token: str, folder: Path) -> Iterator[Running]:
    """Run a server and yield it once ``probe`` is answered with 200; its log goes into ``folder``."""
    port, log = free_port(), folder / f"{server.name}.log"
    size = str(server.size)
    values = {name: os.environ[name] for name in INHERITED if name in os.environ} | dict(environment)
    if server.ours:
        values |= {"PORT": str(port), "WEB_CONCURRENCY": str(WORKERS), "WEB_THREADS": size}
    else:
        values |= {"THREADS": size, "POOL": size}
    values |= server.environment
    started = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [server.python, *(part.format(port=port, size=size) for part in server.arguments)],
            cwd=server.folder,
            env=values,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the harness, which then ends its servers one by one
        )
    try:
        _wait_for_answer(f"http://127.0.0.1:{port}{probe}", token, process, log)
        elapsed, cpu = time.perf_counter() - started, procfs.cpu_seconds(process.pid)
        yield Running(server, port, process, log, elapsed, cpu)
    finally:
        _end(process)


def _wait_for_answer(url: str, token: str, process: subprocess.Popen[bytes], log: Path, *, seconds: float = 30) -> None:
    deadline, last = time.monotonic() + seconds, "no answer"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            sys.exit(f"a server ended with {process.returncode}:\n{log.read_text('utf-8', 'replace')}")
        try:
            answer = requests.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=30)
        except requests.ConnectionError:
            time.sleep(0.01)
            continue
        except requests.Timeout:
            sys.exit(f"{log.stem} did not answer within 30 s:\n{log.read_text('utf-8', 'replace')}")
        if answer.status_code == 200:
            return
        last = f"{answer.status_code} {answer.text}"
        time.sleep(0.1)
    sys.exit(f"{url} is not answered after {seconds} s: {last}\n{log.read_text('utf-8', 'replace')}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask a server to stop; what is left of it and its workers after ten seconds is killed, each by its own id."""
    if process.poll() is not None:
        return
    members = procfs.family(process.pid)
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        for member in members:
            try:
                os.kill(member, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.wait()
