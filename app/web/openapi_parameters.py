"""The parameters of an operation in the OpenAPI document: in its path, its query string, and its headers."""

import re
from collections.abc import Iterator
from typing import Any

from apispec import APISpec
from flask import current_app
from marshmallow.fields import Field
from werkzeug.routing import Rule

from app.core.model import MAX_ID
from app.web import dry_runs, fields, sse
from app.web.openapi_components import PARAMETERS
from app.web.openapi_enums import reference_to_enum
from app.web.openapi_schemas import component_name, describe_field
from app.web.operation import SAFE_METHODS, Operation, operation_of
from app.web.parameter_groups import ParameterGroup
from app.web.refusals import takes_key
from app.web.schemas import QuerySchema, Schema, shared

#: The descriptions of parameters whose fields have none.
NOTES = {"sort_by": "What the items are sorted by.", "order": "The direction of `sort_by`."}

#: The preconditions of an operation that creates or replaces, which needs none.
UPSERT_PRECONDITIONS = {
    "If-Match": "Replace the row if its version is that of this ETag, or with * if there is one; create none.",
    "If-None-Match": "With *, create the row, and replace none.",
}

#: Values of path parameters that the demo catalogue has: the documentation page begins with them. Any other id is 1.
DEMO_IDS = {"product_id": 42, "category_id": 7, "brand_id": 3, "attribute_id": 3, "type_id": 3, "user_id": 3}
#: Values of the first key of each resource.
DEMO_KEYS = {
    "Product": "CHR-00-OAK",
    "Category": "kitchen",
    "Brand": "caldbeck",
    "Attribute": "colour",
    "ProductType": "sofa",
}


def describe_parameters(spec: APISpec, rule: Rule, operation: Operation, method: str) -> list[str | dict[str, Any]]:
    """The parameters of an operation: the names of components, or what is of this operation alone."""
    return [
        *_path_parameters(spec, rule, operation),
        *_query_parameters(spec, operation),
        *([dry_runs.PARAMETER] if dry_runs.takes_dry_run(rule) else []),
        *_header_parameters(rule, operation, method),
    ]


def _path_parameters(spec: APISpec, rule: Rule, operation: Operation) -> list[dict[str, Any]]:
    described: dict[str, tuple[str, dict[str, Any]]] = {
        "provider": (
            "The name of an identity provider.",
            {"type": "string", "minLength": 1, "maxLength": 32, "pattern": "^[a-z0-9-]+$"},
        )
    }
    known = {"provider": "company", **DEMO_IDS}
    examples: dict[str, Any] = {name: known.get(name, 1) for name in rule.arguments}
    if operation.keys:
        examples = {"key": operation.keys[0], "value": DEMO_KEYS.get(_resource_at(rule), "1")}
        described |= {
            "key": (
                "The key by which the row is named.",
                reference_to_enum(spec, f"{_resource_at(rule)}Key", operation.keys),
            ),
            "value": (
                "Its value, percent-encoded, slashes too.",
                {"type": "string", "minLength": 1, "maxLength": 200, "pattern": r"^[^\u0000-\u001f\u007f]+$"},
            ),
        }
    row_id = ("The id of the row.", {"type": "integer", "format": "int64", "minimum": 1, "maximum": MAX_ID})
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": schema,
            "description": note,
            "example": examples[name],
        }
        for name in sorted(rule.arguments)
        for note, schema in [described.get(name, row_id)]
    ]


def _resource_at(rule: Rule) -> str:
    """The component of what is read at a path, which an operation that returns nothing does not name."""
    endpoints = [other.endpoint for other in current_app.url_map.iter_rules() if other.rule == rule.rule]
    returned = (operation_of(current_app.view_functions[endpoint]).returns for endpoint in endpoints)
    return component_name(next(schema for schema in returned if schema is not None))


def _query_parameters(spec: APISpec, operation: Operation) -> list[str | dict[str, Any]]:
    """The parameters of the query string: the names of components, or what is of this operation alone."""
    described: list[str | dict[str, Any]] = []
    for name, field in shared(operation.parameters).fields.items():
        stated = field.data_key or name
        parameter = _describe_parameter(spec, field, stated)
        if (deprecation := operation.deprecated.get(f"query.{stated}")) is not None:
            # Not a component, which other operations share.
            note = f"{parameter['description']} {deprecation.sentence}"
            described.append({**parameter, **deprecation.facts, "description": note})
            continue
        if name == "fields_" and operation.returns is not None:
            _describe_selection(operation, parameter)
        elif not isinstance(field, fields.Include):
            described.append(_share_parameter(spec, operation.parameters, name, parameter))
            continue
        described.append(parameter)
    return described


def form_fields(spec: APISpec, operation: Operation) -> list[dict[str, Any]]:
    """The parameters of the query string, as the fields of a form can have them."""
    declared = shared(operation.parameters).fields.items()
    return [_describe_parameter(spec, field, field.data_key or name) for name, field in declared]


def _describe_parameter(spec: APISpec, field: Field[Any], name: str) -> dict[str, Any]:
    schema = describe_field(spec, field, {})
    note = schema.pop("description", NOTES.get(name, f"Only with this `{name}`."))
    if isinstance(field.load_default, str | int):
        schema["default"] = field.load_default
    parameter = {"name": name, "in": "query", "schema": schema, "description": note}
    if isinstance(field, fields.Field) and field.deprecated is not None:
        parameter |= field.deprecated.facts
    if isinstance(field, ParameterGroup):
        # Each property is a parameter of its own.
        return {**parameter, "style": "form", "explode": True}
    return {**parameter, "style": "form", "explode": False} if isinstance(field, fields.Values) else parameter


def _describe_selection(operation: Operation, parameter: dict[str, Any]) -> None:
    """Say what `fields` can name, and what it takes away."""
    members = list(_selectable_members(operation))
    member = "|".join(map(re.escape, members))
    parameter["schema"] |= {"examples": [",".join(members[:2])], "pattern": f"^({member})(,({member}))*$"}
    if operation.includes:
        parameter["description"] += " Those of what `include` embeds are named after a dot."
    parameter["description"] += " The items then lack the others, also those that their schema requires."


def _share_parameter(spec: APISpec, schema: type[QuerySchema], name: str, parameter: dict[str, Any]) -> str:
    """The name of a parameter as a component, which is that of the schema that describes it for all that inherit it."""
    inherited = [shared(base).fields.get(name) for base in _bases_of(schema)]
    described = [field and _describe_parameter(spec, field, parameter["name"]) for field in inherited]
    owner = [base for base, one in zip(_bases_of(schema), described, strict=True) if one == parameter][-1]
    component = f"{component_name(owner)}.{parameter['name']}"
    spec.components.parameters.setdefault(component, parameter)
    return component


def _bases_of(schema: type[QuerySchema]) -> list[type[QuerySchema]]:
    return [base for base in schema.__mro__ if issubclass(base, QuerySchema)]


def _selectable_members(operation: Operation) -> Iterator[str]:
    """What `fields` can name."""
    yield from shared(operation.returns or Schema).fields
    for companion in operation.companions:
        yield from companion.schemas
    for name, embedding in operation.includes.items():
        yield name
        yield from (f"{name}.{member}" for member in embedding.members)


def _header_parameters(rule: Rule, operation: Operation, method: str) -> list[str | dict[str, Any]]:
    if takes_key(rule, operation):
        return ["Idempotency-Key"]
    if sse.MEDIA_TYPE in operation.streams:
        return ["Last-Event-ID"]
    if operation.by_version:
        return ["If-Match"]
    if operation.upserts:
        return [_optional(name, note) for name, note in UPSERT_PRECONDITIONS.items()]
    return ["If-None-Match"] if operation.is_tagged and method.upper() in SAFE_METHODS else []


def _optional(name: str, note: str) -> dict[str, Any]:
    """A precondition that this operation does not need."""
    schema = PARAMETERS["If-Match"][2]
    return {"name": name, "in": "header", "required": False, "schema": schema, "description": note}
