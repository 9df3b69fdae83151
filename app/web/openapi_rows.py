"""What reads answer with in the OpenAPI document: rows with what `include` embeds, and lists of them."""

from collections.abc import Mapping
from typing import Any

from apispec import APISpec

from app.web.includes import Embedding, Include, IncludeMany, IncludeObjects
from app.web.openapi_schemas import component_name, reference_to
from app.web.operation import Operation
from app.web.resource_links import Links
from app.web.schemas import Schema

_STRING = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_PARTS: Mapping[str, dict[str, Any]] = {
    "PageMeta": {
        "type": "object",
        "description": "Which page this is: of numbered pages, or of keyset pagination.",
        "required": ["per_page"],
        "properties": {
            "page": {**_COUNT, "description": "The number of the page, from 1."},
            "per_page": {**_COUNT, "description": "The maximum number of items per page."},
            "total": {**_COUNT, "description": "How many items all pages have."},
            "pages": {**_COUNT, "description": "How many pages there are."},
            "total_is_exact": {
                "type": "boolean",
                "description": "False where not all items were counted or compared: `total` and `pages` are lower"
                " bounds.",
            },
            "has_more": {"type": "boolean", "description": "With a cursor: whether more items follow."},
            "next_cursor": {"type": ["string", "null"], "description": "With a cursor: where the next page begins."},
        },
    },
    "TreeMeta": {
        "type": "object",
        "description": "How many items the whole tree has at its top.",
        "required": ["total"],
        "properties": {"total": _COUNT},
    },
    "PageLinks": {
        "type": "object",
        "description": "The other pages, relative to the origin, with every filter.",
        "required": ["self", "first", "next"],
        "properties": {
            "self": {**_STRING, "format": "uri-reference"},
            "first": {**_STRING, "format": "uri-reference"},
            "prev": {"type": ["string", "null"], "format": "uri-reference", "description": "Of numbered pages alone."},
            "next": {"type": ["string", "null"], "format": "uri-reference"},
            "last": {"type": ["string", "null"], "format": "uri-reference", "description": "Of numbered pages alone."},
        },
    },
}


def reference_to_list(spec: APISpec, operation: Operation) -> dict[str, str]:
    """A reference to the envelope of a list operation."""
    schema = operation.returns or Schema
    name = f"{component_name(schema)}List"
    if name not in spec.components.schemas:
        is_tree = operation.listing is not None and operation.listing.parent is not None
        item = _reference_to_node(spec, operation) if is_tree else reference_to_read(spec, operation)
        items: dict[str, Any] = {"type": "array", "items": item}
        meta: dict[str, Any] = _reference_to_part(spec, "PageMeta")
        if is_tree:
            # A tree is not paginated: it has all items.
            meta = {"anyOf": [meta, _reference_to_part(spec, "TreeMeta")]}
        else:
            items["maxItems"] = 100
        envelope = {
            "type": "object",
            "required": ["items", "meta", "links"],
            "description": "A page: `meta` has the counts of numbered pages, or the next cursor of keyset pagination.",
            "properties": {"items": items, "meta": meta, "links": _reference_to_part(spec, "PageLinks")},
        }
        spec.components.schema(name, component=envelope)
    return {"$ref": f"#/components/schemas/{name}"}


def reference_to_read(spec: APISpec, operation: Operation) -> dict[str, str]:
    """A reference to the schema of a row that is read, with what `include` can embed in it."""
    whole = reference_to(spec, operation.returns or Schema)
    if not operation.includes:
        return whole
    item = component_name(operation.returns)
    # What a query may ask for beside, no single row has.
    name = f"{item}Item" if operation.companions else f"{item}Read"
    if name not in spec.components.schemas:
        component = spec.components.schemas[item]
        properties = {**component["properties"], **_describe_embedded(spec, item, operation.includes)}
        for companion in operation.companions:
            properties |= {name: dict(schema) for name, schema in companion.schemas.items()}
        spec.components.schema(name, component={**component, "properties": properties})
    return {"$ref": f"#/components/schemas/{name}"}


def _reference_to_node(spec: APISpec, operation: Operation) -> dict[str, str]:
    """A reference to the schema of a row that may have the rows below it."""
    reference_to_read(spec, operation)
    item = component_name(operation.returns)
    name = f"{item}Node"
    if name not in spec.components.schemas:
        component = spec.components.schemas[f"{item}Read" if operation.includes else item]
        children = {"type": "array", "items": {"$ref": f"#/components/schemas/{name}"}}
        properties = {**component["properties"], "children": {**children, "description": "With `tree=true`."}}
        spec.components.schema(name, component={**component, "properties": properties})
    return {"$ref": f"#/components/schemas/{name}"}


def _describe_embedded(spec: APISpec, item: str, includes: Mapping[str, Embedding]) -> dict[str, Any]:
    """The members that `include` adds to the rows of a component."""
    described: dict[str, Any] = {}
    for name, embedding in includes.items():
        note = {"description": f"With `include={name}`."}
        if isinstance(embedding, Include):
            row = reference_to(spec, embedding.resource.schema)
            described[name] = {"anyOf": [row, {"type": "null"}], **note}
        elif isinstance(embedding, IncludeMany):
            described[name] = {"type": "array", "items": reference_to(spec, embedding.resource.schema), **note}
        elif isinstance(embedding, IncludeObjects):
            described[name] = {"type": "array", "items": reference_to(spec, embedding.schema), **note}
        elif isinstance(embedding, Links):
            described[name] = {**_reference_to_links(spec, f"{item}Links", embedding), **note}
    return described


def _reference_to_links(spec: APISpec, name: str, links: Links) -> dict[str, str]:
    if name not in spec.components.schemas:
        component = {
            "type": "object",
            "description": "What the caller may read or do. `edit` is for PUT and PATCH.",
            "required": ["self"],
            "properties": {link: {**_STRING, "format": "uri-reference"} for link in links.members},
        }
        spec.components.schema(name, component=component)
    return {"$ref": f"#/components/schemas/{name}"}


def _reference_to_part(spec: APISpec, name: str) -> dict[str, str]:
    """A reference to a part of every list's envelope."""
    if name not in spec.components.schemas:
        spec.components.schema(name, component=_PARTS[name])
    return {"$ref": f"#/components/schemas/{name}"}
