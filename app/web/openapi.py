"""The OpenAPI 3.1 document, generated from the contracts of the registered routes."""

import inspect
import re
from collections.abc import Iterator
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Flask
from marshmallow.fields import Field
from werkzeug.routing import Rule

from app.security.permissions import CATALOG_READS, PERSONAL, roles_with
from app.security.tokens import TokenKind
from app.web import dry_runs
from app.web.body import JSON, MERGE_PATCH
from app.web.contract import Blueprint
from app.web.errors import phrase_of, status_of
from app.web.hooks import is_timed
from app.web.openapi_bodies import describe_body
from app.web.openapi_components import CLIENT, OAUTH, PAGE, add_components, deprecation_headers, refer_to_headers
from app.web.openapi_examples import example_list, example_of, example_of_embedded
from app.web.openapi_parameters import describe_parameters, form_fields
from app.web.openapi_problems import add_problem_schemas, describe_problems
from app.web.openapi_rows import reference_to_list, reference_to_read
from app.web.openapi_schemas import component_name, describe_field, reference_to
from app.web.openapi_webhooks import describe_webhooks
from app.web.operation import ITSELF, SAFE_METHODS, Operation, operation_of
from app.web.refusals import takes_key

DESCRIPTION = """A product catalogue: browse and search it, and keep it up to date.

Log in with `POST /api/v1/auth/login` and send the access token as `Authorization: Bearer <token>`; programs send an API
key as `X-API-Key`, or a token that they have got for it by OAuth 2, as have apps that act for a person. In a request
with both, the token's rights count, and the key must belong to the same user (400
`ambiguous_credentials`), repeat the token or be empty. Every error is an `application/problem+json` document (RFC 9457)
with a stable `code`. A `PUT`, `PATCH` or `DELETE` needs `If-Match` with the `ETag` that was read. A product's
`ETag` is `"version.live"`: `If-None-Match` compares both parts and `If-Match` the first alone, so that a sale does not
make an edit stale. A `POST` with an `Idempotency-Key` can be retried, and is processed once. Lists have numbered pages
(`page`) or keyset pagination (`cursor`), which misses nothing where items are added or deleted meanwhile.

Every write outside `/auth` and `/oauth` can be tried out with `dry_run=true`: it is checked and answered as always,
with `Dry-Run: true`, and nothing of it is stored: no row, no event, no audit entry, no job and no `Idempotency-Key`,
which a later request may use. (`POST /imports` stores the order and its report, and honours the key: a worker tries the
file.) It has no `ETag`; the ids and API keys in it belong to nothing, and the real request may get others.
"""

#: The blueprints of what is read by links, and not called.
UNDOCUMENTED = frozenset({"docs", "media_files"})
#: The source does not know who runs an installation.
CONTACT = {"name": "The operator of this installation"}


def describe(app: Flask) -> dict[str, Any]:
    """The OpenAPI document of every operation that ``app`` serves, except the documentation's own and files."""
    plugin = MarshmallowPlugin(schema_name_resolver=component_name)
    spec = APISpec(
        title="Catalog API",
        version=app.config["VERSION"],
        openapi_version="3.1.0",
        plugins=[plugin],
        info={"description": DESCRIPTION, "contact": CONTACT, "license": {"name": "MIT", "identifier": "MIT"}},
        servers=_servers(app),
        tags=[
            {"name": blueprint.name, "description": blueprint.about}
            for blueprint in _documented(app)
            if blueprint.about
        ],
    )
    # The metadata of our fields is their whole JSON Schema; apispec's own guesses give way to it.
    converter: Any = plugin.converter
    converter.add_attribute_function(lambda _self, field, ret: _described_alone(spec, field, ret))
    add_components(spec, is_deprecating=any(operation.deprecations for _, operation in operations(app)))
    add_problem_schemas(spec)
    webhooks: dict[str, Any] = {}
    with app.app_context():
        for rule, operation in operations(app):
            _add_operation(spec, rule, operation, tag=_tag_of(app, rule))
            webhooks |= describe_webhooks(spec, operation, tag=_tag_of(app, rule))
    return _in_order({**spec.to_dict(), "webhooks": webhooks})


def _in_order(document: dict[str, Any]) -> dict[str, Any]:
    """The document with its components by name, so that a new operation moves none of them in a comparison."""
    components = {kind: dict(sorted(named.items())) for kind, named in document["components"].items()}
    # The documentation page asks for credentials in this order.
    components["securitySchemes"] = document["components"]["securitySchemes"]
    names = ("openapi", "info", "servers", "tags", "paths", "webhooks")
    return {**{name: document[name] for name in names}, "components": components}


def _described_alone(spec: APISpec, field: Field[Any], found: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of a field, without what apispec found and it does not repeat: no type stands by a reference."""
    described = describe_field(spec, field, found)
    found.clear()
    return described


def _servers(app: Flask) -> list[dict[str, str]]:
    """Where the API is served: at PUBLIC_URL, if that is set, and where this document comes from."""
    public = app.config["PUBLIC_URL"]
    here = {"url": "/", "description": "The server that this document comes from."}
    return [*([{"url": public, "description": "The public address."}] if public else []), here]


def _documented(app: Flask) -> Iterator[Blueprint]:
    for blueprint in app.blueprints.values():
        if isinstance(blueprint, Blueprint) and blueprint.name not in UNDOCUMENTED:
            yield blueprint


def operations(app: Flask) -> Iterator[tuple[Rule, Operation]]:
    """Every documented route with its operation, in a stable order."""
    rules = sorted(app.url_map.iter_rules(), key=lambda rule: (rule.rule, sorted(rule.methods or ())))
    for rule in rules:
        # Of a WebSocket, the rule for requests that are no handshake has the same operation.
        if rule.endpoint.partition(".")[0] not in UNDOCUMENTED and not rule.websocket:
            yield rule, operation_of(app.view_functions[rule.endpoint])


def _add_operation(spec: APISpec, rule: Rule, operation: Operation, *, tag: str) -> None:
    method = min((rule.methods or set()) - {"HEAD", "OPTIONS"}).lower()
    sentence, _, rest = inspect.cleandoc(operation.view.__doc__ or "").partition("\n\n")
    # The lines of a docstring end where those of code do.
    rest = "\n\n".join(" ".join(paragraph.split()) for paragraph in rest.split("\n\n") if paragraph)
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": " ".join(sentence.split()),
        "description": "\n\n".join(filter(None, (rest, *_notes(operation, method)))),
        "tags": [tag],
        "parameters": describe_parameters(spec, rule, operation, method),
        "responses": _responses(spec, rule, operation, method),
        **_security(operation),
    }
    if ITSELF in operation.deprecated:
        described |= operation.deprecated[ITSELF].facts
    if operation.limit:
        described["x-rate-limit"] = operation.limit
    if operation.takes_body:
        described["requestBody"] = describe_body(spec, rule, operation, form_fields(spec, operation))
    spec.path(path=re.sub(r"<(?:[^>]+:)?(\w+)>", r"{\1}", rule.rule), operations={method: described})


def _tag_of(app: Flask, rule: Rule) -> str:
    """What the blueprint of a route has its operations under."""
    name, _, _ = str(rule.endpoint).rpartition(".")
    blueprint: Any = app.blueprints[name]
    return str(blueprint.tag)


def _notes(operation: Operation, method: str) -> Iterator[str]:
    """What the contract says to people: whether it is deprecated, who may call it, and what a body may be."""
    if ITSELF in operation.deprecated:
        yield operation.deprecated[ITSELF].sentence
    access = operation.access
    if _asks_for_client(operation):
        yield "Needs the credentials of a client of OAuth 2."
    elif access is None or access.is_public:
        yield "Needs no credentials."
    elif access.permission is None:
        yield "Needs a refresh token."
    else:
        roles = ", ".join(role.value for role in roles_with(access.permission))
        yield f"Needs the permission `{access.permission.value}`, which these roles have: {roles}."
    if method == "patch":
        yield (
            f"The body is a merge patch (RFC 7396): a member that it does not state stays as it is. `{MERGE_PATCH}` is"
            " accepted as its media type too."
        )


def _asks_for_client(operation: Operation) -> bool:
    """Whether an endpoint of OAuth 2 authenticates its client, and so can refuse it."""
    return operation.answers_oauth and any(status_of(refusal) == 401 for refusal in operation.refuses)


def _security(operation: Operation) -> dict[str, Any]:
    access = operation.access
    if _asks_for_client(operation):
        # Its credentials can be in the form instead.
        return {"security": [{CLIENT: []}, {}]}
    if access is None or access.is_public:
        return {"security": []}
    if access.permission is None:
        return {"security": [{TokenKind.REFRESH.value: []}, {"refreshCookie": [], "csrf": []}]}
    permission = access.permission.value
    others: list[dict[str, list[str]]] = [{"apiKey": []}, {OAUTH: [permission]}]
    described: dict[str, Any] = {
        "security": [{"bearer": []}, *(others if access.permission not in PERSONAL else [])],
        "x-permission": permission,
        "x-roles": [role.value for role in roles_with(access.permission)],
    }
    if access.permission in CATALOG_READS:
        described["x-public-when"] = "CATALOG_PUBLIC_READ"
    return described


def _responses(spec: APISpec, rule: Rule, operation: Operation, method: str) -> dict[str, Any]:
    responses: dict[str, Any] = {str(operation.status): _success(spec, rule, operation)}
    if operation.upserts:
        created = responses[str(operation.status)]
        headers = {name: header for name, header in created["headers"].items() if name != "Location"}
        responses["200"] = {**created, "description": "Replaced", "headers": headers}
    if operation.is_deferred is not None:
        responses["202"] = {**responses[str(operation.status)], "description": "Accepted"}
    if "slug" in operation.keys:
        responses["308"] = {
            "description": "The row had this slug before: repeat the request with its present one.",
            "headers": refer_to_headers("Location", "X-Request-ID"),
        }
    if operation.shows_page and operation.status == 200:
        responses["303"] = {
            "description": "Something is wrong with what the app asks for: the browser goes back to it with `error`.",
            "headers": refer_to_headers("Location", "X-Request-ID"),
        }
    if operation.is_tagged and method.upper() in SAFE_METHODS:
        responses["304"] = {"description": "The stored representation is current.", "headers": refer_to_headers("ETag")}
    if headers := deprecation_headers(operation):
        responses = {
            status: {**described, "headers": {**described["headers"], **headers}}
            for status, described in responses.items()
        }
    responses |= describe_problems(spec, rule, operation)
    return dict(sorted(responses.items()))


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
    if operation.shows_page and operation.status == 200:
        described["content"] = PAGE
    if operation.streams:
        described["content"] = {media_type: {"schema": {"type": "string"}} for media_type in operation.streams}
    if operation.admits is not None:
        described["headers"] = refer_to_headers("Sec-WebSocket-Protocol")
        return described
    return {**described, "headers": refer_to_headers(*_success_headers(rule, operation))}


def _success_headers(rule: Rule, operation: Operation) -> list[str]:
    sent = {
        "X-Request-ID": True,
        "RateLimit-Policy": True,
        "RateLimit": True,
        "X-Process-Time": is_timed(rule.rule),
        "API-Version": rule.rule.startswith("/api/"),
        "ETag": operation.is_tagged,
        "Location": operation.location is not None or operation.status == 303,
        "Idempotency-Replayed": takes_key(rule, operation),
        dry_runs.HEADER: dry_runs.takes_dry_run(rule),
        "Link": operation.returns is not None and operation.listing is not None,
    }
    return [*(name for name, is_sent in sent.items() if is_sent), *operation.headers]
