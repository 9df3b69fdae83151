"""The response cache: reads of the catalogue, answered again without asking the database for the data.

Each request reads, in one statement with the caller's authority, what has changed since this worker last looked
(decision 20), and applies that before it looks a response up. A response is made at a moment and depends on topics; it
is valid until one of them is raised later (decision 42). Rights, path and query are its key, for a cacheable response
depends on nothing else. A worker is sent no messages, so it does not matter whether Redis is there.
"""

import functools
import hashlib
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import flask
from flask import Flask, current_app, request
from flask_caching.backends.base import BaseCache

from app.core.breaker import DatabaseUnavailable, breaker
from app.core.changelog import Follower, LogPosition, LogTail
from app.core.metrics import CACHE_BYTES, CACHE_LOOKUPS
from app.core.reads import gathering
from app.core.topics import topics_of_change
from app.extensions import cache
from app.security.identity import Identity
from app.security.permissions import Permission
from app.web import searches

#: Bytes of an entry beside its key and its response: its places in the ordered dictionary.
ENTRY_OVERHEAD = 300
#: Bytes of a raised topic beside its text.
TOPIC_OVERHEAD = 170
#: Raised topics take at most this part of the memory.
TOPICS_SHARE = 8
#: The cache has room for at least so many entries: a larger response, which would evict too many, is not cached.
MIN_ENTRIES = 8
#: Seconds to wait for another request's same response; a little more than the database has for a statement.
WAIT_TIMEOUT = 5.5

_hit, _miss, _shared = (CACHE_LOOKUPS.labels(result) for result in ("hit", "miss", "shared"))


@dataclass(frozen=True, slots=True)
class CachedResponse:
    """The content of a response, its headers, and the topics that it depends on since the moment it was made."""

    content: bytes
    headers: tuple[tuple[str, str], ...]
    topics: tuple[str, ...] = ()
    moment: int = 0
    #: What was searched for, where that is to be counted.
    search: searches.Search | None = None

    @classmethod
    def of(
        cls,
        response: flask.Response,
        topics: Iterable[str] = (),
        moment: int = 0,
        search: searches.Search | None = None,
    ) -> "CachedResponse":
        """A copy of a response. orjson writes into a buffer that is larger than its content and keeps it."""
        content = bytes(memoryview(response.get_data()))
        return cls(content, tuple(response.headers.items()), tuple(topics), moment, search)

    def response(self) -> flask.Response:
        """A new response, to which hooks may add headers."""
        return flask.Response(self.content, headers=list(self.headers))


@dataclass(slots=True)
class _Entry:
    """A response, its size, which is computed once, and the last moment at which it was known to be valid."""

    response: CachedResponse
    size: int
    moment: int


class ResponseCache(BaseCache):
    """Flask-Caching's backend for responses: at most ``max_bytes`` of this process, least recently used evicted first.

    Threads may use it at once.
    """

    def __init__(self, max_bytes: int, follower: Follower | None = None) -> None:
        super().__init__(default_timeout=0)
        self.max_bytes = max_bytes
        self.bytes = 0
        self.topic_bytes = 0
        self._follower = follower or Follower()
        self._responses: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._in_flight: dict[Hashable, Future[CachedResponse | None]] = {}
        #: Counts the times that changes were applied.
        self._moment = 0
        #: The moment at which each topic was raised last, the latest at the end.
        self._raised: OrderedDict[str, int] = OrderedDict()
        #: What was made before this moment is not valid: topics that were raised until then may be forgotten.
        self._floor = 0
        self._lock = threading.Lock()

    @classmethod
    def factory(cls, _app: Flask, config: dict[str, Any], *_: object) -> "ResponseCache":
        """A cache of the configured size; with ANSWER_CACHE_BYTES=0 it stores nothing."""
        return cls(config["ANSWER_CACHE_BYTES"])

    def get(self, key: Hashable) -> CachedResponse | None:
        """The response under this key; None on a miss."""
        with self._lock:
            entry = self._responses.get(key)
            if entry is None:
                return None
            if not self._is_valid_entry(entry):
                self._evict(key)
                self._report()
                return None
            # Nothing that it depends on was raised until now: what is raised later is compared with this moment.
            entry.moment = self._moment
            self._responses.move_to_end(key)
            return entry.response

    def set(self, key: Hashable, value: CachedResponse, _timeout: int | timedelta | None = None) -> bool:
        """Store a response until it is evicted; whether it was stored.

        It is not where it is too large, no longer valid, or older than the one that is there.
        """
        size = size_of(key, value)
        if size * MIN_ENTRIES > self.max_bytes:
            return False
        with self._lock:
            if not self._is_valid(value.topics, value.moment):
                return False
            there = self._responses.get(key)
            if there is not None and there.moment > value.moment and self._is_valid_entry(there):
                return False
            self._evict(key)
            self._responses[key] = _Entry(value, size, value.moment)
            self.bytes += size
            self._evict_least_recently_used()
            self._report()
        return True

    @property
    def position(self) -> LogPosition:
        """How far the log of changes has been followed."""
        return self._follower.position

    def follow(self, tail: LogTail) -> int:
        """The moment of a request that has seen this of the log; what had changed is applied before this returns."""
        with self._lock:
            changes = self._follower.follow(tail)
            if changes is None:
                self._forget_all()
            elif changes:
                self._raise(topic for change in changes for topic in topics_of_change(change))
            return self._moment

    def begin(self, key: Hashable, moment: int) -> tuple[Future[CachedResponse | None], bool]:
        """The response that is made under this key since this moment, and whether the caller is the one to make it.

        What was begun at an earlier moment may lack what the caller has seen.
        """
        key = key, moment
        with self._lock:
            is_first = key not in self._in_flight
            return self._in_flight.setdefault(key, Future()), is_first

    def end(self, key: Hashable, moment: int) -> None:
        """Forget the finished response's future: the next miss makes a new one."""
        with self._lock:
            del self._in_flight[key, moment]

    def clear(self) -> bool:
        """Evict everything."""
        with self._lock:
            self._responses.clear()
            self.bytes = 0
            self._report()
        return True

    def _report(self) -> None:
        CACHE_BYTES.set(self.bytes + self.topic_bytes)

    def _evict(self, key: Hashable) -> None:
        if key in self._responses:
            self.bytes -= self._responses.pop(key).size

    def _evict_least_recently_used(self) -> None:
        while self._responses and self.bytes + self.topic_bytes > self.max_bytes:
            self._evict(next(iter(self._responses)))

    def _is_valid(self, topics: Sequence[str], moment: int) -> bool:
        """Whether what was valid at a moment still is."""
        if moment == self._moment:
            return True
        if moment < self._floor:
            return False
        raised = self._raised
        return all(raised.get(topic, 0) <= moment for topic in topics)

    def _is_valid_entry(self, entry: _Entry) -> bool:
        return self._is_valid(entry.response.topics, entry.moment)

    def _raise(self, topics: Iterable[str]) -> None:
        self._moment += 1
        for topic in topics:
            if topic not in self._raised:
                self.topic_bytes += size_of_topic(topic)
            self._raised[topic] = self._moment
            self._raised.move_to_end(topic)
        while self.topic_bytes * TOPICS_SHARE > self.max_bytes and self._raised:
            topic, self._floor = self._raised.popitem(last=False)
            self.topic_bytes -= size_of_topic(topic)
        self._evict_least_recently_used()
        self._report()

    def _forget_all(self) -> None:
        self._moment += 1
        self._floor = self._moment
        self._raised.clear()
        self._responses.clear()
        self.bytes = self.topic_bytes = 0
        self._report()


def size_of(key: Hashable, response: CachedResponse) -> int:
    """The bytes of an entry, without the set of rights in its key, which other keys share."""
    own = [part for part in key if not isinstance(part, frozenset)] if isinstance(key, tuple) else [key]
    texts = (text for header in response.headers for text in header)
    parts = (key, *own, response, response.content, response.headers, *response.headers, *texts)
    topics = (response.topics, *response.topics)
    return ENTRY_OVERHEAD + sum(map(sys.getsizeof, parts)) + sum(map(sys.getsizeof, topics))


def size_of_topic(topic: str) -> int:
    """The bytes of a topic that was raised."""
    return TOPIC_OVERHEAD + sys.getsizeof(topic)


def log_position() -> LogPosition | None:
    """How far this process has followed the log of changes; None where nothing is cached."""
    return cast(ResponseCache, cache.cache).position if current_app.config["ANSWER_CACHE_BYTES"] else None


def respond_from_cache(identity: Identity, respond: Callable[[], flask.Response]) -> flask.Response:
    """The cached response to the request at hand, or else that of ``respond``, which is stored; it has an ETag.

    Of several requests that need the same response at the same time, one makes it and the others wait (single flight).
    """
    if identity.log is None:
        return _with_etag(respond())
    responses = cast(ResponseCache, cache.cache)
    # Before anything of the content is read.
    moment = responses.follow(identity.log)
    # The query string as it was spelled, because the links repeat it.
    key = _interned(identity.permissions), request.path, request.query_string
    if cached := responses.get(key):
        _hit.inc()
        return _repeat(cached)
    return _respond_in_single_flight(responses, key, moment, respond)


def _respond_in_single_flight(
    responses: ResponseCache, key: Hashable, moment: int, respond: Callable[[], flask.Response]
) -> flask.Response:
    in_flight, is_first = responses.begin(key, moment)
    if not is_first:
        try:
            shared = in_flight.result(WAIT_TIMEOUT)
        except Exception:  # noqa: BLE001 -- another request failed, or is slow: this one tries for itself
            if breaker.is_open:
                raise DatabaseUnavailable from None
            shared = None
        (_shared if shared else _miss).inc()
        return _repeat(shared) if shared else _with_etag(respond())
    _miss.inc()
    try:
        with gathering() as reads:
            response = _with_etag(respond())
        # What is not in the log may have changed for the other requests that wait, too.
        cached = CachedResponse.of(response, reads.topics, moment, searches.noted()) if reads.is_logged else None
        if cached is not None:
            responses.set(key, cached)
        in_flight.set_result(cached)
    except BaseException as error:
        in_flight.set_exception(error)
        raise
    finally:
        responses.end(key, moment)
    return response


def _repeat(cached: CachedResponse) -> flask.Response:
    searches.note(cached.search)
    return cached.response()


def _with_etag(response: flask.Response) -> flask.Response:
    """The response with an ETag: one of its content, unless it has its row's version."""
    if "ETag" not in response.headers:
        response.headers["ETag"] = f'"{hashlib.blake2b(response.get_data(), digest_size=12).hexdigest()}"'
    return response


# One object for equal sets of rights: each key refers to it, and none has a copy.
@functools.lru_cache(maxsize=1000)
def _interned(permissions: frozenset[Permission]) -> frozenset[Permission]:
    return permissions
