"""``GET /metrics`` for Prometheus: who may read it, on which port, and what the application adds to it."""

import hmac
from collections.abc import Iterator

from flask import Flask, Response, current_app, request
from prometheus_client import Metric
from prometheus_client.core import InfoMetricFamily
from prometheus_client.registry import Collector
from werkzeug.datastructures import Authorization

from app.core.errors import NotFound, Unauthenticated
from app.core.exposition import Exposition, expose, log_where_counted
from app.web.contract import Blueprint, public, refuses, streams
from app.web.ports import is_on_metrics_port
from app.web.schemas import QuerySchema

#: The media types of Prometheus's own format and of OpenMetrics.
TEXT, OPEN_METRICS = "text/plain", "application/openmetrics-text"

blueprint = Blueprint("monitoring", __name__, about="Metrics, for operators.")


class MetricsTokenRequired(Unauthenticated):
    """Send Authorization: Bearer with the METRICS_TOKEN of this server."""


class ReleaseCollector(Collector):
    """Which release of the application runs."""

    def __init__(self, app: Flask) -> None:
        self._release = {"version": app.config["VERSION"], "commit": app.config["COMMIT"]}

    def collect(self) -> Iterator[Metric]:
        """The one metric, which is 1."""
        yield InfoMetricFamily("catalog_build", "The release that runs.", value=self._release)


def init_app(app: Flask) -> None:
    """Give the application its exposition."""
    log_where_counted()
    app.extensions["exposition"] = Exposition([ReleaseCollector(app)])


def register_collector(app: Flask, collector: Collector) -> None:
    """Add what a collector finds out, whenever the metrics of this application are read.

    Where it raises, its metrics are left out and one line is logged. It has to bound its own time.
    """
    exposition: Exposition = app.extensions["exposition"]
    exposition.others.append(collector)


def holds_metrics_token() -> bool:
    """Whether the request at hand carries METRICS_TOKEN; where none is set, no request does."""
    token = current_app.config["METRICS_TOKEN"]
    return bool(token) and carries_token(request.authorization, token)


def carries_token(authorization: Authorization | None, token: str) -> bool:
    """Whether this is the token, as Bearer; compared in a time that does not reveal where it differs."""
    if authorization is None or authorization.type != "bearer":
        return False
    return hmac.compare_digest((authorization.token or "").encode(), token.encode())


@blueprint.get("/metrics")
@public
@streams(TEXT, OPEN_METRICS, query=QuerySchema)
@refuses(NotFound, MetricsTokenRequired)
def read_metrics(query: object) -> Response:  # noqa: ARG001 -- it has no parameters
    """Read the metrics of the server, all its processes together, as Prometheus's text or as OpenMetrics.

    Where METRICS_TOKEN is set it must be sent. Otherwise they are read on METRICS_PORT alone, or, with neither, in
    development alone.
    """
    _admit()
    content, media_type = expose(current_app.extensions["exposition"], request.headers.get("Accept", ""))
    return Response(content, content_type=media_type)


def _admit() -> None:
    config = current_app.config
    if config["METRICS_TOKEN"]:
        if not holds_metrics_token():
            raise MetricsTokenRequired
        return
    is_open = is_on_metrics_port() if config["METRICS_PORT"] else config["APP_ENV"] != "production"
    if not is_open:
        raise NotFound
