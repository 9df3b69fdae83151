"""The broadcaster of a process: one thread reads the change feed for all live streams, and wakes them.

Streams of the same rights share what is read, presented and written as JSON. A stream that is behind, because it
resumes or its client is slow, reads pages from the table by itself (`features.events.live`), a few streams at a time.
No stream holds a database connection while it waits.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from random import SystemRandom
from typing import Protocol
from weakref import WeakSet

import structlog
from flask import Flask, current_app
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app.core.breaker import Breaker
from app.core.errors import Unavailable
from app.core.feed import ChangeEvent
from app.core.sqlstates import Meaning, meaning_of
from app.core.transactions import in_unit_of_work
from app.features.events import service
from app.features.events.messages import Message, present
from app.features.events.pages import Filter
from app.features.events.service import CursorExpired
from app.security.identity import Identity
from app.security.permissions import Permission
from app.web.resources import published_resources

#: Events that are read or taken at once.
PAGE = 100
#: How many streams may be in the database at once, beside the broadcaster.
PLACES = 4
#: Events that are kept for streams that are a little behind, and for how many seconds. Later they are read again: what
#: is kept may show what was hidden meanwhile.
KEPT_EVENTS, KEPT_SECONDS = 2000, 5.0
#: Within how many seconds the clients that are refused come back, not all at once.
RETRY_AFTER = (2, 10)

_random = SystemRandom()
log = structlog.get_logger(__name__)

#: Events are presented alike to all who have these.
Rights = frozenset[Permission]


class TooManyStreams(Unavailable):
    """As many live streams are open as this server holds; connect again after as long as Retry-After says."""

    def __init__(self) -> None:
        super().__init__()
        self.retry_after = _random.randint(*RETRY_AFTER)


@dataclass(frozen=True)
class Pace:
    """Seconds between two looks at the feed, heartbeats of a stream, and checks of its credentials.

    A stream whose credentials cannot be checked, because the database is away, ends after ``patience``.
    """

    poll: float = 0.25
    heartbeat: float = 15.0
    check: float = 5.0
    sweep: float = 1.0
    patience: float = 60.0


@dataclass(frozen=True, slots=True)
class Batch:
    """All events after one position and through another, by the rights of those who get them.

    Those of rows that have an owner are ``owned``, and in batches of their own: rights do not say who gets them.
    """

    after: int
    through: int
    messages: Mapping[Rights, Sequence[Message]]
    read_at: float
    #: The resource and the names of each.
    owned: Sequence[tuple[str, Sequence[str]]] = ()

    def take(self, rights: Rights, wanted: Filter) -> Sequence[Message] | None:
        """What a stream gets of it; None where it must read it by itself."""
        if self.owned:
            return None if any(wanted.wants(*change) for change in self.owned) else ()
        messages = self.messages.get(rights)
        if messages is None:
            return None
        return messages if wanted.wants_all else [one for one in messages if wanted.wants(one.resource, one.names)]


class Stream(Protocol):
    """A live stream, as the broadcaster knows it."""

    identity: Identity

    def wake(self) -> None:
        """Look for events, and whether the stream is over."""

    def has_left(self) -> bool:
        """Whether the client has gone; asked by the broadcaster's thread."""


@dataclass(eq=False)
class Broadcaster:
    """Reads the feed for the live streams of this process, at most ``limit``; safe to use by many threads.

    Its thread runs while a stream is open. ``is_stopping`` says whether the process is about to end.
    """

    app: Flask
    limit: int
    pace: Pace = field(default_factory=Pace)
    is_stopping: Callable[[], bool] = lambda: False
    #: What streams pass on their way into the database. It is not the one of requests, whose places are theirs.
    breaker: Breaker = field(default_factory=Breaker)

    def __post_init__(self) -> None:
        self.breaker.places = PLACES
        self._lock = threading.Lock()
        # Weak, so that a stream that was never begun, or was lost in an error, gives its place back as well.
        self._streams: WeakSet[Stream] = WeakSet()
        self._batches: deque[Batch] = deque()
        self._head: int | None = None
        self._thread: threading.Thread | None = None

    def open(self, stream: Stream) -> None:
        """Take a place for a stream; `close` gives it back. Raises ``TooManyStreams``."""
        with self._lock:
            if len(self._streams) >= self.limit or self.is_stopping():
                raise TooManyStreams
            self._streams.add(stream)
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="broadcaster", daemon=True)
                # It raises where the system has no more threads: then the next stream tries again.
                thread.start()
                self._thread = thread

    def close(self, stream: Stream) -> None:
        """Give a stream's place back, once or again."""
        with self._lock:
            self._streams.discard(stream)

    @property
    def open_streams(self) -> int:
        """How many streams are open."""
        return len(self._streams)

    @property
    def is_running(self) -> bool:
        """Whether its thread runs."""
        return self._thread is not None

    def take(self, position: int, rights: Rights, wanted: Filter) -> tuple[Sequence[Message], int] | None:
        """Some of the next events after a position that are wanted, and the position after them.

        None where the stream must read them by itself.
        """
        with self._lock:
            if self._head is None or position >= self._head:
                return (), position
            batches = [batch for batch in self._batches if batch.through > position]
        if not batches or batches[0].after > position or batches[0].read_at < time.monotonic() - KEPT_SECONDS:
            return None
        found: list[Message] = []
        reached = position
        for batch in batches:
            messages = batch.take(rights, wanted)
            if messages is None or len(found) >= PAGE:
                break
            found += [one for one in messages if one.position > position]
            reached = batch.through
        return (found, reached) if reached > position else None

    def _run(self) -> None:
        swept = time.monotonic()
        while streams := self._streams_or_end():
            has_more = not self.is_stopping() and self._read_on(streams)
            if self.is_stopping():
                _wake(streams)
            if time.monotonic() - swept >= self.pace.sweep:
                swept = time.monotonic()
                _wake([stream for stream in streams if stream.has_left()])
            # Otherwise the thread would keep those alive that are to be forgotten.
            streams.clear()
            if not has_more:
                time.sleep(self.pace.poll)

    def _streams_or_end(self) -> list[Stream]:
        """The open streams; with none this thread ends, and the next stream starts another."""
        with self._lock:
            streams = list(self._streams)
            if not streams:
                self._thread, self._head = None, None
                self._batches.clear()
            return streams

    def _read_on(self, streams: Sequence[Stream]) -> bool:
        """Read what is new, and wake the streams if there is something; whether more follows."""
        identities = {stream.identity.permissions: stream.identity for stream in streams}
        try:
            with self.app.app_context():
                head, batches, has_more = in_unit_of_work(self._read, identities, reading=True, guard=self.breaker)
        except CursorExpired:
            self._begin_again()
            return True
        except Exception as error:
            # Whatever it is, the next look may succeed, and no stream has gone on.
            log.warning("feed_unread", exc_info=None if is_outage(error) else error, error=type(error).__name__)
            return False
        with self._lock:
            # A stream that began before this thread knew where the feed is may be behind.
            is_new = self._head != head
            self._head = head
            self._batches.extend(batches)
            self._forget()
        if is_new:
            _wake(streams)
        return has_more

    def _read(self, identities: Mapping[Rights, Identity]) -> tuple[int, Sequence[Batch], bool]:
        """The position after what was read, that in batches, and whether more follows."""
        if self._head is None:
            return service.latest_position(), (), False
        events, has_more = service.events_after(self._head, limit=PAGE)
        head, batches = self._head, []
        for is_owned, some in groupby(events, _is_owned):
            run = list(some)
            messages = {} if is_owned else {rights: present(run, reader) for rights, reader in identities.items()}
            owned = [(event.resource_type, tuple(event.types)) for event in run] if is_owned else ()
            batches.append(Batch(head, run[-1].id, messages, time.monotonic(), owned))
            head = run[-1].id
        return head, batches, has_more

    def _begin_again(self) -> None:
        """Go on at the end of the feed; streams that are behind find out by themselves that events were deleted."""
        with self._lock:
            self._head = None
            self._batches.clear()

    def _forget(self) -> None:
        oldest = time.monotonic() - KEPT_SECONDS
        while self._batches and (self._batches[0].read_at < oldest or len(self._batches) * PAGE > KEPT_EVENTS):
            self._batches.popleft()


def _is_owned(event: ChangeEvent) -> bool:
    """Whether the event is of a row that its owner sees, and others of the same rights do not."""
    resource = published_resources().get(event.resource_type)
    return resource is not None and not resource.shows_hidden


def _wake(streams: Sequence[Stream]) -> None:
    for stream in streams:
        stream.wake()


def is_outage(error: Exception) -> bool:
    """Whether the database is away, or too busy: what failed may succeed later."""
    if isinstance(error, DBAPIError):
        return meaning_of(error) in {Meaning.UNAVAILABLE, Meaning.BUSY}
    return isinstance(error, Unavailable | PoolTimeoutError)


def init_app(app: Flask) -> None:
    """Give the application its broadcaster, for as many streams as MAX_STREAMS says."""
    app.extensions["broadcaster"] = Broadcaster(app, app.config["MAX_STREAMS"])


def current_broadcaster() -> Broadcaster:
    """The broadcaster of the application at hand."""
    broadcaster: Broadcaster = current_app.extensions["broadcaster"]
    return broadcaster
