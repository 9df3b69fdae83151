"""The span of a request, by OpenTelemetry's conventions for HTTP: its route and its path, never its query string."""

from typing import Any
from urllib.parse import quote

from flask import Request

from app.core import tracing
from app.core.tracing import Attributes, read_trace

#: Of a path, which may have 8 KB, this many encoded characters are recorded and logged.
MAX_PATH = 300
#: The methods that the conventions know; any other is `_OTHER`.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})


def begin_span(http: Request, state: Any) -> dict[str, str]:
    """Begin the span of a request, where tracing is on; the id of its trace for the log, if it is in one."""
    environ = http.environ
    given = read_trace(environ.get("HTTP_TRACEPARENT"), environ.get("HTTP_TRACESTATE"))
    if tracing.recorder is None:
        tracing.pass_on(given)
        trace = given
    else:
        state.span = tracing.recorder.begin_request(
            given, name=_method_of(http), attributes=_attributes_of(http, state)
        )
        trace = tracing.current_trace()
    if trace is None:
        return {}
    state.trace_id = trace.trace_id
    return {"trace_id": trace.trace_id}


def end_span(http: Request, state: Any, status: int) -> None:
    """End the span of a request, if it has one that has not ended."""
    span = state.pop("span", None)
    if span is None:
        return
    span.note("http.response.status_code", status)
    if http.url_rule is not None:
        span.note("http.route", http.url_rule.rule)
        span.rename(f"{_method_of(http)} {http.url_rule.rule}")
    if status >= 500:
        span.fail(str(status))
    span.end()


def shown_path(http: Request) -> str:
    """The path, encoded, so that it is one line on a terminal."""
    return quote(http.path[:MAX_PATH])[:MAX_PATH]


def _attributes_of(http: Request, state: Any) -> Attributes:
    return {
        "http.request.method": _method_of(http),
        "url.path": shown_path(http),
        "url.scheme": http.scheme,
        "catalog.request_id": state.request_id,
    }


def _method_of(http: Request) -> str:
    return http.method if http.method in METHODS else "_OTHER"
