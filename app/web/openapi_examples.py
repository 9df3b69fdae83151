"""The examples of the OpenAPI document, made of those of the fields."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from marshmallow import fields as ma_fields

from app.web import fields
from app.web.includes import Embedding, Include, IncludeMany, IncludeObjects
from app.web.kinds import OfKind
from app.web.resource_links import Links
from app.web.schemas import BodySchema


def example_of(schema: type[Any]) -> dict[str, Any]:
    """An example of an object, made of the examples of its members."""
    members: dict[str, ma_fields.Field[Any]] = schema().fields
    left_out = schema.NOT_IN_EXAMPLE if issubclass(schema, BodySchema) else ()
    examples: dict[str, Any] = {}
    for name, field in members.items():
        if name in left_out:
            continue
        if "examples" in field.metadata:
            examples[field.data_key or name] = field.metadata["examples"][0]
        elif isinstance(field, OfKind):
            examples[field.data_key or name] = field.sample(example_of)
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
    if isinstance(embedding, IncludeMany):
        return []
    if isinstance(embedding, IncludeObjects):
        return [example_of(embedding.schema)]
    raise AssertionError(embedding)


def example_list(item: dict[str, Any]) -> dict[str, Any]:
    """An example of a list's envelope with one item."""
    return {
        "items": [item],
        "meta": {"page": 1, "per_page": 20, "total": 1, "pages": 1},
        "links": {"self": "?page=1", "first": "?page=1", "prev": None, "next": None, "last": "?page=1"},
    }
