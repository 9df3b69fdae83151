"""A server on the loopback, for webhooks and pictures: it keeps what arrives, and answers as a test says."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks.webhooks import Webhook as Verifier


@dataclass(frozen=True)
class Received:
    """One message as it arrived."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """The id of the message."""
        return self.headers["webhook-id"]

    @property
    def content(self) -> dict[str, Any]:
        """The body."""
        content: dict[str, Any] = json.loads(self.body)
        return content

    def verify(self, secret: str) -> dict[str, Any]:
        """The content, if the reference implementation finds a signature by this secret; else it raises."""
        content: dict[str, Any] = Verifier(secret).verify(self.body, dict(self.headers))
        return content


@dataclass(frozen=True)
class Reply:
    """An answer: its status, headers and body, sent after some seconds."""

    status: int = 204
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    seconds: float = 0.0


class Receiver:
    """The messages that arrived, in their order, and how the next are answered. Safe to use by many threads."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.replies: Callable[[Received], Reply] = lambda _: Reply()
        self._messages: list[Received] = []
        self._lock = threading.Lock()

    @property
    def messages(self) -> list[Received]:
        """What has arrived so far."""
        with self._lock:
            return list(self._messages)

    def at(self, path: str) -> list[Received]:
        """What has arrived at a path."""
        return [message for message in self.messages if message.path == path]

    def take(self, message: Received) -> Reply:
        """Keep a message, and say how it is answered."""
        reply = self.replies(message)
        time.sleep(reply.seconds)
        with self._lock:
            self._messages.append(message)
        return reply

    def reply(self, status: int, *, body: bytes = b"", **headers: str) -> None:
        """Answer everything like this from now on; an underscore in a header's name stands for a hyphen."""
        reply = Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)
        self.replies = lambda _: reply


@contextmanager
def receiver(port: int = 0) -> Iterator[Receiver]:
    """Run a receiver; it listens before this yields, and not any more afterwards."""
    kept: list[Receiver] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = kept[0].take(Received(self.path, headers, body))
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        do_GET = do_POST  # noqa: N815 -- the name that the library looks for

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, *_: object) -> None:
            """A client that is killed in the middle is what these tests are about."""

    with Server(("127.0.0.1", port), Handler) as server:
        kept.append(Receiver(server.server_address[1]))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield kept[0]
        finally:
            server.shutdown()
            thread.join()
