"""Clients of a real server: one keeps its connection, one sends raw bytes; and a way to start many at once."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, TypeVar

T = TypeVar("T")

API = "/api/v1"
#: A safety net, and never what a test waits for.
PATIENCE = 60


@dataclass(frozen=True)
class Answer:
    """What the server answered."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> Any:
        """What a problem document calls itself."""
        return self.json["code"]

    @property
    def etag(self) -> str:
        return self.headers["ETag"]


class Client:
    """Somebody on a connection of their own, which is kept alive. Paths that begin with a slash are below /api/v1."""

    def __init__(self, port: int, token: str | None = None) -> None:
        self.token = token
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)

    def call(self, method: str, path: str, content: Any = None, **headers: str) -> Answer:
        """Send one request; a keyword such as ``if_match`` is a header field."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token is not None:
            named.setdefault("authorization", f"Bearer {self.token}")
        body = None
        if content is not None:
            body = json.dumps(content).encode()
            named["content-type"] = "application/json"
        self._connection.request(method, path.removeprefix("/") if path.startswith("//") else API + path, body, named)
        response = self._connection.getresponse()
        return Answer(response.status, response.msg, response.read())

    def upload(self, path: str, content: bytes, media_type: str) -> Answer:
        """Send a file as the body."""
        headers = {"authorization": f"Bearer {self.token}", "content-type": media_type}
        self._connection.request("POST", API + path, content, headers)
        response = self._connection.getresponse()
        return Answer(response.status, response.msg, response.read())

    def get(self, path: str, **headers: str) -> Answer:
        return self.call("GET", path, **headers)

    def post(self, path: str, content: Any = None, **headers: str) -> Answer:
        return self.call("POST", path, content, **headers)

    def put(self, path: str, content: Any, **headers: str) -> Answer:
        return self.call("PUT", path, content, **headers)

    def patch(self, path: str, content: Any, if_match: str = "*") -> Answer:
        return self.call("PATCH", path, content, if_match=if_match)

    def delete(self, path: str, if_match: str = "*") -> Answer:
        return self.call("DELETE", path, if_match=if_match)

    def close(self) -> None:
        self._connection.close()


class Wire:
    """A connection on which anything can be sent, and whole answers read one after the other."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._answers: IO[bytes] = self._socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def finish(self) -> None:
        """Say that nothing more will be sent."""
        self._socket.shutdown(socket.SHUT_WR)

    def read(self, method: str = "GET") -> Answer | None:
        """The next answer, to a request of this method; None when the server has closed the connection."""
        try:
            line = self._answers.readline()
        except ConnectionResetError:
            return None
        if not line:
            return None
        status = int(line.split()[1])
        headers = http.client.parse_headers(self._answers)
        length = 0 if method == "HEAD" or status in {100, 204, 304} else int(headers["Content-Length"])
        return Answer(status, headers, self._answers.read(length))

    def close(self) -> None:
        self._answers.close()
        self._socket.close()


@contextmanager
def wire(port: int) -> Iterator[Wire]:
    """A raw connection for the length of a block."""
    connection = Wire(port)
    try:
        yield connection
    finally:
        connection.close()


def ask(port: int, path: str, token: str | None = None, method: str = "GET") -> Answer:
    """Send one request on a connection of its own."""
    client = Client(port, token)
    try:
        return client.call(method, path, connection="close")
    finally:
        client.close()


def at_once(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Run each in a thread of its own, all from the same moment on, and hand back what they return."""
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], T]) -> T:
        start.wait(PATIENCE)
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return [running.result() for running in [threads.submit(run, call) for call in calls]]


@contextmanager
def asking(
    port: int,
    token: str | None,
    path: str = "/users/me",
    *,
    connections: int = 8,
    keeping: bool = True,
    pause: float = 0,
) -> Iterator[list[Answer]]:
    """Ask from several threads, over and over, for the length of a block; hands out what was answered so far.

    A request that gets no answer fails the block at its end. Without ``keeping``, each has a connection of its own.
    Each thread waits for ``pause`` seconds before a request: what only has to last takes no CPU from other tests.
    """
    answers: list[Answer] = []
    over = threading.Event()

    def work() -> None:
        client = Client(port, token)
        try:
            while not over.wait(pause):
                answers.append(client.get(path) if keeping else ask(port, path, token))
        finally:
            client.close()

    with ThreadPoolExecutor(connections) as threads:
        running = [threads.submit(work) for _ in range(connections)]
        try:
            yield answers
        finally:
            over.set()
    for each in running:
        each.result()


def wait_for_more(answers: Sequence[object], more: int = 100) -> None:
    """Wait until so many more requests were answered."""
    enough = len(answers) + more
    wait_for(lambda: len(answers) >= enough)


def wait_for(look: Callable[[], T], *, until: Callable[[T], object] = bool, seconds: float = PATIENCE) -> T:
    """What ``look`` sees once it sees something, or what ``until`` takes for it."""
    deadline = time.monotonic() + seconds
    while not until(seen := look()):
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)
    return seen
