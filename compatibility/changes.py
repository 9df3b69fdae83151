"""What is found: a change that breaks clients, and where it is."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

#: A part of a document: an object of JSON.
Json = dict[str, Any]


class Direction(StrEnum):
    """Who makes the values of a schema, and so who must understand those of the other release."""

    REQUEST = "request"
    RESPONSE = "response"


@dataclass(frozen=True, order=True)
class Change:
    """A change that breaks clients. Its text is what a decision record repeats to accept it."""

    place: str
    what: str

    def __str__(self) -> str:
        """The place and the change, in one line."""
        return f"{self.place}: {self.what}"


def compare_equal(old: Json, new: Json, names: tuple[str, ...], place: str) -> Iterator[Change]:
    """What in these names is new, gone or another value. An explicit null is a value."""
    for name in names:
        before, after = ([part[name]] if name in part else [] for part in (old, new))
        if before != after or list(map(type, before)) != list(map(type, after)):
            yield Change(place, f"{name} changed from {_text(before)} to {_text(after)}")


def compare_sunset(old: Json, new: Json, place: str) -> Iterator[Change]:
    """What is deprecated must work as long as was promised."""
    before, after = old.get("x-sunset"), new.get("x-sunset")
    if before is not None and after is not None and after < before:
        yield Change(place, f"x-sunset changed from {before} to {after}")


def _text(found: list[Any]) -> str:
    return str(found[0]) if found else "nothing"
