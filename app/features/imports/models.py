"""What an import is made of: rows, what is wrong with them, and the report."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from app.core.errors import Fault, Invalid

#: A report lists this many errors and counts the others.
MOST_ERRORS = 1000


class FileUnreadable(Exception):
    """The file, or the rest of it from a line on, cannot be told into rows; the message says why."""


class CategoryAmbiguous(Invalid):
    """Several categories have this name; say which one by its category_id."""

    pointer = "/category"


@dataclass(frozen=True)
class Row:
    """The members that one row states, and the line it begins on, counted from 1 as an editor does."""

    line: int
    values: dict[str, Any]


@dataclass(frozen=True)
class RowError:
    """What is wrong with one row. The field is empty where it is the row as a whole."""

    line: int
    field: str
    code: str
    sentence: str


@dataclass(frozen=True)
class BadRow:
    """A row that is left out, and why."""

    line: int
    errors: tuple[RowError, ...]

    @classmethod
    def of_faults(cls, line: int, faults: Iterable[Fault]) -> "BadRow":
        """A row whose values are not acceptable."""
        return cls(
            line,
            tuple(
                RowError(line, (fault.pointer or "").removeprefix("/"), fault.code, fault.detail) for fault in faults
            ),
        )


@dataclass
class Report:
    """What became of the rows of an import, or of one chunk of it."""

    #: The line on which the last of the rows begins.
    last_line: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    merged: int = 0
    failed: int = 0
    #: The names of the categories that were made; a dict for its order.
    made_categories: dict[str, None] = field(default_factory=dict)
    #: How often a product stayed in the first category while a merged row named the second.
    kept_categories: Counter[tuple[str, str]] = field(default_factory=Counter)
    errors: list[RowError] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """How many rows there were."""
        return self.created + self.updated + self.unchanged + self.merged + self.failed

    def fail(self, row: BadRow) -> None:
        """Count a bad row."""
        self.failed += 1
        self.errors.extend(row.errors)

    def add(self, other: "Report") -> None:
        """Count what a later chunk reports."""
        self.last_line = other.last_line
        self.created += other.created
        self.updated += other.updated
        self.unchanged += other.unchanged
        self.merged += other.merged
        self.failed += other.failed
        self.made_categories |= other.made_categories
        self.kept_categories += other.kept_categories
        self.errors.extend(other.errors[: MOST_ERRORS - len(self.errors)])
