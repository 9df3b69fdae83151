"""The OpenAPI 3.1 document, generated from the contracts of the registered routes."""

import inspect
import re
from collections.abc import Iterator
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Flask
from marshmallow import fields as ma_fields
from werkzeug.routing import Rule

from app.core import errors
from app.core.errors import Refusal
from app.core.idempotency import IdempotencyKeyInUse, IdempotencyKeyReused
from app.core.model import MAX_ID
from app.security.permissions import CATALOG_READS, PERSONAL, roles_with
from app.security.tokens import TokenKind
from app.web import cookies, fields, uploads
from app.web.access import AmbiguousCredentials
from app.web.batch import Batch
from app.web.body import JSON, MAX_SMALL_BODY_BYTES
from app.web.contract import Blueprint
from app.web.errors import PROBLEM, phrase_of, status_of
from app.web.hooks import is_timed
from app.web.idempotency import IdempotencyKeyMalformed, takes_key
from app.web.operation import SAFE_METHODS, FileContract, Operation, operation_of
from app.web.resources import ResourceName, ResourceRow, published_resources
from app.web.schemas import BodySchema, Schema, shared

DESCRIPTION = """A product catalogue: browse and search it, and keep it up to date.

Log in with `POST /api/v1/auth/login` and send the access token as `Authorization: Bearer <token>`; programs send an API
key as `X-API-Key`. In a request with both, the token's rights count, and the key must belong to the same user (400
`ambiguous_credentials`), repeat the token or be empty. Every error is an `application/problem+json` document (RFC 9457)
with a stable `code`. A `PUT`, `PATCH` or `DELETE` needs `If-Match` with the `ETag` that was read. A `POST` with an
`Idempotency-Key` can be retried, and is processed once. Lists have numbered pages (`page`) or keyset pagination
(`cursor`), which misses nothing where items are added or deleted meanwhile.
"""

#: The refusals of every operation, whatever it declares.
COMMON_REFUSALS: tuple[type[Refusal], ...] = (errors.Malformed, errors.Invalid, errors.Unavailable)


def describe(app: Flask) -> dict[str, Any]:
    """The OpenAPI document of every operation that ``app`` serves, except the documentation's own."""
    plugin = MarshmallowPlugin(schema_name_resolver=_component_name)
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
    converter.add_attribute_function(lambda _self, field, **_: _describe_field(spec, field))
    _add_components(spec)
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


def _describe_field(spec: APISpec, field: ma_fields.Field[Any]) -> dict[str, Any]:
    described = dict(field.metadata)
    if isinstance(field, ResourceName):
        return described | {"enum": sorted(published_resources())}
    if isinstance(field, ResourceRow):
        rows = [_reference(spec, resource.schema) for resource in published_resources().values()]
        return described | {"anyOf": [*rows, {"type": "null"}], "examples": [_example_row()]}
    if isinstance(field, Batch):
        return described | {"items": _reference(spec, field.item)}
    if isinstance(field, fields.Nested):
        reference = _reference(spec, field.nested)
        return described | ({"type": "array", "items": reference} if field.many else {"type": "object", **reference})
    return described


def _component_name(schema: Any) -> str:
    name = schema if isinstance(schema, str) else getattr(schema, "__name__", type(schema).__name__)
    return str(name).removesuffix("Schema")


def _add_components(spec: APISpec) -> None:
    _add_problem_schemas(spec)
    _add_security_schemes(spec)
    for name, (note, schema) in HEADERS.items():
        described = {"description": note, "schema": schema}
        spec.components.header(name, described if name in OPTIONAL_HEADERS else {**described, "required": True})
    for name, (place, note, schema) in PARAMETERS.items():
        parameter = {"name": name, "description": note, "schema": schema, "required": name == "If-Match"}
        spec.components.parameter(name, place, parameter)


def _add_problem_schemas(spec: APISpec) -> None:
    text = {"type": "string"}
    fault = {
        "type": "object",
        "required": ["detail", "code"],
        "properties": {
            "pointer": {**text, "description": "A JSON pointer into the request body (RFC 6901)."},
            "parameter": {**text, "description": "The name of a query parameter."},
            "header": {**text, "description": "The name of a header."},
            "detail": text,
            "code": text,
        },
    }
    members = {
        "type": text,
        "title": text,
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": text,
        "instance": text,
        "code": {**text, "pattern": "^[a-z_]+$", "description": "Identifies the kind of problem, for programs."},
        "request_id": {**text, "description": "Quote it in a support request."},
        "errors": {"type": "array", "items": {"$ref": "#/components/schemas/Fault"}},
    }
    spec.components.schema("Fault", component=fault)
    problem = {"type": "object", "required": [name for name in members if name != "errors"], "properties": members}
    spec.components.schema("Problem", component=problem)


def _add_security_schemes(spec: APISpec) -> None:
    bearer = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
    spec.components.security_scheme("bearer", {**bearer, "description": "The access token of a login."})
    spec.components.security_scheme("refresh", {**bearer, "description": "The refresh token; valid for one exchange."})
    for scheme, place, name, note in (
        ("apiKey", "header", "X-API-Key", "An API key. Beside a token, the token's rights count: see above."),
        ("refreshCookie", "cookie", cookies.NAME, "The refresh token of a login that requested the cookie."),
        ("csrf", "header", "X-CSRF-Token", "The csrf_token that was issued with the cookie."),
    ):
        spec.components.security_scheme(scheme, {"type": "apiKey", "in": place, "name": name, "description": note})


_STRING = {"type": "string"}
HEADERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ETag": ("The version of the representation.", _STRING),
    "Idempotency-Replayed": (
        "The response is the stored one of an earlier request with this Idempotency-Key.",
        {**_STRING, "enum": ["true"]},
    ),
    "Location": ("The path of the created resource.", _STRING),
    "Link": ("The links of the envelope (RFC 8288).", _STRING),
    "X-Request-ID": (
        "The request's id: the one that was sent, if it is valid, or a new one.",
        {**_STRING, "pattern": "^[A-Za-z0-9._-]{8,64}$"},
    ),
    "X-Process-Time": ("Seconds that the server needed.", {**_STRING, "pattern": "^[0-9]+[.][0-9]+$"}),
    "RateLimit-Policy": ("The tightest limit: its quota, and its window in seconds.", _STRING),
    "RateLimit": ("What is left of the quota, and seconds until its window ends.", _STRING),
    "Retry-After": ("Seconds to wait.", {**_STRING, "pattern": "^[0-9]+$"}),
    "WWW-Authenticate": ("How to authenticate (RFC 6750).", _STRING),
    "API-Version": ("The version of the API that served the request.", {**_STRING, "pattern": "^[0-9]+$"}),
}
#: Headers that a response may lack: a list of one page has no links, limits can be off, and few responses are replayed.
#: Every other header is present wherever it is described.
OPTIONAL_HEADERS = frozenset({"Idempotency-Replayed", "Link", "RateLimit-Policy", "RateLimit"})

_TAG = r'(W/)?"[!#-~]*"'
_EXAMPLES = {**_STRING, "examples": ["*", '"1"']}
PARAMETERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "If-Match": (
        "header",
        "The ETag that was read, or * for any version.",
        {**_EXAMPLES, "maxLength": 4096, "pattern": rf"^(\*|{_TAG}( *, *{_TAG})*)$"},
    ),
    "Idempotency-Key": (
        "header",
        "A unique name for this request: a retry with it is not processed again, but gets the stored response.",
        {**_STRING, "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$", "examples": ["8e03978e-40d5-43dd-bc93"]},
    ),
    "If-None-Match": ("header", "The ETag of the stored representation: 304 while it is current.", _EXAMPLES),
}


def _add_operation(spec: APISpec, rule: Rule, operation: Operation) -> None:
    method = min((rule.methods or set()) - {"HEAD", "OPTIONS"}).lower()
    sentence, _, rest = inspect.cleandoc(operation.view.__doc__ or "").partition("\n\n")
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": sentence,
        "tags": [rule.endpoint.split(".")[-2]],
        "parameters": [
            *_path_parameters(rule),
            *_query_parameters(operation),
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
        content = {"schema": _reference(spec, schema), "example": _example(schema)}
        types = operation.media_types(method.upper())
        described["requestBody"] = {"required": True, "content": dict.fromkeys(types, content)}
        if max_bytes := MAX_SMALL_BODY_BYTES if operation.is_small else operation.max_bytes:
            described["requestBody"]["x-max-bytes"] = max_bytes
    if operation.takes_file is not None:
        described["requestBody"] = {"required": True, "content": _file_content(operation, operation.takes_file)}
    spec.path(path=re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), operations={method: described})


def _file_content(operation: Operation, contract: FileContract) -> dict[str, Any]:
    file = {"type": "string", "description": f"At most {contract.limit} bytes."}
    options = {parameter["name"]: parameter["schema"] for parameter in _query_parameters(operation)}
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


def _path_parameters(rule: Rule) -> list[dict[str, Any]]:
    schema = {"type": "integer", "format": "int64", "minimum": 1, "maximum": MAX_ID}
    return [
        {"name": name, "in": "path", "required": True, "schema": schema, "description": "The id of the row."}
        for name in sorted(rule.arguments)
    ]


def _query_parameters(operation: Operation) -> list[dict[str, Any]]:
    if operation.query is None:
        return []
    described = []
    for name, field in shared(operation.query).fields.items():
        schema = {**field.metadata}
        note = schema.pop("description", "")
        if name == "fields_" and operation.returns is not None:
            members = list(shared(operation.returns).fields)
            schema["examples"] = [",".join(members[:2])]
            member = "|".join(members)
            schema["pattern"] = f"^({member})(,({member}))*$"
        if isinstance(field.load_default, str | int):
            schema["default"] = field.load_default
        parameter = {"name": field.data_key or name, "in": "query", "schema": schema}
        described.append({**parameter, "description": note} if note else parameter)
    return described


def _header_parameters(rule: Rule, operation: Operation, method: str) -> list[str]:
    if _takes_key(rule, operation):
        return ["Idempotency-Key"]
    if operation.by_version:
        return ["If-Match"]
    return ["If-None-Match"] if operation.is_tagged and method.upper() in SAFE_METHODS else []


def _takes_key(rule: Rule, operation: Operation) -> bool:
    return operation.access is not None and takes_key(rule, operation.access)


def _responses(spec: APISpec, rule: Rule, operation: Operation, method: str) -> dict[str, Any]:
    responses: dict[str, Any] = {str(operation.status): _success(spec, rule, operation)}
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
    if _takes_key(rule, operation):
        yield from (IdempotencyKeyMalformed, IdempotencyKeyInUse, IdempotencyKeyReused)
    if operation.accepts is not None or operation.takes_file is not None:
        yield from (errors.RequestTimeout, errors.ContentTooLarge, errors.UnsupportedMediaType)


def _success(spec: APISpec, rule: Rule, operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {"description": phrase_of(operation.status or 200)}
    if operation.returns is not None:
        schema = _reference(spec, operation.returns)
        example = _example(operation.returns)
        if operation.listing is not None:
            schema, example = _envelope(spec, operation), _example_envelope(example)
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


def _reference(spec: APISpec, schema: type[Any]) -> dict[str, str]:
    name = _component_name(schema)
    if name not in spec.components.schemas:
        spec.components.schema(name, schema=schema)
        component = spec.components.schemas[name]
        component["description"] = inspect.cleandoc(schema.__doc__ or "")
        if not issubclass(schema, BodySchema):
            members = component["properties"].items()
            component["required"] = [name for name, member in members if not member.pop("x-optional", False)]
    return {"$ref": f"#/components/schemas/{name}"}


def _envelope(spec: APISpec, operation: Operation) -> dict[str, str]:
    item = _component_name(operation.returns)
    _reference(spec, operation.returns or Schema)
    name = f"{item}List"
    if name not in spec.components.schemas:
        can_be_tree = operation.listing is not None and operation.listing.parent is not None
        _add_list_item(spec, item, can_be_tree=can_be_tree)
        items: dict[str, Any] = {"type": "array", "items": {"$ref": f"#/components/schemas/{item}Item"}}
        meta: dict[str, Any] = {"type": "object", "properties": _META}
        if not can_be_tree:
            # A tree is not paginated: it has all items, and no `per_page`.
            items["maxItems"] = 100
            meta["required"] = ["per_page"]
        envelope = {
            "type": "object",
            "required": ["items", "meta", "links"],
            "description": "A page: `meta` has the counts of numbered pages, or the next cursor of keyset pagination.",
            "properties": {"items": items, "meta": meta, "links": _LINKS},
        }
        spec.components.schema(name, component=envelope)
    return {"$ref": f"#/components/schemas/{name}"}


def _add_list_item(spec: APISpec, item: str, *, can_be_tree: bool) -> None:
    """The schema of a list's items: `fields` can leave any member out, so that none is required."""
    whole = spec.components.schemas[item]
    part = {name: value for name, value in whole.items() if name != "required"}
    if can_be_tree:
        children = {"type": "array", "items": {"$ref": f"#/components/schemas/{item}Item"}}
        part["properties"] = {**whole["properties"], "children": {**children, "description": "With `tree=true`."}}
    spec.components.schema(f"{item}Item", component=part)


_COUNT = {"type": "integer", "minimum": 0}
_META = {
    "page": _COUNT,
    "per_page": _COUNT,
    "total": _COUNT,
    "pages": _COUNT,
    "total_is_exact": {
        "type": "boolean",
        "description": "False where not all items were counted or compared: `total` and `pages` are lower bounds.",
    },
    "has_more": {"type": "boolean"},
    "next_cursor": {"type": ["string", "null"]},
}
_LINKS = {
    "type": "object",
    "required": ["self", "first", "next"],
    "properties": {name: {"type": ["string", "null"]} for name in ("self", "first", "prev", "next", "last")},
}


def _example(schema: type[Any]) -> dict[str, Any]:
    """An example of an object, made of the examples of its members."""
    members: dict[str, ma_fields.Field[Any]] = schema().fields
    examples: dict[str, Any] = {}
    for name, field in members.items():
        if "examples" in field.metadata:
            examples[field.data_key or name] = field.metadata["examples"][0]
        elif isinstance(field, ResourceRow):
            examples[field.data_key or name] = _example_row()
        elif isinstance(field, fields.Nested):
            inner = _example(field.nested)
            examples[field.data_key or name] = [inner] if field.many else inner
    return examples


def _example_row() -> dict[str, Any]:
    return _example(next(iter(published_resources().values())).schema)


def _example_envelope(item: dict[str, Any]) -> dict[str, Any]:
    return {
        "items": [item],
        "meta": {"page": 1, "per_page": 20, "total": 1, "pages": 1},
        "links": {"self": "?page=1", "first": "?page=1", "prev": None, "next": None, "last": "?page=1"},
    }
