"""The rows of a file, and what is wrong with them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from app.core.errors import Fault

#: Characters of a value that a report shows.
MAX_VALUE_LENGTH = 80


class Source(NamedTuple):
    """A row as it stands in the file: the cells of its record, or its text where that is no record."""

    cells: Sequence[str] = ()
    text: str | None = None


NOWHERE = Source()


@dataclass(frozen=True)
class Row:
    """The members that one row states, and the line it begins on, counted from 1 as an editor does."""

    line: int
    values: dict[str, Any]
    source: Source = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True)
class RowError:
    """What is wrong with one row. The field is empty where it is the row as a whole."""

    line: int
    field: str
    code: str
    sentence: str
    #: The name of the column in the file, the value that stands there, and what should stand there.
    column: str = ""
    value: str = ""
    expected: str = ""


@dataclass(frozen=True)
class BadRow:
    """A row that is left out, and why."""

    line: int
    errors: tuple[RowError, ...]
    source: Source = field(default=NOWHERE, compare=False, repr=False)
    #: The values of a row whose faults are not those of the file.
    values: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of_faults(cls, line: int, faults: Iterable[Fault], source: Source = NOWHERE) -> "BadRow":
        """A row whose values are not acceptable."""
        errors = (RowError(line, (fault.pointer or "").removeprefix("/"), fault.code, fault.detail) for fault in faults)
        return cls(line, tuple(errors), source)


def shortened(text: str, length: int = MAX_VALUE_LENGTH) -> str:
    """The text, at most ``length`` characters of it, without those that a terminal or a log obeys."""
    text = "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text[: length + 1])
    return f"{text[: length - 3]}..." if len(text) > length else text
