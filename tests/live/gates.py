"""A gate before a server on the loopback: it passes connections on, or does what servers do that are away."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from typing import Self


class Gate(StrEnum):
    """What becomes of a connection."""

    OPEN = "open"
    #: It is closed at once.
    CLOSED = "closed"
    #: Nothing is ever answered.
    DEAF = "deaf"


class GatedServer:
    """Stands before another port; each turn of the gate ends the connections. Use it as a context manager."""

    def __init__(self, behind: int) -> None:
        self._behind = behind
        self._gate = Gate.OPEN
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._all: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        self._run(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._cut()
        for thread in self._threads:
            thread.join(10)
        for each in self._all:
            each.close()

    def turn(self, gate: Gate) -> None:
        """Change what becomes of connections, and end those that there are."""
        self._gate = gate
        self._cut()

    def _run(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _keep(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)
            self._all.append(connection)

    def _cut(self) -> None:
        with self._lock:
            for each in self._open:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            self._open.clear()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._gate == Gate.CLOSED:
                client.close()
                continue
            self._keep(client)
            if self._gate == Gate.OPEN:
                server = socket.create_connection(("127.0.0.1", self._behind))
                self._keep(server)
                self._run(self._pass_on, client, server)
                self._run(self._pass_on, server, client)

    @staticmethod
    def _pass_on(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
