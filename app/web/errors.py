"""Every error, of any origin, as application/problem+json (RFC 9457)."""

from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import orjson
import structlog
from flask import Flask, Response, g, request
from jwt import PyJWTError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from werkzeug.exceptions import HTTPException

from app.core import errors
from app.core.breaker import DatabaseBusy, DatabaseUnavailable
from app.core.errors import MAX_FAULTS, Fault, Invalid, Refusal, Unavailable
from app.core.sqlstates import Meaning, code_of, meaning_of

PROBLEM = "application/problem+json"

#: The one table that turns a category of refusals into a status.
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
    errors.UnsupportedMediaType: 415,
    errors.Invalid: 422,
    errors.PreconditionRequired: 428,
    errors.TooManyRequests: 429,
    errors.Unavailable: 503,
}

#: Werkzeug's and Flask's own errors have no class of ours; these are their codes.
CODES = {400: "malformed", 404: "not_found", 405: "method_not_allowed", 413: "content_too_large", 429: "rate_limited"}

#: RFC 9110 renamed these, and Python's names for them changed in 3.13.
PHRASES = {413: "Content Too Large", 422: "Unprocessable Content"}

log = structlog.get_logger(__name__)


class StateChanged(errors.Conflict):
    """Something that this depends on has changed at the same moment; read it again."""


class ValueOutOfRange(Invalid):
    """A value is outside what can be stored."""


#: What an error of the database is answered with, by its meaning; any other is a fault of ours.
ANSWERS: dict[Meaning, type[Refusal]] = {
    Meaning.UNAVAILABLE: DatabaseUnavailable,
    Meaning.BUSY: DatabaseBusy,
    Meaning.CONFLICT: StateChanged,
    Meaning.VALUE: ValueOutOfRange,
}


def init_app(app: Flask) -> None:
    """Register one handler for each family of errors."""
    app.register_error_handler(Refusal, _answer_refusal)
    app.register_error_handler(HTTPException, _answer_http_exception)
    app.register_error_handler(DBAPIError, _answer_database_error)
    app.register_error_handler(PoolTimeoutError, lambda _: _answer_refusal(DatabaseBusy()))
    app.register_error_handler(PyJWTError, lambda _: _answer_refusal(errors.Unauthenticated()))
    # Flask's own line would be in another format, and tell the path.
    app.log_exception = _log_exception  # type: ignore[method-assign]


def status_of(refusal: type[Refusal]) -> int:
    """The status of a refusal: its category's."""
    return next(STATUSES[category] for category in refusal.__mro__ if category in STATUSES)


def phrase_of(status: int) -> str:
    """The name of a status, on every Python."""
    return PHRASES.get(status) or HTTPStatus(status).phrase


def problem(
    status: int, code: str, detail: str, faults: tuple[Fault, ...] = (), data: dict[str, Any] | None = None
) -> Response:
    """A problem document.

    Its ``type`` is about:blank, so that ``title`` is the status's phrase; ``code`` tells problems apart.
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
    if faults:
        members["errors"] = [describe_fault(fault) for fault in faults[:MAX_FAULTS]]
    response = Response(orjson.dumps(members), status=status, mimetype=PROBLEM)
    response.headers["Cache-Control"] = "no-store"
    return response


def describe_fault(fault: Fault) -> dict[str, str]:
    """A fault as a problem document tells it."""
    places = {"pointer": fault.pointer, "parameter": fault.parameter, "header": fault.header}
    place = {name: value for name, value in places.items() if value is not None}
    return {**place, "detail": fault.detail, "code": fault.code}


def _answer_refusal(refusal: Refusal) -> Response:
    status = status_of(type(refusal))
    faults = refusal.faults if isinstance(refusal, Invalid) else ()
    response = problem(status, refusal.code(), refusal.sentence(), faults, refusal.data)
    if status == 401:
        response.headers["WWW-Authenticate"] = _challenge(refusal)
    if refusal.retry_after is not None:
        response.headers["Retry-After"] = str(refusal.retry_after)
    return response


def _challenge(refusal: Refusal) -> str:
    # RFC 6750 section 3.1: no error code where no credentials came.
    if "Authorization" not in request.headers:
        return 'Bearer realm="catalog"'
    return f'Bearer realm="catalog", error="invalid_token", error_description="{refusal.sentence()}"'


def _log_exception(exc_info: Any) -> None:
    log.error("unhandled", exc_info=exc_info)


def _answer_http_exception(error: HTTPException) -> Response:
    status = error.code or 500
    detail = "The server failed to answer this; the failure was recorded." if status >= 500 else _sentence(error)
    code = CODES.get(status, phrase_of(status).lower().replace(" ", "_"))
    response = problem(status, code, detail)
    for name, value in error.get_headers(request.environ):
        if name in {"Allow", "Retry-After", "WWW-Authenticate"}:
            response.headers[name] = value
    return response


def _sentence(error: HTTPException) -> str:
    # The limiter's description is its rate; the sentences of Werkzeug may quote input, so the status speaks alone.
    if error.code == 429:
        return "Too many requests; wait as long as Retry-After says."
    return str(type(error).description or phrase_of(error.code or 500))


def _answer_database_error(error: DBAPIError) -> Response:
    """A lost, refused, locked or overloaded database is 503; what it refuses about a value is the client's."""
    meaning = meaning_of(error)
    if meaning not in ANSWERS:
        raise error
    if issubclass(ANSWERS[meaning], Unavailable):
        log.warning("database", error=type(error.orig).__name__, sqlstate=code_of(error))
    return _answer_refusal(ANSWERS[meaning]())
