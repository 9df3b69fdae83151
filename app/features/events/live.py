"""Live streams: the change feed as it goes on, for one client, until the client or its credentials leave.

A stream misses nothing and repeats nothing: it goes from position to position in the feed, and each message has the
cursor from which the next connection goes on. What it gets is what `GET /events` would show at that moment.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog
from flask import current_app, request
from simple_websocket import ConnectionClosed, Server

from app.core.breaker import DatabaseUnavailable
from app.core.errors import Refusal
from app.core.metrics import STREAMS
from app.core.transactions import in_unit_of_work
from app.features.events import service
from app.features.events.broadcast import PAGE, Broadcaster, current_broadcaster, is_outage
from app.features.events.messages import Message, write_messages
from app.features.events.pages import Filter, read_page
from app.features.events.service import CursorExpired
from app.security.identity import Identity
from app.web import sse
from app.web.access import authorize_again, current_identity
from app.web.errors import status_of
from app.web.output import to_json

#: The subprotocol of the WebSocket.
PROTOCOL = "catalog.events.v1"
#: The type of the message that has no event but the position, at the beginning and as a heartbeat of a WebSocket.
POSITION = "stream.position"
#: Close codes (RFC 6455 section 7.4) by the status of what ends the stream; from 4000 on they are private.
CLOSE_CODES = {401: 4401, 403: 4403, 410: 4410}
GOING_AWAY, UNSUPPORTED_DATA, TRY_AGAIN_LATER = 1001, 1003, 1013

log = structlog.get_logger("access")


@dataclass(eq=False)
class EventStream:
    """The stream of one client, who is at ``position``; its own thread alone runs `follow`."""

    broadcaster: Broadcaster
    identity: Identity
    position: int
    wanted: Filter
    #: Whether the client has gone; the broadcaster's thread asks.
    has_left: Callable[[], bool] = lambda: False
    #: Set when there is something to look at.
    signal: threading.Event = field(default_factory=threading.Event)
    #: Events that were sent.
    sent: int = 0
    #: How it ended: the code of a refusal, or what happened.
    end: str = "left"
    _begun: float = field(default_factory=time.monotonic)
    _checked: float = field(default_factory=time.monotonic)

    def wake(self) -> None:
        """Have `follow` look."""
        self.signal.set()

    @property
    def cursor(self) -> str:
        """The cursor to go on from here."""
        return service.sign_cursor(self.position, current_app.config["SECRET_KEYS"])

    def follow(self) -> Iterator[Sequence[Message]]:
        """Events as they come, for as long as the process runs; nothing, at first and as a heartbeat.

        Raises the refusal of the credentials as they are by then, ``CursorExpired`` where events were deleted before
        they were read, and ``DatabaseUnavailable`` after a long time without the database.
        """
        pace = self.broadcaster.pace
        yield ()
        beat = time.monotonic() + pace.heartbeat
        while not self.broadcaster.is_stopping() and not self.has_left():
            before = self.position
            is_due = time.monotonic() >= beat
            messages = self._read_on(is_due=is_due)
            if messages or is_due:
                self.sent += len(messages)
                yield messages
                beat = time.monotonic() + pace.heartbeat
            elif self.position == before:
                self.signal.wait(max(0.0, beat - time.monotonic()))
                self.signal.clear()
        self.end = "stopping" if self.broadcaster.is_stopping() else "left"

    def close(self) -> None:
        """Give the place back."""
        self.broadcaster.close(self)

    def log_end(self) -> None:
        """Write the line of the log that says how long this has lasted."""
        seconds = round(time.monotonic() - self._begun, 3)
        rule = request.url_rule.rule if request.url_rule else None
        log.info("stream", route=rule, seconds=seconds, events=self.sent, end=self.end, user_id=self.identity.user_id)

    def _read_on(self, *, is_due: bool) -> Sequence[Message]:
        """The next events, after a check of the credentials where there are some; none while the database is away."""
        try:
            messages, position = self._read()
            if (messages or is_due) and self._has_changed_rights():
                messages, position = self._read()
        except Exception as error:
            if not is_outage(error):
                raise
            self._sit_out(error)
            return ()
        self.position = position
        return messages

    def _read(self) -> tuple[Sequence[Message], int]:
        """Some of the events after the position, and the position after them."""
        taken = self.broadcaster.take(self.position, self.identity.permissions, self.wanted)
        return self._in_unit_of_work(self._read_page) if taken is None else taken

    def _read_page(self) -> tuple[Sequence[Message], int]:
        page = read_page(self.position, limit=PAGE, wanted=self.wanted, identity=self.identity)
        return write_messages(page.items), page.position

    def _has_changed_rights(self) -> bool:
        """Check the credentials again, unless that was just done; whether they grant something else than before."""
        if time.monotonic() - self._checked < self.broadcaster.pace.check:
            return False
        before, self.identity = self.identity.permissions, self._in_unit_of_work(authorize_again)
        self._checked = time.monotonic()
        return self.identity.permissions != before

    def _sit_out(self, error: Exception) -> None:
        """Wait a little for the database, or give up; without it nothing is delivered."""
        pace = self.broadcaster.pace
        if time.monotonic() - self._checked > pace.patience:
            raise DatabaseUnavailable from error
        self.signal.wait(pace.sweep)
        self.signal.clear()

    def _in_unit_of_work(self, work: Callable[[], Any]) -> Any:
        return in_unit_of_work(work, reading=True, guard=self.broadcaster.breaker)


def open_stream(query: dict[str, Any]) -> EventStream:
    """The stream of the request at hand, with a place that it gives back when it ends or is forgotten.

    It begins after the cursor of Last-Event-ID or else of the query, or else with the next event. Refuses a bad cursor
    (``CursorInvalid``), one after which events were deleted (``CursorExpired``), and one stream too many
    (``TooManyStreams``).
    """
    position = _position(request.headers.get("Last-Event-ID") or query["cursor"])
    broadcaster = current_broadcaster()
    stream = EventStream(broadcaster, current_identity(), position, Filter(query.get("types"), query.get("resource")))
    broadcaster.open(stream)
    return stream


def _position(cursor: str) -> int:
    if not cursor:
        return service.latest_position()
    position = service.verify_cursor(cursor, current_app.config["SECRET_KEYS"])
    if position < service.pruned_through():
        raise CursorExpired
    return position


def write_blocks(stream: EventStream) -> Iterator[bytes]:
    """The stream as server-sent events; at its end, what has ended it as an event of the type ``end``."""
    open_streams = STREAMS.labels("sse")
    open_streams.inc()
    try:
        yield sse.retry_block()
        for messages in stream.follow():
            if messages:
                yield b"".join(sse.event_block(one.text, event=one.type, event_id=one.cursor) for one in messages)
            else:
                yield sse.comment_block("here", event_id=stream.cursor)
    except Refusal as refusal:
        stream.end = refusal.code()
        yield sse.event_block(_problem_of(refusal), event="end")
    finally:
        open_streams.dec()
        stream.close()
        stream.log_end()


def _problem_of(refusal: Refusal) -> bytes:
    return current_app.make_response(current_app.handle_user_exception(refusal)).get_data()


def serve_socket(socket: Server, stream: EventStream) -> None:
    """Send the stream over a WebSocket, and close it with the code of what has ended it."""
    # simple-websocket sets this event where something arrives, and when the client has gone.
    stream.signal, stream.has_left = socket.event, lambda: not socket.connected
    code, reason = GOING_AWAY, "The server is stopping; connect again."
    open_streams = STREAMS.labels("websocket")
    open_streams.inc()
    try:
        for messages in stream.follow():
            if socket.receive(timeout=0) is not None:
                code, reason, stream.end = UNSUPPORTED_DATA, "A client of this stream has nothing to say.", "spoke"
                break
            for message in messages:
                socket.send(message.text.decode())
            if not messages:
                socket.send(to_json({"type": POSITION, "cursor": stream.cursor}).decode())
    except Refusal as refusal:
        stream.end = refusal.code()
        code, reason = CLOSE_CODES.get(status_of(type(refusal)), TRY_AGAIN_LATER), refusal.code()
    finally:
        open_streams.dec()
        stream.close()
        stream.log_end()
    with suppress(OSError, ConnectionClosed):
        socket.close(code, reason)
