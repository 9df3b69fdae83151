"""How a document may change: operations, their parameters, bodies, responses and security, and webhooks."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from compatibility.changes import Change, Direction, Json, compare_equal, compare_sunset
from compatibility.flat import form_of, name_of, resolve
from compatibility.keywords import unknown_keywords
from compatibility.schemas import SchemaComparison

METHODS = ("get", "put", "post", "delete", "patch", "head", "options", "trace")
#: Answers to a request that states what it has: a client that does not is not sent them.
_CONDITIONAL = frozenset({"304"})
_IN_PATH = re.compile(r"{([^}]*)}")


def breaking_changes(old: Json, new: Json) -> list[Change]:
    """What in the document ``new`` breaks clients that were made for ``old``, in order and each once."""
    return sorted({*_Comparison(old, new).changes(), *unknown_keywords(new)})


class Operation(NamedTuple):
    """An operation, the item that it is in, and the path of that."""

    path: str
    item: Json
    described: Json


def operations_of(paths: Json) -> Iterator[tuple[str, Operation]]:
    """Each operation by its name, ``GET /path``. Names of path parameters do not count."""
    for path, item in paths.items():
        for method in METHODS:
            if method in item:
                yield f"{method.upper()} {_IN_PATH.sub('{}', path)}", Operation(path, item, item[method])


@dataclass
class _Comparison:
    old: Json
    new: Json
    _seen: set[tuple[str, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.schemas = SchemaComparison(self.old, self.new)

    def changes(self) -> Iterator[Change]:
        after = dict(operations_of(self.new["paths"]))
        for name, operation in operations_of(self.old["paths"]):
            if name in after:
                yield from self._compare_operations(operation, after[name], name)
            else:
                yield Change(name, "removed")
        yield from self._compare_schemes()
        yield from self._compare_webhooks()

    def _compare_operations(self, old: Operation, new: Operation, name: str) -> Iterator[Change]:
        before, after = old.described, new.described
        if before.get("operationId") != after.get("operationId"):
            yield Change(name, f"operationId changed from {before.get('operationId')} to {after.get('operationId')}")
        yield from compare_sunset(before, after, name)
        yield from _compare_paths(old.path, new.path, name)
        yield from self._compare_parameters(old, new, name)
        yield from self._compare_bodies(before.get("requestBody"), after.get("requestBody"), name)
        yield from self._compare_responses(before["responses"], after["responses"], name)
        yield from _compare_security(self._security(self.old, before), self._security(self.new, after), name)
        yield from _compare_roles(before, after, name)

    def _compare_parameters(self, old: Operation, new: Operation, name: str) -> Iterator[Change]:
        before, after = _parameters(self.old, old), _parameters(self.new, new)
        for key, parameter in before.items():
            place = f"{name} {' '.join(key)}"
            if key not in after:
                yield Change(place, "removed")
                continue
            other = after[key]
            if other.get("required") and not parameter.get("required"):
                yield Change(place, "became required")
            yield from compare_equal(parameter, other, ("style", "explode"), place)
            yield from compare_sunset(parameter, other, place)
            yield from self.schemas.compare_member(parameter["schema"], other["schema"], place, Direction.REQUEST)
        for key in after.keys() - before.keys():
            if after[key].get("required"):
                yield Change(f"{name} {' '.join(key)}", "new and required")

    def _compare_bodies(self, old: Json | None, new: Json | None, name: str) -> Iterator[Change]:
        place = f"{name} body"
        if old is None or new is None:
            if new is not None and new.get("required"):
                yield Change(place, "new and required")
            elif old is not None:
                yield Change(place, "removed")
            return
        old, new = resolve(self.old, old), resolve(self.new, new)
        if new.get("required") and not old.get("required"):
            yield Change(place, "became required")
        sizes = [one.get("x-max-bytes") for one in (old, new)]
        if sizes[1] is not None and (sizes[0] is None or sizes[1] < sizes[0]):
            yield Change(place, f"x-max-bytes changed from {sizes[0]} to {sizes[1]}")
        yield from self._compare_content(old["content"], new["content"], place, Direction.REQUEST)

    def _compare_content(self, old: Json, new: Json, place: str, direction: Direction) -> Iterator[Change]:
        for media_type, content in old.items():
            if media_type not in new:
                yield Change(place, f"{media_type} removed")
                continue
            inner = f"{place} {media_type}"
            before, after = content.get("schema", {}), new[media_type].get("schema", {})
            yield from self.schemas.compare(before, after, inner, direction)
            if direction is Direction.REQUEST:
                yield from self._compare_encodings(content, new[media_type], inner)

    def _compare_encodings(self, old: Json, new: Json, place: str) -> Iterator[Change]:
        """Compare how the parts of a form are sent; for one that is new, any way will do."""
        before, after = old.get("encoding", {}), new.get("encoding", {})
        for part in before.keys() | form_of(self.old, old.get("schema", {})).shared.get("properties", {}).keys():
            for change in compare_equal(before, after, (part,), ""):
                yield Change(f"{place} {part}", f"encoding{change.what.removeprefix(part)}")

    def _compare_responses(self, old: Json, new: Json, name: str) -> Iterator[Change]:
        for status, response in old.items():
            place = f"{name} {status}"
            if status not in new:
                yield Change(place, "removed")
                continue
            names = name_of(response), name_of(new[status])
            if names[0] is not None and names[0] == names[1]:
                if (names[0], status) in self._seen:
                    continue
                self._seen.add((names[0], status))
                place = f"{names[0]} {status}"
            yield from self._compare_response(resolve(self.old, response), resolve(self.new, new[status]), place)
        for status in new.keys() - old.keys() - _CONDITIONAL:
            # What a client has not seen before it must not take for a success of another kind; an error is one.
            if status < "400":
                yield Change(f"{name} {status}", "new status of a success")

    def _compare_response(self, old: Json, new: Json, place: str) -> Iterator[Change]:
        yield from self._compare_content(old.get("content", {}), new.get("content", {}), place, Direction.RESPONSE)
        after = new.get("headers", {})
        for name, described in old.get("headers", {}).items():
            inner = f"{place} {name}"
            if name not in after:
                yield Change(inner, "removed")
                continue
            header, other = resolve(self.old, described), resolve(self.new, after[name])
            yield from self._compare_header(header, other, inner)

    def _compare_header(self, old: Json, new: Json, place: str) -> Iterator[Change]:
        """Compare a header that the server sends."""
        if old.get("required") and not new.get("required"):
            yield Change(place, "may be missing")
        yield from self.schemas.compare(old["schema"], new["schema"], place, Direction.RESPONSE)

    def _compare_schemes(self) -> Iterator[Change]:
        """Compare how credentials are sent."""
        after = self.new.get("components", {}).get("securitySchemes", {})
        for name, scheme in self.old.get("components", {}).get("securitySchemes", {}).items():
            place = f"securitySchemes {name}"
            if name not in after:
                yield Change(place, "removed")
            else:
                yield from compare_equal(scheme, after[name], ("type", "scheme", "in", "name"), place)

    def _compare_webhooks(self) -> Iterator[Change]:
        """Compare what the server sends: its request is what a response is elsewhere."""
        after = dict(operations_of(self.new.get("webhooks", {})))
        for name, operation in operations_of(self.old.get("webhooks", {})):
            place = f"webhook {name}"
            if name not in after:
                yield Change(place, "removed")
                continue
            both = operation, after[name]
            yield from compare_sunset(operation.described, after[name].described, place)
            yield from self._compare_sent(*both, place)
            before, body = (one.described.get("requestBody", {}).get("content", {}) for one in both)
            yield from self._compare_content(before, body, f"{place} body", Direction.RESPONSE)

    def _compare_sent(self, old: Operation, new: Operation, name: str) -> Iterator[Change]:
        """Compare the headers of a message."""
        before, after = _parameters(self.old, old), _parameters(self.new, new)
        for key, header in before.items():
            place = f"{name} {' '.join(key)}"
            if key in after:
                yield from self._compare_header(header, after[key], place)
            else:
                yield Change(place, "removed")

    @staticmethod
    def _security(document: Json, operation: Json) -> list[Json]:
        # None at all is one alternative: to send nothing.
        return operation.get("security", document.get("security", [])) or [{}]


def _parameters(document: Json, operation: Operation) -> dict[tuple[str, str], Json]:
    """The parameters by where they are and their names; those of a path by their order in it."""
    listed = (*operation.item.get("parameters", ()), *operation.described.get("parameters", ()))
    described = {(one["in"], one["name"]): one for one in (resolve(document, one) for one in listed)}
    names = _IN_PATH.findall(operation.path)
    in_path = {("path", str(number)): described["path", name] for number, name in enumerate(names, start=1)}
    return {**in_path, **{key: one for key, one in described.items() if key[0] != "path"}}


def _compare_paths(old: str, new: str, name: str) -> Iterator[Change]:
    """A parameter of a path may have another name by now, but not stand where another stood."""
    before, after = _IN_PATH.findall(old), _IN_PATH.findall(new)
    for number, parameter in enumerate(before, start=1):
        if parameter in after and after[number - 1] != parameter:
            yield Change(f"{name} path {number}", f"{parameter} is at another place")


def _compare_security(old: list[Json], new: list[Json], name: str) -> Iterator[Change]:
    """What was enough to be let in must still be enough."""
    for accepted in old:
        if not any(_is_met(needed, accepted) for needed in new):
            yield Change(name, f"credentials {' and '.join(accepted) or 'none'} are refused")


def _is_met(needed: Json, sent: Json) -> bool:
    return all(scheme in sent and set(scopes) <= set(sent[scheme]) for scheme, scopes in needed.items())


def _compare_roles(old: Json, new: Json, name: str) -> Iterator[Change]:
    # The scopes of API keys are permissions.
    permissions = [one.get("x-permission", "nothing") for one in (old, new)]
    if "x-permission" in new and permissions[0] != permissions[1]:
        yield Change(name, f"permission changed from {permissions[0]} to {permissions[1]}")
    # Where there are no roles, the credentials alone decide, which are compared already.
    for role in old.get("x-roles", ()):
        if role not in new.get("x-roles", [role]):
            yield Change(name, f"role {role} is refused")
    if "x-public-when" in old and "x-public-when" not in new and "x-roles" in new:
        yield Change(name, "needs credentials")
