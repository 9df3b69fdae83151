"""METRICS_PORT: a second port of the server, on which only monitoring is answered."""

from flask import current_app, request

from app.web.sse import SOCKETS

#: The blueprints that are answered there.
MONITORING = frozenset({"health", "monitoring"})


def is_on_metrics_port() -> bool:
    """Whether the request at hand came in on METRICS_PORT.

    The socket is asked, because a client can claim any port, in Host or in X-Forwarded-Port.
    """
    port = current_app.config["METRICS_PORT"]
    if port is None:
        return False
    connection = next((request.environ[name] for name in SOCKETS if name in request.environ), None)
    if connection is None:
        return False
    address = connection.getsockname()
    # That of a Unix domain socket is a path.
    return isinstance(address, tuple) and address[1] == port


def is_served_here() -> bool:
    """Whether the port of the request at hand answers what is asked."""
    return not is_on_metrics_port() or request.blueprint in MONITORING
