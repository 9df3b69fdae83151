"""Clients of the live streams: they are cut off, come back, and go on from where they were."""

import contextlib
import http.client
import random
import socket
import struct
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from simple_websocket import Client as WebSocket
from simple_websocket import ConnectionClosed
from simple_websocket import ConnectionError as NotUpgraded

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
        if is_reset:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.response.close()
        self._connection.close()
        self.socket.close()

    def _chunks(self) -> Iterator[bytes]:
        with contextlib.suppress(OSError, http.client.IncompleteRead, ValueError):
            # Of no size in particular, so that a cut comes anywhere.
            while chunk := self.response.read1(random.randint(1, 2000)):
                yield chunk


def open_socket(port: int, token: str | None, cursor: str = "", query: str = "") -> WebSocket:
    """A WebSocket; raises simple-websocket's ``ConnectionError`` with the status of a refusal."""
    address = f"ws://127.0.0.1:{port}{API}/events/ws?cursor={cursor}{query}"
    return WebSocket(address, subprotocols=[PROTOCOL, f"bearer.{token}"])


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
        source = EventSource(self._port, self._token, self._cursor)
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
        import json  # noqa: PLC0415

        try:
            connection = open_socket(self._port, self._token, self._cursor)
        except (NotUpgraded, OSError):
            return False
        left = number
        try:
            while left >= 0 and (text := connection.receive(timeout=PATIENCE)) is not None:
                item = json.loads(text)
                self._cursor = item["cursor"]
                if item["type"] != "stream.position":
                    self.items.append(item)
                    left -= 1
            if self._random.random() < 0.5:
                connection.close()
            else:
                connection.sock.shutdown(socket.SHUT_RDWR)
        except (ConnectionClosed, OSError):
            pass
        connection.thread.join(PATIENCE)
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
