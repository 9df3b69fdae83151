"""The members of bodies that are deprecated: which a schema has, and which of them a body states."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import marshmallow as ma

from app.web import fields
from app.web.batch import Batch
from app.web.deprecation import Deprecation
from app.web.objects import Objects
from app.web.schemas import BodySchema, ListBodySchema, shared

#: The names of a member and of those that it is in; lists on the way have none.
Path = tuple[str, ...]


def deprecated_members(schema: type[BodySchema]) -> Mapping[Path, Deprecation]:
    """The deprecated members of a body, also within its objects and lists of objects, by their paths."""
    # A body that is a list is loaded as the one field of its schema.
    skipped = 1 if issubclass(schema, ListBodySchema) else 0
    return {path[skipped:]: deprecation for path, deprecation in _members(schema)}


def states(value: Any, path: Sequence[str]) -> bool:
    """Whether a JSON value has the member of a path, or one of its items has it."""
    if isinstance(value, list):
        return any(states(item, path) for item in value)
    if not path:
        return True
    return isinstance(value, dict) and path[0] in value and (len(path) == 1 or states(value[path[0]], path[1:]))


def _members(schema: type[BodySchema]) -> Iterator[tuple[Path, Deprecation]]:
    for name, field in shared(schema).load_fields.items():
        stated = field.data_key or name
        if isinstance(field, fields.Field) and field.deprecated is not None:
            yield (stated,), field.deprecated
        if (inner := _item_of(field)) is not None:
            yield from (((stated, *path), deprecation) for path, deprecation in _members(inner))


def _item_of(field: ma.fields.Field[Any]) -> type[BodySchema] | None:
    """The schema of the objects in a list."""
    return field.item if isinstance(field, Batch | Objects) else None
