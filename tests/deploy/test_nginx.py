"""deploy/nginx.conf, in front of an upstream that tells what reached it, and in front of gunicorn."""

import contextlib
import http.client
import http.server
import json
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import requests

from app.clients.object_store import ObjectStore
from tests.servers import free_port, gunicorn_server

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed"),
]

CONFIGURATION = Path(__file__).resolve().parents[2] / "deploy" / "nginx.conf"


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers with the header fields that it got."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def do_GET(self) -> None:
        body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class's name
        pass


@contextmanager
def nginx(folder: Path, upstream: int, *, streams: int | None = None) -> Iterator[int]:
    """Run nginx with the shipped configuration, moved to ports and folders of this test; yield its port.

    The volume of media is the folder's ``media``, if that is there.
    """
    port = free_port()
    text = CONFIGURATION.read_text()
    for shipped, here in {
        "listen 80;": f"listen 127.0.0.1:{port};",
        "server api:8000;": f"server 127.0.0.1:{upstream};",
        "server streams:8000;": f"server 127.0.0.1:{streams or upstream};",
        "/tmp/nginx": f"{folder}/nginx",
        "/srv/media": f"{folder}/media",
        "/dev/stdout": f"{folder}/access.log",
        "/dev/stderr": f"{folder}/error.log",
    }.items():
        assert shipped in text
        text = text.replace(shipped, here)
    (folder / "nginx.conf").write_text(text)
    server = subprocess.Popen(
        ["nginx", "-e", folder / "error.log", "-p", folder, "-c", folder / "nginx.conf", "-g", "daemon off;"]
    )
    try:
        _wait_for(port)
        yield port
    finally:
        server.terminate()
        server.wait(timeout=10)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    # nginx's workers run as another user when it is started by root.
    for place in (tmp_path, *tmp_path.parents):
        if place.is_relative_to(tempfile.gettempdir()) and place != Path(tempfile.gettempdir()):
            place.chmod(0o755)
    return tmp_path


@pytest.fixture
def edge(folder: Path) -> Iterator[str]:
    with ExitStack() as stack:
        upstream = stack.enter_context(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo))
        thread = threading.Thread(target=upstream.serve_forever)
        thread.start()
        stack.callback(thread.join)
        stack.callback(upstream.shutdown)
        port = stack.enter_context(nginx(folder, upstream.server_port))
        yield f"http://127.0.0.1:{port}"


class TestForwardedFields:
    def test_say_what_nginx_knows_and_not_what_the_client_claims(self, edge: str) -> None:
        claims = {
            "Forwarded": "for=192.0.2.1;proto=https;host=evil.example",
            "Proxy": "http://evil.example",
            "X-Forwarded-For": "192.0.2.1",
            "X-Forwarded-Host": "evil.example",
            "X-Forwarded-Port": "99",
            "X-Forwarded-Prefix": "/evil",
            "X-Forwarded-Proto": "https",
            "X-Real-IP": "192.0.2.1",
        }

        seen = requests.get(edge, headers=claims | {"Host": "shop.example:8080"}, timeout=5).json()

        assert {name: seen.get(name.lower()) for name in claims} == {
            "Forwarded": None,
            "Proxy": None,
            "X-Forwarded-For": "127.0.0.1",
            "X-Forwarded-Host": "shop.example",
            "X-Forwarded-Port": None,
            "X-Forwarded-Prefix": None,
            "X-Forwarded-Proto": "http",
            "X-Real-IP": None,
        }
        assert seen["host"] == "shop.example"

    def test_leave_credentials_and_conditions_alone(self, edge: str) -> None:
        sent = {"Authorization": "Bearer x", "X-API-Key": "y", "If-Match": '"1"', "Idempotency-Key": "z"}

        seen = requests.get(edge, headers=sent, timeout=5).json()

        assert {name: seen.get(name.lower()) for name in sent} == sent


class TestRefusals:
    def test_of_a_body_that_is_too_large(self, edge: str) -> None:
        answer = requests.post(edge, data=b"x" * (1024 * 1024 + 1), timeout=5)

        self.assert_problem(answer, 413, "content_too_large")

    def test_of_a_transfer_coding_that_nobody_knows(self, edge: str) -> None:
        answer = requests.post(edge, headers={"Transfer-Encoding": "nonsense"}, timeout=5)

        self.assert_problem(answer, 400, "malformed")

    def test_of_header_fields_that_are_too_large(self, edge: str) -> None:
        answer = requests.get(edge, headers={"X-Long": "x" * 9000}, timeout=5)

        self.assert_problem(answer, 431, "request_header_fields_too_large")

    def test_of_what_is_its_own(self, edge: str) -> None:
        answer = requests.get(f"{edge}/.problem/503", timeout=5)

        self.assert_problem(answer, 404, "not_found")

    def test_while_no_server_runs(self, folder: Path) -> None:
        with nginx(folder, upstream=free_port()) as port:
            answer = requests.get(f"http://127.0.0.1:{port}", timeout=5)

        self.assert_problem(answer, 503, "unavailable")
        assert int(answer.headers["Retry-After"]) > 0

    @staticmethod
    def assert_problem(answer: requests.Response, status: int, code: str) -> None:
        assert answer.status_code == status
        assert answer.headers["Content-Type"] == "application/problem+json"
        problem = answer.json()
        assert (problem["status"], problem["code"]) == (status, code)
        assert problem["request_id"] == answer.headers["X-Request-ID"]


class TestAccessLog:
    def test_holds_no_query(self, edge: str, folder: Path) -> None:
        for path in ("/api/v1/products", "/.problem/503"):
            requests.get(f"{edge}{path}?search=something", timeout=5)

        text = self.read(folder / "access.log", lines=2)
        logged = [(line["path"], line["status"]) for line in map(json.loads, text.splitlines())]
        assert logged[-2:] == [("/api/v1/products", 200), ("/.problem/503", 404)]
        assert "something" not in text

    @staticmethod
    def read(log: Path, lines: int) -> str:
        """Wait for the lines: nginx writes each after its answer."""
        deadline = time.monotonic() + 5
        while (text := log.read_text()).count("\n") < lines:
            assert time.monotonic() < deadline, text
            time.sleep(0.02)
        return text


class TestUpgrades:
    @pytest.mark.parametrize(
        ("path", "asked", "passed"),
        [
            ("/api/v1/events/ws", "websocket", ("websocket", "upgrade")),
            ("/api/v1/events/ws?cursor=x", "WebSocket", ("websocket", "upgrade")),
            ("/api/v1/events/ws", "h2c", (None, None)),
            ("/api/v1/events/ws", "websocket, h2c", (None, None)),
            ("/api/v1/events/stream", "websocket", (None, None)),
            ("/api/v1/products", "websocket", (None, None)),
        ],
    )
    def test_are_for_the_web_socket_alone(
        self, edge: str, path: str, asked: str, passed: tuple[str | None, str | None]
    ) -> None:
        seen = requests.get(f"{edge}{path}", headers={"Upgrade": asked, "Connection": "Upgrade"}, timeout=5).json()

        assert (seen.get("upgrade"), seen.get("connection")) == passed


class TestMedia:
    NAME = f"{'0123456789abcdef' * 4}-320.webp"

    def test_is_served_from_the_folder_as_by_the_application_which_has_the_rest(self, folder: Path) -> None:
        store = ObjectStore((folder / "media").as_uri())
        original, missing = self.NAME.partition("-")[0], self.NAME.replace("320", "640")
        store.put(f"public/{self.NAME}", b"rendition", media_type="image/webp")
        store.put(f"originals/{original}", b"with GPS", media_type="image/jpeg")
        names = (
            "Content-Type", "Content-Length", "Cache-Control", "X-Content-Type-Options", "Content-Security-Policy",
            "Cross-Origin-Resource-Policy",
        )  # fmt: skip
        settings = {
            "APP_ENV": "testing",
            "SECRET_KEY": "0123456789abcdef" * 2,
            "JWT_SECRET_KEY": "fedcba9876543210" * 2,
            "DATABASE_URL": f"sqlite:///{folder / 'catalog.db'}",
            "MEDIA_STORE": (folder / "media").as_uri(),
        }
        with ExitStack() as stack:
            server = stack.enter_context(gunicorn_server(settings, workers=1, threads=2))
            edge = f"http://127.0.0.1:{stack.enter_context(nginx(folder, server.port))}"

            here, there = (requests.get(f"{url}/media/{self.NAME}", timeout=5) for url in (edge, server.url))

            assert (here.content, there.content) == (b"rendition", b"rendition")
            assert {name: here.headers.get(name) for name in names} == {name: there.headers[name] for name in names}
            # An answer that nginx makes itself has the time of the file, and no id of the application's.
            assert ("Last-Modified" in here.headers, "X-Request-ID" in here.headers) == (True, False)
            known = {"If-None-Match": here.headers["ETag"]}
            assert requests.get(f"{edge}/media/{self.NAME}", headers=known, timeout=5).status_code == 304
            for path in (missing, original, f"originals/{original}", f"..%2foriginals%2f{original}", ""):
                answer = requests.get(f"{edge}/media/{path}", timeout=5)
                assert (answer.status_code, answer.headers["Cache-Control"]) == (404, "no-store"), path

            # What nginx cannot read, such as what is in a bucket, the application has.
            (folder / "media" / "public").chmod(0o700)
            behind = requests.get(f"{edge}/media/{self.NAME}", timeout=5)
            assert (behind.content, "X-Request-ID" in behind.headers) == (b"rendition", True)

    @pytest.mark.parametrize(("size", "status"), [(20 * 1024 * 1024 + 1000, 200), (21 * 1024 * 1024 + 1, 413)])
    def test_may_be_uploaded_up_to_its_limit(self, edge: str, size: int, status: int) -> None:
        assert requests.post(f"{edge}/api/v1/media", data=b"x" * size, timeout=30).status_code == status


class TestMetrics:
    SPELLINGS = (
        *("/metrics", "//metrics", "/metrics/", "/%6detrics", "/%6D%65%74%72%69%63%73", "/metrics?x=1", "/./metrics"),
        *("/api/../metrics", "/api/v1/../../metrics", "/%2e/metrics", "/%2fmetrics", "/metrics%2f", "/metrics%20"),
        *("/metrics#x", "/metrics/../metrics", "/metrics;x", "/%256detrics", "/METRICS", "/metrics%00", "\\metrics"),
        "http://catalog/metrics",
    )

    def test_are_never_passed_on(self, folder: Path) -> None:
        token = "0123456789abcdefghijklmnopqrstuvwxyz"
        settings = {
            "APP_ENV": "testing",
            "SECRET_KEY": "0123456789abcdef" * 2,
            "JWT_SECRET_KEY": "fedcba9876543210" * 2,
            "DATABASE_URL": f"sqlite:///{folder / 'catalog.db'}",
            "METRICS_TOKEN": token,
        }
        with ExitStack() as stack:
            server = stack.enter_context(gunicorn_server(settings, workers=1, threads=2))
            port = stack.enter_context(nginx(folder, server.port))
            assert self.ask(server.port, "GET", "/metrics", token)[0] == 200

            for method in ("GET", "HEAD", "POST", "OPTIONS", "PUT", "INVENTED"):
                for path in self.SPELLINGS:
                    status, body = self.ask(port, method, path, token)
                    assert status in {400, 404, 405}, (method, path)
                    assert b"catalog_" not in body, (method, path)

    @staticmethod
    def ask(port: int, method: str, path: str, token: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request(method, path, headers={"Authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


class TestSlowClients:
    def test_do_not_stall_others(self, folder: Path) -> None:
        settings = {
            "APP_ENV": "testing",
            "SECRET_KEY": "0123456789abcdef" * 2,
            "JWT_SECRET_KEY": "fedcba9876543210" * 2,
            "DATABASE_URL": f"sqlite:///{folder / 'catalog.db'}",
        }
        with ExitStack() as stack:
            server = stack.enter_context(gunicorn_server(settings, workers=1, threads=2))
            port = stack.enter_context(nginx(folder, server.port))
            for _ in range(50):
                slow = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                slow.sendall(b"POST /api/v1/auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")

            # Without nginx each of these would wait for a thread that never comes free.
            for _ in range(10):
                assert requests.get(f"http://127.0.0.1:{port}/livez", timeout=5).status_code == 200
