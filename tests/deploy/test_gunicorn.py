"""gunicorn.conf.py, as `gunicorn wsgi:app` reads it."""

import os
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPMessage
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.live.wire import Wire, wait_for, wire
from tests.servers import INHERITED, PROJECT, GunicornServer, gunicorn_server

pytestmark = pytest.mark.live
needs_epoll = pytest.mark.skipif(not hasattr(select, "epoll"), reason="this system has no epoll")


def settings(folder: Path) -> dict[str, str]:
    return {
        "APP_ENV": "testing",
        "HOME": str(folder),
        "SECRET_KEY": "0123456789abcdef" * 2,
        "JWT_SECRET_KEY": "fedcba9876543210" * 2,
        "DATABASE_URL": f"sqlite:///{folder / 'catalog.db'}",
    }


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[GunicornServer]:
    with gunicorn_server(settings(home), workers=1, threads=2) as running:
        yield running


def send(server: GunicornServer, request: bytes) -> tuple[int, requests.structures.CaseInsensitiveDict[str], str]:
    """What a server answers to bytes that no HTTP client would send."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    head, _, body = answer.partition("\r\n\r\n")
    status, *lines = head.split("\r\n")
    headers = requests.structures.CaseInsensitiveDict(dict(line.split(": ", 1) for line in lines))
    return int(status.split()[1]), headers, body


class TestRequestsThatCannotBeRead:
    @pytest.mark.parametrize(
        ("request_bytes", "status", "code"),
        [
            (b"<script>\r\n\r\n", 400, "malformed"),
            (b"GET / HTTP/9.1\r\n\r\n", 400, "malformed"),
            (b"GET / HTTP/1.1\r\nHost: x\r\nA b: c\r\n\r\n", 400, "malformed"),
            (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400, "malformed"),
            (b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "malformed"),
            (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: nonsense\r\n\r\n", 400, "malformed"),
            (b"GET / HTTP/1.1\r\nHost: x\r\nExpect: wonders\r\n\r\n", 417, "expectation_failed"),
            (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", 414, "uri_too_long"),
            (b"GET / HTTP/1.1\r\nA: " + b"a" * 9000 + b"\r\n\r\n", 431, "request_header_fields_too_large"),
        ],
        ids=[
            "no request line",
            "unknown version",
            "bad name of a header",
            "negative length",
            "two lengths",
            "unknown coding",
            "unknown expectation",
            "long target",
            "long header",
        ],
    )
    def test_are_refused_as_problems(
        self, server: GunicornServer, request_bytes: bytes, status: int, code: str
    ) -> None:
        answered, headers, body = send(server, request_bytes)

        assert answered == status
        assert headers["Content-Type"] == "application/problem+json"
        assert f'"code": "{code}"' in body
        assert headers["X-Request-ID"] in body

    def test_are_not_quoted(self, server: GunicornServer) -> None:
        _, _, body = send(server, b"<script>\r\n\r\n")

        assert "script" not in body

    def test_leave_the_server_in_service(self, server: GunicornServer) -> None:
        send(server, b"<script>\r\n\r\n")

        assert requests.get(f"{server.url}/livez", timeout=5).status_code == 200


class TestServing:
    def test_opens_no_control_socket(self, server: GunicornServer, home: Path) -> None:
        assert [path for path in home.rglob("*") if path.is_socket()] == []

    def test_logs_no_query(self, server: GunicornServer) -> None:
        requests.get(f"{server.url}/livez?looking=for-something", timeout=5)

        assert "for-something" not in server.log()

    @pytest.mark.parametrize("asked_by", [signal.SIGINT, signal.SIGTERM])
    def test_stops_in_order(self, tmp_path: Path, asked_by: signal.Signals) -> None:
        with gunicorn_server(settings(tmp_path), workers=2, threads=2) as running:
            running.process.send_signal(asked_by)

            assert running.process.wait(timeout=15) == 0
            assert "Traceback" not in running.log()


class TestConnections:
    """Of the workers that wait for connections by epoll, and of those that leave it to gthread."""

    @pytest.fixture(params=[pytest.param("EpollWorker", marks=needs_epoll), "Worker"])
    def worker(self, request: pytest.FixtureRequest) -> str:
        name: str = request.param
        return name

    @contextmanager
    def serving(self, folder: Path, worker: str, *options: str) -> Iterator[GunicornServer]:
        arguments = " ".join(["--worker-class", f"gunicorn_worker.{worker}", *options])
        with gunicorn_server(settings(folder) | {"GUNICORN_CMD_ARGS": arguments}, workers=1, threads=2) as running:
            yield running

    def test_are_kept_until_they_are_idle_for_too_long(self, tmp_path: Path, worker: str) -> None:
        with self.serving(tmp_path, worker, "--keep-alive", "1") as running, wire(running.port) as connection:
            for _ in range(3):
                connection.send(GET)
                assert answered(connection)
            assert connection.read() is None

    def test_are_answered_when_the_worker_stops(self, tmp_path: Path, worker: str) -> None:
        with self.serving(tmp_path, worker) as running, ExitStack() as stack:
            crowd = [stack.enter_context(wire(running.port)) for _ in range(6)]
            for connection in crowd:
                connection.send(GET)
                assert answered(connection)
            running.process.send_signal(signal.SIGTERM)
            wait_for(lambda: refuses(running.port))
            crowd[0].send(GET)
            assert answered(crowd[0])["Connection"] == "close"
            for connection in crowd:
                assert connection.read() is None

            assert running.process.wait(timeout=15) == 0
            assert "Traceback" not in running.log()

    def test_outlive_no_worker_that_has_answered_enough(self, tmp_path: Path, worker: str) -> None:
        with self.serving(tmp_path, worker, "--max-requests", "5") as running:
            statuses = [requests.get(f"{running.url}/livez", timeout=30).status_code for _ in range(20)]
            assert running.log().count("Booting worker") >= 4

        assert statuses == [200] * 20

    @needs_epoll
    def test_are_left_to_workers_that_have_fewer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        waits: list[float] = []
        monkeypatch.setattr("gunicorn_worker.time.sleep", waits.append)
        monkeypatch.setattr("gunicorn.workers.gthread.ThreadWorker.accept", lambda *_: waits.append(-1))
        # gunicorn has no types, and neither has what stands on it.
        worker: Any = object.__new__(import_module("gunicorn_worker").EpollWorker)
        for worker.nr_conns in (0, 1, 2, 500):
            worker.accept(None)

        assert waits == [0, -1, pytest.approx(0.0001), -1, pytest.approx(0.0002), -1, 0.001, -1]

    @needs_epoll
    def test_that_say_nothing_take_no_thread(self, tmp_path: Path) -> None:
        with self.serving(tmp_path, "EpollWorker") as running, ExitStack() as stack:
            for _ in range(20):
                stack.enter_context(wire(running.port))

            # gthread's two threads would wait for each of them, five seconds long.
            assert requests.get(f"{running.url}/livez", timeout=10).status_code == 200

    def test_are_answered_in_turn_however_much_one_of_them_asks(self, tmp_path: Path, worker: str) -> None:
        with self.serving(tmp_path, worker) as running, ExitStack() as stack:
            greedy = [stack.enter_context(wire(running.port)) for _ in range(4)]
            for connection in greedy:
                connection.send(GET * 300)
            assert requests.get(f"{running.url}/livez", timeout=30).status_code == 200
            for connection in greedy:
                for _ in range(300):
                    assert answered(connection)


GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


def answered(connection: Wire) -> HTTPMessage:
    """The headers of the next answer, which is a good one."""
    answer = connection.read()
    assert answer is not None
    assert answer.status == 200
    return answer.headers


def refuses(port: int) -> bool:
    """Whether nobody listens there any more."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


class TestWrongSettings:
    @pytest.mark.parametrize(
        ("wrong", "named"),
        [
            ({"PORT": "http"}, "PORT"),
            ({"WEB_CONCURRENCY": "0"}, "WEB_CONCURRENCY"),
            ({"APP_ENV": "production", "SECRET_KEY": "short"}, "SECRET_KEY"),
        ],
        ids=["no number", "no worker", "weak secret"],
    )
    def test_stop_the_start_with_one_line(self, tmp_path: Path, wrong: dict[str, str], named: str) -> None:
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ} | settings(tmp_path) | wrong

        ended = subprocess.run(
            [sys.executable, "-m", "gunicorn", "wsgi:app"],
            cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip

        assert ended.returncode == 1
        assert re.fullmatch(rf"catalog-api: {named} [^\n]+\n", ended.stderr)
