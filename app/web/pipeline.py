"""How a request is answered, as a page.

1. authorize       the caller's identity and permission                                   401, 403
2. read the body   at its sender's pace: no lock and no connection is held meanwhile;     400, 408, 413, 415
                   and where the view `prepares` it, or `awaits` another server, do that slow work
3. begin           a transaction, or statements in autocommit for a read                  503
4. load the row    that the path names, compared with If-Match                            404, 428, 412
5. validate        the query string before the row, the body after it                     422
6. call            the view: one use case                                                 409
7. render          JSON, ETag, Link, Location
8. commit          the row, its audit trail, its log of changes and its idempotency key; a dry run is rolled back

An exception raised in Flask's ``after_request`` bypasses the error handlers: so the commit is here. An operation
that takes no body is authorized within its transaction. The transaction is retried where the database lost it before
its COMMIT (`transactions.in_unit_of_work`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from flask import Response, request
from werkzeug.exceptions import MethodNotAllowed

from app.core.breaker import breaker
from app.core.transactions import ATTEMPTS, in_unit_of_work, roll_back_at_end
from app.extensions import db
from app.security.identity import Identity
from app.web import conditional, dry_runs, idempotency, searches
from app.web.access import Access, authorize, current_identity, remember_use
from app.web.body import NO_BODY, Body
from app.web.deprecated_calls import note_body
from app.web.operation import SAFE_METHODS, Operation
from app.web.rendering import render, set_cache_control
from app.web.requests import parse_query_string, read_parameters, receive_body, refuse_contradictions
from app.web.response_cache import log_position, respond_from_cache
from app.web.schemas import shared
from app.web.uploads import Upload
from app.web.validation import validate


def answer(operation: Operation, path: Mapping[str, Any]) -> Response:
    """Answer the request at hand, which is for ``operation``; ``path`` has the values of the URL's parameters."""
    access, reading = operation.access or Access(), operation.is_reading(request.method)
    if operation.writes and request.method == "HEAD":
        raise MethodNotAllowed(["GET", "OPTIONS"])
    if not operation.takes_body and operation.awaits is None:
        response = in_unit_of_work(_authorize_and_perform, operation, path, access, reading=reading, guard=breaker)
    else:
        identity = in_unit_of_work(authorize, access, reading=True, guard=breaker)
        with receive_body(operation) as body:
            note_body(operation, body)
            call = Call(operation, path, identity, body)
            call = replace(call, upload=call.prepare(), awaited=call.ask())
            # A file is a stream that is read once.
            attempts = 1 if operation.takes_file else ATTEMPTS
            response = in_unit_of_work(call.perform, reading=reading, guard=breaker, attempts=attempts)
    searches.count_noted()
    # A dry run stores nothing, not even this.
    if dry_runs.HEADER not in response.headers:
        remember_use(current_identity())
    return response


def _authorize_and_perform(operation: Operation, path: Mapping[str, Any], access: Access) -> Response:
    position = log_position() if operation.is_cacheable else None
    return Call(operation, path, authorize(access, position)).perform()


@dataclass(frozen=True, slots=True)
class Call:
    """One authorized request for an operation, with its body as it was read."""

    operation: Operation
    path: Mapping[str, Any]
    identity: Identity
    body: Body = NO_BODY
    #: The file, or what was made of it before the transaction; None where the body is none.
    upload: Any = None
    #: What another server has said, if the operation asks one.
    awaited: Any = None

    def prepare(self) -> Any:
        """What the view gets for its file, which is read by now."""
        prepares = self.operation.prepares
        if not isinstance(self.body, Upload):
            return None
        return self.body if prepares is None else prepares(self.body, is_dry_run=self._is_rolled_back())

    def ask(self) -> Any:
        """What the view gets of another server, which has as long as it takes; None where it asks none."""
        operation = self.operation
        if operation.awaits is None:
            return None
        values: dict[str, Any] = dict(self.path)
        # Also where none is declared: nothing is asked for a request that will be refused.
        query = self._read_query()
        if operation.query is not None:
            values["query"] = query
        if operation.accepts is not None:
            values["data"] = validate(shared(operation.accepts), self._body_value())
        return operation.awaits(**values)

    def perform(self) -> Response:
        """The response: a stored one, where there is one for this request, or else a new one."""
        key = idempotency.read_key() if self._takes_idempotency_key() else None
        if self.operation.is_cacheable:
            response = respond_from_cache(self.identity, self.respond)
        elif key is not None and not self._is_rolled_back():
            response = idempotency.respond_once(key, self.respond, self.identity, self.body, self.operation.returns)
        else:
            response = self.respond()
        if request.method in SAFE_METHODS:
            conditional.apply_if_none_match(response)
        set_cache_control(response, self.operation, self.identity)
        return response

    def respond(self) -> Response:
        """Load the row, validate, call the view, render."""
        operation = self.operation
        if_match = conditional.read_if_match() if operation.by_version else None
        require = conditional.read_preconditions() if operation.upserts else None
        query = self._read_query()
        is_dry_run = query.pop(dry_runs.PARAMETER, False)
        if self._rehearses:
            query[dry_runs.PARAMETER] = is_dry_run
        elif is_dry_run:
            roll_back_at_end()
        row = self._load_row(if_match)
        values: dict[str, Any] = dict(self.path) if row is None else {}
        if operation.accepts is not None:
            is_file = isinstance(self.body, Upload)
            values["data"] = None if is_file else validate(shared(operation.accepts), self._body_value())
        if operation.upserts:
            values["require"] = require
        if operation.takes_file is not None:
            values["upload"] = self.upload
        if operation.awaits is not None:
            values["awaited"] = self.awaited
        if operation.query is not None and operation.listing is None:
            values["query"] = query
        values |= {name: query.get(name) for name in operation.takes}
        result = operation.respond(**values) if row is None else operation.respond(row, **values)
        if not operation.is_reading(request.method):
            # Constraints refuse here, where a refusal can still be the response, and not in the COMMIT.
            db.session.flush()
        response = result if isinstance(result, Response) else render(operation, result, query)
        if is_dry_run:
            dry_runs.mark(response)
        return response

    def _body_value(self) -> Any:
        """The body; that of an upsert has the key of the path, unless it states the key itself."""
        body = self.body.value
        if not self.operation.upserts or not isinstance(body, dict):
            return body
        return {self.path["key"]: self.path["value"], **body}

    def _takes_idempotency_key(self) -> bool:
        rule, access = request.url_rule, self.operation.access
        return rule is not None and access is not None and idempotency.takes_key(rule, access)

    @property
    def _rehearses(self) -> bool:
        return self.operation.takes_file is not None and self.operation.takes_file.rehearses

    def _is_rolled_back(self) -> bool:
        return not self._rehearses and bool(self._read_query().get(dry_runs.PARAMETER))

    def _read_query(self) -> dict[str, Any]:
        if self.operation.ignores_query:
            return {}
        schema, rule = self.operation.parameters, request.url_rule
        if rule is not None and dry_runs.takes_dry_run(rule):
            schema = dry_runs.with_dry_run(schema)
        if self.body.fields:
            parameters = read_parameters(schema, request.query_string)
            refuse_contradictions(parameters, self.body.fields)
            return validate(shared(schema), {**parameters, **self.body.fields}, in_query=True)
        return dict(parse_query_string(schema, request.query_string).values)

    def _load_row(self, if_match: frozenset[str] | None) -> Any:
        """The row that the path names; None where the view takes the path itself."""
        operation = self.operation
        if operation.load is None:
            return None
        # Locked, so that the response shows the row as the transaction leaves it, with a stock that was sold meanwhile.
        lock = not operation.by_version or if_match is not None
        row = operation.load(**self.path, identity=self.identity, lock=lock)
        if operation.by_version:
            conditional.check_if_match(if_match, row)
        return row
