"""Around every request: its id, its time, its access-log line, and the headers that every answer carries."""

import re
import secrets
import time

import structlog
from flask import Flask, Response, current_app, g, request
from werkzeug.sansio.utils import host_is_trusted

from app.core.audit import Source, source
from app.core.database import Tally, tally
from app.core.errors import Malformed
from app.web.access import current_identity

API_VERSION = "1"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")

log = structlog.get_logger("access")


class VersionUnknown(Malformed):
    """API-Version names a version that does not exist."""


class HostUntrusted(Malformed):
    """This server does not answer for the host that was asked for."""


def init_app(app: Flask) -> None:
    """Open a request before, and close it after, everything else."""
    app.before_request(_open)
    app.after_request(_close)


def _open() -> None:
    g.started = time.perf_counter()
    g.tally = Tally()
    tally.set(g.tally)
    given = request.headers.get("X-Request-ID", "")
    g.request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
    source.set(Source(request_id=g.request_id, address=request.remote_addr))
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=g.request_id)
    _require_trusted_host()
    if request.headers.get("API-Version", API_VERSION) != API_VERSION:
        raise VersionUnknown


def _require_trusted_host() -> None:
    trusted = current_app.config["HOSTS"]
    # Probes ask a machine by its address, and health answers say nothing that a name could poison.
    if trusted and request.blueprint != "health" and not host_is_trusted(request.host.lower(), trusted):
        raise HostUntrusted


def _close(response: Response) -> Response:
    elapsed = time.perf_counter() - g.started
    headers = response.headers
    headers["X-Request-ID"] = g.request_id
    headers["X-Process-Time"] = f"{elapsed:.6f}"
    headers["Server-Timing"] = (
        f'app;dur={elapsed * 1000:.3f}, db;dur={g.tally.seconds * 1000:.3f};desc="{g.tally.statements} queries"'
    )
    headers["X-Content-Type-Options"] = "nosniff"
    if request.path.startswith("/api/"):
        headers["API-Version"] = API_VERSION
    if request.is_secure:
        headers["Strict-Transport-Security"] = "max-age=31536000"
    # The route and not the query string: what people search for, and e-mail addresses, stay out of the log.
    log.info(
        "request",
        method=request.method,
        route=request.url_rule.rule if request.url_rule else None,
        status=response.status_code,
        ms=round(elapsed * 1000, 3),
        queries=g.tally.statements,
        user_id=current_identity().user_id,
        address=request.remote_addr,
    )
    return response
