"""Serves what `flask worker` and Celery count, on METRICS_PORT."""

import threading
from collections.abc import Callable
from socket import AF_INET6
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, make_server

import structlog
from flask import Flask
from prometheus_client.exposition import ThreadingWSGIServer
from werkzeug import Request, Response

from app.core.exposition import Exposition, expose
from app.web.monitoring import ReleaseCollector, carries_token

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

log = structlog.get_logger(__name__)


class _Server6(ThreadingWSGIServer):
    address_family = AF_INET6


class _Handler(WSGIRequestHandler):
    #: Seconds for a client to send its request.
    timeout = 10

    def log_message(self, *_: object) -> None:
        """Log nothing: it would have another format."""


def serve_metrics(app: Flask) -> Callable[[], None]:
    """Serve ``/metrics`` in a thread where METRICS_PORT is set, until what this returns is called.

    A port that cannot be bound, because another worker of this machine has it, is logged: jobs matter more.
    """
    port, host = app.config["METRICS_PORT"], app.config["METRICS_HOST"] or app.config["HOST"]
    if port is None:
        return lambda: None
    # What the database knows, each server of the API exports already.
    answer = _answer_with(Exposition([ReleaseCollector(app)]), app.config["METRICS_TOKEN"])
    try:
        server = make_server(host, port, answer, _Server6 if ":" in host else ThreadingWSGIServer, _Handler)
    except OSError as error:
        log.warning("metrics_not_served", port=port, error=error.strerror)
        return lambda: None
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()

    def stop() -> None:
        server.shutdown()
        server.server_close()

    return stop


def _answer_with(exposition: Exposition, token: str | None) -> "WSGIApplication":
    @Request.application
    def answer(request: Request) -> Response:
        if request.path != "/metrics" or request.method not in {"GET", "HEAD"}:
            return Response("There is nothing here.\n", status=404)
        if token and not carries_token(request.authorization, token):
            return Response(status=401, headers={"WWW-Authenticate": 'Bearer realm="catalog"'})
        content, media_type = expose(exposition, request.headers.get("Accept", ""))
        return Response(content, content_type=media_type)

    return answer
