"""The schemas of the OpenAPI document: components, lists of them, and examples."""

import inspect
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from apispec import APISpec
from marshmallow import fields as ma_fields

from app.web import fields
from app.web.batch import Batch
from app.web.includes import Embedding, Include
from app.web.operation import Operation
from app.web.resource_links import Links
from app.web.resources import ResourceName, ResourceRow, published_resources
from app.web.schemas import BodySchema, Schema


def describe_field(spec: APISpec, field: ma_fields.Field[Any]) -> dict[str, Any]:
    """The JSON Schema of a field beyond what apispec finds: its bounds, and what it refers to."""
    described = dict(field.metadata)
    if isinstance(field, ResourceName):
        return described | {"enum": sorted(published_resources())}
    if isinstance(field, ResourceRow):
        rows = [reference_to(spec, resource.schema) for resource in published_resources().values()]
        return described | {"anyOf": [*rows, {"type": "null"}], "examples": [_example_row()]}
    if isinstance(field, Batch):
        return described | {"items": reference_to(spec, field.item)}
    if isinstance(field, fields.Nested):
        reference = reference_to(spec, field.nested)
        return described | ({"type": "array", "items": reference} if field.many else {"type": "object", **reference})
    return described


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
        component["description"] = inspect.cleandoc(schema.__doc__ or "")
        if not issubclass(schema, BodySchema):
            members = component["properties"].items()
            component["required"] = [name for name, member in members if not member.pop("x-optional", False)]
    return {"$ref": f"#/components/schemas/{name}"}


def reference_to_list(spec: APISpec, operation: Operation) -> dict[str, str]:
    """A reference to the envelope of a list operation."""
    item = component_name(operation.returns)
    reference_to(spec, operation.returns or Schema)
    name = f"{item}List"
    if name not in spec.components.schemas:
        can_be_tree = operation.listing is not None and operation.listing.parent is not None
        _add_list_item(spec, item, operation.includes, can_be_tree=can_be_tree)
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


def reference_to_read(spec: APISpec, operation: Operation) -> dict[str, str]:
    """A reference to the schema of one row that is read, with what `include` can embed in it."""
    reference_to(spec, operation.returns or Schema)
    item = component_name(operation.returns)
    name = f"{item}Read"
    if name not in spec.components.schemas:
        whole = spec.components.schemas[item]
        embedded = _describe_embedded(spec, operation.includes, whole=True)
        properties = {**whole["properties"], **embedded}
        spec.components.schema(name, component={**whole, "properties": properties})
    return {"$ref": f"#/components/schemas/{name}"}


def _add_list_item(spec: APISpec, item: str, includes: Mapping[str, Embedding], *, can_be_tree: bool) -> None:
    """The schema of a list's items: `fields` can leave any member out, so that none is required."""
    whole = spec.components.schemas[item]
    part = {name: value for name, value in whole.items() if name != "required"}
    part["properties"] = {**whole["properties"], **_describe_embedded(spec, includes, whole=False)}
    if can_be_tree:
        children = {"type": "array", "items": {"$ref": f"#/components/schemas/{item}Item"}}
        part["properties"]["children"] = {**children, "description": "With `tree=true`."}
    spec.components.schema(f"{item}Item", component=part)


def _describe_embedded(spec: APISpec, includes: Mapping[str, Embedding], *, whole: bool) -> dict[str, Any]:
    """The members that `include` adds. Unless each is ``whole``, `fields` can leave its own members out."""
    described: dict[str, Any] = {}
    for name, embedding in includes.items():
        if isinstance(embedding, Include):
            row = reference_to(spec, embedding.resource.schema) if whole else _reference_to_part(spec, embedding)
            described[name] = {"anyOf": [row, {"type": "null"}], "description": f"With `include={name}`."}
        elif isinstance(embedding, Links):
            described[name] = _describe_links(embedding, whole=whole)
    return described


def _reference_to_part(spec: APISpec, include: Include) -> dict[str, str]:
    """A reference to the schema of an embedded row, of which no member is required."""
    reference_to(spec, include.resource.schema)
    item = component_name(include.resource.schema)
    if f"{item}Part" not in spec.components.schemas:
        whole = spec.components.schemas[item]
        part = {name: value for name, value in whole.items() if name != "required"}
        spec.components.schema(f"{item}Part", component=part)
    return {"$ref": f"#/components/schemas/{item}Part"}


def _describe_links(links: Links, *, whole: bool) -> dict[str, Any]:
    return {
        "type": "object",
        "description": "With `include=links`: what the caller may read or do. `edit` is for PUT and PATCH.",
        "properties": {name: {"type": "string", "format": "uri-reference"} for name in links.members},
        **({"required": ["self"]} if whole else {}),
    }


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


def example_of(schema: type[Any]) -> dict[str, Any]:
    """An example of an object, made of the examples of its members."""
    members: dict[str, ma_fields.Field[Any]] = schema().fields
    examples: dict[str, Any] = {}
    for name, field in members.items():
        if "examples" in field.metadata:
            examples[field.data_key or name] = field.metadata["examples"][0]
        elif isinstance(field, ResourceRow):
            examples[field.data_key or name] = _example_row()
        elif isinstance(field, fields.Nested):
            inner = example_of(field.nested)
            examples[field.data_key or name] = [inner] if field.many else inner
    return examples


def example_of_embedded(embedding: Embedding, api: str, row: Mapping[str, Any]) -> Any:
    """An example of what is embedded in the example of a row."""
    if isinstance(embedding, Links):
        return embedding.example(api, SimpleNamespace(**row))
    if isinstance(embedding, Include):
        return example_of(embedding.resource.schema)
    raise AssertionError(embedding)


def _example_row() -> dict[str, Any]:
    return example_of(next(iter(published_resources().values())).schema)


def example_list(item: dict[str, Any]) -> dict[str, Any]:
    """An example of a list's envelope with one item."""
    return {
        "items": [item],
        "meta": {"page": 1, "per_page": 20, "total": 1, "pages": 1},
        "links": {"self": "?page=1", "first": "?page=1", "prev": None, "next": None, "last": "?page=1"},
    }
