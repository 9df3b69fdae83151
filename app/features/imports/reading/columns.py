"""Which column of a file feeds which field of a product."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.features.exports import files
from app.features.imports.models import FileUnreadable
from app.features.products.models import AttributePatch
from app.features.products.schemas import Options
from app.web import fields

ATTRIBUTE, OPTION = "attributes.", "options."
#: The beginnings of columns that feed one attribute, or one option of a variant, and of the fields that they feed.
_BEGINNINGS = {"attributes": ATTRIBUTE, "attribute": ATTRIBUTE, "options": OPTION, "option": OPTION}
#: Fields that are fed by columns of exactly their names: in others' files a "Type" or a "Position" is something else.
_OF_OTHERS = frozenset({"type", "kind", "options", "position"})
MAX_LIST_LENGTH = 300
#: Columns of a CSV file, and members of an NDJSON line.
MAX_COLUMNS = 500
#: The column of the file of failed rows that says what is wrong with each; an import leaves it unread.
REASON = "import_error"
#: The columns in which shops name the product that a row is a variant of, as words; by a sku, or by a key of theirs.
PARENTS = frozenset({"parent", "parent id", "parent sku", "item group id"})


@dataclass(frozen=True)
class Layout:
    """What the names of a file's columns come to."""

    width: int
    #: The fields that columns feed, each with the number of its column.
    places: Sequence[tuple[str, int]]
    #: The name of each field's column, as the file has it.
    sources: Mapping[str, str]
    #: Whether this is a file that we exported, to be taken to the letter.
    is_export: bool
    ignored: tuple[str, ...]
    #: The columns that name the product of which a row is a variant.
    parents: Sequence[int] = ()
    #: The columns that say what was wrong with a row that failed before.
    reasons: Sequence[int] = ()


@dataclass(frozen=True)
class Columns:
    """The columns that were named for fields; a field that was not is fed by the column of its own name."""

    named: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, pairs: Iterable[str]) -> "Columns":
        """Read ``field=column`` pairs; a field is an export's column, ``attribute.NAME`` or ``option.NAME``."""
        named: dict[str, str] = {}
        for pair in pairs:
            name, equals, column = pair.partition("=")
            if not equals or not column:
                raise FileUnreadable(f"{pair!r} is not of the form field=column")
            require_field(name)
            name = field_name(name)
            if name in named:
                raise FileUnreadable(f"the field {name!r} is mapped twice")
            named[name] = column
        return cls(named)

    def lay_out(self, header: Sequence[str], *, key: str = "sku", constants: Collection[str] = ()) -> Layout:
        """Find the columns in a CSV header; refuses one that lacks a column that is named, or that of the key.

        The case of the names does not matter, nor do the blanks and line ends around and in them.
        """
        if len(header) > MAX_COLUMNS:
            raise FileUnreadable(f"the header names {len(header):,} columns, and {MAX_COLUMNS} are the most")
        place_of = {name: self._place(name, header) for name in self.named} | self._own_places(header)
        if key not in place_of and key not in constants:
            raise FileUnreadable(
                f"no column feeds {key}; the columns are: {_listed(header)}."
                " Is the delimiter right, a column to be mapped, or are there lines above the header to be skipped?"
            )
        read = set(place_of.values())
        unread = {place: name for place, name in enumerate(header) if place not in read and not is_reason(name)}
        return Layout(
            width=len(header),
            places=[(name, place_of[name]) for name in _whole_first(place_of)],
            sources={name: header[place] for name, place in place_of.items()},
            is_export=not self.named and _is_export(header),
            ignored=tuple(name for name in unread.values() if name),
            parents=[place for place, name in unread.items() if is_parent(name)],
            reasons=[place for place, name in enumerate(header) if is_reason(name) and place not in read],
        )

    def _own_places(self, header: Sequence[str]) -> dict[str, int]:
        """The places of the fields that columns of their own names feed."""
        places: dict[str, int] = {}
        for place, column in enumerate(header):
            name = _field_of(column)
            if name is None or name in self.named:
                continue
            if name in places:
                raise _named_twice(column, [places[name], place])
            places[name] = place
        return places

    def _place(self, name: str, header: Sequence[str]) -> int:
        """The place of the column that is named for a field; one of exactly this name goes before others."""
        column = self.named[name]
        places = [place for place, other in enumerate(header) if other == column.strip()]
        places = places or [place for place, other in enumerate(header) if fold_name(other) == fold_name(column)]
        if not places:
            raise FileUnreadable(f"there is no column {column!r} for {name}; the columns are: {_listed(header)}")
        if len(places) > 1:
            raise _named_twice(column, places)
        return places[0]

    def pick(self, members: Mapping[str, Any]) -> tuple[dict[str, Any], Mapping[str, str]]:
        """The fields of an NDJSON line, and the name of the member that feeds each."""
        own = {field_name(member): member for member in members if is_field(member)}
        sources = {name: member for name, member in own.items() if name not in self.named}
        sources |= {name: member for name, member in self.named.items() if members.get(member) is not None}
        values: dict[str, Any] = {}
        for name in _whole_first(sources):
            put_field(values, name, members[sources[name]])
        return values, sources


def put_field(values: dict[str, Any], name: str, value: Any) -> None:
    """Put a field's value where a request body has it: ``attributes.NAME`` among the attributes, and options alike."""
    if name.startswith(OPTION):
        options = values.setdefault("options", {})
        if isinstance(options, dict):
            options[name.removeprefix(OPTION)] = value
        return
    if not name.startswith(ATTRIBUTE):
        values[name] = value
        return
    attributes = values.setdefault("attributes", AttributePatch())
    if isinstance(attributes, dict):  # else the schema has something to say
        # A column may feed both the attributes and one of them, which must not become its own member.
        attributes[name.removeprefix(ATTRIBUTE)] = dict(value) if value is attributes else value


def is_field(name: str) -> bool:
    """Whether a column can feed a field of this name."""
    name = field_name(name)
    if name.startswith(ATTRIBUTE):
        return re.fullmatch(fields.Scalars.NAME, name.removeprefix(ATTRIBUTE)) is not None
    if name.startswith(OPTION):
        return re.fullmatch(Options.NAME, name.removeprefix(OPTION)) is not None
    return name in files.COLUMNS


def require_field(name: str) -> None:
    """Refuse a name that no field has."""
    if not is_field(name):
        raise FileUnreadable(f"there is no field {name!r}: {', '.join(files.COLUMNS)}, attribute.NAME, option.NAME")


def field_name(name: str) -> str:
    """The field of a name: an attribute is a member of ``attributes``, and an option of ``options``."""
    start, dot, rest = name.partition(".")
    return _BEGINNINGS[start] + rest if dot and start in _BEGINNINGS else name


def fold_name(name: str) -> str:
    """The name of a column without its case, and with a blank for those, or line ends, between its words."""
    return " ".join(name.split()).casefold()


def is_reason(name: str) -> bool:
    """Whether a column says what was wrong; its name has a blank where the file's delimiter is an underscore."""
    return fold_name(name).replace(" ", "_") == REASON


def _is_export(header: Sequence[str]) -> bool:
    """Whether these are the columns of an export; one of the release before has no pictures."""
    own = set(header) - {REASON, files.ID, files.IMAGES}
    return own == set(files.COLUMNS) - {files.IMAGES}


def is_parent(name: str) -> bool:
    """Whether a column names the product that a row is a variant of, with whatever mark between its words."""
    return " ".join(re.split(r"[\s_-]+", name.strip().casefold())) in PARENTS


def _field_of(column: str) -> str | None:
    """The field of a column's own name."""
    name = column.strip()
    start, dot, rest = name.partition(".")
    if dot and start.casefold() in _BEGINNINGS:
        name = _BEGINNINGS[start.casefold()] + rest
    elif fold_name(name) not in _OF_OTHERS:
        name = fold_name(name)
    return name if is_field(name) else None


def _named_twice(column: str, places: Sequence[int]) -> FileUnreadable:
    numbers = " and ".join(str(place + 1) for place in places[:2])
    return FileUnreadable(f"there is more than one column {column!r} (columns {numbers}); rename or remove one of them")


def _listed(header: Sequence[str]) -> str:
    names = ", ".join(" ".join(name.split()) for name in header)
    return f"{names[:MAX_LIST_LENGTH]}..." if len(names) > MAX_LIST_LENGTH else names


def _whole_first(names: Iterable[str]) -> list[str]:
    # The attributes as a whole would take away those that were put one by one before, and so would the options.
    return sorted(names, key=lambda name: name.startswith((ATTRIBUTE, OPTION)))
