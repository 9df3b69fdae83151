"""Keywords of schemas that the gate does not know: a change of one would be let through unseen."""

from collections.abc import Iterator
from typing import Any

from compatibility.changes import Change, Json

#: Those whose values are schemas by names, lists of schemas, and schemas.
_NAMED = frozenset({"properties"})
_LISTED = frozenset({"allOf", "anyOf", "oneOf"})
_SINGLE = frozenset({"items", "additionalProperties", "propertyNames"})
_COMPARED = frozenset(
    {
        *("$ref", "type", "enum", "const", "format", "pattern", "multipleOf", "uniqueItems", "required"),
        *("contentEncoding", "contentMediaType", "default", "discriminator", "readOnly", "writeOnly", "x-sunset"),
        *("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"),
        *("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"),
    }
)
#: Those that change nothing for a client.
_IGNORED = frozenset({"title", "description", "examples", "example", "deprecated", "x-secret"})
_KNOWN = _NAMED | _LISTED | _SINGLE | _COMPARED | _IGNORED


def unknown_keywords(document: Json) -> Iterator[Change]:
    """Each place of a document where a schema has a keyword that no rule is about."""
    for place, schema in _schemas_in(document, ()):
        for name in schema.keys() - _KNOWN:
            yield Change(" ".join(place), f"the gate does not know the keyword {name}")


def _schemas_in(part: Any, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Json]]:
    if isinstance(part, list):
        for number, item in enumerate(part):
            yield from _schemas_in(item, (*place, str(number)))
    elif isinstance(part, dict):
        for name, inner in part.items():
            if name == "schema":
                yield from _within(inner, (*place, name))
            elif place == ("components",) and name == "schemas":
                for component, schema in inner.items():
                    yield from _within(schema, (*place, name, component))
            elif name not in {"example", "examples"}:
                yield from _schemas_in(inner, (*place, name))


def _within(schema: Any, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Json]]:
    """A schema and those in it. True and false, which stand for any value and none, have no keywords."""
    if not isinstance(schema, dict):
        return
    yield place, schema
    for keyword, inner in schema.items():
        if keyword in _NAMED:
            for name, member in inner.items():
                yield from _within(member, (*place, name))
        elif keyword in _LISTED:
            for number, member in enumerate(inner):
                yield from _within(member, (*place, keyword, str(number)))
        elif keyword in _SINGLE:
            yield from _within(inner, (*place, keyword))
