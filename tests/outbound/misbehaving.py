"""A server on loopback that does to a client what servers do on their bad days, and a name server of the same kind."""

import gzip
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Self

import dns.flags
import dns.message
import dns.rdatatype
import dns.resolver
import dns.rrset

#: Seconds between two bytes that drip, and how many do: long enough for every deadline in these tests, but not endless.
DRIP_PAUSE, DRIPS = 0.02, 1000


@dataclass
class Received:
    """A request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    #: Which connection it came over: the port of the client.
    port: int


class Cut(Exception):
    """Close this connection."""


@dataclass
class Server:
    """Behaves by the path of the request; counts connections and keeps requests. Use it as a context manager."""

    address: str = "127.0.0.1"
    port: int = 0
    tls: ssl.SSLContext | None = None
    #: Drips these bytes to each connection, instead of serving it.
    drips: bytes = b""
    #: How often it has dripped a byte, or read some of a body that it sips.
    times: int = 0
    connections: int = 0
    requests: list[Received] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._listener = socket.create_server((self.address, self.port), backlog=64)
        self.port = self._listener.getsockname()[1]
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        # A listener that is only closed would leave `accept` waiting.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for each in self._open:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(timeout=10)

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}"

    def counted(self, path: str) -> int:
        """How many requests to a path have arrived."""
        with self._lock:
            return Counter(each.target.partition("?")[0] for each in self.requests)[path]

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                self._open.add(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        plain = connection
        with suppress(OSError, Cut):
            if self.drips:
                self._drip(connection, self.drips)
            if self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True)
            while True:
                request = self._read(connection)
                with self._lock:
                    self.requests.append(request)
                self._answer(connection, request)
        with self._lock:
            self._open.discard(plain)
        connection.close()
        plain.close()

    def _read(self, connection: socket.socket) -> Received:
        data = b""
        while b"\r\n\r\n" not in data:
            data += _some_of(connection)
            if data.startswith(b"POST /deaf"):
                # Never reads the rest: the client's writes fill the buffers.
                self.stopping.wait(30)
                raise Cut
            if data.startswith(b"POST /sips"):
                # Reads so little that it is never done, and often enough for each write of the client to be in time.
                while not self.stopping.wait(DRIP_PAUSE):
                    _some_of(connection)
                    self.times += 1
        start, _, body = data.partition(b"\r\n\r\n")
        first, *lines = start.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        headers: dict[str, str] = {}
        for name, _, value in (line.partition(":") for line in lines):
            # One that is sent twice is as if it were wrong.
            headers[name.lower()] = f"{headers.get(name.lower(), '')}{value.strip()}"
        while len(body) < int(headers.get("content-length", 0)):
            body += _some_of(connection)
        return Received(method, target, headers, body, connection.getpeername()[1])

    def _answer(self, connection: socket.socket, request: Received) -> None:
        path, _, query = request.target.partition("?")
        name, _, argument = path.strip("/").partition("/")
        behaviour: Callable[..., None] = getattr(self, f"_{name.replace('-', '_')}")
        behaviour(connection, path=path, argument=argument, query=query)

    def _ok(self, connection: socket.socket, **_: str) -> None:
        connection.sendall(response(200, b'{"ok": true}'))

    def _shop(self, connection: socket.socket, **_: str) -> None:
        connection.sendall(response(201, b'{"number": 7}'))

    def _status(self, connection: socket.socket, argument: str, query: str, **_: str) -> None:
        lines = [f"Retry-After: {query.removeprefix('retry-after=')}"] if query else []
        connection.sendall(response(int(argument.partition("/")[0]), b"Sorry.", *lines))

    def _flaky(self, connection: socket.socket, path: str, argument: str, query: str, **_: str) -> None:
        """Answer 503 so many times, and 200 from then on; with a query that is its Retry-After."""
        if self.counted(path) <= int(argument):
            lines = [f"Retry-After: {query}"] if query else []
            connection.sendall(response(503, b"Sorry.", *lines))
        else:
            self._ok(connection)

    def _cut_first(self, connection: socket.socket, path: str, argument: str, **_: str) -> None:
        if self.counted(path) <= int(argument):
            raise Cut
        self._ok(connection)

    def _redirect(self, connection: socket.socket, query: str, **_: str) -> None:
        connection.sendall(response(302, b"", f"Location: {query}"))

    def _silent(self, connection: socket.socket, **_: str) -> None:
        self.stopping.wait(30)
        raise Cut

    def _silent_first(self, connection: socket.socket, path: str, argument: str, **_: str) -> None:
        if self.counted(path) <= int(argument):
            self._silent(connection)
        self._ok(connection)

    def _cut(self, connection: socket.socket, **_: str) -> None:
        raise Cut

    def _cut_body(self, connection: socket.socket, **_: str) -> None:
        connection.sendall(response(200, b"x" * 100)[:-50])
        raise Cut

    def _garbage(self, connection: socket.socket, **_: str) -> None:
        connection.sendall(b"SSH-2.0-OpenSSH_9.2 token=hunter2\r\n\r\n")
        raise Cut

    def _drip_head(self, connection: socket.socket, **_: str) -> None:
        self._drip(connection, response(200, b"", "X-Long: " + "x" * DRIPS))

    def _drip_body(self, connection: socket.socket, **_: str) -> None:
        whole = response(200, b"x" * DRIPS)
        connection.sendall(whole[:-DRIPS])
        self._drip(connection, whole[-DRIPS:])

    def _drip(self, connection: socket.socket, data: bytes) -> None:
        for position in range(len(data)):
            connection.sendall(data[position : position + 1])
            self.times += 1
            if self.stopping.wait(DRIP_PAUSE):
                raise Cut

    def _endless_head(self, connection: socket.socket, **_: str) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while not self.stopping.is_set():
            connection.sendall(b"x" * 4096)

    def _upgrade(self, connection: socket.socket, **_: str) -> None:
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n")
        self._silent(connection)

    def _informational(self, connection: socket.socket, **_: str) -> None:
        """Announce, again and again, that the response is still to come (RFC 9110 section 15.2)."""
        for _number in range(DRIPS):
            connection.sendall(b"HTTP/1.1 102 Processing\r\n\r\n")
            if self.stopping.wait(DRIP_PAUSE):
                raise Cut
        self._ok(connection)

    def _bytes(self, connection: socket.socket, argument: str, **_: str) -> None:
        connection.sendall(response(200, b"x" * int(argument)))

    def _page(self, connection: socket.socket, argument: str, **_: str) -> None:
        connection.sendall(response(500, b"x" * int(argument)))

    def _endless(self, connection: socket.socket, **_: str) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not self.stopping.is_set():
            connection.sendall(b"1000\r\n" + b"x" * 4096 + b"\r\n")

    def _gzipped(self, connection: socket.socket, argument: str, **_: str) -> None:
        connection.sendall(response(200, gzipped(int(argument), layers=1), "Content-Encoding: gzip"))

    def _layers(self, connection: socket.socket, **_: str) -> None:
        body = gzipped(10_000_000, layers=3)
        connection.sendall(response(200, body, "Content-Encoding: gzip, gzip, gzip"))

    def _too_many_layers(self, connection: socket.socket, **_: str) -> None:
        connection.sendall(response(200, b"x", f"Content-Encoding: {', '.join(['gzip'] * 1000)}"))

    def _empty_blocks(self, connection: socket.socket, **_: str) -> None:
        """Send compressed bytes without end that are nothing: stored blocks of length 0 (RFC 1951 section 3.2.4)."""
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08\0\0\0\0\0\0\xff")
        while not self.stopping.is_set():
            connection.sendall(b"\0\0\0\xff\xff" * 1000)

    def _broken_gzip(self, connection: socket.socket, argument: str, **_: str) -> None:
        connection.sendall(response(int(argument), b"no gzip", "Content-Encoding: gzip"))

    def _cookie(self, connection: socket.socket, **_: str) -> None:
        connection.sendall(response(200, b"", "Set-Cookie: id=hunter2; Path=/"))

    def _wait_for_two(self, connection: socket.socket, path: str, **_: str) -> None:
        """Answer only when two requests are here at once."""
        while self.counted(path) < 2 and not self.stopping.wait(0.005):
            pass
        self._ok(connection)


@cache
def gzipped(length: int, *, layers: int) -> bytes:
    """So many times the letter x, compressed."""
    data = b"x" * length
    for _ in range(layers):
        data = gzip.compress(data, compresslevel=6)
    return data


def _some_of(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise Cut
    return data


def response(status: int, body: bytes, *headers: str) -> bytes:
    """A response as bytes."""
    lines = [f"HTTP/1.1 {status} Any", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


@contextmanager
def black_hole(address: str, port: int = 0) -> Iterator[int]:
    """A port, which it yields, where connections are neither made nor refused: its queue is full."""
    with ExitStack() as opened:
        listener = opened.enter_context(socket.create_server((address, port), backlog=0))
        port = listener.getsockname()[1]
        for _ in range(8):
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex((address, port))
        yield port


@contextmanager
def name_server(answers: list[list[str]]) -> Iterator[tuple[Callable[..., Any], list[str]]]:
    """A name server on loopback that gives each query the next of the ``answers``, and then the last again.

    Yields a lookup with the signature of `socket.getaddrinfo` that asks this server, and the names that it was asked.
    """
    asked: list[str] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def serve() -> None:
            while True:
                data, client = server.recvfrom(4096)
                if not data:
                    return
                query = dns.message.from_wire(data)
                question = query.question[0]
                reply = dns.message.make_response(query)
                if question.rdtype == dns.rdatatype.A:
                    addresses = answers[min(len(asked), len(answers) - 1)]
                    asked.append(str(question.name))
                    reply.answer.append(dns.rrset.from_text(question.name, 0, "IN", "A", *addresses))
                server.sendto(reply.to_wire(), client)

        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers, resolver.port = ["127.0.0.1"], server.getsockname()[1]

        def look_up(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
            found = resolver.resolve(host, "A", search=False)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (record.to_text(), port)) for record in found]

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield look_up, asked
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
                end.sendto(b"", server.getsockname())
            thread.join(timeout=10)
