"""Answers that are kept: reads of the catalogue, answered again without asking the database for the data.

An answer is found only under the version of the catalogue that the caller's own request has just read, in one statement
with the caller's authority (decision 20). A committed write changes that version, so no answer outlives it, in whatever
worker, and whether Redis is there or not: nothing has to be told to anybody. Rights, path and query are the rest of the
key, for an answer depends on nothing else.
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
from app.extensions import cache
from app.security.identity import Identity
from app.security.permissions import Permission

#: What an entry of the cache takes beside its key and its answer, in bytes: its places in the ordered dictionary.
ENTRY = 250
#: An answer that takes more than this part of the memory is not kept: it would push too many others out.
LARGEST_PART = 8
#: Seconds to wait for another request's same answer; a little more than the database has for a statement.
PATIENCE = 5.5


@dataclass(frozen=True, slots=True)
class Answer:
    """The content of a response, and the headers that belong to it."""

    content: bytes
    headers: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, response: flask.Response) -> "Answer":
        """A copy of a response. orjson writes into a buffer that is larger than its content and keeps it."""
        return cls(bytes(memoryview(response.get_data())), tuple(response.headers.items()))

    def response(self) -> flask.Response:
        """A response of its own, which hooks may add to."""
        return flask.Response(self.content, headers=list(self.headers))


class AnswerCache(BaseCache):
    """Flask-Caching's backend for answers: bounded memory of this process; what was used lately stays."""

    def __init__(self, most_bytes: int) -> None:
        super().__init__(default_timeout=0)
        self.most_bytes = most_bytes
        self.bytes = 0
        # Each answer with its size, which is asked once: what is measured later can have grown.
        self._answers: OrderedDict[Hashable, tuple[Answer, int]] = OrderedDict()
        self._making: dict[Hashable, Future[Answer]] = {}
        self._lock = threading.Lock()

    @classmethod
    def factory(cls, _app: Flask, config: dict[str, Any], *_: object) -> "AnswerCache":
        """The cache that the settings ask for; ANSWER_CACHE_BYTES of 0 keeps nothing."""
        return cls(config["ANSWER_CACHE_BYTES"])

    def get(self, key: Hashable) -> Answer | None:
        """The answer that is kept under this key."""
        with self._lock:
            if key not in self._answers:
                return None
            self._answers.move_to_end(key)
            return self._answers[key][0]

    def set(self, key: Hashable, value: Answer, _timeout: int | timedelta | None = None) -> bool:
        """Keep an answer until others need its place, unless it is too large."""
        size = size_of(key, value)
        if size * LARGEST_PART > self.most_bytes:
            return False
        with self._lock:
            self._drop(key)
            self._answers[key] = value, size
            self.bytes += size
            while self.bytes > self.most_bytes:
                self._drop(next(iter(self._answers)))
        return True

    def begin(self, key: Hashable) -> tuple[Future[Answer], bool]:
        """What becomes of the answer that is being made under this key, and whether it is the caller's to make it."""
        with self._lock:
            is_first = key not in self._making
            return self._making.setdefault(key, Future()), is_first

    def end(self, key: Hashable) -> None:
        """Let others make it from now on."""
        with self._lock:
            del self._making[key]

    def clear(self) -> bool:
        """Forget everything."""
        with self._lock:
            self._answers.clear()
            self.bytes = 0
        return True

    def _drop(self, key: Hashable) -> None:
        if key in self._answers:
            self.bytes -= self._answers.pop(key)[1]


def size_of(key: Hashable, answer: Answer) -> int:
    """The bytes that an answer and its key take in the cache; the rights in the key, which others share, left out."""
    own = [part for part in key if not isinstance(part, frozenset)] if isinstance(key, tuple) else [key]
    texts = (text for header in answer.headers for text in header)
    parts = (key, *own, answer, answer.content, answer.headers, *answer.headers, *texts)
    return ENTRY + sum(map(sys.getsizeof, parts))


def answer_once(identity: Identity, make: Callable[[], flask.Response]) -> flask.Response:
    """The answer to this request, which must depend on rights, path and query alone: a kept one, or made and kept.

    Of several that want the same at the same time, one makes it and the others wait.
    """
    if not current_app.config["ANSWER_CACHE_BYTES"] or identity.catalogue_version is None:
        return _with_tag(make())
    # The query as it was spelled, because the links repeat it.
    key = identity.catalogue_version, _shared(identity.permissions), request.path, request.query_string
    kept: Answer | None = cache.get(key)
    return kept.response() if kept else _make_once(key, make)


def _make_once(key: Hashable, make: Callable[[], flask.Response]) -> flask.Response:
    kept = cast(AnswerCache, cache.cache)
    making, is_first = kept.begin(key)
    if not is_first:
        try:
            return making.result(PATIENCE).response()
        except Exception:  # noqa: BLE001 -- it is the failure of another, or its slowness: this request has its own
            if breaker.is_open:
                raise DatabaseUnavailable from None
            return _with_tag(make())
    try:
        response = _with_tag(make())
        answer = Answer.of(response)
        kept.set(key, answer)
        making.set_result(answer)
    except BaseException as error:
        making.set_exception(error)
        raise
    finally:
        kept.end(key)
    return response


def _with_tag(response: flask.Response) -> flask.Response:
    """The response with an ETag: one of its content, unless it has its row's version."""
    if "ETag" not in response.headers:
        response.headers["ETag"] = f'"{hashlib.blake2b(response.get_data(), digest_size=12).hexdigest()}"'
    return response


# One set of rights for all whose rights are equal, for it is not counted with each answer.
@functools.lru_cache(maxsize=1000)
def _shared(permissions: frozenset[Permission]) -> frozenset[Permission]:
    return permissions
