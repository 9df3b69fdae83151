"""Every error, of the application or its libraries, as application/problem+json (RFC 9457)."""

from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import orjson
import structlog
from flask import Flask, Response, current_app, g, request, url_for
from jwt import PyJWTError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from werkzeug.exceptions import HTTPException

from app.core import errors
from app.core.breaker import DatabaseBusy, DatabaseUnavailable
from app.core.errors import MAX_FAULTS, Fault, Invalid, Refusal, Unavailable
from app.core.slugs import Moved
from app.core.sqlstates import Meaning, code_of, meaning_of
from app.web import docs, pages
from app.web.body import JSON
from app.web.oauth_errors import oauth_members, oauth_status
from app.web.operation import Operation, operation_of
from app.web.validation import describe_fault

PROBLEM = "application/problem+json"

#: The one table that maps a category of refusals to a status.
STATUSES: dict[type[Refusal], int] = {
    errors.Malformed: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.RequestTimeout: 408,
    errors.Conflict: 409,
    errors.Gone: 410,
    errors.PreconditionFailed: 412,
    errors.ContentTooLarge: 413,
    errors.UriTooLong: 414,
    errors.UnsupportedMediaType: 415,
    errors.ExpectationFailed: 417,
    errors.Invalid: 422,
    errors.UpgradeRequired: 426,
    errors.PreconditionRequired: 428,
    errors.TooManyRequests: 429,
    errors.RequestHeaderFieldsTooLarge: 431,
    errors.Unavailable: 503,
}


class RateLimited(errors.TooManyRequests):
    """You have sent more requests than your limit allows; wait as long as Retry-After says."""

    # flask-limiter raises an error of its own in its place.
    members = {}


#: The codes of Werkzeug's and Flask's own errors, which are no refusals; for other statuses, the phrase in snake case.
CODES = {
    400: "malformed",
    404: "not_found",
    405: "method_not_allowed",
    413: "content_too_large",
    429: RateLimited.code(),
}

#: RFC 9110 renamed these statuses; Python follows it only since 3.13.
PHRASES = {413: "Content Too Large", 414: "URI Too Long", 422: "Unprocessable Content"}

_NO_OPERATION = Operation(view=lambda: None)

log = structlog.get_logger(__name__)


class StateChanged(errors.Conflict):
    """A concurrent request changed something that this depends on; read it again."""


class ValueOutOfRange(Invalid):
    """A value is outside what can be stored."""


#: The refusal for an error of the database, by its meaning; any other error is a bug, and a 500.
DATABASE_REFUSALS: dict[Meaning, type[Refusal]] = {
    Meaning.UNAVAILABLE: DatabaseUnavailable,
    Meaning.BUSY: DatabaseBusy,
    Meaning.CONFLICT: StateChanged,
    Meaning.VALUE: ValueOutOfRange,
}


def init_app(app: Flask) -> None:
    """Register one handler per family of errors."""
    app.register_error_handler(Refusal, _handle_refusal)
    app.register_error_handler(HTTPException, _handle_http_exception)
    app.register_error_handler(DBAPIError, _handle_database_error)
    app.register_error_handler(PoolTimeoutError, lambda _: _handle_refusal(DatabaseBusy()))
    app.register_error_handler(Moved, _redirect)
    app.register_error_handler(PyJWTError, lambda _: _handle_refusal(errors.Unauthenticated()))
    # Flask's own line would have another format, and would reveal the path.
    app.log_exception = _log_exception  # type: ignore[method-assign]


def status_of(refusal: type[Refusal]) -> int:
    """The status of a refusal: its category's."""
    return next(STATUSES[category] for category in refusal.__mro__ if category in STATUSES)


def phrase_of(status: int) -> str:
    """The reason phrase of a status (RFC 9110), on every version of Python."""
    return PHRASES.get(status) or HTTPStatus(status).phrase


def problem(
    status: int, code: str, detail: str, faults: tuple[Fault, ...] = (), data: dict[str, Any] | None = None
) -> Response:
    """A problem document.

    Its ``type`` is about:blank, so that ``title`` is the status's phrase; ``code`` distinguishes problems.
    At most MAX_FAULTS of ``faults`` are reported.
    """
    members: dict[str, Any] = dict(data or {})
    members |= {
        "type": "about:blank",
        "title": phrase_of(status),
        "status": status,
        "detail": detail,
        "instance": quote(request.path),
        "code": code,
        "request_id": g.get("request_id", ""),
    }
    if trace_id := g.get("trace_id"):
        members["trace_id"] = trace_id
    if faults:
        members["errors"] = [describe_fault(fault) for fault in faults[:MAX_FAULTS]]
    if _operation_at_hand().shows_page:
        return pages.render_private_page(
            "refused.html", {**members, "version": docs.version()}, policy=pages.STATIC_POLICY, status=status
        )
    is_oauth = _operation_at_hand().answers_oauth
    if is_oauth:
        members = oauth_members(members)
    response = Response(orjson.dumps(members), status=status, mimetype=JSON if is_oauth else PROBLEM)
    response.headers["Cache-Control"] = "no-store"
    return response


def _operation_at_hand() -> Operation:
    """What the operation at hand declares; nothing where the path leads to none."""
    return operation_of(current_app.view_functions[request.endpoint]) if request.endpoint else _NO_OPERATION


def _handle_refusal(refusal: Refusal) -> Response:
    status = status_of(type(refusal))
    if _operation_at_hand().answers_oauth:
        status = oauth_status(status)
    faults = refusal.faults if isinstance(refusal, Invalid) else ()
    response = problem(status, refusal.code(), refusal.sentence(), faults, refusal.data)
    if status == 401:
        response.headers["WWW-Authenticate"] = _challenge(refusal)
    if status == 426:
        # RFC 9110 section 15.5.22; and RFC 6455 section 4.4 names the version.
        response.headers.extend({"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"})
    if refusal.retry_after is not None:
        response.headers["Retry-After"] = str(refusal.retry_after)
    return response


def _redirect(moved: Moved) -> Response:
    """308 (RFC 9110 section 15.4.9): the same request, method and body included, to the row's path of today."""
    # Without a host, so that a forged one cannot enter it.
    path = url_for(request.endpoint or "", **{**(request.view_args or {}), "value": moved.slug}, _external=False)
    query = request.query_string.decode("latin-1")
    response = Response(status=308, headers={"Location": f"{path}?{query}" if query else path})
    del response.headers["Content-Type"]
    response.headers["Cache-Control"] = "no-store"
    return response


def _challenge(refusal: Refusal) -> str:
    if _operation_at_hand().answers_oauth:
        return 'Basic realm="catalog", charset="UTF-8"'
    # RFC 6750 section 3.1: no error code where no credentials came.
    if "Authorization" not in request.headers:
        return 'Bearer realm="catalog"'
    return f'Bearer realm="catalog", error="invalid_token", error_description="{refusal.sentence()}"'


def _log_exception(exc_info: Any) -> None:
    log.error("unhandled", exc_info=exc_info)


def _handle_http_exception(error: HTTPException) -> Response:
    status = error.code or 500
    detail = "The server failed to process this request; the error was logged." if status >= 500 else _sentence(error)
    code = CODES.get(status, phrase_of(status).lower().replace(" ", "_"))
    response = problem(status, code, detail)
    for name, value in error.get_headers(request.environ):
        if name in {"Allow", "Retry-After", "WWW-Authenticate"}:
            response.headers[name] = value
    return response


def _sentence(error: HTTPException) -> str:
    # The limiter's description is its rate, and an instance of Werkzeug's may quote input: its class's is safe.
    if error.code == 429:
        return RateLimited.sentence()
    return str(type(error).description or phrase_of(error.code or 500))


def _handle_database_error(error: DBAPIError) -> Response:
    """503 for a database that is unavailable, locked or overloaded; 409 or 422 for what it refuses; else 500, a bug."""
    meaning = meaning_of(error)
    if meaning not in DATABASE_REFUSALS:
        raise error
    refusal = DATABASE_REFUSALS[meaning]
    if issubclass(refusal, Unavailable):
        log.warning("database", error=type(error.orig).__name__, sqlstate=code_of(error))
    return _handle_refusal(refusal())
