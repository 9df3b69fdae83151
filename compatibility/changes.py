"""What is found: a change that breaks clients, and where it is."""

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
