"""The problems of the OpenAPI document: one schema and one example for each refusal, and the responses made of them."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, get_args

from apispec import APISpec
from werkzeug.routing import Rule

from app.core.errors import Invalid, Refusal
from app.web.body import JSON
from app.web.errors import PROBLEM, phrase_of, status_of
from app.web.oauth_errors import oauth_members, oauth_status
from app.web.openapi_components import PAGE, deprecation_headers, refer_to_headers
from app.web.openapi_enums import reference_to_enum
from app.web.operation import Operation
from app.web.refusals import common_name, refusals_by_status
from app.web.validation import describe_fault

_TEXT = {"type": "string"}
#: The members of every problem, and an example of each that does not depend on it.
_MEMBERS: Mapping[str, dict[str, Any]] = {
    "type": {**_TEXT, "format": "uri-reference", "description": "`about:blank`: `code` says what it is."},
    "title": {**_TEXT, "description": "The phrase of the status."},
    "status": {"type": "integer", "minimum": 400, "maximum": 599, "description": "The status of the response."},
    "detail": {**_TEXT, "description": "A sentence for people."},
    "instance": {**_TEXT, "format": "uri-reference", "description": "The path of the request."},
    "code": {**_TEXT, "pattern": "^[a-z_]+$", "description": "Identifies the kind of problem, for programs."},
    "request_id": {**_TEXT, "description": "Quote it in a support request."},
}
#: Of the trace that the request belongs to; there is one where the server records traces, or a client sends its own.
_TRACE_ID = {**_TEXT, "pattern": "^[0-9a-f]{32}$", "description": "The trace of the request, if it is in one."}
_FAULTS = {
    "type": "array",
    "items": {"$ref": "#/components/schemas/Fault"},
    "description": "What is wrong, value by value.",
}
#: What a problem has beside these, by the type that its refusal declares: its schema, and an example.
_TYPES: Mapping[Any, tuple[dict[str, Any], Any]] = {
    int: ({"type": "integer", "format": "int64"}, 12),
    str: (_TEXT, "products:write"),
    list[str]: ({"type": "array", "items": _TEXT}, ["application/json"]),
}


#: What the problem of an endpoint of OAuth 2 has beside these, for its clients.
_OAUTH_MEMBERS: Mapping[str, dict[str, Any]] = {
    "error": {**_TEXT, "description": "Identifies the kind of error (RFC 6749 section 5.2); `code` can say more."},
    "error_description": {**_TEXT, "description": "The same sentence as `detail`."},
}


def add_problem_schemas(spec: APISpec) -> None:
    """Add the schemas that every problem, every fault and every error of OAuth 2 has."""
    fault = {
        "type": "object",
        "description": "A value that is wrong, and where it is.",
        "required": ["detail", "code"],
        "properties": {
            "pointer": {**_TEXT, "description": "A JSON pointer into the request body (RFC 6901)."},
            "parameter": {**_TEXT, "description": "The name of a query parameter."},
            "header": {**_TEXT, "description": "The name of a header."},
            "detail": {**_TEXT, "description": "A sentence for people."},
            "code": {**_TEXT, "description": "Identifies the kind of fault, for programs."},
        },
    }
    problem = {
        "type": "object",
        "description": "Why a request is refused (RFC 9457). A kind of problem can have more members.",
        "required": list(_MEMBERS),
        "properties": {**_MEMBERS, "trace_id": _TRACE_ID, "errors": _FAULTS},
        "additionalProperties": True,
    }
    spec.components.schema("Fault", component=fault)
    spec.components.schema("Problem", component=problem)
    error = {
        "type": "object",
        "description": "Why an endpoint of OAuth 2 refuses a request (RFC 6749 section 5.2).",
        "required": list(_OAUTH_MEMBERS),
        "properties": dict(_OAUTH_MEMBERS),
    }
    spec.components.schema("OAuthError", component={"allOf": [{"$ref": "#/components/schemas/Problem"}, error]})


def describe_problems(spec: APISpec, rule: Rule, operation: Operation) -> dict[str, Any]:
    """The responses with which an operation refuses, by status."""
    described: dict[str, Any] = {}
    for status, refusals in refusals_by_status(rule, operation).items():
        common = common_name(status, rule, operation)
        response = _response(spec, status, refusals, operation)
        if headers := deprecation_headers(operation):
            described[str(status)] = {**response, "headers": {**response["headers"], **headers}}
            continue
        if common is None:
            described[str(status)] = response
            continue
        kind = "Page" if operation.shows_page else "OAuth" if operation.answers_oauth else ""
        described[str(status)] = _share(spec, status, f"{kind}{common}", response)
    return described


def _share(spec: APISpec, status: int, common: str, response: dict[str, Any]) -> dict[str, str]:
    """A reference to the response as a component, which the first operation with it adds."""
    name = phrase_of(status).title().replace(" ", "") + common
    if spec.components.responses.setdefault(name, response) != response:
        raise AssertionError(f"two responses are named {name}")
    return {"$ref": f"#/components/responses/{name}"}


def _response(spec: APISpec, status: int, refusals: Sequence[type[Refusal]], operation: Operation) -> dict[str, Any]:
    names = ["X-Request-ID", *{401: ["WWW-Authenticate"], 429: ["Retry-After"], 503: ["Retry-After"]}.get(status, [])]
    return {
        "description": "\n".join(f"- `{refusal.code()}`: {refusal.sentence()}" for refusal in refusals),
        "content": PAGE if operation.shows_page else _content(spec, refusals, is_oauth=operation.answers_oauth),
        "headers": refer_to_headers(*names),
    }


def _content(spec: APISpec, refusals: Sequence[type[Refusal]], *, is_oauth: bool) -> dict[str, Any]:
    references = {refusal.code(): _reference_to(spec, refusal, is_oauth=is_oauth) for refusal in refusals}
    one, *others = references.values()
    # Each has one code, so that a discriminator would only repeat them.
    schema = {"oneOf": [one, *others]} if others else one
    names = {code: _example_name(code, is_oauth=is_oauth) for code in references}
    examples = {code: {"$ref": f"#/components/examples/{name}"} for code, name in names.items()}
    return {JSON if is_oauth else PROBLEM: {"schema": schema, "examples": examples}}


def _reference_to(spec: APISpec, refusal: type[Refusal], *, is_oauth: bool) -> dict[str, str]:
    """A reference to the schema of a refusal's problem, which becomes a component with its first reference."""
    base = "OAuthError" if is_oauth else "Problem"
    name = f"{refusal.__name__}{base}"
    if name not in spec.components.schemas:
        members = {member: _type_of(spec, declared) for member, declared in refusal.members.items()}
        example = _example(refusal, {member: sample for member, (_, sample) in members.items()}, is_oauth=is_oauth)
        properties = {
            **({"error": {**_TEXT, "enum": [example["error"]]}} if is_oauth else {}),
            "code": {**_TEXT, "enum": [refusal.code()]},
            **{member: described for member, (described, _) in members.items()},
            # Compilers believe that a member is there where it is described beside `required`.
            **({"errors": _FAULTS} if issubclass(refusal, Invalid) else {}),
        }
        schema = {
            "type": "object",
            "description": refusal.sentence(),
            "required": list(properties),
            "properties": properties,
        }
        spec.components.schema(name, component={"allOf": [{"$ref": f"#/components/schemas/{base}"}, schema]})
        named, summary = _example_name(refusal.code(), is_oauth=is_oauth), refusal.sentence()
        spec.components.example(named, {"summary": summary, "value": example})
    return {"$ref": f"#/components/schemas/{name}"}


def _example_name(code: str, *, is_oauth: bool) -> str:
    return f"oauth_{code}" if is_oauth else code


def _type_of(spec: APISpec, declared: Any) -> tuple[dict[str, Any], Any]:
    """The schema of a member of a declared type, and an example."""
    if isinstance(declared, type) and issubclass(declared, StrEnum):
        return reference_to_enum(spec, declared.__name__, list(declared)), list(declared)[-1]
    if declared in _TYPES:
        return _TYPES[declared]
    [schema, example] = _TYPES[next(one for one in get_args(declared) if one is not type(None))]
    return {**schema, "type": [schema["type"], "null"]}, example


def _example(refusal: type[Refusal], members: Mapping[str, Any], *, is_oauth: bool) -> dict[str, Any]:
    status = oauth_status(status_of(refusal)) if is_oauth else status_of(refusal)
    faults = [describe_fault(fault) for fault in refusal().faults] if issubclass(refusal, Invalid) else []
    problem = {
        **members,
        "type": "about:blank",
        "title": phrase_of(status),
        "status": status,
        "detail": refusal.sentence(),
        "instance": "/api/v1/oauth/token" if is_oauth else "/api/v1/products/42",
        "code": refusal.code(),
        "request_id": "3f2a8c1e5b7d4960",
        **({"errors": faults} if faults else {}),
    }
    return oauth_members(problem) if is_oauth else problem
