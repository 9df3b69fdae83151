"""The OpenAPI 3.1 document, generated from the contracts of the registered routes."""

import inspect
import re
from collections.abc import Iterator
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Flask
from werkzeug.routing import Rule

from app.core import errors
from app.core.errors import Refusal
from app.core.idempotency import IdempotencyKeyInUse, IdempotencyKeyReused
from app.core.model import MAX_ID
from app.security.permissions import CATALOG_READS, PERSONAL, roles_with
from app.security.tokens import TokenKind
from app.web import dry_runs, fields, uploads
from app.web.access import AmbiguousCredentials
from app.web.body import JSON, MAX_SMALL_BODY_BYTES
from app.web.contract import Blueprint
from app.web.errors import PROBLEM, phrase_of, status_of
from app.web.hooks import is_timed
from app.web.idempotency import IdempotencyKeyMalformed, takes_key
from app.web.openapi_components import PARAMETERS, add_components
from app.web.openapi_schemas import (
    component_name,
    describe_field,
    example_list,
    example_of,
    example_of_embedded,
    reference_to,
    reference_to_list,
    reference_to_read,
)
from app.web.operation import SAFE_METHODS, FileContract, Operation, operation_of
from app.web.schemas import Schema, shared

DESCRIPTION = """A product catalogue: browse and search it, and keep it up to date.

Log in with `POST /api/v1/auth/login` and send the access token as `Authorization: Bearer <token>`; programs send an API
key as `X-API-Key`. In a request with both, the token's rights count, and the key must belong to the same user (400
`ambiguous_credentials`), repeat the token or be empty. Every error is an `application/problem+json` document (RFC 9457)
with a stable `code`. A `PUT`, `PATCH` or `DELETE` needs `If-Match` with the `ETag` that was read. A product's
`ETag` is `"version.live"`: `If-None-Match` compares both parts and `If-Match` the first alone, so that a sale does not
make an edit stale. A `POST` with an `Idempotency-Key` can be retried, and is processed once. Lists have numbered pages
(`page`) or keyset pagination (`cursor`), which misses nothing where items are added or deleted meanwhile.

Every write outside `/auth` can be tried out with `dry_run=true`: it is checked and answered as always, with
`Dry-Run: true`, and nothing of it is stored: no row, no event, no audit entry, no job and no `Idempotency-Key`, which a
later request may use. It has no `ETag`; the ids and API keys in it belong to nothing, and the real request may get
others.
"""

#: The preconditions of an operation that creates or replaces, which needs none.
UPSERT_PRECONDITIONS = {
    "If-Match": "Replace the row if its version is that of this ETag, or with * if there is one; create none.",
    "If-None-Match": "With *, create the row, and replace none.",
}

#: The refusals of every operation, whatever it declares.
COMMON_REFUSALS: tuple[type[Refusal], ...] = (errors.Malformed, errors.Invalid, errors.Unavailable)


def describe(app: Flask) -> dict[str, Any]:
    """The OpenAPI document of every operation that ``app`` serves, except the documentation's own."""
    plugin = MarshmallowPlugin(schema_name_resolver=component_name)
    spec = APISpec(
        title="Catalog API",
        version="1.0.0",
        openapi_version="3.1.0",
        plugins=[plugin],
        info={"description": DESCRIPTION, "license": {"name": "MIT", "identifier": "MIT"}},
        tags=[{"name": blueprint.name, "description": blueprint.about} for blueprint in _documented(app)],
    )
    # The metadata of our fields is their whole JSON Schema; apispec's own guesses are overridden by it.
    converter: Any = plugin.converter
    converter.add_attribute_function(lambda _self, field, **_: describe_field(spec, field))
    add_components(spec)
    with app.app_context():
        for rule, operation in operations(app):
            _add_operation(spec, rule, operation)
    return spec.to_dict()


def _documented(app: Flask) -> Iterator[Blueprint]:
    for blueprint in app.blueprints.values():
        if isinstance(blueprint, Blueprint) and blueprint.name != "docs":
            yield blueprint


def operations(app: Flask) -> Iterator[tuple[Rule, Operation]]:
    """Every documented route with its operation, in a stable order."""
    rules = sorted(app.url_map.iter_rules(), key=lambda rule: (rule.rule, sorted(rule.methods or ())))
    for rule in rules:
        if not rule.endpoint.startswith("docs."):
            yield rule, operation_of(app.view_functions[rule.endpoint])


def _add_operation(spec: APISpec, rule: Rule, operation: Operation) -> None:
    method = min((rule.methods or set()) - {"HEAD", "OPTIONS"}).lower()
    sentence, _, rest = inspect.cleandoc(operation.view.__doc__ or "").partition("\n\n")
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": sentence,
        "tags": [rule.endpoint.split(".")[-2]],
        "parameters": [
            *_path_parameters(rule, operation),
            *_query_parameters(operation),
            *([dry_runs.PARAMETER] if dry_runs.takes_dry_run(rule) else []),
            *_header_parameters(rule, operation, method),
        ],
        "responses": _responses(spec, rule, operation, method),
        **_security(operation),
    }
    if rest:
        described["description"] = rest
    if operation.limit:
        described["x-rate-limit"] = operation.limit
    if operation.accepts is not None:
        schema = operation.accepts
        content = {"schema": reference_to(spec, schema), "example": example_of(schema)}
        types = operation.media_types(method.upper())
        described["requestBody"] = {"required": True, "content": dict.fromkeys(types, content)}
        if max_bytes := MAX_SMALL_BODY_BYTES if operation.is_small else operation.max_bytes:
            described["requestBody"]["x-max-bytes"] = max_bytes
    if operation.takes_file is not None:
        described["requestBody"] = {"required": True, "content": _file_content(rule, operation, operation.takes_file)}
    spec.path(path=re.sub(r"<(?:[^>]+:)?(\w+)>", r"{\1}", rule.rule), operations={method: described})


def _file_content(rule: Rule, operation: Operation, contract: FileContract) -> dict[str, Any]:
    file = {"type": "string", "description": f"At most {contract.limit} bytes."}
    options = {parameter["name"]: parameter["schema"] for parameter in _query_parameters(operation)}
    if dry_runs.takes_dry_run(rule):
        options[dry_runs.PARAMETER] = PARAMETERS[dry_runs.PARAMETER][2]
    form = {
        "type": "object",
        "required": [uploads.PART],
        "properties": {uploads.PART: file, **options},
        "additionalProperties": False,
    }
    # A file has no schema: a JSON Schema of type string would describe JSON text.
    return {**{media_type: {} for media_type in contract.media_types}, uploads.FORM: {"schema": form}}


def _security(operation: Operation) -> dict[str, Any]:
    access = operation.access
    if access is None or access.is_public:
        return {"security": []}
    if access.permission is None:
        return {"security": [{TokenKind.REFRESH.value: []}, {"refreshCookie": [], "csrf": []}]}
    described: dict[str, Any] = {
        "security": [{"bearer": []}] if access.permission in PERSONAL else [{"bearer": []}, {"apiKey": []}],
        "x-permission": access.permission.value,
        "x-roles": [role.value for role in roles_with(access.permission)],
    }
    if access.permission in CATALOG_READS:
        described["x-public-when"] = "CATALOG_PUBLIC_READ"
    return described


def _path_parameters(rule: Rule, operation: Operation) -> list[dict[str, Any]]:
    described: dict[str, tuple[str, dict[str, Any]]] = {}
    if operation.keys:
        described = {
            "key": ("The key by which the row is named.", {"type": "string", "enum": list(operation.keys)}),
            "value": (
                "Its value, percent-encoded, slashes too.",
                {"type": "string", "minLength": 1, "maxLength": 200, "pattern": r"^[^\u0000-\u001f\u007f]+$"},
            ),
        }
    row_id = ("The id of the row.", {"type": "integer", "format": "int64", "minimum": 1, "maximum": MAX_ID})
    return [
        {"name": name, "in": "path", "required": True, "schema": schema, "description": note}
        for name in sorted(rule.arguments)
        for note, schema in [described.get(name, row_id)]
    ]


def _query_parameters(operation: Operation) -> list[dict[str, Any]]:
    described = []
    for name, field in shared(operation.parameters).fields.items():
        schema = {**field.metadata}
        note = schema.pop("description", "")
        if name == "fields_" and operation.returns is not None:
            members = list(_selectable_members(operation))
            schema["examples"] = [",".join(members[:2])]
            member = "|".join(map(re.escape, members))
            schema["pattern"] = f"^({member})(,({member}))*$"
            note += " Those of what `include` embeds are named after a dot." if operation.includes else ""
        if isinstance(field.load_default, str | int):
            schema["default"] = field.load_default
        parameter = {"name": field.data_key or name, "in": "query", "schema": schema}
        if isinstance(field, fields.Values):
            parameter |= {"style": "form", "explode": False}
        described.append({**parameter, "description": note} if note else parameter)
    return described


def _selectable_members(operation: Operation) -> Iterator[str]:
    """What `fields` can name."""
    yield from shared(operation.returns or Schema).fields
    for name, embedding in operation.includes.items():
        yield name
        yield from (f"{name}.{member}" for member in embedding.members)


def _header_parameters(rule: Rule, operation: Operation, method: str) -> list[str | dict[str, Any]]:
    if _takes_key(rule, operation):
        return ["Idempotency-Key"]
    if operation.by_version:
        return ["If-Match"]
    if operation.upserts:
        return [_optional(name, note) for name, note in UPSERT_PRECONDITIONS.items()]
    return ["If-None-Match"] if operation.is_tagged and method.upper() in SAFE_METHODS else []


def _optional(name: str, note: str) -> dict[str, Any]:
    """A precondition that this operation does not need."""
    schema = PARAMETERS["If-Match"][2]
    return {"name": name, "in": "header", "required": False, "schema": schema, "description": note}


def _takes_key(rule: Rule, operation: Operation) -> bool:
    return operation.access is not None and takes_key(rule, operation.access)


def _responses(spec: APISpec, rule: Rule, operation: Operation, method: str) -> dict[str, Any]:
    responses: dict[str, Any] = {str(operation.status): _success(spec, rule, operation)}
    if operation.upserts:
        created = responses[str(operation.status)]
        headers = {name: header for name, header in created["headers"].items() if name != "Location"}
        responses["200"] = {**created, "description": "Replaced", "headers": headers}
    if "slug" in operation.keys:
        responses["308"] = {
            "description": "The row had this slug before: repeat the request with its present one.",
            "headers": _headers("Location", "X-Request-ID"),
        }
    if operation.is_tagged and method.upper() in SAFE_METHODS:
        responses["304"] = {"description": "The stored representation is current.", "headers": _headers("ETag")}
    by_status: dict[int, list[type[Refusal]]] = {}
    for refusal in (*COMMON_REFUSALS, *_implied(rule, operation), *operation.refuses):
        by_status.setdefault(status_of(refusal), []).append(refusal)
    for status, refusals in sorted(by_status.items()):
        responses[str(status)] = _problem(status, refusals)
    responses["429"] = _problem(429, [])
    return dict(sorted(responses.items()))


def _implied(rule: Rule, operation: Operation) -> Iterator[type[Refusal]]:
    """The refusals that follow from the contract, without being declared."""
    access = operation.access
    if access is not None and not access.is_public:
        yield from (AmbiguousCredentials, errors.Unauthenticated)
        if access.permission is not None:
            yield errors.Forbidden
    if rule.arguments or operation.load is not None:
        yield errors.NotFound
    if operation.by_version:
        yield from (errors.PreconditionFailed, errors.PreconditionRequired)
    if operation.upserts:
        yield errors.PreconditionFailed
    if _takes_key(rule, operation):
        yield from (IdempotencyKeyMalformed, IdempotencyKeyInUse, IdempotencyKeyReused)
    if operation.takes_body:
        yield from (errors.RequestTimeout, errors.ContentTooLarge, errors.UnsupportedMediaType)


def _success(spec: APISpec, rule: Rule, operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {"description": phrase_of(operation.status or 200)}
    if operation.returns is not None:
        schema = reference_to(spec, operation.returns)
        example = example_of(operation.returns)
        if operation.listing is not None:
            schema, example = reference_to_list(spec, operation), example_list(example)
        elif operation.includes:
            api = rule.endpoint.partition(".")[0]
            schema = reference_to_read(spec, operation)
            example |= {name: example_of_embedded(one, api, example) for name, one in operation.includes.items()}
        described["content"] = {JSON: {"schema": schema, "example": example}}
    if operation.streams:
        described["content"] = {media_type: {"schema": {"type": "string"}} for media_type in operation.streams}
    return {**described, "headers": _headers(*_success_headers(rule, operation))}


def _success_headers(rule: Rule, operation: Operation) -> list[str]:
    sent = {
        "X-Request-ID": True,
        "RateLimit-Policy": True,
        "RateLimit": True,
        "X-Process-Time": is_timed(rule.rule),
        "API-Version": rule.rule.startswith("/api/"),
        "ETag": operation.is_tagged,
        "Location": operation.location is not None,
        "Idempotency-Replayed": _takes_key(rule, operation),
        dry_runs.HEADER: dry_runs.takes_dry_run(rule),
        "Link": operation.returns is not None and operation.listing is not None,
    }
    return [name for name, is_sent in sent.items() if is_sent]


def _problem(status: int, refusals: list[type[Refusal]]) -> dict[str, Any]:
    sentences = [f"`{refusal.code()}`: {refusal.sentence()}" for refusal in refusals]
    names = ["X-Request-ID", *{401: ["WWW-Authenticate"], 429: ["Retry-After"], 503: ["Retry-After"]}.get(status, [])]
    return {
        "description": "\n".join(sentences) or phrase_of(status),
        "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        "headers": _headers(*names),
    }


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
