"""Which column of a file feeds which field of a product."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.features.imports.models import FileUnreadable
from app.features.products import files
from app.features.products.models import DEFAULTS, MADE, MEMBERS
from app.web import fields

ATTRIBUTE = "attributes."
MAX_LIST_LENGTH = 300
#: Columns of a CSV file, and members of an NDJSON line.
MAX_COLUMNS = 500
#: The members that a file needs columns for: those without a default. Rows without a currency get one, slugs are made,
#: and a category can be named instead.
REQUIRED = tuple(name for name in MEMBERS if name not in {*DEFAULTS, *MADE, "currency", "category_id"})


@dataclass(frozen=True)
class Layout:
    """What a CSV file's header comes to."""

    width: int
    #: The fields that columns feed, each with the number of its column.
    places: Sequence[tuple[str, int]]
    #: Whether this is a file that we exported, to be taken to the letter.
    is_export: bool
    ignored: tuple[str, ...]


@dataclass(frozen=True)
class Columns:
    """The columns that were named for fields; a field that was not is fed by the column of its own name."""

    named: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, pairs: Iterable[str]) -> "Columns":
        """Read ``field=column`` pairs; a field is one of the export's columns, or ``attributes.NAME``."""
        named: dict[str, str] = {}
        for pair in pairs:
            name, equals, column = pair.partition("=")
            if not equals or not column:
                raise FileUnreadable(f"{pair!r} is not of the form field=column")
            if not _is_field(name):
                raise FileUnreadable(f"there is no field {name!r}: {', '.join(files.COLUMNS)}, attributes.NAME")
            if name in named:
                raise FileUnreadable(f"the field {name!r} is mapped twice")
            named[name] = column
        return cls(named)

    def lay_out(self, header: Sequence[str]) -> Layout:
        """Find the columns in a CSV header; refuses one that lacks a column that is named or needed."""
        if len(header) > MAX_COLUMNS:
            raise FileUnreadable(f"the header names {len(header):,} columns, and {MAX_COLUMNS} are the most")
        sources = self._sources_in(header)
        place_of, read = {column: place for place, column in enumerate(header)}, set(sources.values())
        return Layout(
            width=len(header),
            places=[(name, place_of[sources[name]]) for name in _whole_first(sources)],
            is_export=not self.named and sorted(header) == sorted(files.COLUMNS),
            ignored=tuple(name for name in header if name and name not in read),
        )

    def _sources_in(self, header: Sequence[str]) -> dict[str, str]:
        """The column that feeds each field."""
        sources = {name: name for name in header if _is_field(name)} | dict(self.named)
        _require_one_column_each(sources, header)
        _require_needed_fields(sources, header)
        return sources

    def pick(self, members: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of an NDJSON line.

        Members that feed no field are left out where columns were named; otherwise they stay, to be refused.
        """
        if not self.named:
            return dict(members)
        own = (name for name in files.COLUMNS if name not in self.named)
        values = {name: members[name] for name in own if name in members}
        for name in _whole_first(self.named):
            if members.get(self.named[name]) is not None:
                put_field(values, name, members[self.named[name]])
        return values


def put_field(values: dict[str, Any], name: str, value: Any) -> None:
    """Put a field's value where a request body has it: ``attributes.NAME`` among the attributes."""
    if not name.startswith(ATTRIBUTE):
        values[name] = value
        return
    attributes = values.setdefault("attributes", {})
    if isinstance(attributes, dict):  # else the schema has something to say
        # A column may feed both the attributes and one of them, which must not become its own member.
        attributes[name.removeprefix(ATTRIBUTE)] = dict(value) if value is attributes else value


def _require_one_column_each(sources: Mapping[str, str], header: Sequence[str]) -> None:
    times = Counter(header)
    for name, column in sources.items():
        if times[column] != 1:
            there = "there is more than one column" if times[column] else "there is no column"
            raise FileUnreadable(f"{there} {column!r} for {name}; the columns are: {_listed(header)}")


def _require_needed_fields(sources: Mapping[str, str], header: Sequence[str]) -> None:
    missing = [name for name in REQUIRED if name not in sources]
    if not {"category", "category_id"} & sources.keys():
        missing.append("category")
    if missing:
        raise FileUnreadable(
            f"no column feeds {', '.join(missing)}; the columns are: {_listed(header)}."
            " Is the delimiter right, or a column to be mapped?"
        )


def _is_field(name: str) -> bool:
    if name.startswith(ATTRIBUTE):
        return re.fullmatch(fields.Scalars.NAME, name.removeprefix(ATTRIBUTE)) is not None
    return name in files.COLUMNS


def _listed(header: Sequence[str]) -> str:
    names = ", ".join(header)
    return f"{names[:MAX_LIST_LENGTH]}..." if len(names) > MAX_LIST_LENGTH else names


def _whole_first(names: Iterable[str]) -> list[str]:
    # The attributes as a whole would take away those that were put one by one before.
    return sorted(names, key=lambda name: name.startswith(ATTRIBUTE))
