"""A resilient HTTP client: pooled connections, deadlines, retries, circuit breakers, size limits and typed errors.

    with APIClient("https://api.example.com") as api:
        rates = api.get("/rates", params={"base": "USD"}).json()

Only 2xx is a success: any other status raises `BadStatus`, which has the response. Redirects are not followed. The
errors are those of `app.clients.errors`.

Requests with a safe method (RFC 9110 section 9.2.1) are retried, and others only with an idempotency key: without one,
a request whose response was lost may have been executed.
"""

import os
import random
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import httpx2
import stamina

from app.clients.addresses import Guard
from app.clients.errors import BadStatus, InvalidRequest, OutboundError
from app.clients.failures import LIBRARY_ERRORS, is_outage, is_transient, translate
from app.clients.network import Deadline, Transport, limited
from app.clients.resolver import Resolver
from app.clients.responses import APIResponse, parse_retry_after, read_body
from app.core import tracing
from app.core.tracing import Attributes, Kind, Span

if TYPE_CHECKING:
    from app.clients.breakers import Breakers

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

#: Seconds before the first retry, doubled for each further one, and the most; to each is added up to `JITTER`.
FIRST_PAUSE, MAX_PAUSE, JITTER = 0.1, 2.0, 0.2
MAX_RESPONSE_BYTES = 64 * 1024
MAX_CONNECTIONS = 32
USER_AGENT = "catalog-api"


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """In seconds: for a place in the pool, a connection, each write, each read, and all of it with retries."""

    pool: float = 5.0
    #: The lookup of the name and the connection, and once more the handshake of TLS.
    connect: float = 5.0
    write: float = 10.0
    read: float = 10.0
    total: float = 15.0


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One attempt and how it ended, without anything that may be secret. It has a ``status``, an ``error`` or both."""

    method: str
    #: Scheme, host and port.
    origin: str
    attempt: int
    seconds: float
    status: int | None
    error: OutboundError | None


OnRequest = Callable[[httpx2.Request], None]
OnResponse = Callable[[Exchange], None]


class APIClient:
    """A client of one server, or of any where there is no ``base_url``; thread-safe.

    ``guard`` is for URLs that someone else has chosen; without one, any address may be connected to. ``attempts`` are
    the first and its retries. Bodies may have ``max_response_bytes`` when decompressed, and are never truncated in
    silence. ``has_breaker`` leaves a destination (scheme, host and port) alone for ``reset_timeout`` seconds after
    ``max_failures`` failures in a row: no connection, a timeout, a connection that was cut, or 5xx.

    Each attempt calls ``on_request`` with the request before it is sent, whose headers may be changed, and
    ``on_response`` with how it ended. What these raise reaches the caller.
    """

    def __init__(
        self,
        base_url: str = "",
        *,
        guard: Guard | None = None,
        resolver: Resolver | None = None,
        timeouts: Timeouts | None = None,
        attempts: int = 3,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
        max_connections: int = MAX_CONNECTIONS,
        has_breaker: bool = True,
        max_failures: int = 5,
        reset_timeout: float = 30.0,
        on_request: Sequence[OnRequest] = (),
        on_response: Sequence[OnResponse] = (),
        headers: Mapping[str, str] | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._base_url = _parse(base_url) if base_url else None
        if self._base_url is not None and not self._base_url.scheme:
            raise InvalidRequest("The base_url must be an absolute URL.")
        self._timeouts = timeouts or Timeouts()
        self._attempts = attempts
        self._max_response_bytes = max_response_bytes
        self._on_request = tuple(on_request)
        self._on_response = tuple(on_response)
        self._headers = httpx2.Headers({"User-Agent": USER_AGENT, "Accept-Encoding": "gzip, deflate"})
        self._headers.update(headers)
        self._breakers = _make_breakers(max_failures, reset_timeout) if has_breaker else None
        self._new_transport = partial(
            Transport,
            guard=guard,
            resolver=resolver or Resolver(),
            max_connections=max_connections,
            max_response_bytes=max_response_bytes,
            ssl_context=ssl_context,
        )
        self._lock = threading.Lock()
        self._process = 0
        self._transport: Transport | None = None
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection; a request from then on raises ``RuntimeError``."""
        with self._lock:
            self._is_closed = True
            if self._transport is not None:
                self._transport.close()

    def get(self, url: str, **options: Any) -> APIResponse:
        """See `request`."""
        return self.request("GET", url, **options)

    def head(self, url: str, **options: Any) -> APIResponse:
        """See `request`."""
        return self.request("HEAD", url, **options)

    def post(self, url: str, **options: Any) -> APIResponse:
        """See `request`."""
        return self.request("POST", url, **options)

    def put(self, url: str, **options: Any) -> APIResponse:
        """See `request`."""
        return self.request("PUT", url, **options)

    def patch(self, url: str, **options: Any) -> APIResponse:
        """See `request`."""
        return self.request("PATCH", url, **options)

    def delete(self, url: str, **options: Any) -> APIResponse:
        """See `request`."""
        return self.request("DELETE", url, **options)

    def request(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | str | None = None,
        json: Any = None,
        form: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        timeouts: Timeouts | None = None,
        truncate: bool = False,
    ) -> APIResponse:
        """Send a request, and return its response if the status is 2xx; raises an `OutboundError` otherwise.

        ``url`` is a path below the ``base_url``, or absolute where there is none. The body is one of ``content``,
        ``json`` and ``form``. ``idempotency_key`` is sent as `Idempotency-Key`, and lets any method be retried.
        ``truncate`` takes the first bytes of a body that is too large, as is always done unless the status is 2xx,
        instead of raising ``ResponseTooLarge``.
        """
        target = self._target(url)
        if params:
            # A request with ``params`` of its own would lose the query that the URL has.
            target = target.copy_merge_params(params)
        try:
            fields = self._headers.copy()
            fields.update({**(headers or {}), **({"Idempotency-Key": idempotency_key} if idempotency_key else {})})
            template = httpx2.Request(method, target, headers=fields, content=content, json=json, data=form)
        except (httpx2.InvalidURL, UnicodeError):
            raise InvalidRequest("A header or a parameter cannot be encoded.") from None
        is_repeatable = bool(idempotency_key) or template.method in SAFE_METHODS
        timeouts = timeouts or self._timeouts
        with limited(timeouts.total) as deadline:
            call = _Call(template=template, timeouts=timeouts, deadline=deadline, truncate=truncate)
            return self._send_until_it_succeeds(call, attempts=self._attempts if is_repeatable else 1)

    def _target(self, url: str) -> httpx2.URL:
        target = _parse(url)
        if self._base_url is None:
            if not target.scheme:
                raise InvalidRequest("The URL must be absolute, because this client has no base_url.")
            return target
        if target.scheme or target.host:
            # Otherwise a URL from elsewhere could take the client's own headers, with its credentials, to another host.
            raise InvalidRequest("The URL must be a path below the base_url of this client.")
        path = self._base_url.raw_path.rstrip(b"/") + b"/" + target.raw_path.lstrip(b"/")
        return self._base_url.copy_with(raw_path=path)

    def _send_until_it_succeeds(self, call: "_Call", *, attempts: int) -> APIResponse:
        retries = _Retries(call.deadline)
        for attempt in stamina.retry_context(
            on=retries.decide, attempts=attempts, timeout=None,
            wait_initial=FIRST_PAUSE, wait_max=MAX_PAUSE, wait_jitter=JITTER,
        ):  # fmt: skip
            retries.longest_pause = attempt.next_wait + JITTER
            with attempt:
                return self._attempt(call, attempt.num)
        raise AssertionError("stamina raises what the last attempt raised")

    def _attempt(self, call: "_Call", number: int) -> APIResponse:
        request = call.new_request()
        with tracing.span(request.method, kind=Kind.CLIENT, attributes=_attributes_of(request, number)) as span:
            # Within the span, which is what the receiver's spans belong to.
            for prepare in self._on_request:
                prepare(request)
            return self._attempt_prepared(request, call, number, span)

    def _attempt_prepared(self, request: httpx2.Request, call: "_Call", number: int, span: Span) -> APIResponse:
        ended = partial(Exchange, method=request.method, origin=_origin(request.url), attempt=number)
        started = time.perf_counter()
        try:
            response = self._pass_breaker(request, call, number)
        except OutboundError as error:
            status = error.response.status if isinstance(error, BadStatus) else None
            self._report(ended(seconds=time.perf_counter() - started, status=status, error=error), span)
            raise
        self._report(ended(seconds=time.perf_counter() - started, status=response.status, error=None), span)
        return response

    def _report(self, exchange: Exchange, span: Span) -> None:
        if exchange.status is not None:
            span.note("http.response.status_code", exchange.status)
        for listen in self._on_response:
            listen(exchange)

    def _pass_breaker(self, request: httpx2.Request, call: "_Call", number: int) -> APIResponse:
        if self._breakers is None:
            return self._send(request, call, number)
        with self._breakers.passing(_origin(request.url)):
            return self._send(request, call, number)

    def _send(self, request: httpx2.Request, call: "_Call", number: int) -> APIResponse:
        transport = self._transport_of_process()
        started = time.perf_counter()
        try:
            received = transport.handle_request(request)
            try:
                truncate = call.truncate or not received.is_success
                content, is_truncated = read_body(received, self._max_response_bytes, truncate=truncate)
            finally:
                received.close()
        except LIBRARY_ERRORS as error:
            raise translate(error, _origin(request.url), is_over=call.deadline.left <= 0) from None
        response = APIResponse(
            status=received.status_code,
            headers=received.headers,
            content=content,
            is_truncated=is_truncated,
            seconds=time.perf_counter() - started,
            attempt=number,
            retry_after=parse_retry_after(received.headers.get("Retry-After")),
        )
        if not response.is_success:
            raise BadStatus(response)
        return response

    def _transport_of_process(self) -> Transport:
        # A connection from before a fork belongs to the parent.
        with self._lock:
            if self._is_closed:
                raise RuntimeError("This client is closed.")
            if self._transport is None or self._process != os.getpid():
                self._process, self._transport = os.getpid(), self._new_transport()
            return self._transport


@dataclass(frozen=True, kw_only=True)
class _Call:
    template: httpx2.Request
    timeouts: Timeouts
    deadline: Deadline
    truncate: bool

    def new_request(self) -> httpx2.Request:
        """A request of its own for each attempt, because interceptors change it."""
        seconds = self.timeouts
        phases = {
            # The pool alone is waited for without looking at the deadline.
            "pool": min(seconds.pool, self.deadline.left),
            "connect": seconds.connect,
            "write": seconds.write,
            "read": seconds.read,
        }
        return httpx2.Request(
            self.template.method, self.template.url, headers=self.template.headers,
            content=self.template.read(), extensions={"timeout": phases},
        )  # fmt: skip


class _Retries:
    """Decides after each attempt whether there is another, and when."""

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        #: Seconds that stamina may wait before the next attempt.
        self.longest_pause = 0.0

    def decide(self, error: Exception) -> bool | float:
        """Whether to retry after stamina's pause, or the seconds to wait instead; never past the deadline."""
        if not is_transient(error):
            return False
        asked = error.response.retry_after if isinstance(error, BadStatus) else None
        if not asked:
            return self.longest_pause < self._deadline.left
        # Jitter here too: a server that has restarted asks all of its clients to wait for as long.
        pause = asked + random.uniform(0, JITTER)  # noqa: S311 -- no secret
        return pause if pause < self._deadline.left else False


def _parse(url: str) -> httpx2.URL:
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL:
        raise InvalidRequest("The URL is malformed.") from None
    if parsed.scheme and (parsed.scheme not in {"http", "https"} or not parsed.host):
        raise InvalidRequest("The URL must be http or https, and have a host.")
    if parsed.userinfo:
        raise InvalidRequest("The URL must not have user information.")
    if parsed.port is not None and not 1 <= parsed.port <= 65535:
        raise InvalidRequest("The URL has a port that does not exist.")
    return parsed


def _origin(url: httpx2.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode('ascii')}"


def _attributes_of(request: httpx2.Request, number: int) -> Attributes:
    # Not the path, because that of a webhook often is a secret.
    attributes = {"http.request.method": request.method, "server.address": request.url.host}
    return attributes if number == 1 else {**attributes, "http.request.resend_count": number - 1}


def _make_breakers(max_failures: int, reset_timeout: float) -> "Breakers":
    # Not at the top: pybreaker loads redis, which is slow, and a server that answers requests needs neither.
    from app.clients.breakers import Breakers  # noqa: PLC0415

    return Breakers(is_outage, max_failures=max_failures, reset_timeout=reset_timeout)
