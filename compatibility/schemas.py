"""How schemas may change: those of requests may admit more, those of responses less.

Beside that, responses may have new members, new values of an enumeration and new kinds of objects, which clients
ignore (docs/versions.md); and neither may lose one.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from compatibility.changes import Change, Direction, Json, compare_equal, compare_sunset
from compatibility.flat import Alternative, form_of, is_among, name_of

_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
#: Those of which zero is as good as none.
_COUNTS = frozenset({"minLength", "minItems", "minProperties"})
#: A pattern that lists words of a closed set, as `fields` takes them.
_LISTED_WORDS = re.compile(r"\^\(([\w.|\\-]+)\)\(,\(\1\)\)\*\$")


@dataclass
class SchemaComparison:
    """Compares schemas of two documents. What is a component in both is compared once in each direction."""

    old: Json
    new: Json
    _seen: set[tuple[str, str, Direction]] = field(default_factory=set)

    def compare(self, old: Json, new: Json, place: str, direction: Direction) -> Iterator[Change]:
        """What in the schema ``new`` breaks clients that know ``old``."""
        before, after = form_of(self.old, old), form_of(self.new, new)
        if direction is Direction.REQUEST and before.has_null and not after.has_null:
            yield Change(place, "null is refused")
        if direction is Direction.RESPONSE and after.has_null and not before.has_null:
            yield Change(place, "may be null")
        # A component is compared once, wherever it is used.
        inner = f"{name} ({direction})" if (name := name_of(old)) is not None else place
        lost = "readOnly" if direction is Direction.REQUEST else "writeOnly"
        if after.shared.get(lost) and not before.shared.get(lost):
            yield Change(place, f"became {lost}")
        yield from _compare_discriminators(before.shared, after.shared, inner)
        yield from self._compare_alternatives(before.alternatives, after.alternatives, inner, direction)

    def compare_member(self, old: Json, new: Json, place: str, direction: Direction) -> Iterator[Change]:
        """The same for a member of an object, or a parameter, that both documents have."""
        before, after = form_of(self.old, old).shared, form_of(self.new, new).shared
        if direction is Direction.REQUEST:
            # What a client leaves out must mean what it meant.
            yield from compare_equal(before, after, ("default",), place)
        yield from compare_sunset(before, after, place)
        yield from self.compare(old, new, place, direction)

    def _compare_alternatives(
        self, old: Sequence[Alternative], new: Sequence[Alternative], place: str, direction: Direction
    ) -> Iterator[Change]:
        pairs = [(one, new[0] if len(old) == len(new) == 1 else self._counterpart(one, new, direction)) for one in old]
        for one, other in pairs:
            if other is None:
                yield Change(place, f"{one.key} removed")
            else:
                yield from self.compare_pair(one, other, place, direction)
        if direction is Direction.RESPONSE:
            matched = [other for _, other in pairs]
            # A new kind of object is one that clients ignore.
            for other in new:
                if other in matched or other.types == {"object"}:
                    continue
                if not any(self._is_like(one, other, direction) for one in old):
                    yield Change(place, f"may be {other.key}")

    def compare_pair(self, one: Alternative, other: Alternative, place: str, direction: Direction) -> Iterator[Change]:
        """What breaks clients between two alternatives of a schema; two components are compared once each way."""
        if one.name is not None and other.name is not None:
            if (one.name, other.name, direction) in self._seen:
                return
            self._seen.add((one.name, other.name, direction))
        inner = f"{one.name} ({direction})" if one.name is not None else place
        yield from self._compare_one(one.schema, other.schema, inner, direction)

    def _counterpart(self, one: Alternative, others: Sequence[Alternative], direction: Direction) -> Alternative | None:
        same = [other for other in others if other.key == one.key]
        if len(same) == 1:
            return same[0]
        # A component may have another name by now.
        like = (other for other in (*same, *others) if self._is_like(one, other, direction))
        return next(like, same[0] if same else None)

    def _is_like(self, one: Alternative, other: Alternative, direction: Direction) -> bool:
        # Its own memory of what was compared: what this finds is not reported.
        return not any(SchemaComparison(self.old, self.new).compare_pair(one, other, "", direction))

    def _compare_one(self, old: Json, new: Json, place: str, direction: Direction) -> Iterator[Change]:
        sent, read = (old, new) if direction is Direction.REQUEST else (new, old)
        if _holds_each_value_once(self.new if direction is Direction.REQUEST else self.old, read):
            # It grows with the enumeration.
            read = {name: bound for name, bound in read.items() if name != "maxItems"}
        if not _reads_types(Alternative(sent).types, Alternative(read).types):
            yield Change(place, f"type changed from {_types_text(old)} to {_types_text(new)}")
            return
        yield from _compare_enums(old, new, place, direction)
        for name in ("format", "pattern", "contentEncoding", "contentMediaType", "multipleOf"):
            if name not in read or read[name] == sent.get(name):
                continue
            if name != "pattern" or not _lists_more_words(read[name], sent.get(name)):
                yield Change(place, f"{name} changed from {old.get(name)} to {new.get(name)}")
        yield from _compare_bounds(sent, read, old, new, place)
        if "items" in old or "items" in new:
            yield from self.compare(old.get("items", {}), new.get("items", {}), f"{place}[]", direction)
        if "propertyNames" in old or "propertyNames" in new:
            names = old.get("propertyNames", {}), new.get("propertyNames", {})
            yield from self.compare(*names, f"{place} names", direction)
        yield from self._compare_members(old, new, place, direction)

    def _compare_members(self, old: Json, new: Json, place: str, direction: Direction) -> Iterator[Change]:
        before, after = old.get("properties", {}), new.get("properties", {})
        for name in before:
            if name in after:
                yield from self.compare_member(before[name], after[name], f"{place} {name}", direction)
            else:
                yield Change(f"{place} {name}", "removed")
        needed, was_needed = set(new.get("required", ())), set(old.get("required", ()))
        if direction is Direction.REQUEST:
            others = old.get("additionalProperties", True)
            for name in after.keys() - before.keys() if others is not False else ():
                # It could be anything that had no name.
                others = others if isinstance(others, dict) else {}
                yield from self.compare(others, after[name], f"{place} {name}", direction)
            for name in sorted(needed - was_needed):
                yield Change(f"{place} {name}", "became required" if name in before else "new and required")
        else:
            for name in sorted((was_needed - needed) & after.keys()):
                yield Change(f"{place} {name}", "may be missing")
        yield from self._compare_others(
            old.get("additionalProperties", True), new.get("additionalProperties", True), place, direction
        )

    def _compare_others(self, old: Any, new: Any, place: str, direction: Direction) -> Iterator[Change]:
        """Compare what the members can be that have no name in the schema."""
        if isinstance(old, dict) and old and new is False:
            yield Change(place, "other members removed")
        elif direction is Direction.REQUEST and old is not False and new is False:
            yield Change(place, "other members are refused")
        elif isinstance(old, dict) or (isinstance(new, dict) and old is not False):
            before, after = (one if isinstance(one, dict) else {} for one in (old, new))
            yield from self.compare(before, after, f"{place} *", direction)


def _holds_each_value_once(document: Json, schema: Json) -> bool:
    """Whether a list of distinct values of an enumeration may have them all: then its ``maxItems`` bounds nothing."""
    if not schema.get("uniqueItems") or "maxItems" not in schema or "items" not in schema:
        return False
    items = [one.schema for one in form_of(document, schema["items"]).alternatives]
    return all("enum" in item for item in items) and sum(len(item["enum"]) for item in items) <= schema["maxItems"]


def _lists_more_words(read: str, sent: str | None) -> bool:
    """Whether these are patterns of lists of words, and every word that is sent is one of those that are read."""
    known, used = (_LISTED_WORDS.fullmatch(one or "") for one in (read, sent))
    return known is not None and used is not None and {*used[1].split("|")} <= {*known[1].split("|")}


def _reads_types(sent: frozenset[str], read: frozenset[str]) -> bool:
    """Whether every type that is sent is one of those that are read; no types are all of them."""
    if not read:
        return True
    return bool(sent) and all(one in read or (one == "integer" and "number" in read) for one in sent)


def _types_text(schema: Json) -> str:
    return " or ".join(sorted(Alternative(schema).types)) or "anything"


def _compare_discriminators(old: Json, new: Json, place: str) -> Iterator[Change]:
    before, after = (one.get("discriminator", {}).get("propertyName", "nothing") for one in (old, new))
    if "discriminator" in old and before != after:
        yield Change(place, f"discriminator changed from {before} to {after}")


def _compare_enums(old: Json, new: Json, place: str, direction: Direction) -> Iterator[Change]:
    if "enum" in old and "enum" in new:
        for value in old["enum"]:
            # Null is compared with the types.
            if value is not None and not is_among(value, new["enum"]):
                yield Change(place, f"value {value} removed")
    elif "enum" in new and direction is Direction.REQUEST:
        yield Change(place, "became an enumeration")
    elif "enum" in old and direction is Direction.RESPONSE:
        yield Change(place, "is no enumeration any more")


def _compare_bounds(sent: Json, read: Json, old: Json, new: Json, place: str) -> Iterator[Change]:
    for name in (*_LOWER, *_UPPER):
        if name not in read or (name in _COUNTS and not read[name]):
            continue
        is_narrower = name not in sent or (sent[name] < read[name] if name in _LOWER else sent[name] > read[name])
        if is_narrower:
            yield Change(place, f"{name} changed from {old.get(name)} to {new.get(name)}")
    if read.get("uniqueItems") and not sent.get("uniqueItems"):
        yield Change(place, f"uniqueItems changed from {old.get('uniqueItems')} to {new.get('uniqueItems')}")
