"""gunicorn.conf.py, as `gunicorn wsgi:app` reads it."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.servers import INHERITED, PROJECT, GunicornServer, gunicorn_server

pytestmark = pytest.mark.live


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
