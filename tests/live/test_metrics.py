"""Metrics of real processes: sums while workers are killed, reloads, upgrades, ports, and files that are left."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from itertools import pairwise
from pathlib import Path

import pytest
from flask import Flask

from tests.conftest import Caller
from tests.exposed import Exposed
from tests.live.conftest import environment, process
from tests.live.followers import EventSource, WebSocket
from tests.live.wire import Answer, Client, ask, wait_for, wire
from tests.servers import INHERITED, PROJECT, GunicornServer, free_port, gunicorn_server

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

COUNT, SUM = "catalog_http_request_duration_seconds_count", "catalog_http_request_duration_seconds_sum"
BUCKET = "catalog_http_request_duration_seconds_bucket"
#: How the names of what never decreases end.
GROWING = ("_total", "_count", "_sum", "_bucket")
#: What an answer's X-Process-Time is rounded to, in seconds.
ROUNDING = 1e-6
THREADS, REQUESTS = 8, 10_000
GUNICORN = ("-m", "gunicorn")
on_sqlite = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


def read_metrics(port: int, **headers: str) -> Exposed:
    client = Client(port)
    try:
        answer = client.get("//metrics", connection="close", **headers)
    finally:
        client.close()
    assert answer.status == 200
    return Exposed.of_text(answer.body.decode())


@dataclass
class Tally:
    """What clients have sent, and what they were answered."""

    sent: int = 0
    answered: int = 0
    seconds: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self) -> None:
        with self._lock:
            self.sent += 1

    def note(self, answer: Answer) -> None:
        with self._lock:
            self.answered += 1
            self.seconds += float(answer.headers["X-Process-Time"])


def ask_often(port: int, times: int, tally: Tally) -> None:
    """Send so many requests over one connection, and go on over another where a worker has gone."""
    client, paths = Client(port), ("//livez", "/users/me", "/no/where")
    for number in range(times):
        tally.send()
        try:
            tally.note(client.get(paths[number % len(paths)]))
        except (OSError, HTTPException):
            client.close()
            client = Client(port)
    client.close()


@contextmanager
def load(port: int, requests: int, tally: Tally) -> Iterator[None]:
    """So many requests from several threads, begun with the block and finished after it."""
    with ThreadPoolExecutor(THREADS) as threads:
        running = [threads.submit(ask_often, port, requests // THREADS, tally) for _ in range(THREADS)]
        yield
        for each in running:
            each.result()


def workers_of(server: GunicornServer) -> list[int]:
    pid = server.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@dataclass
class Served:
    """A server with a port for its metrics, and the folder of its files."""

    server: GunicornServer
    metrics_port: int
    base: Path

    def metrics(self) -> Exposed:
        return read_metrics(self.metrics_port)

    @property
    def folder(self) -> Path:
        (folder,) = self.base.glob("catalog-metrics-*")
        return folder

    def slots(self) -> set[str]:
        return {path.stem for path in self.folder.glob("*.lock")}


@contextmanager
def serving(
    app: Flask, base: Path, *, workers: int, port: int | None = None, program: Sequence[str] = GUNICORN, **changed: str
) -> Iterator[Served]:
    metrics_port = free_port()
    env = environment(
        app.config["DATABASE_URL"], METRICS_PORT=str(metrics_port), PROMETHEUS_MULTIPROC_DIR=str(base), **changed
    )
    with gunicorn_server(env, workers=workers, threads=4, port=port, program=program) as server:
        yield Served(server, metrics_port, base)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "metrics"
    folder.mkdir()
    return folder


@on_sqlite
class TestCounting:
    def test_adds_up_while_workers_are_killed(self, app: Flask, base: Path) -> None:
        with serving(app, base, workers=4) as served:
            # The probes of the start.
            before = served.metrics()
            quiet = Tally()
            with load(served.server.port, REQUESTS // 2, quiet):
                pass
            grown = served.metrics().since(before)

            assert quiet.answered == quiet.sent == grown.total(COUNT)
            assert grown.total(SUM) == pytest.approx(quiet.seconds, abs=ROUNDING * quiet.sent)

            tally, seen = Tally(), [served.metrics()]
            with load(served.server.port, REQUESTS // 2, tally):
                for victim in workers_of(served.server)[:2]:
                    reached = tally.answered
                    wait_for(lambda: tally.answered > reached + 200)  # noqa: B023 -- called before the next
                    os.kill(victim, signal.SIGKILL)
                    seen.append(served.metrics())
                seen.append(served.metrics())
            seen.append(served.metrics())
            grown = seen[-1].since(seen[0])

            assert served.server.log().count("Booting worker") == 6
            assert tally.answered < tally.sent or tally.answered == grown.total(COUNT)
            assert tally.answered <= grown.total(COUNT) <= tally.sent
            assert grown.total(SUM) >= tally.seconds - ROUNDING * tally.sent
            assert grown.total(BUCKET, le="+Inf") == grown.total(COUNT)
            for earlier, later in pairwise(seen):
                for key, value in earlier.items():
                    assert not key[0].endswith(GROWING) or later[key] >= value
            assert seen[-1].value("catalog_http_requests_in_progress") == 0
            assert served.slots() <= {"1", "2", "3", "4", "5"}

        assert list(base.iterdir()) == []

    def test_forgets_the_connections_of_a_worker_that_was_killed(self, app: Flask, base: Path, bob: Caller) -> None:
        with serving(app, base, workers=2) as served:
            wait_for(lambda: self.opened_by(served, bob) >= 1)
            for victim in workers_of(served.server):
                os.kill(victim, signal.SIGKILL)
            wait_for(lambda: served.server.log().count("Booting worker") == 4)

            after = served.metrics()
            assert after.value("catalog_database_connections_open") == 0
            assert after.total(COUNT, route="/api/v1/users/me") >= 1
            assert after.value("catalog_database_statements_total") >= 1

    def test_costs_the_server_nothing_when_its_folder_is_gone(self, app: Flask, base: Path) -> None:
        with serving(app, base, workers=2) as served:
            shutil.rmtree(served.folder)
            before = workers_of(served.server)
            os.kill(before[0], signal.SIGKILL)
            wait_for(lambda: served.server.log().count("metrics_not_shared"))

            with load(served.server.port, 80, tally := Tally()):
                pass
            assert tally.answered == tally.sent
            assert served.metrics().value("catalog_database_up") == 1
            assert len(workers_of(served.server)) == 2
            assert before[1] in workers_of(served.server)

    @staticmethod
    def opened_by(served: Served, bob: Caller) -> float:
        assert ask(served.server.port, "/users/me", bob.token).status == 200
        return served.metrics().value("catalog_database_connections_open")

    def test_has_what_the_server_refuses_by_itself(self, app: Flask, base: Path) -> None:
        with serving(app, base, workers=2) as served:
            for _ in range(3):
                with wire(served.server.port) as connection:
                    connection.send(b"<script>\r\n\r\n")
                    assert connection.read() is not None

            metrics = served.metrics()
            assert metrics.value("catalog_http_requests_refused_total", status="400") == 3
            assert metrics.total(COUNT, status="4xx") == 0

    def test_has_the_streams_that_are_open(self, app: Flask, base: Path, bob: Caller) -> None:
        with serving(app, base, workers=1) as served:
            source = EventSource(served.server.port, bob.token)
            socket = WebSocket(served.server.port, bob.token)
            wait_for(lambda: self.open_streams(served) == {"sse": 1, "websocket": 1})
            source.cut()
            wait_for(lambda: self.open_streams(served) == {"sse": 0, "websocket": 1})
            socket.cut()
            wait_for(lambda: self.open_streams(served) == {"sse": 0, "websocket": 0})

            metrics = served.metrics()
            assert metrics.total(COUNT, route="/api/v1/events/stream", status="2xx") == 1
            assert metrics.total(COUNT, route="/api/v1/events/ws", status="1xx") == 1
            assert metrics.value("catalog_http_requests_in_progress") == 0

    @staticmethod
    def open_streams(served: Served) -> dict[str, float]:
        metrics = served.metrics()
        return {name: metrics.value("catalog_streams", transport=name) for name in ("sse", "websocket")}

    def test_is_bounded_whatever_is_asked_for(self, app: Flask, base: Path) -> None:
        def invent(numbers: range) -> None:
            with wire(served.server.port) as connection:
                for number in numbers:
                    host = f"Host: host-{number}.example\r\n\r\n"
                    for line in (f"GET /invented/{number}", f"INVENT{number} /livez", f"GET /api/v1/products/{number}"):
                        connection.send(f"{line} HTTP/1.1\r\n{host}".encode())
                        assert connection.read() is not None

        with serving(app, base, workers=2) as served:
            invent(range(1, 20))
            before = served.metrics()
            with ThreadPoolExecutor(4) as threads:
                list(threads.map(invent, [range(start, start + 500) for start in range(100, 2100, 500)]))
            after = served.metrics()

            assert after.since(before).total(COUNT) == 6000
            assert after.keys() == before.keys()


@on_sqlite
class TestReload:
    def test_takes_nothing_back_and_leaves_nothing(self, app: Flask, base: Path) -> None:
        with serving(app, base, workers=2) as served:
            tally = Tally()
            before = served.metrics()
            for reloads in range(1, 4):
                with load(served.server.port, 80, tally):
                    pass
                booted = served.server.log().count("Booting worker")
                served.server.process.send_signal(signal.SIGHUP)
                wait_for(lambda: served.server.log().count("Booting worker") == booted + 2)  # noqa: B023 -- as above
                wait_for(lambda: served.server.log().count("Worker exiting") >= 2 * reloads)  # noqa: B023 -- as above

            grown = served.metrics().since(before)
            assert grown.total(COUNT) == tally.answered == tally.sent
            assert len(served.slots()) <= 4


@on_sqlite
class TestRestart:
    def test_begins_anew_after_a_master_was_killed(self, app: Flask, base: Path) -> None:
        port = free_port()
        with serving(app, base, workers=2, port=port) as served:
            with load(port, 80, Tally()):
                pass
            workers = workers_of(served.server)
            served.server.process.kill()
            served.server.process.wait()
            # They notice that their master has gone.
            wait_for(lambda: not any(is_running(pid) for pid in workers))
            left = served.folder
        assert list(left.glob("*.db"))

        with serving(app, base, workers=1, port=port) as served:
            assert served.folder == left
            assert served.slots() == {"1"}
            assert served.metrics().total(COUNT) < 80
        assert list(base.iterdir()) == []

    def test_of_two_servers_leaves_each_its_own(self, app: Flask, base: Path, tmp_path: Path) -> None:
        with serving(app, base, workers=1) as first:
            own = first.folder
            with serving(app, base, workers=1) as second, load(second.server.port, 80, Tally()):
                assert len(list(base.iterdir())) == 2
            assert list(base.iterdir()) == [own]
            assert first.metrics().total(COUNT) < 80

    def test_by_an_upgrade_goes_on_counting(self, app: Flask, base: Path, tmp_path: Path) -> None:
        # As the command `gunicorn` does: one that was begun with -m cannot begin itself again.
        script = tmp_path / "gunicorn-script"
        script.write_text("from gunicorn.app.wsgiapp import run\nrun()\n")
        with serving(app, base, workers=2, program=[str(script)]) as served, ExitStack() as stack:
            tally, before = Tally(), served.metrics()
            with load(served.server.port, 80, tally):
                pass
            served.server.process.send_signal(signal.SIGUSR2)
            successor = wait_for(lambda: [pid for pid in workers_of(served.server) if len(children_of(pid)) == 2])[0]
            stack.callback(end, successor)
            wait_for(lambda: len(served.slots()) == 4)
            with load(served.server.port, 80, tally):
                pass
            served.server.process.terminate()
            assert served.server.process.wait(30) == 0
            with load(served.server.port, 80, tally):
                pass

            # The probe of the start is counted before, and none since.
            assert served.metrics().since(before).total(COUNT) == tally.answered == tally.sent
            end(successor)
            wait_for(lambda: not list(base.iterdir()))

    def test_needs_a_place_for_the_folder(self, app: Flask) -> None:
        env = {name: os.environ[name] for name in INHERITED if name in os.environ}
        env |= environment(app.config["DATABASE_URL"], PROMETHEUS_MULTIPROC_DIR="/proc/nowhere", PORT=str(free_port()))

        ended = subprocess.run(
            [sys.executable, *GUNICORN, "wsgi:app"],
            cwd=PROJECT, env=env, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

        assert ended.returncode == 1
        assert ended.stderr.splitlines()[-1].startswith("catalog-api: no folder for metrics can be made: ")


def children_of(pid: int) -> list[str]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return path.read_text().split() if path.exists() else []


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def end(pid: int) -> None:
    """End a process that this one has not started itself."""
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    wait_for(lambda: not is_running(pid))


@on_sqlite
class TestPorts:
    def test_of_a_server_answer_apart(self, app: Flask, base: Path) -> None:
        with serving(app, base, workers=2) as served:
            main, other = served.server.port, served.metrics_port
            claims = {"host": f"127.0.0.1:{other}", "x_forwarded_port": str(other)}
            client = Client(main)
            assert client.get("//metrics", **claims).status == 404
            client.close()

            assert {path: ask(other, path).status for path in ("//metrics", "//livez", "//readyz", "//health")} == (
                dict.fromkeys(("//metrics", "//livez", "//readyz", "//health"), 200)
            )
            assert {ask(other, path).status for path in ("/products", "//docs", "//", "/events/stream")} == {404}

    def test_ask_for_the_token(self, app: Flask, base: Path) -> None:
        token = "0123456789abcdefghijklmnopqrstuvwxyz"
        with serving(app, base, workers=1, METRICS_TOKEN=token) as served:
            for port in (served.server.port, served.metrics_port):
                assert ask(port, "//metrics").status == 401
                assert ask(port, "//metrics", token).status == 200

    def test_of_a_worker_has_what_it_counts(self, app: Flask, tmp_path: Path) -> None:
        port, token = free_port(), "0123456789abcdefghijklmnopqrstuvwxyz"
        env = environment(app.config["DATABASE_URL"], METRICS_PORT=str(port), METRICS_TOKEN=token, LOG_LEVEL="INFO")
        log = tmp_path / "worker.log"
        with process(["-m", "flask", "worker"], env, log):
            wait_for(lambda: "worker_started" in log.read_text())
            wait_for(lambda: can_connect(port))

            assert ask(port, "//metrics").status == 401
            assert ask(port, "//livez", token).status == 404
            wait_for(lambda: has_counted(port, token))
            metrics = read_metrics(port, authorization=f"Bearer {token}")
            assert metrics.value("process_resident_memory_bytes") > 10**7

            # The next of this machine, with the same settings, works all the same.
            with process(["-m", "flask", "worker"], env, tmp_path / "second.log"):
                wait_for(lambda: "metrics_not_served" in (tmp_path / "second.log").read_text())
                wait_for(lambda: "worker_started" in (tmp_path / "second.log").read_text())

    def test_of_celery_has_what_all_its_processes_count(
        self, app: Flask, redis_url: str, base: Path, tmp_path: Path
    ) -> None:
        port, log = free_port(), tmp_path / "celery.log"
        changed = {"METRICS_PORT": str(port), "CELERY_BROKER_URL": redis_url, "PROMETHEUS_MULTIPROC_DIR": str(base)}
        env = environment(app.config["DATABASE_URL"], **changed)
        schedule = ("--beat", "--schedule", str(tmp_path / "beat"))
        with process(
            ["-m", "celery", "--app", "worker", "worker", "--concurrency", "2", "--loglevel", "INFO", *schedule],
            env,
            log,
        ):
            wait_for(lambda: can_connect(port))
            wait_for(lambda: has_counted(port))

            (folder,) = base.iterdir()
            assert {path.stem for path in folder.glob("*.lock")} >= {"1", "2", "3"}
        assert list(base.iterdir()) == []


def can_connect(port: int) -> bool:
    try:
        with wire(port):
            return True
    except ConnectionRefusedError:
        return False


def has_counted(port: int, token: str = "") -> bool:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return read_metrics(port, **headers).value("catalog_database_statements_total") > 0
