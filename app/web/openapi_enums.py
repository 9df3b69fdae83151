"""The enumerations of the OpenAPI document: each is one component, which whatever has its values refers to."""

from collections.abc import Sequence
from typing import Any

from apispec import APISpec


def reference_to_enum(spec: APISpec, name: str, values: Sequence[str]) -> dict[str, Any]:
    """A reference to the values by a name; raises ``AssertionError`` where others have it already."""
    component = {"type": "string", "enum": [str(value) for value in values]}
    if name not in spec.components.schemas:
        spec.components.schema(name, component=component)
    if spec.components.schemas[name] != component:
        raise AssertionError(f"two enumerations are named {name}")
    return {"$ref": f"#/components/schemas/{name}"}
