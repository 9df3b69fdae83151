"""WebSockets (RFC 6455) by flask-sock: what refuses a request does so over HTTP, before the connection is upgraded.

A browser's WebSocket sends no Authorization. There the access token comes as a subprotocol beside the one that is
spoken: ``Sec-WebSocket-Protocol: catalog.events.v1, bearer.<token>`` (see `web.access`). No cookie is read, so a page
of another origin has nothing to connect with, and any origin may.
"""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, current_app, request
from simple_websocket import ConnectionError as HandshakeFailed
from wsproto.utilities import ProtocolError

from app.core.errors import Malformed, UpgradeRequired

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

#: Where gunicorn has the socket of a request.
SOCKET = "gunicorn.socket"
#: The bytes that a message of a client may have; clients have nothing to say.
MAX_MESSAGE_BYTES = 4096
#: Seconds between pings. A client that has not answered one when the next is due is disconnected.
PING_SECONDS = 25
#: How long to wait for the client to close the connection after the server has said why it ends.
CLOSE_SECONDS = 2.0


class WebSocketRequired(UpgradeRequired):
    """This is a WebSocket: connect with version 13 of that protocol (RFC 6455)."""


class HandshakeMalformed(Malformed):
    """The WebSocket handshake cannot be read."""


#: What every WebSocket can be refused for, before it is one.
REFUSALS = (WebSocketRequired, HandshakeMalformed)


class Whole:
    """A socket that sends a frame whole or ends the connection, and that the server alone closes.

    simple-websocket sends from two threads, and takes a part of a frame for the whole. So sends exclude each other, and
    after one that failed, for a client that takes nothing in time (SO_SNDTIMEO), nothing more is sent.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._is_read = threading.Event()
        #: Whether anything was sent, which at first is the answer to the handshake.
        self.has_sent = False

    def send(self, data: bytes) -> int:
        """Send all of ``data``; raises ``OSError``."""
        with self._lock:
            self.has_sent = True
            try:
                self._connection.sendall(data)
            except OSError:
                self.end()
                raise
        return len(data)

    def recv(self, size: int) -> bytes:
        """Up to ``size`` bytes, none at the end."""
        return self._connection.recv(size)

    def fileno(self) -> int:
        """The descriptor, to wait for what arrives."""
        return self._connection.fileno()

    def end(self) -> None:
        """End the connection in both directions, so that no thread waits for it."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Nothing more is read. The socket is left to the server, which has the descriptor in its poller."""
        self._is_read.set()

    def finish(self) -> None:
        """Wait until the client has closed the connection too, for CLOSE_SECONDS at most, and end it."""
        self._is_read.wait(CLOSE_SECONDS)
        self.end()
        self._is_read.wait(CLOSE_SECONDS)


class Upgraded(Response):
    """The response that becomes a WebSocket once the request's unit of work has ended."""

    def __init__(self, connect: Callable[[], Response]) -> None:
        super().__init__(status=101)
        self._connect = connect

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Shake hands, and serve the connection until it ends."""
        # Compression has a window for each connection, a quarter of a megabyte.
        environ.pop("HTTP_SEC_WEBSOCKET_EXTENSIONS", None)
        environ[SOCKET] = whole = Whole(environ[SOCKET])
        try:
            response = self._connect()
        except (ProtocolError, HandshakeFailed, UnicodeError):
            if whole.has_sent:
                raise
            refusal = current_app.make_response(current_app.handle_user_exception(HandshakeMalformed()))
            return refusal(environ, start_response)
        finally:
            if whole.has_sent:
                whole.finish()
        return response(environ, start_response)


def upgrade(connect: Callable[..., Response], admit: Callable[..., Any], **values: Any) -> Response:
    """The response that has ``connect`` serve the WebSocket of the request at hand, with what ``admit`` returns.

    Refuses a request that is no handshake, and what ``admit`` refuses.
    """
    if not is_handshake():
        raise WebSocketRequired
    if "Sec-WebSocket-Key" not in request.headers or SOCKET not in request.environ:
        raise HandshakeMalformed
    return Upgraded(partial(connect, admit(**values)))


def is_handshake() -> bool:
    """Whether the request at hand asks for a WebSocket, in the version that there is."""
    headers = request.headers
    return headers.get("Upgrade", "").lower() == "websocket" and headers.get("Sec-WebSocket-Version") == "13"


def init_app(app: Flask, *, protocol: str) -> None:
    """Speak this subprotocol on every WebSocket."""
    app.config["SOCK_SERVER_OPTIONS"] = {
        "subprotocols": [protocol],
        "ping_interval": PING_SECONDS,
        "max_message_size": MAX_MESSAGE_BYTES,
    }
