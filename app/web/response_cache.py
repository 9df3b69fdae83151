"""The response cache: reads of the catalogue, answered again without asking the database for the data.

Each request reads, in one statement with the caller's authority, what has been committed since this process last looked
(`core.changelog`), before it looks for a response here (decision 20). So no response outlives a committed write, in
whatever worker, and whether Redis is there or not. Rights, path and query are the key, for a cacheable response depends
on nothing else.
"""

import functools
import hashlib
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import flask
from flask import Flask, current_app, request
from flask_caching.backends.base import BaseCache

from app.core.breaker import DatabaseUnavailable, breaker
from app.core.changelog import Follower, LogPosition, LogTail
from app.extensions import cache
from app.security.identity import Identity
from app.security.permissions import Permission

#: Bytes of an entry beside its key and its response: its places in the ordered dictionary.
ENTRY_OVERHEAD = 250
#: The cache has room for at least so many entries: a larger response, which would evict too many, is not cached.
MIN_ENTRIES = 8
#: Seconds to wait for another request's same response; a little more than the database has for a statement.
WAIT_TIMEOUT = 5.5


@dataclass(frozen=True, slots=True)
class CachedResponse:
    """The content of a response, and its headers."""

    content: bytes
    headers: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, response: flask.Response) -> "CachedResponse":
        """A copy of a response. orjson writes into a buffer that is larger than its content and keeps it."""
        return cls(bytes(memoryview(response.get_data())), tuple(response.headers.items()))

    def response(self) -> flask.Response:
        """A new response, to which hooks may add headers."""
        return flask.Response(self.content, headers=list(self.headers))


class ResponseCache(BaseCache):
    """Flask-Caching's backend for responses: at most ``max_bytes`` of this process, least recently used evicted first.

    Threads may use it at once.
    """

    def __init__(self, max_bytes: int) -> None:
        super().__init__(default_timeout=0)
        self.max_bytes = max_bytes
        self.bytes = 0
        # Each response with its size, which is computed once: what is measured later can have grown.
        self._responses: OrderedDict[Hashable, tuple[CachedResponse, int]] = OrderedDict()
        self._in_flight: dict[Hashable, Future[CachedResponse]] = {}
        self._follower = Follower()
        self._moment = 0
        self._lock = threading.Lock()

    @classmethod
    def factory(cls, _app: Flask, config: dict[str, Any], *_: object) -> "ResponseCache":
        """A cache of the configured size; with ANSWER_CACHE_BYTES=0 it stores nothing."""
        return cls(config["ANSWER_CACHE_BYTES"])

    @property
    def position(self) -> LogPosition:
        """How far the changes of the catalogue have been followed."""
        return self._follower.position

    def follow(self, tail: LogTail) -> int:
        """Apply what the log has for this cache; a number for what has been applied until now."""
        with self._lock:
            changes = self._follower.follow(tail)
            if changes is None or changes:
                self._moment += 1
            return self._moment

    def get(self, key: Hashable) -> CachedResponse | None:
        """The response under this key; None on a miss."""
        with self._lock:
            if key not in self._responses:
                return None
            self._responses.move_to_end(key)
            return self._responses[key][0]

    def set(self, key: Hashable, value: CachedResponse, _timeout: int | timedelta | None = None) -> bool:
        """Store a response until it is evicted; whether it was small enough to be stored."""
        size = size_of(key, value)
        if size * MIN_ENTRIES > self.max_bytes:
            return False
        with self._lock:
            self._evict(key)
            self._responses[key] = value, size
            self.bytes += size
            while self.bytes > self.max_bytes:
                self._evict(next(iter(self._responses)))
        return True

    def begin(self, key: Hashable) -> tuple[Future[CachedResponse], bool]:
        """The response that is being made under this key, and whether the caller is the one to make it."""
        with self._lock:
            is_first = key not in self._in_flight
            return self._in_flight.setdefault(key, Future()), is_first

    def end(self, key: Hashable) -> None:
        """Forget the finished response's future: the next miss makes a new one."""
        with self._lock:
            del self._in_flight[key]

    def clear(self) -> bool:
        """Evict everything."""
        with self._lock:
            self._responses.clear()
            self.bytes = 0
        return True

    def _evict(self, key: Hashable) -> None:
        if key in self._responses:
            self.bytes -= self._responses.pop(key)[1]


def size_of(key: Hashable, response: CachedResponse) -> int:
    """The bytes of an entry, without the set of rights in its key, which other keys share."""
    own = [part for part in key if not isinstance(part, frozenset)] if isinstance(key, tuple) else [key]
    texts = (text for header in response.headers for text in header)
    parts = (key, *own, response, response.content, response.headers, *response.headers, *texts)
    return ENTRY_OVERHEAD + sum(map(sys.getsizeof, parts))


def log_position() -> LogPosition | None:
    """How far this process has followed the catalogue's changes; None where nothing is cached."""
    return cast(ResponseCache, cache.cache).position if current_app.config["ANSWER_CACHE_BYTES"] else None


def respond_from_cache(identity: Identity, respond: Callable[[], flask.Response]) -> flask.Response:
    """The cached response to the request at hand, or else that of ``respond``, which is stored; it has an ETag.

    Of several requests that need the same response at the same time, one makes it and the others wait (single flight).
    """
    if identity.log is None:
        return _with_etag(respond())
    moment = cast(ResponseCache, cache.cache).follow(identity.log)
    # The query string as it was spelled, because the links repeat it.
    key = moment, _interned(identity.permissions), request.path, request.query_string
    cached: CachedResponse | None = cache.get(key)
    return cached.response() if cached else _respond_in_single_flight(key, respond)


def _respond_in_single_flight(key: Hashable, respond: Callable[[], flask.Response]) -> flask.Response:
    responses = cast(ResponseCache, cache.cache)
    in_flight, is_first = responses.begin(key)
    if not is_first:
        try:
            return in_flight.result(WAIT_TIMEOUT).response()
        except Exception:  # noqa: BLE001 -- another request failed, or is slow: this one tries for itself
            if breaker.is_open:
                raise DatabaseUnavailable from None
            return _with_etag(respond())
    try:
        response = _with_etag(respond())
        cached = CachedResponse.of(response)
        responses.set(key, cached)
        in_flight.set_result(cached)
    except BaseException as error:
        in_flight.set_exception(error)
        raise
    finally:
        responses.end(key)
    return response


def _with_etag(response: flask.Response) -> flask.Response:
    """The response with an ETag: one of its content, unless it has its row's version."""
    if "ETag" not in response.headers:
        response.headers["ETag"] = f'"{hashlib.blake2b(response.get_data(), digest_size=12).hexdigest()}"'
    return response


# One object for equal sets of rights: each key refers to it, and none has a copy.
@functools.lru_cache(maxsize=1000)
def _interned(permissions: frozenset[Permission]) -> frozenset[Permission]:
    return permissions
