"""gunicorn's gthread worker with timeouts for slow clients, and refusals as problem documents (RFC 9457)."""

import contextlib
import errno
import json
import selectors
import socket
import struct
import time
import uuid
from collections import deque
from collections.abc import Callable, Container
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from gunicorn import util
from gunicorn.http import errors
from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers import gthread

#: The errors of accept(2) for exhausted resources of the system, which do not concern one connection.
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class RequestTimeout(Exception):
    """The client sent its request too slowly."""


#: Status, phrase (RFC 9110's, which http.HTTPStatus has only since Python 3.13) and code; the first match counts.
REFUSALS: dict[type[Exception], tuple[int, str, str]] = {
    RequestTimeout: (408, "Request Timeout", "request_timeout"),
    errors.LimitRequestLine: (414, "URI Too Long", "uri_too_long"),
    errors.LimitRequestHeaders: (431, "Request Header Fields Too Large", "request_header_fields_too_large"),
    errors.ExpectationFailed: (417, "Expectation Failed", "expectation_failed"),
    # Errors of the application, not of the client.
    errors.InvalidResponseHeader: (500, "Internal Server Error", "internal_server_error"),
    errors.InvalidResponseHeaderName: (500, "Internal Server Error", "internal_server_error"),
    errors.ParseException: (400, "Bad Request", "malformed"),
}
#: What the client reads, by the code: the sentences of the application's own refusals.
DETAILS = {
    "request_timeout": "The request did not arrive in time.",
    "uri_too_long": "The path and the query string are longer than is accepted.",
    "request_header_fields_too_large": "The headers are larger than is accepted.",
    "expectation_failed": "The header Expect names something other than 100-continue.",
    "malformed": "The request cannot be read.",
    "internal_server_error": "The server failed to process this request.",
}


class Unreader(SocketUnreader):
    """Reads requests with deadlines: heads without blocking, bodies with a timeout for each block of BLOCK_BYTES."""

    HEAD_END = b"\r\n\r\n"
    #: nginx accepts 32 KiB.
    MAX_HEAD_BYTES = 64 * 1024
    #: Bytes of a body that have the same timeout as a head.
    BLOCK_BYTES = 64 * 1024

    def __init__(self, sock: socket.socket, timeout: float) -> None:
        super().__init__(sock)
        self.timeout = timeout
        self.deadline = 0.0
        #: The request whose body is being read; None while a head is.
        self.request: Any = None
        self.received = 0

    def start(self, request: Any = None) -> None:
        """Begin a head, or a block of the body of ``request``, and its timeout."""
        self.request, self.received = request, 0
        self.deadline = time.monotonic() + self.timeout

    def finish(self, seconds: float) -> None:
        """Limit the rest of the body to this many seconds."""
        self.deadline = min(self.deadline, time.monotonic() + seconds)

    def has_begun(self) -> bool:
        """Whether a part of the next request has arrived."""
        return self.buf.getbuffer().nbytes > 0

    def has_head(self) -> bool:
        """Receive what has arrived, without blocking; whether a thread can now read or refuse the head at once.

        Raises ``LimitRequestHeaders`` above MAX_HEAD_BYTES.
        """
        head = self.take_buffered()
        is_closed = False
        if self.HEAD_END not in head:
            try:
                arrived = self.sock.recv(self.mxchunk)
                head, is_closed = head + arrived, not arrived
            except BlockingIOError:
                pass
            except OSError:
                is_closed = True  # a reset
        self.unread(head)
        # The parser refuses a line that ends without CR at once.
        if is_closed or self.HEAD_END in head or head.count(b"\n") != head.count(b"\r\n"):
            return True
        if len(head) > self.MAX_HEAD_BYTES:
            raise errors.LimitRequestHeaders("head")
        return False

    def chunk(self, size_hint: int | None = None) -> bytes:
        """Wait for more bytes. Raises ``TimeoutError`` for a slow body, ``RequestTimeout`` for a slow head."""
        try:
            self.sock.settimeout(self.seconds_left())
            data: bytes = super().chunk(size_hint)
        except TimeoutError:
            if self.request is None:
                raise RequestTimeout from None
            self.request.force_close()
            raise
        finally:
            # Sending has its own timeout.
            self.sock.setblocking(True)
        self.received += len(data)
        if self.received >= self.BLOCK_BYTES:
            self.start(self.request)
        return data

    def seconds_left(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


class Worker(gthread.ThreadWorker):
    """A gthread worker whose threads hold a connection only from the complete head of a request to its response.

    The main thread receives heads and waits for clients to close connections. When connections or open files run out,
    it closes the connections that have been idle longest.

    A live stream lasts as long as its client wants. So the thread that has read the head of a request for one hands the
    connection over to a thread of another pool, which is there for streams alone (decision 46).
    """

    #: Seconds for the head of a request, for each block of its body, and for each send of a part of the response.
    client_timeout = 10
    #: How long to wait for the client to close the connection after the last response.
    LINGER_SECONDS = 2.0
    #: How long to read a body that the response did not need.
    DRAIN_SECONDS = 1.0
    #: By how much, and for how long, to reduce the number of connections when the system can open no more files.
    SPARE_CONNECTIONS, SCARCITY_SECONDS = 32, 30.0
    #: The paths of live streams, and how many threads there are for them; the application refuses what is too many.
    stream_paths: Container[str] = frozenset()
    stream_threads = 0
    #: Counts a refusal of the server's own, by its status.
    count_refusal: Callable[[int], object] = staticmethod(lambda _status: None)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: Requests for live streams that wait for the main thread to hand them over, by their connection.
        self.stream_requests: dict[gthread.TConn, Any] = {}
        self.stream_pool: ThreadPoolExecutor | None = None
        #: Connections after their last response, until the client closes them.
        self.lingering: deque[gthread.TConn] = deque()
        #: Whether accept() has just failed for lack of resources, and until when the number of connections is reduced.
        self.is_exhausted, self.scarce_until = False, 0.0

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        super().check_config(cfg, log)
        if cfg.is_ssl:
            raise SystemExit("catalog-api: this server speaks no TLS; the proxy in front of it does")

    def handle_quit(self, sig: int, frame: Any) -> None:
        # base.Worker's own raises SystemExit wherever the main thread happens to be. Within ThreadPoolExecutor.submit()
        # that leaves a lock held or a thread that is never woken, and one stop in twenty lasted for the whole
        # graceful_timeout. So SIGINT and SIGQUIT do the same as SIGTERM: accepted requests finish.
        self.handle_exit(sig, frame)

    def set_accept_enabled(self, enabled: bool) -> None:
        super().set_accept_enabled(enabled)
        if not self.alive:
            # Otherwise the sockets would stay open while the worker finishes its last requests: clients could connect,
            # but would get no response. When refused they try another server at once; after SIGHUP the new workers have
            # the sockets open.
            for listener in self.sockets:
                listener.close()
            latest = time.monotonic() + gthread.STOP_KEEPALIVE_LINGER
            for conn in self.pending_conns:
                conn.timeout = min(conn.timeout, latest)

    def accept(self, listener: socket.socket) -> None:
        try:
            super().accept(listener)
        except OSError as error:
            if error.errno not in EXHAUSTED:
                raise
            self.is_exhausted, self.scarce_until = True, time.monotonic() + self.SCARCITY_SECONDS
            # Requests need open files too.
            self.worker_connections = max(self.nr_conns - self.SPARE_CONNECTIONS, self.SPARE_CONNECTIONS)
            self.log.warning("%s: at most %d connections for a while", error.strerror, self.worker_connections)

    def enqueue_req(self, conn: gthread.TConn) -> None:
        """Have a thread process the next request of a connection once its head is complete."""
        if not conn.initialized:
            conn.init()
            conn.parser.unreader = Unreader(conn.sock, self.client_timeout)
            # Not sock.settimeout(): with sendall() it limits the whole response. SO_SNDTIMEO limits each send. On some
            # systems it cannot be set once the client has closed the connection.
            with contextlib.suppress(OSError):
                conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", self.client_timeout, 0))
        # The main thread must not block, and a thread leaves the socket blocking after a response.
        conn.sock.setblocking(False)
        unreader = conn.parser.unreader
        if conn.timeout is None or not unreader.has_begun():
            conn.timeout = time.monotonic() + self.client_timeout
        try:
            has_head = unreader.has_head()
        except errors.LimitRequestHeaders as error:
            self.refuse(conn, error)
            return
        if has_head:
            conn.timeout = None
            unreader.start()
            super().enqueue_req(conn)
        else:
            self.pending_conns.append(conn)
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def handle_request(self, req: Any, conn: gthread.TConn) -> bool:
        """Answer a request in a request thread; one for a live stream is left to `finish_request`."""
        if self.stream_threads and req.method == "GET" and util.unquote_to_wsgi_str(req.path) in self.stream_paths:
            self.stream_requests[conn] = req
            return False
        return self.answer(req, conn)

    def answer(self, req: Any, conn: gthread.TConn) -> bool:
        """Answer a request; whether the connection can be used for another."""
        conn.parser.unreader.start(req)
        try:
            keeps_alive: bool = super().handle_request(req, conn)
        except BlockingIOError:
            self.log.info("A client took nothing of its response for %d seconds", self.client_timeout)
            return False
        conn.parser.unreader.finish(self.DRAIN_SECONDS)
        return keeps_alive

    def start_stream(self, conn: gthread.TConn, req: Any) -> None:
        """Answer a request for a live stream in a thread that is there for streams."""
        if self.stream_pool is None:
            self.stream_pool = ThreadPoolExecutor(self.stream_threads, thread_name_prefix="stream")
        job = self.stream_pool.submit(self.serve_stream, conn, req)
        job.add_done_callback(lambda done: self.method_queue.defer(self.finish_request, conn, done))

    def serve_stream(self, conn: gthread.TConn, req: Any) -> bool:
        """Answer a request for a live stream, and close its connection afterwards."""
        req.force_close()
        try:
            self.answer(req, conn)
        except StopIteration:
            self.log.debug("A WebSocket has ended")
        except OSError as error:
            self.log.debug("The client of a stream has left: %s", error)
        except Exception as error:  # noqa: BLE001 -- as gunicorn's own thread does: the worker must go on
            self.handle_error(req, conn.sock, conn.client, error)
        return False

    def finish_request(self, conn: gthread.TConn, fs: Future[Any]) -> None:
        if conn in self.stream_requests:
            self.start_stream(conn, self.stream_requests.pop(conn))
        elif fs.cancelled() or fs.exception() or fs.result():
            super().finish_request(conn, fs)
        else:
            self.linger(conn)

    def linger(self, conn: gthread.TConn) -> None:
        """Close a connection once the client has: earlier, the response could be lost (RFC 9112 section 9.6)."""
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close_connection(conn)
            return
        conn.sock.setblocking(False)
        conn.timeout = time.monotonic() + self.LINGER_SECONDS
        self.lingering.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.discard, conn))

    def discard(self, conn: gthread.TConn, client: socket.socket) -> None:
        """Discard what a client sends after the last response, until it closes the connection."""
        try:
            is_closed = not client.recv(64 * 1024)
        except BlockingIOError:
            return
        except OSError:
            is_closed = True
        if is_closed:
            self.stop_waiting(conn, self.lingering)
            self.close_connection(conn)

    def murder_pending(self) -> None:
        """Close connections after their timeout, and the ones idle longest while resources are exhausted."""
        now = time.monotonic()
        if now > self.scarce_until:
            self.worker_connections = self.cfg.worker_connections
        for conn in [conn for conn in self.pending_conns if conn.timeout <= now]:
            self.stop_waiting(conn, self.pending_conns)
            if conn.parser.unreader.has_begun():
                self.refuse(conn, RequestTimeout())
            else:
                self.close_connection(conn)
        while self.lingering and self.lingering[0].timeout <= now:
            self.close_first(self.lingering)
        while self.is_exhausted or self.nr_conns >= self.worker_connections:
            idle = self.lingering or self.pending_conns or self.keepalived_conns
            if not idle:
                break
            self.close_first(idle)
            self.is_exhausted = False
        if self.is_exhausted:
            # No idle connection is left to close. Without a pause, accept() would fail in a busy loop.
            time.sleep(0.1)
            self.is_exhausted = False

    def refuse(self, conn: gthread.TConn, error: Exception) -> None:
        """Refuse a request in the main thread, and close its connection."""
        self.handle_error(None, conn.sock, conn.client, error)
        self.linger(conn)

    def stop_waiting(self, conn: gthread.TConn, waiting: deque[gthread.TConn]) -> None:
        """Stop waiting for a connection to become readable."""
        waiting.remove(conn)
        self.poller.unregister(conn.sock)

    def close_first(self, waiting: deque[gthread.TConn]) -> None:
        conn = waiting[0]
        self.stop_waiting(conn, waiting)
        self.close_connection(conn)

    def close_connection(self, conn: gthread.TConn) -> None:
        self.nr_conns -= 1
        conn.close()

    # gunicorn's own responses are HTML pages that quote the input, and 501 for an unknown transfer coding.
    def handle_error(self, _req: Any, client: Any, _addr: Any, error: Exception) -> None:
        status, title, code = _describe(error)
        self.count_refusal(status)
        if status == 500:
            self.log.error("A request failed outside the application", exc_info=error)
        request_id = uuid.uuid4().hex
        problem = {
            "type": "about:blank",
            "title": title,
            "status": status,
            "detail": DETAILS[code],
            # A reference to the request itself, whose path may not have been read.
            "instance": "",
            "code": code,
            "request_id": request_id,
        }
        body = json.dumps(problem)
        head = (
            f"HTTP/1.1 {status} {title}",
            "Connection: close",
            "Cache-Control: no-store",
            "Content-Type: application/problem+json",
            f"Content-Length: {len(body)}",
            "X-Content-Type-Options: nosniff",
            f"X-Request-ID: {request_id}",
        )
        # The client has often closed the connection already.
        with contextlib.suppress(OSError):
            util.write_nonblock(client, "\r\n".join((*head, "", body)).encode())


def _describe(error: Exception) -> tuple[int, str, str]:
    for known, described in REFUSALS.items():
        if isinstance(error, known):
            return described
    return 500, "Internal Server Error", "internal_server_error"
