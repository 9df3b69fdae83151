"""Around every request: its id, its time, its access-log line, and the headers that every answer carries."""

import os
import random
import re
import time
from typing import Any

import structlog
from flask import Flask, Request, Response, current_app, g, request
from werkzeug.sansio.utils import host_is_trusted

from app.core.audit import Origin, origin
from app.core.errors import Malformed
from app.core.query_stats import QueryStats, current_stats
from app.web.access import current_identity

API_VERSION = "1"
# These may be guessed, and to ask the system for each would give other threads their turn.
_numbers = random.Random()  # noqa: S311 -- no secret
os.register_at_fork(after_in_child=_numbers.seed)
# Where the number of statements and the time that they take would tell who has an account.
_UNTIMED = re.compile(r"/api/[^/]+/(auth|oauth)(/|$)")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")

log = structlog.get_logger("access")


class VersionUnknown(Malformed):
    """API-Version names a version that does not exist."""


class HostMissing(Malformed):
    """A request says which host it is for (RFC 9112 section 3.2)."""


class HostUntrusted(Malformed):
    """This server does not answer for the host that was asked for."""


def init_app(app: Flask) -> None:
    """Open a request before, and close it after, everything else."""
    app.before_request(_open)
    app.after_request(_close)


def is_timed(path: str) -> bool:
    """Whether answers of a path tell how long they took."""
    return not _UNTIMED.match(path)


def _open() -> None:
    asked, here = _behind_the_proxies()
    here.started = time.perf_counter()
    here.query_stats = QueryStats()
    current_stats.set(here.query_stats)
    given = asked.headers.get("X-Request-ID")
    here.request_id = given if given and _REQUEST_ID.fullmatch(given) else _new_id()
    origin.set(Origin(request_id=here.request_id, address=asked.remote_addr))
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=here.request_id)
    _require_host(asked)
    if asked.headers.get("API-Version", API_VERSION) != API_VERSION:
        raise VersionUnknown


def _new_id() -> str:
    return f"{_numbers.getrandbits(128):032x}"


def _behind_the_proxies() -> tuple[Request, Any]:
    # A proxy looks its object up at each use. Werkzeug documents the method; Flask types its proxies as their objects.
    return request._get_current_object(), g._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 -- as said


def _require_host(asked: Request) -> None:
    # Werkzeug takes a name that no host can have for an empty one, and the server's own where there is none.
    is_named = "Host" in asked.headers and asked.host
    if not is_named and asked.environ.get("SERVER_PROTOCOL") != "HTTP/1.0":
        raise HostMissing
    trusted = current_app.config["HOSTS"]
    # Probes ask a machine by its address, and health answers say nothing that a name could poison.
    if trusted and asked.blueprint != "health" and not host_is_trusted(asked.host.lower(), trusted):
        raise HostUntrusted


def _close(response: Response) -> Response:
    asked, here = _behind_the_proxies()
    elapsed, database = time.perf_counter() - here.started, here.query_stats
    # Nobody has set one of these before.
    add = response.headers.add
    add("X-Request-ID", here.request_id)
    if is_timed(asked.path):
        add("X-Process-Time", f"{elapsed:.6f}")
        add(
            "Server-Timing",
            f'app;dur={elapsed * 1000:.3f}, db;dur={database.seconds * 1000:.3f};desc="{database.statements} queries"',
        )
    add("X-Content-Type-Options", "nosniff")
    if asked.path.startswith("/api/"):
        add("API-Version", API_VERSION)
    if asked.is_secure:
        add("Strict-Transport-Security", "max-age=31536000")
    # The route and not the query string: what people search for, and e-mail addresses, stay out of the log.
    log.info(
        "request",
        method=asked.method,
        route=asked.url_rule.rule if asked.url_rule else None,
        status=response.status_code,
        ms=round(elapsed * 1000, 3),
        queries=database.statements,
        user_id=current_identity().user_id,
        address=asked.remote_addr,
    )
    return response
