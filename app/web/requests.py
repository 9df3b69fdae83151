"""What comes in with a request for an operation: its query string, parsed, and its body, read."""

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flask import current_app, request

from app.core.errors import Fault, Invalid
from app.web import uploads
from app.web.body import JSON, MAX_SMALL_BODY_BYTES, NO_BODY, Body, read_json
from app.web.forms import read_form
from app.web.links import encode_parameters
from app.web.operation import Operation
from app.web.query import Parameters, read_query
from app.web.schemas import QuerySchema, repeatable_parameters, shared
from app.web.validation import validate

#: A parsed query string is cached if it has no more bytes than this.
MAX_CACHED_QUERY_BYTES = 500


@dataclass(frozen=True, slots=True)
class ParsedQuery:
    """The values of a query string, and each of its parameters as links spell it."""

    values: Mapping[str, Any]
    spelled: Mapping[str, str]


def parse_query_string(schema: type[QuerySchema], raw: bytes) -> ParsedQuery:
    """The parameters of a query string, loaded by a schema. Refuses malformed (400) and wrong ones (422)."""
    return (_parse_cached if len(raw) <= MAX_CACHED_QUERY_BYTES else _parse)(schema, raw)


def read_parameters(schema: type[QuerySchema], raw: bytes) -> Parameters:
    """The parameters of a query string for a schema, not yet validated.

    Refuses malformed (400) and wrongly repeated ones (422).
    """
    return read_query(raw, repeatable_parameters(schema))


def refuse_contradictions(parameters: Parameters, form: Mapping[str, str]) -> None:
    """Refuse parameters that a field of the form gives another value (422)."""
    both = [name for name, text in form.items() if parameters.get(name, text) != text]
    if both:
        sentence = "Given in the query string and in the form, with different values."
        raise Invalid(*(Fault(sentence, "repeated", parameter=name) for name in both))


@contextmanager
def receive_body(operation: Operation) -> Iterator[Body]:
    """The body of the request at hand, as its operation takes it, for the length of a block (400, 408, 413, 415)."""
    config = current_app.config
    is_json = operation.accepts is not None and request.mimetype == JSON
    if not operation.takes_body:
        yield NO_BODY
        return
    if operation.takes_file is None or is_json:
        limit = MAX_SMALL_BODY_BYTES if operation.is_small else max(operation.max_bytes, config["MAX_BODY_BYTES"])
        accepted = operation.media_types(request.method)
        if operation.is_form and operation.accepts is not None:
            yield read_form(limit=limit, accepted=accepted, names=shared(operation.accepts).fields)
        else:
            yield read_json(limit=limit, accepted=accepted)
        return
    accepted = (*operation.takes_file.media_types, uploads.FORM)
    others = (JSON,) if operation.accepts is not None else ()
    with uploads.receive(limit=config[operation.takes_file.limit], accepted=accepted, others=others) as upload:
        yield upload


def _parse(schema: type[QuerySchema], raw: bytes) -> ParsedQuery:
    parameters = read_parameters(schema, raw)
    return ParsedQuery(validate(shared(schema), parameters, in_query=True), encode_parameters(parameters))


# Clients repeat the same query strings, also after the catalogue has changed. A thousand entries take 3 MB at most.
# Refusals are not cached.
_parse_cached = functools.lru_cache(maxsize=1000)(_parse)
