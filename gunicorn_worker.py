"""The workers in which gunicorn runs the application: its own threads, but for who waits for whom."""

import contextlib
import json
import os
import select
import socket
import time
import uuid
from collections import deque
from datetime import timedelta
from functools import lru_cache
from typing import Any

from gunicorn import util
from gunicorn.http import errors, wsgi
from gunicorn.workers import gthread


class Worker(gthread.ThreadWorker):
    """gthread, with its refusals in the form of the application's, and a Ctrl-C that does not hang."""

    def handle_quit(self, sig: int, frame: Any) -> None:
        # base.Worker's own raises SystemExit wherever the main thread happens to be. Within ThreadPoolExecutor.submit()
        # that leaves a lock held or a thread that nobody will wake, and one stop in twenty lasted for the whole
        # graceful_timeout. So Ctrl-C is as orderly as SIGTERM: what was accepted is answered.
        self.handle_exit(sig, frame)

    def set_accept_enabled(self, enabled: bool) -> None:
        super().set_accept_enabled(enabled)
        if not self.alive:
            # A worker that answers its last requests would otherwise hold the door open: clients would connect, and
            # wait for nobody. Refused, they go to another server at once; after SIGHUP the new workers hold it open.
            for listener in self.sockets:
                listener.close()

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


class _Connection(socket.socket):
    """A socket that asks the system for nothing that is so already: each time other threads could take their turn."""

    def settimeout(self, value: float | None) -> None:
        if value != self.gettimeout():
            super().settimeout(value)

    def setblocking(self, flag: bool) -> None:
        self.settimeout(None if flag else 0.0)


class _Response(wsgi.Response):
    """A response whose head is sent together with the first of its content: one call of the system for nearly all."""

    #: Content of more bytes is not worth a copy that has the head before it.
    MOST_JOINED = 64 * 1024

    #: The head, until it is sent.
    unsent = b""

    def send_headers(self) -> None:
        """Make the head, and send it with what comes next."""
        if self.headers_sent:
            return
        lines = [
            f"HTTP/{self.req.version[0]}.{self.req.version[1]} {self.status}",
            f"Server: {self.version}",
            f"Date: {_date_of(int(time.time()))}",
            f"Connection: {'close' if self.should_close() else 'keep-alive'}",
            *(["Transfer-Encoding: chunked"] if self.chunked else []),
            *[f"{name}: {value}" for name, value in self.headers],
            "\r\n",
        ]
        self.unsent = "\r\n".join(lines).encode("latin-1")
        self.headers_sent = True

    def can_sendfile(self) -> bool:
        """No: the head would have to be sent before."""
        return False

    def close(self) -> None:
        """Send what is left."""
        self.send_headers()
        self._send_head()
        super().close()

    def _emit_body(self, data: bytes) -> None:
        if self.chunked or len(data) > self.MOST_JOINED:
            self._send_head()
        head, self.unsent = self.unsent, b""
        util.write(self.sock, head + data, self.chunked)

    def _send_head(self) -> None:
        head, self.unsent = self.unsent, b""
        if head:
            util.write(self.sock, head)


@lru_cache(maxsize=1)
def _date_of(second: int) -> str:
    date: str = util.http_date(second)
    return date


class EpollWorker(Worker):
    """Its threads wait for the connections themselves, where the system has epoll.

    gthread's main thread does it for them: each request passes through two queues and a pipe, and the interpreter's
    lock changes hands more often. Here the main thread accepts, ends what was idle for too long, and tells that it
    lives (decision 23).
    """

    #: Seconds that a worker lets others go first at accepting, for each connection that it has, and at most.
    COURTESY, MOST_COURTESY = 0.0001, 0.001

    def run(self) -> None:
        #: The connections that nobody answers at the moment, by the number of their file.
        self._waiting: dict[int, gthread.TConn] = {}
        # gthread looks how many these are.
        self.keepalived_conns = self._waiting
        self._ready = select.epoll()
        self._end, end = os.pipe()
        # Once there is something in it, it is readable for every thread.
        self._ready.register(self._end, select.EPOLLIN)
        for _ in range(self.cfg.threads):
            self.tpool.submit(self._serve)
        try:
            super().run()
        finally:
            os.write(end, b"x")

    def accept(self, listener: Any) -> None:
        # Every worker is woken by a new connection, and if the quickest took it, one could come to have them all.
        time.sleep(min(self.nr_conns * self.COURTESY, self.MOST_COURTESY))
        super().accept(listener)

    def enqueue_req(self, conn: gthread.TConn) -> None:
        # What gthread's accept() does with a connection. No thread waits for what a client may send some day.
        conn.data_ready = True
        conn.sock.setblocking(True)
        conn.sock = _Connection(fileno=conn.sock.detach())
        self._wait_for(conn, select.EPOLLIN)

    def murder_keepalived(self, force: bool = False) -> None:
        now = time.monotonic()
        for conn in list(self._waiting.values()):
            if force or conn.timeout <= now:
                # Whoever reads it then finds its end, or one last request. Nobody else closes it.
                with contextlib.suppress(OSError):
                    conn.sock.shutdown(socket.SHUT_RD)

    def _cap_keepalive(self, deadline: float) -> None:
        for conn in list(self._waiting.values()):
            conn.timeout = min(conn.timeout, deadline)
        # The worker stops, and gthread would look for the first of them.
        self.keepalived_conns = deque()

    def handle_request(self, req: Any, conn: gthread.TConn) -> bool:
        """Answer a request; whether the connection can be used for another. What gthread does, with `_Response`."""
        started = time.monotonic()
        self.cfg.pre_request(self, req)
        resp, environ = wsgi.create(req, conn.sock, conn.client, conn.server, self.cfg, response_class=_Response)
        environ["wsgi.multithread"] = True
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Autorestarting worker after current request.")
            self.alive = False
        if not self.alive or not self.cfg.keepalive or len(self.keepalived_conns) >= self.max_keepalived:
            resp.force_close()
        try:
            content = self.wsgi(environ, resp.start_response)
            try:
                for piece in content:
                    resp.write(piece)
                resp.close()
            finally:
                self.log.access(resp, req, environ, timedelta(seconds=time.monotonic() - started))
                if hasattr(content, "close"):
                    content.close()
        except OSError:
            raise
        except (Exception, SystemExit):
            if not resp.headers_sent or resp.unsent:
                raise
            # An answer of its own would end up in the middle of this one.
            self.log.exception("A response broke off")
            return False
        finally:
            self.cfg.post_request(self, req, environ, resp)
        return not resp.should_close()

    def _keepalive_after(self, conn: gthread.TConn, keepalive: bool) -> bool:
        request = conn.parser.mesg
        # What has no body has nothing left of it that stands before the next request.
        has_body = any(name in {"CONTENT-LENGTH", "TRANSFER-ENCODING"} for name, _ in request.headers)
        stays: bool = super()._keepalive_after(conn, keepalive) if has_body else keepalive
        return stays

    def _wait_for(self, conn: gthread.TConn, readiness: int) -> None:
        conn.set_timeout()
        if not self.alive:
            conn.timeout = min(conn.timeout, time.monotonic() + gthread.STOP_KEEPALIVE_LINGER)
        number = conn.sock.fileno()
        # First, for from the next line on it may be another thread's.
        self._waiting[number] = conn
        enlist = self._ready.modify if conn.initialized else self._ready.register
        enlist(number, readiness | select.EPOLLONESHOT)

    def _serve(self) -> None:
        while True:
            for number, _ in self._ready.poll(maxevents=1):
                if number == self._end:
                    return
                if (conn := self._waiting.pop(number, None)) is not None:
                    self._answer(conn)

    def _answer(self, conn: gthread.TConn) -> None:
        """One request of a connection."""
        try:
            if self.handle(conn):
                # What was read already of the next request makes nothing readable. It stands in line all the same.
                is_read = conn.parser.unreader.buf.getvalue()
                self._wait_for(conn, select.EPOLLOUT if is_read else select.EPOLLIN)
                return
        except BaseException:
            self.log.exception("A connection failed")
        with contextlib.suppress(OSError):
            conn.close(graceful=True)
        # The main thread counts them, and may wait for the last one.
        self.method_queue.defer(self._forget_one)

    def _forget_one(self) -> None:
        self.nr_conns -= 1


def _describe(error: Exception) -> tuple[int, str, str]:
    # RFC 9110's phrases, which http.HTTPStatus has only since Python 3.13.
    match error:
        case errors.LimitRequestLine():
            return 414, "URI Too Long", "uri_too_long"
        case errors.LimitRequestHeaders():
            return 431, "Request Header Fields Too Large", "request_header_fields_too_large"
        case errors.ExpectationFailed():
            return 417, "Expectation Failed", "expectation_failed"
        case errors.InvalidResponseHeader() | errors.InvalidResponseHeaderName():
            return 500, "Internal Server Error", "internal_server_error"
        case errors.ParseException():
            return 400, "Bad Request", "malformed"
    return 500, "Internal Server Error", "internal_server_error"
