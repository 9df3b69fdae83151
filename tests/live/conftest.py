"""Two gunicorn workers in front of each database, as production runs them.

``app`` is the same catalogue seen from within: on the servers' databases and with their secrets, so that the cast of
the other tests has tokens that are good here.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from os import kill
from pathlib import Path

import pytest
from flask import Flask
from flask_migrate import upgrade

from app import create_app
from app.extensions import db
from tests.conftest import FAST_SQL, MEDIA_STORE, Caller, empty, settings_for
from tests.leaks import require_no_leak
from tests.live.wire import Client, wait_for, wait_for_more
from tests.servers import PROJECT, GunicornServer, create_database, gunicorn_server

SECRETS = {
    "SECRET_KEY": "Zm9yIHNpZ25pbmcgY3Vyc29ycyBhbmQgdGhlIGxpa2U",
    "JWT_SECRET_KEY": "YW5kIHRoaXMgb25lIHNpZ25zIHRoZSB0b2tlbnMgb2Y",
}
MAX_BODY_BYTES = 32 * 1024
REFRESH_GRACE = 60
#: How often a worker is killed under load; more for a soak.
KILLS = int(os.environ.get("KILLS", "4"))


def environment(database_url: str, **changed: str) -> dict[str, str]:
    """The whole environment of a production server."""
    return {
        "APP_ENV": "production",
        "DATABASE_URL": database_url,
        "MEDIA_STORE": MEDIA_STORE,
        "RATE_LIMIT_ENABLED": "false",
        "LOG_LEVEL": "WARNING",
        "MAX_BODY_BYTES": str(MAX_BODY_BYTES),
        "REFRESH_GRACE": str(REFRESH_GRACE),
        "FAST_SQL": str(FAST_SQL),
        **SECRETS,
        **changed,
    }


@contextmanager
def process(arguments: list[str], env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process, with this environment alone, for the length of a block."""
    with log.open("ab") as output:
        started = subprocess.Popen(
            [sys.executable, *arguments], cwd=PROJECT, env=env, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(30)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()
    require_no_leak(log.read_text(errors="replace"), str(log))


@dataclass(frozen=True)
class Site:
    """A server, and the application that it runs as seen from within."""

    server: GunicornServer
    app: Flask

    @property
    def port(self) -> int:
        return self.server.port


@pytest.fixture(scope="session")
def databases(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Flask]]:
    """The application from within, one for each database, on a schema made by the migrations."""
    made: dict[str, Flask] = {}

    def application(backend: str) -> Flask:
        if backend not in made:
            if backend == "sqlite":
                url = f"sqlite:///{tmp_path_factory.mktemp('live') / 'catalog.db'}"
            else:
                url = create_database(request.getfixturevalue("postgres_url"), "live")
            keys = {name.lower(): secret for name, secret in SECRETS.items()}
            made[backend] = create_app(settings_for(url, **keys))
            with made[backend].app_context():
                upgrade()
        return made[backend]

    yield application
    for app in made.values():
        with app.app_context():
            db.engine.dispose()


@pytest.fixture(scope="session")
def sites(databases: Callable[[str], Flask]) -> Iterator[Callable[[str], Site]]:
    """The servers, each started when it is first asked for."""
    made: dict[str, Site] = {}
    with ExitStack() as stack:

        def site(backend: str) -> Site:
            if backend not in made:
                app = databases(backend)
                served = gunicorn_server(environment(app.config["DATABASE_URL"]), workers=2, threads=8)
                made[backend] = Site(stack.enter_context(served), app)
            return made[backend]

        yield site


@pytest.fixture
def app(backend: str, databases: Callable[[str], Flask]) -> Flask:
    """The application from within, on an empty database."""
    app = databases(backend)
    empty(app)
    return app


@pytest.fixture
def site(backend: str, sites: Callable[[str], Site], app: Flask) -> Site:
    """A server on an empty database."""
    return sites(backend)


@pytest.fixture
def connect(site: Site) -> Iterator[Callable[..., Client]]:
    """Open a connection to the server, for one of the cast or for nobody."""
    with ExitStack() as stack:

        def connect(caller: Caller | None = None) -> Client:
            client = Client(site.port, caller.token if caller else None)
            stack.callback(client.close)
            return client

        yield connect


def worker_pids(server: GunicornServer, number: int = 2) -> list[int]:
    """The process ids of the newest workers, once there are so many."""
    booted = wait_for(lambda: pids if len(pids := _booted(server)) >= number else [])
    return booted[-number:]


def kill_workers(server: GunicornServer, grows: Sequence[object], times: int = KILLS) -> None:
    """Kill the newest worker, each time that something has grown by twenty and another has taken its place."""
    for kills in range(1, times + 1):
        wait_for_more(grows, 20)
        kill(worker_pids(server, 1 + kills)[-1], signal.SIGKILL)
        worker_pids(server, 2 + kills)


def _booted(server: GunicornServer) -> list[int]:
    return [int(pid) for pid in re.findall(r"Booting worker with pid: (\d+)", server.log())]


@contextmanager
def only(worker: int, server: GunicornServer) -> Iterator[None]:
    """Let one worker alone accept connections; the others are stopped meanwhile."""
    others = [pid for pid in worker_pids(server) if pid != worker]
    for pid in others:
        kill(pid, signal.SIGSTOP)
    # The signal is sent and not yet there; whoever still runs could accept the next connection and then stop.
    time.sleep(0.05)
    try:
        yield
    finally:
        for pid in others:
            kill(pid, signal.SIGCONT)
