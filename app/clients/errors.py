"""The tree of what can go wrong with a request to another server.

OutboundError
├── InvalidRequest      the request cannot be sent as it stands, such as a malformed URL; nothing was sent
├── AddressRefused      the guard does not allow the address; nothing was sent
├── CircuitOpen         the destination has failed repeatedly and is left alone for a while; nothing was sent
├── Unresolvable        the host name has no address
├── ConnectFailed       no connection, or no trusted TLS session, could be made; nothing was sent
├── TimedOut            a phase, or the request as a whole, took too long
├── Interrupted         the connection was cut, or what came is no HTTP response
├── ResponseTooLarge    the response has more bytes than are read
└── BadStatus           a whole response, with a status other than 2xx; a redirect is one, because none is followed

No message has a path, a query string, user information, a header or a body: each of them may be a secret, and the path
of a webhook often is one.
"""

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.clients.responses import APIResponse


class Phase(StrEnum):
    """What a request was waiting for when its time was up; `TOTAL` is the deadline of the request as a whole."""

    POOL = "pool"
    RESOLVE = "resolve"
    CONNECT = "connect"
    WRITE = "write"
    READ = "read"
    TOTAL = "total"


class OutboundError(Exception):
    """A request to another server did not succeed; the message is fit for a log."""


class InvalidRequest(OutboundError):
    """The request cannot be sent as it stands."""


class AddressRefused(OutboundError):
    """The guard does not allow the address. The message has the host, and not what it resolves to."""


class CircuitOpen(OutboundError):
    """The destination has failed repeatedly, so no request is sent to it for a while."""


class Unresolvable(OutboundError):
    """The host name has no address."""


class ConnectFailed(OutboundError):
    """No connection, or no trusted TLS session, could be made."""


class TimedOut(OutboundError):
    """A ``phase`` of the request, or the request as a whole, took too long."""

    def __init__(self, phase: Phase) -> None:
        super().__init__(f"The time limit was reached ({phase}).")
        self.phase = phase


class Interrupted(OutboundError):
    """The connection was cut, or what came is no HTTP response."""


class ResponseTooLarge(OutboundError):
    """The response has more than ``limit`` bytes, before or after it is decompressed."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"The response has more than {limit} bytes.")
        self.limit = limit


class BadStatus(OutboundError):
    """The ``response`` has a status other than 2xx. Its body may be truncated."""

    def __init__(self, response: "APIResponse") -> None:
        super().__init__(f"The response has the status {response.status}.")
        self.response = response
