"""Schemas without references and without `allOf`: what a value must meet stands in one object for each alternative."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from compatibility.changes import Json


@dataclass(frozen=True)
class Alternative:
    """One form that a value can have: the component that describes it, if one does, or else its types."""

    schema: Json
    name: str | None = None

    @property
    def key(self) -> str:
        """What identifies it among the others."""
        return self.name or "|".join([*sorted(self.types), *map(str, self.schema.get("enum", ()))]) or "anything"

    @property
    def types(self) -> frozenset[str]:
        """The types that a value can have beside null; empty for any type."""
        return frozenset(types_of(self.schema)) - {"null"}


@dataclass(frozen=True)
class Form:
    """Every form that the values of a schema can have, and the keywords that it has for all of them."""

    alternatives: tuple[Alternative, ...]
    has_null: bool
    shared: Json


def resolve(document: Json, part: Json) -> Json:
    """What a reference leads to, or the part itself."""
    while "$ref" in part:
        found: Any = document
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name.replace("~1", "/").replace("~0", "~")]
        part = found
    return part


def name_of(part: Json) -> str | None:
    """The name of the component that a part refers to, and None where it is no reference."""
    return part["$ref"].rpartition("/")[2] if "$ref" in part else None


def is_among(value: Any, values: Iterable[Any]) -> bool:
    """Whether a list of JSON values has this one. In Python, true is 1 as well."""
    return any(value == other and isinstance(value, bool) == isinstance(other, bool) for other in values)


def types_of(schema: Json) -> tuple[str, ...]:
    """The types that a schema names."""
    return _listed(schema.get("type", ()))


def _listed(types: Any) -> tuple[str, ...]:
    return (types,) if isinstance(types, str) else tuple(types)


def form_of(document: Json, schema: Json) -> Form:
    """The alternatives of a schema; null is none of them, but stands beside them."""
    flat = _flatten(document, schema)
    union = flat.pop("oneOf", None) or flat.pop("anyOf", None)
    if union is None:
        is_null = types_of(flat) == ("null",)
        return Form(() if is_null else (Alternative(flat, name_of(schema)),), _takes_null(flat), flat)
    alternatives: list[Alternative] = []
    has_null = False
    for member in union:
        inner = form_of(document, {"allOf": [flat, member]})
        has_null = has_null or inner.has_null
        name = name_of(member)
        alternatives += (replace(one, name=name) if name else one for one in inner.alternatives)
    return Form(tuple(alternatives), has_null, flat)


def _takes_null(flat: Json) -> bool:
    if types := types_of(flat):
        return "null" in types
    return None in flat["enum"] if "enum" in flat else True


def _flatten(document: Json, schema: Json) -> Json:
    own = {name: value for name, value in schema.items() if name not in {"$ref", "allOf", "const"}}
    if "const" in schema:
        own["enum"] = [schema["const"]]
    for part in _parts(document, schema):
        own = _merge(own, _flatten(document, part))
    return own


def _parts(document: Json, schema: Json) -> Iterator[Json]:
    if "$ref" in schema:
        yield resolve(document, schema)
    yield from schema.get("allOf", ())


def _merge(first: Json, second: Json) -> Json:
    """What meets both."""
    both = {name: _MERGES.get(name, _keep)(first[name], second[name]) for name in first.keys() & second.keys()}
    return {**first, **second, **both}


def _keep(first: Any, _: Any) -> Any:
    return first


def _merge_properties(first: Json, second: Json) -> Json:
    both = {name: {"allOf": [first[name], second[name]]} for name in first.keys() & second.keys()}
    return {**first, **second, **both}


def _merge_types(first: Any, second: Any) -> list[str]:
    # An integer is a number.
    one, other = ({*types, *(["integer"] if "number" in types else [])} for types in map(_listed, (first, second)))
    # No value has this type.
    return sorted(one & other) or ["never"]


def _merge_unions(first: Any, second: Any) -> list[Json]:
    return [{"allOf": [one, other]} for one in first for other in second]


def _merge_others(first: Any, second: Any) -> Any:
    return second if first is True or first == {} else first


_MERGES: Mapping[str, Callable[[Any, Any], Any]] = {
    "properties": _merge_properties,
    "required": lambda first, second: [*first, *(name for name in second if name not in first)],
    "type": _merge_types,
    "enum": lambda first, second: [value for value in first if is_among(value, second)],
    "anyOf": _merge_unions,
    "oneOf": _merge_unions,
    "pattern": lambda first, second: first if first == second else f"{first} and {second}",
    "additionalProperties": _merge_others,
    **dict.fromkeys(("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"), max),
    **dict.fromkeys(("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"), min),
}
