"""gunicorn's gthread worker, with deadlines for slow clients and refusals in the form of the application's."""

import contextlib
import errno
import json
import selectors
import socket
import struct
import time
import uuid
from collections import deque
from concurrent.futures import Future
from functools import partial
from typing import Any

from gunicorn import util
from gunicorn.http import errors
from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers import gthread

#: What accept(2) says when it is the system, and not this connection, that has nothing left.
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class RequestTimeout(Exception):
    """The client was too slow to send its request."""


#: Status, phrase (RFC 9110's, which http.HTTPStatus has only since Python 3.13) and code; the first that fits.
REFUSALS: dict[type[Exception], tuple[int, str, str]] = {
    RequestTimeout: (408, "Request Timeout", "request_timeout"),
    errors.LimitRequestLine: (414, "URI Too Long", "uri_too_long"),
    errors.LimitRequestHeaders: (431, "Request Header Fields Too Large", "request_header_fields_too_large"),
    errors.ExpectationFailed: (417, "Expectation Failed", "expectation_failed"),
    # What the application, and not the client, has got wrong.
    errors.InvalidResponseHeader: (500, "Internal Server Error", "internal_server_error"),
    errors.InvalidResponseHeaderName: (500, "Internal Server Error", "internal_server_error"),
    errors.ParseException: (400, "Bad Request", "malformed"),
}


class Unreader(SocketUnreader):
    """Reads requests against the clock: heads without waiting, and bodies within a deadline that moves with them."""

    HEAD_END = b"\r\n\r\n"
    #: Bytes of a head. nginx takes 32 KiB.
    MAX_HEAD_BYTES = 64 * 1024
    #: Bytes of a body that have as much time as a head.
    BLOCK = 64 * 1024

    def __init__(self, sock: socket.socket, timeout: float) -> None:
        super().__init__(sock)
        self.timeout = timeout
        self.deadline = 0.0
        #: The request whose body is read; None before its head is.
        self.request: Any = None
        self.received = 0

    def start(self, request: Any = None) -> None:
        """Begin with a head, or with the body of ``request``."""
        self.request, self.received = request, 0
        self.deadline = time.monotonic() + self.timeout

    def finish(self, seconds: float) -> None:
        """Let what is left of the body take no longer than this."""
        self.deadline = min(self.deadline, time.monotonic() + seconds)

    def has_begun(self) -> bool:
        """Whether something has arrived of a request that is still to be answered."""
        return self.buf.getbuffer().nbytes > 0

    def has_head(self) -> bool:
        """Take what has arrived; whether a thread can read the head, or refuse it, without waiting."""
        head = self.take_buffered()
        is_over = False
        if self.HEAD_END not in head:
            try:
                arrived = self.sock.recv(self.mxchunk)
                head, is_over = head + arrived, not arrived
            except BlockingIOError:
                pass
            except OSError:
                is_over = True  # reset, an end like any other
        self.unread(head)
        # The parser refuses a line that ends without CR.
        if is_over or self.HEAD_END in head or head.count(b"\n") != head.count(b"\r\n"):
            return True
        if len(head) > self.MAX_HEAD_BYTES:
            raise errors.LimitRequestHeaders("head")
        return False

    def chunk(self, size_hint: int | None = None) -> bytes:
        """Wait for more. Raises ``TimeoutError`` when a body comes too slowly, ``RequestTimeout`` when a head does."""
        try:
            self.sock.settimeout(self.seconds_left())
            data: bytes = super().chunk(size_hint)
        except TimeoutError:
            if self.request is None:
                raise RequestTimeout from None
            self.request.force_close()
            raise
        finally:
            # To send has another timeout.
            self.sock.setblocking(True)
        self.received += len(data)
        if self.received >= self.BLOCK:
            self.start(self.request)
        return data

    def seconds_left(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


class Worker(gthread.ThreadWorker):
    """gthread whose threads take a connection when the head of a request is there, and leave it with the answer.

    The main thread collects heads and waits for clients to hang up. When connections or files run out, it closes those
    that have been idle longest.
    """

    #: Seconds that a client has for the head of a request, for each block of its body, and to take some of an answer.
    client_timeout = 10
    #: Seconds that a client has to hang up after its last answer, and to send the body that its answer did not need.
    LINGER, DRAIN = 2.0, 1.0
    #: Connections fewer than there could be, and for how many seconds, once the system can open no more files.
    SPARE, SCARCITY = 32, 30.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: Connections that have had their last answer.
        self.lingering: deque[gthread.TConn] = deque()
        #: Whether the system could not accept a connection, and until when there are to be fewer.
        self.is_exhausted, self.scarce_until = False, 0.0

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        super().check_config(cfg, log)
        if cfg.is_ssl:
            raise SystemExit("catalog-api: this server speaks no TLS; the proxy in front of it does")

    def handle_quit(self, sig: int, frame: Any) -> None:
        # base.Worker's own raises SystemExit wherever the main thread happens to be. Within ThreadPoolExecutor.submit()
        # that leaves a lock held or a thread that is never woken, and one stop in twenty lasted for the whole
        # graceful_timeout. So Ctrl-C is as orderly as SIGTERM: what was accepted is answered.
        self.handle_exit(sig, frame)

    def set_accept_enabled(self, enabled: bool) -> None:
        super().set_accept_enabled(enabled)
        if not self.alive:
            # A worker that answers its last requests would otherwise hold the door open: clients would connect, and
            # get no answer. Refused, they go to another server at once; after SIGHUP the new workers hold it open.
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
            self.is_exhausted, self.scarce_until = True, time.monotonic() + self.SCARCITY
            # Requests need files as well.
            self.worker_connections = max(self.nr_conns - self.SPARE, self.SPARE)
            self.log.warning("%s: at most %d connections for a while", error.strerror, self.worker_connections)

    def enqueue_req(self, conn: gthread.TConn) -> None:
        """Let a thread answer the next request of a connection, once its head is there."""
        if not conn.initialized:
            conn.init()
            conn.parser.unreader = Unreader(conn.sock, self.client_timeout)
            # Python's own timeout would be one for the whole of an answer; this is for each part of it that is taken.
            # Not every system lets it be set when the client is gone already.
            with contextlib.suppress(OSError):
                conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", self.client_timeout, 0))
        # The main thread waits for no client, and a thread that has answered leaves the socket as it was for that.
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
        conn.parser.unreader.start(req)
        try:
            stays: bool = super().handle_request(req, conn)
        except BlockingIOError:
            self.log.info("A client took nothing of its answer for %d seconds", self.client_timeout)
            return False
        conn.parser.unreader.finish(self.DRAIN)
        return stays

    def finish_request(self, conn: gthread.TConn, fs: Future[Any]) -> None:
        if fs.cancelled() or fs.exception() or fs.result():
            super().finish_request(conn, fs)
        else:
            self.linger(conn)

    def linger(self, conn: gthread.TConn) -> None:
        """Close a connection when the client has: before, it could lose its answer (RFC 9112 section 9.6)."""
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.drop(conn)
            return
        conn.sock.setblocking(False)
        conn.timeout = time.monotonic() + self.LINGER
        self.lingering.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.discard, conn))

    def discard(self, conn: gthread.TConn, client: socket.socket) -> None:
        """Read what a client sends after its last answer, until it hangs up."""
        try:
            is_over = not client.recv(64 * 1024)
        except BlockingIOError:
            return
        except OSError:
            is_over = True
        if is_over:
            self.forget(conn, self.lingering)
            self.drop(conn)

    def murder_pending(self) -> None:
        """End what has waited for too long, and what has waited longest where there is no room for more."""
        now = time.monotonic()
        if now > self.scarce_until:
            self.worker_connections = self.cfg.worker_connections
        for conn in [conn for conn in self.pending_conns if conn.timeout <= now]:
            self.forget(conn, self.pending_conns)
            if conn.parser.unreader.has_begun():
                self.refuse(conn, RequestTimeout())
            else:
                self.drop(conn)
        while self.lingering and self.lingering[0].timeout <= now:
            self.drop_first(self.lingering)
        while self.is_exhausted or self.nr_conns >= self.worker_connections:
            idle = self.lingering or self.pending_conns or self.keepalived_conns
            if not idle:
                break
            self.drop_first(idle)
            self.is_exhausted = False
        if self.is_exhausted:
            # None of the files is an idle connection's. Without a pause, accept() would fail as fast as it can.
            time.sleep(0.1)
            self.is_exhausted = False

    def refuse(self, conn: gthread.TConn, error: Exception) -> None:
        """Answer a request that no thread has seen."""
        self.handle_error(None, conn.sock, conn.client, error)
        self.linger(conn)

    def forget(self, conn: gthread.TConn, waiting: deque[gthread.TConn]) -> None:
        """Wait no longer for a connection to become readable."""
        waiting.remove(conn)
        self.poller.unregister(conn.sock)

    def drop_first(self, waiting: deque[gthread.TConn]) -> None:
        conn = waiting[0]
        self.forget(conn, waiting)
        self.drop(conn)

    def drop(self, conn: gthread.TConn) -> None:
        self.nr_conns -= 1
        conn.close()

    # gunicorn's own answers are HTML pages that quote the input, and 501 where the input names an unknown coding.
    def handle_error(self, _req: Any, client: Any, _addr: Any, error: Exception) -> None:
        status, title, code = _describe(error)
        if status == 500:
            self.log.error("A request failed outside the application", exc_info=error)
        request_id = uuid.uuid4().hex
        problem = {
            "type": "about:blank",
            "title": title,
            "status": status,
            "detail": "The request cannot be read." if status < 500 else "The server failed to answer this.",
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
        # Who sends such things is often gone before the answer.
        with contextlib.suppress(OSError):
            util.write_nonblock(client, "\r\n".join((*head, "", body)).encode())


def _describe(error: Exception) -> tuple[int, str, str]:
    for known, described in REFUSALS.items():
        if isinstance(error, known):
            return described
    return 500, "Internal Server Error", "internal_server_error"
