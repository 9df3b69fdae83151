"""Clients of the live streams: they are cut off, come back, and go on from where they were."""

import contextlib
import http.client
import json
import random
import socket
import struct
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import AcceptConnection, CloseConnection, Event, Ping, RejectConnection, Request, TextMessage

from tests.live.wire import API, PATIENCE
from tests.sse import Block, read_blocks

Item = dict[str, Any]
PROTOCOL = "catalog.events.v1"


class EventSource:
    """One connection that is a stream of server-sent events, or a refusal."""

    def __init__(self, port: int, token: str | None, last_id: str = "", query: str = "") -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
        if last_id:
            headers["Last-Event-ID"] = last_id
        self._connection.request("GET", f"{API}/events/stream{query}", headers=headers)
        # Closing the connection would not close what is being read.
        self.socket = self._connection.sock
        self.response = self._connection.getresponse()
        self.status = self.response.status

    def blocks(self) -> Iterator[Block]:
        """What comes, until the server ends it or either side cuts it."""
        return read_blocks(self._chunks())

    def events(self) -> Iterator[Block]:
        """What comes, without what makes no event."""
        return (block for block in self.blocks() if not block.is_comment)

    def cut(self, *, is_reset: bool = False) -> None:
        """Close the connection, in order or as if the client had vanished."""
        # What the server has ended is closed already.
        if is_reset and self.socket.fileno() >= 0:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.response.close()
        self._connection.close()
        self.socket.close()

    def _chunks(self) -> Iterator[bytes]:
        with contextlib.suppress(OSError, http.client.IncompleteRead, ValueError):
            # Of no size in particular, so that a cut comes anywhere.
            while chunk := self.response.read1(random.randint(1, 2000)):
                yield chunk


class NotUpgraded(Exception):
    """The handshake was refused, with this status."""


class Closed(Exception):
    """The server has closed the connection, with this code; 1006 is without one (RFC 6455 section 7.1.5)."""

    @property
    def code(self) -> int:
        return int(self.args[0])


class WebSocket:
    """A connection to the feed; raises ``NotUpgraded``.

    simple-websocket's own client leaves what comes with the answer to its handshake unread until more comes.
    """

    def __init__(self, port: int, token: str | None, cursor: str = "", query: str = "") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self._events: deque[Event] = deque()
        target = f"{API}/events/ws?cursor={cursor}{query}"
        self._send(Request(host="127.0.0.1", target=target, subprotocols=[PROTOCOL, f"bearer.{token}"]))
        answer = self._next()
        if isinstance(answer, RejectConnection):
            self.socket.close()
            raise NotUpgraded(answer.status_code)
        assert isinstance(answer, AcceptConnection)
        self.subprotocol = answer.subprotocol

    def receive(self) -> Item:
        """The next message; raises ``Closed``."""
        parts: list[str] = []
        while True:
            event = self._next()
            if isinstance(event, CloseConnection):
                if self._protocol.state is ConnectionState.REMOTE_CLOSING:
                    with contextlib.suppress(OSError):
                        self._send(event.response())
                self.socket.close()
                raise Closed(event.code)
            if isinstance(event, Ping):
                self._send(event.response())
            if isinstance(event, TextMessage):
                parts.append(event.data)
                if event.message_finished:
                    item: Item = json.loads("".join(parts))
                    return item

    def say(self, text: str) -> None:
        """Send a message."""
        self._send(TextMessage(data=text))

    def close(self) -> None:
        """Close in order: with a frame, and when the server has answered it."""
        self._send(CloseConnection(code=1000))
        with contextlib.suppress(Closed):
            while True:
                self.receive()
        self.socket.close()

    def cut(self) -> None:
        """Vanish."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def _send(self, event: Event) -> None:
        self.socket.sendall(self._protocol.send(event))

    def _next(self) -> Event:
        while not self._events:
            try:
                data = self.socket.recv(65536)
            except ConnectionError:
                data = b""
            if not data:
                return CloseConnection(code=1006)
            self._protocol.receive_data(data)
            self._events.extend(self._protocol.events())
        return self._events.popleft()


class Follower(ABC):
    """Follows the feed in a thread of its own, and is cut after a random number of events, over and over."""

    def __init__(self, port: int, token: str | None, cursor: str, seed: int) -> None:
        self._port, self._token, self._cursor = port, token, cursor
        self._random = random.Random(seed)
        #: What has come, and how often it was cut.
        self.items: list[Item] = []
        self.cuts = 0

    def follow(self, over: threading.Event) -> None:
        """Follow until an event is set."""
        while not over.is_set():
            if self._follow_on(self._random.randint(0, 12)):
                self.cuts += 1

    @abstractmethod
    def _follow_on(self, number: int) -> bool:
        """Connect, take so many events, and cut; whether it came to that."""


class EventSourceFollower(Follower):
    """By server-sent events."""

    def _follow_on(self, number: int) -> bool:
        try:
            source = EventSource(self._port, self._token, self._cursor)
        except (OSError, http.client.HTTPException):
            return False
        if source.status != 200:
            source.cut()
            return False
        left = number
        for block in source.blocks():
            self._cursor = block.last_id or self._cursor
            if not block.is_comment:
                self.items.append(block.data)
                left -= 1
            if left < 0:
                break
        source.cut(is_reset=self._random.random() < 0.5)
        return True


class WebSocketFollower(Follower):
    """By a WebSocket."""

    def _follow_on(self, number: int) -> bool:
        try:
            connection = WebSocket(self._port, self._token, self._cursor)
        except (NotUpgraded, OSError):
            return False
        left = number
        try:
            while left >= 0:
                item = connection.receive()
                self._cursor = item["cursor"]
                if item["type"] != "stream.position":
                    self.items.append(item)
                    left -= 1
        except (Closed, OSError):
            return True
        if self._random.random() < 0.5:
            connection.close()
        else:
            connection.cut()
        return True


@contextmanager
def following(*followers: Follower) -> Iterator[Callable[[], None]]:
    """Have them follow for the length of a block; call what it yields when nothing more is to come."""
    over = threading.Event()
    threads = [threading.Thread(target=one.follow, args=(over,)) for one in followers]
    for thread in threads:
        thread.start()
    try:
        yield over.set
    finally:
        over.set()
        for thread in threads:
            thread.join(PATIENCE)
        assert not any(thread.is_alive() for thread in threads)
