"""Failed requests: how the errors of httpx2 are translated, which are retried, and which open a circuit breaker."""

import httpcore2
import httpx2

from app.clients.errors import (
    BadStatus,
    ConnectFailed,
    Interrupted,
    InvalidRequest,
    OutboundError,
    Phase,
    TimedOut,
    Unresolvable,
)

#: What `translate` takes.
LIBRARY_ERRORS = (
    httpcore2.TimeoutException,
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpx2.DecodingError,
)
#: Statuses that a repeated request may not get again.
TRANSIENT_STATUSES = frozenset({408, 429, 500, 502, 503, 504})

_PHASES = {
    httpcore2.PoolTimeout: Phase.POOL,
    httpcore2.ConnectTimeout: Phase.CONNECT,
    httpcore2.WriteTimeout: Phase.WRITE,
    httpcore2.ReadTimeout: Phase.READ,
}


def translate(error: Exception, origin: str, *, is_over: bool) -> OutboundError:
    """The error of ours for one of `LIBRARY_ERRORS`; ``is_over`` is whether the deadline of the request has passed.

    The message of a broken response is not repeated, because it quotes what the server has sent.
    """
    if isinstance(error, httpcore2.TimeoutException):
        return TimedOut(Phase.TOTAL if is_over else _PHASES[type(error)])
    if isinstance(error, httpcore2.ConnectError):
        return ConnectFailed(f"{origin} cannot be connected to: {error}.")
    if isinstance(error, httpcore2.LocalProtocolError):
        return InvalidRequest("A header has a character that HTTP does not allow.")
    return Interrupted(f"{origin} sent no complete response ({type(error).__name__}).")


def is_transient(error: Exception) -> bool:
    """Whether the same request may succeed a little later."""
    if isinstance(error, BadStatus):
        return error.response.status in TRANSIENT_STATUSES
    if isinstance(error, TimedOut):
        return error.phase is not Phase.TOTAL
    return isinstance(error, ConnectFailed | Interrupted | Unresolvable)


def is_outage(error: BaseException) -> bool:
    """Whether an error shows that the destination does not work: it counts for the circuit breaker."""
    if isinstance(error, BadStatus):
        return error.response.status >= 500
    if isinstance(error, TimedOut):
        # A full pool is this client's own.
        return error.phase is not Phase.POOL
    return isinstance(error, ConnectFailed | Interrupted | Unresolvable)
