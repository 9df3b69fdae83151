"""The network below httpx2: connections to addresses that the guard has checked, and no wait past a request's deadline.

httpx2 has a timeout for each read and write, so that a server which sends one byte now and then can hold a request for
as long as it likes. Here every wait also ends at the deadline of the request as a whole.
"""

import socket
import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import httpcore2
import httpx2

from app.clients.addresses import Guard
from app.clients.errors import Phase, ResponseTooLarge, TimedOut, Unresolvable
from app.clients.resolver import Resolver

#: Addresses of one host that are tried, one after the other.
MAX_ADDRESSES = 4
#: Seconds, where neither a timeout nor a deadline is given.
MAX_CONNECT_TIMEOUT = 60.0
#: Seconds for which an idle connection is kept. Node's servers close theirs after five.
KEEPALIVE_EXPIRY = 4.0


class Deadline:
    """When a request must have ended."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds until then; 0 from then on."""
        return max(0.0, self._ends - time.monotonic())


#: Of the request that this thread makes. A ContextVar, because connections are pooled: they outlive a request, and
#: httpx2 hands them a fixed timeout for each read and write. Only `limited` sets it.
_deadline: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


@contextmanager
def limited(seconds: float) -> Iterator[Deadline]:
    """Limit everything that this thread requests in the block to so many ``seconds``."""
    deadline = Deadline(seconds)
    token = _deadline.set(deadline)
    try:
        yield deadline
    finally:
        _deadline.reset(token)


def _time_left(timeout: float | None) -> float | None:
    """The shorter of a ``timeout`` and what is left until the deadline; raises ``TimedOut`` when nothing is."""
    deadline = _deadline.get()
    if deadline is None:
        return timeout
    left = deadline.left
    if left <= 0:
        raise TimedOut(Phase.TOTAL)
    return left if timeout is None else min(left, timeout)


class Stream(httpcore2.NetworkStream):
    """A connection that waits for nothing past the deadline."""

    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Up to ``max_bytes``, as soon as there are any."""
        return self._stream.read(max_bytes, _time_left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of ``buffer``."""
        # The stream's own `write` has the timeout for each part that the peer takes, however small it is.
        connection: socket.socket = self._stream.get_extra_info("socket")
        rest = memoryview(buffer)
        try:
            while rest:
                connection.settimeout(_time_left(timeout))
                rest = rest[connection.send(rest) :]
        except TimeoutError as error:
            raise httpcore2.WriteTimeout from error
        except OSError as error:
            raise httpcore2.WriteError from error

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> "Stream":
        """Begin TLS, and verify that the peer is ``server_hostname``."""
        return Stream(self._stream.start_tls(ssl_context, server_hostname, _time_left(timeout)))

    def get_extra_info(self, info: str) -> Any:
        """What the stream beneath says, such as its socket."""
        return self._stream.get_extra_info(info)


class Backend(httpcore2.NetworkBackend):
    """Connects to a host by an address of one lookup, of which ``guard`` allows every address; thread-safe."""

    def __init__(self, *, guard: Guard | None, resolver: Resolver) -> None:
        self._guard = guard
        self._resolver = resolver
        self._sockets = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> Stream:
        """Connect within ``timeout`` seconds. Raises ``AddressRefused``, ``Unresolvable`` and what httpcore2 does."""
        timeout = _time_left(timeout)
        time_limit = Deadline(MAX_CONNECT_TIMEOUT if timeout is None else timeout)
        if self._guard is not None:
            self._guard.check_host(host)
        addresses = self._resolver.addresses_of(host, port, timeout=time_limit.left)
        if self._guard is not None:
            self._guard.check_addresses(host, addresses)
        return self._connect(addresses[:MAX_ADDRESSES], port, time_limit, local_address, socket_options)

    def _connect(
        self,
        addresses: list[str],
        port: int,
        time_limit: Deadline,
        local_address: str | None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None,
    ) -> Stream:
        failure: Exception = Unresolvable("The host has no address.")
        for position, address in enumerate(addresses):
            # Each address gets its share of the time, so that one that drops packets leaves some for the next.
            share = time_limit.left / (len(addresses) - position)
            if share <= 0:
                raise httpcore2.ConnectTimeout
            try:
                # The address is a number, so that this looks nothing up.
                return Stream(self._sockets.connect_tcp(address, port, share, local_address, socket_options))
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure


class Transport(httpx2.BaseTransport):
    """Sends requests over pooled connections, each to an address that ``guard`` allows; thread-safe.

    Raises the exceptions of httpcore2, and those of `app.clients.errors` that the guard and the resolver raise. Uses no
    proxy, whatever the environment has, and follows no redirect.
    """

    def __init__(
        self,
        *,
        guard: Guard | None,
        resolver: Resolver,
        max_connections: int,
        max_response_bytes: int,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._max_response_bytes = max_response_bytes
        self._pool = httpcore2.ConnectionPool(
            ssl_context=ssl_context or httpx2.create_ssl_context(),
            max_connections=max_connections,
            keepalive_expiry=KEEPALIVE_EXPIRY,
            network_backend=Backend(guard=guard, resolver=resolver),
        )

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send ``request``, and return the response with its body unread; the caller must close it."""
        url = request.url
        response = self._pool.handle_request(
            httpcore2.Request(
                method=request.method,
                url=httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                headers=request.headers.raw,
                content=request.read(),
                extensions=request.extensions,
            )
        )
        return httpx2.Response(
            status_code=response.status,
            headers=response.headers,
            stream=_Body(response, self._max_response_bytes),
            extensions=response.extensions,
        )

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()


class _Body(httpx2.SyncByteStream):
    def __init__(self, response: httpcore2.Response, limit: int) -> None:
        self._response = response
        self._limit = limit

    def __iter__(self) -> Iterator[bytes]:
        received = 0
        for chunk in self._response.iter_stream():
            yield chunk
            received += len(chunk)
            # Decompressing does not have to yield anything, so that what is decompressed alone would be no limit.
            if received > self._limit:
                raise ResponseTooLarge(self._limit)

    def close(self) -> None:
        self._response.close()
