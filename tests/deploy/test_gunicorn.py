"""gunicorn.conf.py, as `gunicorn wsgi:app` reads it."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPMessage
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import requests

from app.web.errors import STATUSES
from config import VERSION
from tests.live.wire import Wire, wait_for, wire
from tests.servers import INHERITED, PROJECT, GunicornServer, gunicorn_server

pytestmark = pytest.mark.live
needs_fast = pytest.mark.skipif(find_spec("gunicorn_h1c") is None, reason="gunicorn_h1c is not installed (make fast)")


def settings(folder: Path) -> dict[str, str]:
    return {
        "APP_ENV": "testing",
        "HOME": str(folder),
        "SECRET_KEY": "0123456789abcdef" * 2,
        "JWT_SECRET_KEY": "fedcba9876543210" * 2,
        "DATABASE_URL": f"sqlite:///{folder / 'catalog.db'}",
        "MEDIA_STORE": (folder / "media").as_uri(),
    }


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[GunicornServer]:
    """A server of one worker and few threads."""
    with gunicorn_server(settings(home), workers=1, threads=2) as running:
        yield running


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GunicornServer]:
    """A server that gives its clients a second."""
    with serving(tmp_path_factory.mktemp("impatient"), CLIENT_TIMEOUT="1", RATE_LIMIT_ENABLED="false") as running:
        yield running


@pytest.fixture(scope="module", params=["python", pytest.param("fast", marks=needs_fast)])
def parser(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GunicornServer]:
    """A server for each of gunicorn's parsers."""
    with serving(tmp_path_factory.mktemp("parser"), "--http-parser", request.param) as running:
        yield running


def send(server: GunicornServer, request: bytes) -> tuple[int, requests.structures.CaseInsensitiveDict[str], str]:
    """What a server answers to bytes that no HTTP client would send. It answers once."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    head, _, body = answer.partition("\r\n\r\n")
    status, *lines = head.split("\r\n")
    headers = requests.structures.CaseInsensitiveDict(dict(line.split(": ", 1) for line in lines))
    assert len(body) == int(headers["Content-Length"])
    return int(status.split()[1]), headers, body


#: What would be answered as a request of its own if the one before it were read in another way.
SMUGGLED = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
LOGIN = b"POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
HOSTILE: dict[str, tuple[bytes, int, str]] = {
    "no request line": (b"<script>\r\n\r\n", 400, "malformed"),
    "empty lines": (b"\r\n\r\n\r\n", 400, "malformed"),
    "unknown version": (b"GET / HTTP/9.1\r\n\r\n", 400, "malformed"),
    "lines without CR": (b"GET / HTTP/1.1\nHost: x\n\n", 400, "malformed"),
    "a line without CR": (b"GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", 400, "malformed"),
    "no host": (b"GET /livez HTTP/1.1\r\n\r\n", 400, "host_missing"),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400, "malformed"),
    "bad name of a header": (b"GET / HTTP/1.1\r\nHost: x\r\nA b: c\r\n\r\n", 400, "malformed"),
    "blank after a name": (b"GET / HTTP/1.1\r\nHost: x\r\nA : c\r\n\r\n", 400, "malformed"),
    "NUL in a header": (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n", 400, "malformed"),
    "CR in a header": (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n", 400, "malformed"),
    "folded header": (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 400, "malformed"),
    "NUL in the target": (b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "malformed"),
    "negative length": (LOGIN + b"Content-Length: -1\r\n\r\n", 400, "malformed"),
    "length with a sign": (LOGIN + b"Content-Length: +2\r\n\r\n{}", 400, "malformed"),
    "two lengths": (LOGIN + b"Content-Length: 0\r\nContent-Length: 37\r\n\r\n" + SMUGGLED, 400, "malformed"),
    "a length twice": (LOGIN + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}" + SMUGGLED, 400, "malformed"),
    "a list of lengths": (LOGIN + b"Content-Length: 2, 2\r\n\r\n{}" + SMUGGLED, 400, "malformed"),
    "length and chunks": (
        LOGIN + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED, 400, "malformed",
    ),
    "chunks and length": (
        LOGIN + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SMUGGLED, 400, "malformed",
    ),
    "chunks in chunks": (LOGIN + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400, "malformed"),
    "chunks before another coding": (LOGIN + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400, "malformed"),
    "another coding alone": (LOGIN + b"Transfer-Encoding: gzip\r\n\r\n", 400, "malformed"),
    "unknown coding": (LOGIN + b"Transfer-Encoding: nonsense\r\n\r\n", 400, "malformed"),
    "chunks with a tab": (LOGIN + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400, "malformed"),
    "bad size of a chunk": (LOGIN + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", 400, "body_unreadable"),
    "bad end of a chunk": (LOGIN + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}XX0\r\n\r\n", 400, "body_unreadable"),
    "unknown expectation": (b"GET / HTTP/1.1\r\nHost: x\r\nExpect: wonders\r\n\r\n", 417, "expectation_failed"),
    "long target": (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "uri_too_long"),
    "long header": (
        b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 9000 + b"\r\n\r\n", 431, "request_header_fields_too_large",
    ),
    "many headers": (
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: a\r\n" * 200 + b"\r\n", 431, "request_header_fields_too_large",
    ),
    "endless header": (b"GET / HTTP/1.1\r\nA: " + b"a" * 80_000, 431, "request_header_fields_too_large"),
    "long headers": (
        b"GET / HTTP/1.1\r\nHost: x\r\n" + (b"A: " + b"a" * 4000 + b"\r\n") * 30,
        431, "request_header_fields_too_large",
    ),
}  # fmt: skip

#: What the application says, by the code of a status that the server refuses with, too.
SENTENCES = {category.code(): category.sentence() for category in STATUSES}


class TestRequestsThatCannotBeRead:
    @pytest.mark.parametrize(("request_bytes", "status", "code"), HOSTILE.values(), ids=HOSTILE)
    def test_are_refused_as_problems(
        self, parser: GunicornServer, request_bytes: bytes, status: int, code: str
    ) -> None:
        answered, headers, body = send(parser, request_bytes)

        problem = json.loads(body)
        assert (answered, problem["code"]) == (status, code)
        assert code not in SENTENCES or problem["detail"] == SENTENCES[code]
        assert headers["Content-Type"] == "application/problem+json"
        assert headers["X-Request-ID"] in body

    def test_are_not_quoted(self, parser: GunicornServer) -> None:
        _, _, body = send(parser, b"<script>\r\n\r\n")

        assert "script" not in body

    def test_leave_the_server_in_service(self, parser: GunicornServer) -> None:
        send(parser, b"<script>\r\n\r\n")

        assert requests.get(f"{parser.url}/livez", timeout=5).status_code == 200


class TestParser:
    @needs_fast
    @pytest.mark.skipif(
        not Path("/proc/self/maps").exists(), reason="this system does not tell what a process has loaded"
    )
    def test_is_the_one_in_c_where_it_is_installed(self, server: GunicornServer) -> None:
        assert requests.get(f"{server.url}/livez", timeout=5).status_code == 200

        (worker,) = re.findall(r"Booting worker with pid: (\d+)", server.log())
        assert "gunicorn_h1c" in Path(f"/proc/{worker}/maps").read_text()


class TestServing:
    def test_opens_no_control_socket(self, server: GunicornServer, home: Path) -> None:
        assert [path for path in home.rglob("*") if path.is_socket()] == []

    def test_logs_first_what_it_runs_on(self, server: GunicornServer) -> None:
        release = f"catalog-api {VERSION} (commit unknown)"
        assert server.log().splitlines()[0].endswith(f"] [INFO] {release}, testing, sqlite, 1 worker x 2 threads")

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
    def test_are_kept_until_they_are_idle_for_too_long(self, tmp_path: Path) -> None:
        with serving(tmp_path, "--keep-alive", "1") as running, wire(running.port) as connection:
            for _ in range(3):
                connection.send(GET)
                assert answered(connection)
            assert connection.read() is None

    def test_are_answered_when_the_worker_stops(self, tmp_path: Path) -> None:
        with serving(tmp_path) as running, ExitStack() as stack:
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

    def test_outlive_no_worker_that_has_answered_enough(self, tmp_path: Path) -> None:
        with serving(tmp_path, "--max-requests", "5") as running:
            statuses = [requests.get(f"{running.url}/livez", timeout=30).status_code for _ in range(20)]
            assert running.log().count("Booting worker") >= 4

        assert statuses == [200] * 20

    def test_that_say_nothing_take_no_thread(self, server: GunicornServer) -> None:
        with ExitStack() as stack:
            for _ in range(20):
                stack.enter_context(wire(server.port))

            # gthread's threads would wait for each of them, five seconds long.
            assert requests.get(f"{server.url}/livez", timeout=10).status_code == 200

    def test_are_answered_in_turn_however_much_one_of_them_asks(self, server: GunicornServer) -> None:
        with ExitStack() as stack:
            greedy = [stack.enter_context(wire(server.port)) for _ in range(4)]
            for connection in greedy:
                connection.send(GET * 300)
            assert requests.get(f"{server.url}/livez", timeout=30).status_code == 200
            for connection in greedy:
                for _ in range(300):
                    assert answered(connection)

    def test_are_not_taken_for_tls(self, tmp_path: Path) -> None:
        environment = settings(tmp_path) | {"PATH": os.environ["PATH"]}

        ended = subprocess.run(
            [sys.executable, "-m", "gunicorn", "--certfile", "wsgi.py", "wsgi:app"],
            cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip

        assert ended.returncode == 1
        assert ended.stderr.endswith("catalog-api: this server speaks no TLS; the proxy in front of it does\n")


class TestSlowClients:
    """With nothing in front of a server of one worker and few threads."""

    HALF_A_HEAD = b"GET /livez HTTP/1.1\r\nHost: x\r\n"
    HALF_A_BODY = (
        b"POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
    )

    def test_hold_no_thread_with_half_a_head(self, server: GunicornServer) -> None:
        with ExitStack() as stack:
            for _ in range(20):
                stack.enter_context(wire(server.port)).send(self.HALF_A_HEAD)

            for _ in range(10):
                assert requests.get(f"{server.url}/livez", timeout=5).status_code == 200

    @pytest.mark.parametrize("sent", [HALF_A_HEAD, HALF_A_BODY], ids=["head", "body"])
    def test_are_refused_when_they_stop(self, impatient: GunicornServer, sent: bytes) -> None:
        with ExitStack() as stack:
            slow = [stack.enter_context(wire(impatient.port)) for _ in range(8)]
            for connection in slow:
                connection.send(sent)
            for connection in slow:
                timed_out(connection)

        assert requests.get(f"{impatient.url}/livez", timeout=5).status_code == 200
        assert "Traceback" not in impatient.log()

    @pytest.mark.parametrize("sent", [HALF_A_HEAD, HALF_A_BODY], ids=["head", "body"])
    def test_are_refused_when_they_dribble(self, impatient: GunicornServer, sent: bytes) -> None:
        with wire(impatient.port) as connection, dribbling(connection, sent):
            timed_out(connection)

    def test_may_dribble_a_head_in_time(self, impatient: GunicornServer) -> None:
        with wire(impatient.port) as connection:
            for byte in GET:
                connection.send(bytes([byte]))
                time.sleep(0.002)

            assert answered(connection)

    def test_hold_nothing_with_half_a_head_behind_a_whole_one(self, impatient: GunicornServer) -> None:
        with wire(impatient.port) as connection:
            connection.send(GET + b"GET /livez HTTP/1.1\r\nHos")
            assert answered(connection)
            for _ in range(3):
                assert requests.get(f"{impatient.url}/livez", timeout=1).status_code == 200
            refused = connection.read()

        assert refused is not None
        assert refused.status == 408

    def test_are_closed_when_they_say_nothing(self, impatient: GunicornServer) -> None:
        with wire(impatient.port) as connection:
            assert connection.read() is None

    def test_hold_no_thread_when_they_do_not_hang_up(self, server: GunicornServer) -> None:
        with ExitStack() as stack:
            for _ in range(20):
                connection = stack.enter_context(wire(server.port))
                connection.send(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
                assert answered(connection)

            # Two seconds for each of them are more.
            assert requests.get(f"{server.url}/livez", timeout=10).status_code == 200

    def test_are_left_when_they_take_no_answers(self, impatient: GunicornServer) -> None:
        with ExitStack() as stack:
            for _ in range(4):
                deaf = stack.enter_context(socket.socket())
                deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                deaf.connect(("127.0.0.1", impatient.port))
                deaf.sendall(GET.replace(b"/livez", b"/openapi.json") * 100)

            assert requests.get(f"{impatient.url}/livez", timeout=30).status_code == 200
            wait_for(lambda: impatient.log().count("took nothing of its response") == 4)
            assert "Traceback" not in impatient.log()


class TestUnreader:
    """The deadline of a body."""

    def test_moves_with_what_arrives(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            unreader = import_module("gunicorn_worker").Unreader(ours, 2)
            unreader.start(Request())

            for _ in range(6):
                time.sleep(0.5)
                theirs.sendall(bytes(unreader.BLOCK_BYTES))
                assert len(unreader.read(unreader.BLOCK_BYTES)) == unreader.BLOCK_BYTES

    def test_does_not_move_with_less_than_a_block(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            request = Request()
            unreader = import_module("gunicorn_worker").Unreader(ours, 0.5)
            unreader.start(request)
            theirs.sendall(bytes(1000))
            assert len(unreader.read(1000)) == 1000
            time.sleep(0.6)
            theirs.sendall(bytes(1000))

            with pytest.raises(TimeoutError):
                unreader.read(1000)

            assert request.is_last


class Request:
    """What an unreader has to do with a request."""

    is_last = False

    def force_close(self) -> None:
        self.is_last = True


class TestFiles:
    """Fewer files than clients who connect and say nothing; each of them is a file."""

    @pytest.mark.parametrize(
        "options", [(), ("--worker-connections", "1000")], ids=["known at the start", "found out on the way"]
    )
    def test_that_run_out_end_no_worker(self, tmp_path: Path, options: tuple[str, ...]) -> None:
        with serving(tmp_path, *options, workers=2, files=200) as running, ExitStack() as stack:
            for _ in range(500):
                stack.enter_context(wire(running.port))
            for _ in range(10):
                assert requests.get(f"{running.url}/livez", timeout=30).status_code == 200
            stack.close()
            assert requests.get(f"{running.url}/livez", timeout=30).status_code == 200

            assert running.log().count("Booting worker") == 2
            assert "Traceback" not in running.log()


@contextmanager
def serving(
    folder: Path, *options: str, workers: int = 1, files: int | None = None, **changed: str
) -> Iterator[GunicornServer]:
    """A server whose options on the command line and whose settings are others than the shipped."""
    environment = settings(folder) | {"GUNICORN_CMD_ARGS": " ".join(options), **changed}
    with gunicorn_server(environment, workers=workers, threads=2, files=files) as running:
        yield running


@contextmanager
def dribbling(connection: Wire, beginning: bytes) -> Iterator[None]:
    """Send a beginning, and then a byte ten times a second for the length of a block."""
    over = threading.Event()

    def dribble() -> None:
        while not over.wait(0.1):
            with contextlib.suppress(OSError):
                connection.send(b"a")

    connection.send(beginning)
    thread = threading.Thread(target=dribble)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def timed_out(connection: Wire) -> None:
    """Read the last answer of a connection, which says that the client was too slow."""
    answer = connection.read()
    assert answer is not None
    assert (answer.status, answer.headers["Content-Type"]) == (408, "application/problem+json")
    assert answer.headers["Connection"] == "close"
    assert answer.code == "request_timeout"
    assert answer.json["detail"] == SENTENCES["request_timeout"]
    assert connection.read() is None


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
    except ConnectionResetError:  # it closed in between
        pass
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
