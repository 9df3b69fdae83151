"""Hooks around every request: its id, its duration, its access-log line, and the headers of every response."""

import os
import random
import re
import time
from typing import Any

import structlog
from flask import Flask, Request, Response, current_app, g, request
from werkzeug.sansio.utils import host_is_trusted

from app.core import query_stats
from app.core.audit import Origin, origin
from app.core.errors import Malformed, NotFound
from app.core.query_stats import QueryStats, current_stats
from app.web import traffic
from app.web.access import current_identity
from app.web.ports import MONITORING, is_served_here
from app.web.request_spans import begin_span, end_span, shown_path

API_VERSION = "1"
# Request ids may be predictable, and the system's generator, a call for each, would release the GIL to other threads.
_numbers = random.Random()  # noqa: S311 -- no secret
os.register_at_fork(after_in_child=_numbers.seed)
# Here the number of statements, and their duration, would reveal whether an account exists.
_UNTIMED = re.compile(r"/api/[^/]+/(auth|oauth)(/|$)")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")

log = structlog.get_logger("access")


class VersionUnknown(Malformed):
    """API-Version names a version that this server does not have."""


_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class PathMalformed(Malformed):
    """The path is not percent-encoded UTF-8 (RFC 3986 section 2.5)."""


class HostMissing(Malformed):
    """A request needs a Host header (RFC 9112 section 3.2)."""


class HostUntrusted(Malformed):
    """This server does not serve the host that the request names."""


#: What every request can be refused for, whatever its route.
REFUSALS = (PathMalformed, HostMissing, HostUntrusted, VersionUnknown)


def init_app(app: Flask) -> None:
    """Register the hooks. Call this first: they must run before and after all others."""
    app.before_request(_begin_request)
    app.after_request(_end_request)
    app.teardown_request(_note_failure)


def is_timed(path: str) -> bool:
    """Whether responses of a path report their duration."""
    return not _UNTIMED.match(path)


def _begin_request() -> None:
    http, state = _unproxied()
    state.started = time.perf_counter()
    state.query_stats = QueryStats()
    current_stats.set(state.query_stats)
    traffic.begin(http, state)
    given = http.headers.get("X-Request-ID")
    state.request_id = given if given and _REQUEST_ID.fullmatch(given) else _new_id()
    origin.set(Origin(request_id=state.request_id, address=http.remote_addr))
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=state.request_id, **begin_span(http, state))
    _require_host(http)
    _require_utf_8(http)
    if not is_served_here():
        raise NotFound
    if http.headers.get("API-Version", API_VERSION) != API_VERSION:
        raise VersionUnknown


def _new_id() -> str:
    return f"{_numbers.getrandbits(128):032x}"


def _unproxied() -> tuple[Request, Any]:
    # The proxies resolve their object at each use. Werkzeug documents the method; Flask types the proxies as objects.
    return request._get_current_object(), g._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 -- as said


def _require_host(http: Request) -> None:
    # Werkzeug's ``host`` is empty for a malformed header, and the server's own name for a missing one.
    is_named = "Host" in http.headers and http.host
    if not is_named and http.environ.get("SERVER_PROTOCOL") != "HTTP/1.0":
        raise HostMissing
    trusted = current_app.config["HOSTS"]
    # Probes use a machine's address as Host, and their responses contain nothing that a forged Host could poison.
    if trusted and http.blueprint not in MONITORING and not host_is_trusted(http.host.lower(), trusted):
        raise HostUntrusted


def _require_utf_8(http: Request) -> None:
    # Werkzeug would replace what it cannot decode, and so take two keys for one.
    path, raw = http.environ.get("PATH_INFO", ""), http.environ.get("RAW_URI", "").partition("?")[0]
    if "%" in raw and _BAD_ESCAPE.search(raw):
        raise PathMalformed
    if not path.isascii():
        try:
            path.encode("latin-1").decode()
        except UnicodeError:
            raise PathMalformed from None


def _end_request(response: Response) -> Response:
    http, state = _unproxied()
    elapsed, database = time.perf_counter() - state.started, state.query_stats
    query_stats.end_request(database)
    traffic.end(http, state, response.status_code, elapsed)
    # None of these is set already, and adding is faster than setting.
    add = response.headers.add
    add("X-Request-ID", state.request_id)
    if is_timed(http.path):
        add("X-Process-Time", f"{elapsed:.6f}")
        add(
            "Server-Timing",
            f'app;dur={elapsed * 1000:.3f}, db;dur={database.seconds * 1000:.3f};desc="{database.statements} queries"',
        )
    add("X-Content-Type-Options", "nosniff")
    if http.path.startswith("/api/"):
        add("API-Version", API_VERSION)
    if http.is_secure:
        add("Strict-Transport-Security", "max-age=31536000")
    # Never the query string, which can contain search terms.
    log.info(
        "request",
        method=http.method,
        path=shown_path(http),
        route=http.url_rule.rule if http.url_rule else None,
        status=response.status_code,
        ms=round(elapsed * 1000, 3),
        queries=database.statements,
        user_id=current_identity().user_id,
        address=http.remote_addr,
    )
    end_span(http, state, response.status_code)
    return response


def _note_failure(_error: BaseException | None) -> None:
    # A hook of another module that fails keeps _end_request from being called; the server's answer is a 500.
    http, state = _unproxied()
    if "query_stats" in state:
        query_stats.end_request(state.query_stats)
    if "is_in_progress" in state:
        traffic.end(http, state, 500, time.perf_counter() - state.started)
    end_span(http, state, 500)
