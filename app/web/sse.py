"""Server-sent events (HTML Living Standard, section 9.2): blocks of lines, which a browser's EventSource reads."""

import contextlib
import socket
from collections.abc import Callable, Iterator
from functools import partial

from flask import Response, request, stream_with_context

MEDIA_TYPE = "text/event-stream"
#: Milliseconds after which a client connects again.
RETRY = 2000
#: How a server has the socket of a request in the WSGI environment: gunicorn, and `flask run`.
SOCKETS = ("gunicorn.socket", "werkzeug.socket")


def event_block(text: bytes, *, event: str, event_id: str | None = None) -> bytes:
    """The block of one event; ``text`` must be one line, as JSON is."""
    head = f"event: {event}\n" if event_id is None else f"id: {event_id}\nevent: {event}\n"
    return b"%sdata: %s\n\n" % (head.encode(), text)


def comment_block(comment: str, *, event_id: str) -> bytes:
    """A block that makes no event; a client takes its id for Last-Event-ID all the same."""
    return f": {comment}\nid: {event_id}\n\n".encode()


def retry_block() -> bytes:
    """The block that says when to connect again."""
    return f"retry: {RETRY}\n\n".encode()


def stream_blocks(blocks: Iterator[bytes]) -> Response:
    """The response that sends each block as it comes, past the buffers of nginx."""
    response = Response(stream_with_context(blocks), mimetype=MEDIA_TYPE)
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"
    return response


def watch_connection() -> Callable[[], bool]:
    """A function that says, in any thread, whether the client of the request at hand has closed the connection."""
    connection = next((request.environ[name] for name in SOCKETS if name in request.environ), None)
    return (lambda: False) if connection is None else partial(is_closed, connection)


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side has closed a connection. What it has sent stays to be read."""
    with contextlib.suppress(BlockingIOError):
        try:
            return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except ConnectionError:
            return True
        except OSError:
            return connection.fileno() < 0
    return False
