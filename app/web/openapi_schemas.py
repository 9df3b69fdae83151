"""The schemas of the OpenAPI document: each is a component, which whatever has its shape refers to."""

import inspect
from typing import Any

import marshmallow as ma
from apispec import APISpec

from app.web import fields
from app.web.batch import Batch, Problem
from app.web.kinds import Kind, OfKind
from app.web.objects import Objects
from app.web.openapi_enums import reference_to_enum
from app.web.schemas import BodySchema, ListBodySchema, shared

#: What may stand beside a reference (OpenAPI 3.1); the rest of a description is the referenced schema's.
_BESIDE_REFERENCE = (
    *("description", "default", "deprecated", "examples", "readOnly", "writeOnly"),
    *("x-optional", "x-secret", "x-sunset"),
)


def describe_field(spec: APISpec, field: ma.fields.Field[Any], found: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of a field: what apispec finds, with the field's bounds, and what it refers to."""
    described = {**found, **(field.describe() if isinstance(field, fields.Field) else field.metadata)}
    if isinstance(field, fields.Choice):
        return describe_choice(spec, field, described)
    if isinstance(field, fields.Items | fields.Values):
        return described | {"items": describe_field(spec, field.inner, {})}
    if isinstance(field, Batch | Objects):
        return described | {"items": reference_to(spec, field.item)}
    if isinstance(field, fields.Nested) and field.many:
        return described | {"type": "array", "items": reference_to(spec, field.nested)}
    if isinstance(field, fields.Nested | Problem):
        nested = field.nested if isinstance(field, fields.Nested) else None
        return _refer(reference_to(spec, nested) if nested else _reference_to_item_problem(spec), described)
    return described


def describe_choice(spec: APISpec, field: fields.Choice, described: dict[str, Any]) -> dict[str, Any]:
    """A reference to the component of a choice, or the one value of a choice that has no name."""
    if not field.set_name:
        [value] = field.choices
        return {name: member for name, member in described.items() if name != "enum"} | {"const": value}
    return _refer(reference_to_enum(spec, field.set_name, list(field.choices)), described)


def _refer(reference: dict[str, Any], described: dict[str, Any]) -> dict[str, Any]:
    """A description by a reference, with what may stand beside it; null is one more alternative."""
    beside = {name: described[name] for name in _BESIDE_REFERENCE if name in described}
    if isinstance(described.get("type"), list):
        return {"anyOf": [reference, {"type": "null"}], **beside}
    return {**reference, **beside}


def _reference_to_item_problem(spec: APISpec) -> dict[str, str]:
    name = "ItemProblem"
    if name not in spec.components.schemas:
        component = {"type": "object", "description": "Why one object of many was refused.", **Problem.SCHEMA}
        spec.components.schema(name, component=component)
    return {"$ref": f"#/components/schemas/{name}"}


def component_name(schema: Any) -> str:
    """The name of a schema in the document."""
    name = schema if isinstance(schema, str) else getattr(schema, "__name__", type(schema).__name__)
    return str(name).removesuffix("Schema")


def reference_to(spec: APISpec, schema: type[Any]) -> dict[str, str]:
    """A reference to a schema, which becomes a component with its first reference."""
    name = component_name(schema)
    if name not in spec.components.schemas:
        spec.components.schema(name, schema=schema)
        component = spec.components.schemas[name]
        if issubclass(schema, ListBodySchema):
            items = component["properties"]["items"]
            component.clear()
            component.update(items)
        component["description"] = text_of(schema)
        if not issubclass(schema, BodySchema):
            _describe_answer(component)
            if _kind_of(schema):
                _make_union(spec, schema, component)
    return {"$ref": f"#/components/schemas/{name}"}


def text_of(schema: type[Any]) -> str:
    """The docstring of a schema, without the ends of its lines."""
    paragraphs = (inspect.getdoc(schema) or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _describe_answer(component: dict[str, Any]) -> None:
    """Say what a response has: every member that is not marked as optional, whose form the request has determined."""
    members = component["properties"].items()
    component["required"] = [name for name, member in members if not member.pop("x-optional", False)]
    for _, member in members:
        # It is long, and a client checks it in what it sends.
        if member.get("pattern") == fields.LINE:
            del member["pattern"]


def _kind_of(schema: type[ma.Schema]) -> str | None:
    """The member that names the kind of an object of several kinds."""
    return next((name for name, field in shared(schema).fields.items() if isinstance(field, Kind)), None)


def _make_union(spec: APISpec, schema: type[ma.Schema], component: dict[str, Any]) -> None:
    """Make the component of a schema a union of one component for each kind, distinguished by the kind's name."""
    kind, whole = _kind_of(schema), dict(component)
    by_kind: dict[str, dict[str, Any]] = {}
    for name, field in shared(schema).fields.items():
        if isinstance(field, OfKind):
            for one, described in field.schemas(lambda other: reference_to(spec, other)).items():
                by_kind.setdefault(one, {})[name] = _refer(described, whole["properties"][name])
    mapping = {}
    for one, members in sorted(by_kind.items()):
        name = "".join(word.title() for word in one.split("_")) + component_name(schema)
        properties = {**whole["properties"], **members, kind: {"type": "string", "enum": [one]}}
        spec.components.schema(name, component={**whole, "properties": properties})
        mapping[one] = f"#/components/schemas/{name}"
    component.clear()
    component["description"] = whole["description"]
    component["oneOf"] = [{"$ref": reference} for reference in mapping.values()]
    component["discriminator"] = {"propertyName": kind, "mapping": mapping}
