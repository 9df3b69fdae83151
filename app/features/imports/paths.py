"""Paths of categories, as cells have them: the names from the root down, with a separator between them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from app.features.exports.files import join_path

#: Separators of lists whatever else is stated; a comma is one where no blank follows it, or within a path.
_LISTS = ";|\n"
#: Separators of paths that a name has but by chance; of strokes there must be two.
_SEPARATORS = (">", "->", "=>", "::", "\u00bb", "\u203a", "\u2192")
#: What a backslash makes part of a name, beside the separator.
_ESCAPED = r"\\,;|/>:\u00bb\u203a\u2192"


@dataclass(frozen=True)
class CategoryPath:
    """The category that a row names: the names from the root down, or one name wherever it stands in the tree."""

    names: tuple[str, ...]
    is_rooted: bool = False
    #: Whether the cell seems to name several categories, unless there is one whose name it is.
    is_list: bool = False
    #: Whether the cell seems to be a path with another separator, unless there is a category whose name it is.
    is_foreign: bool = False
    #: The parts of the cell, where it names several categories if one of them is there.
    parts: tuple[str, ...] = ()
    #: Once its names are known to be valid: a file has few paths and many rows.
    is_checked: bool = field(default=False, compare=False, repr=False)

    def mark_checked(self) -> None:
        """Note that its names are valid."""
        object.__setattr__(self, "is_checked", True)

    @cached_property
    def _hash(self) -> int:
        return hash((self.names, self.is_rooted, self.is_list, self.is_foreign, self.parts))

    def __hash__(self) -> int:
        return self._hash

    @property
    def is_bare(self) -> bool:
        """Whether it is one name, of a category wherever it stands."""
        return len(self.names) == 1 and not self.is_rooted

    def above(self, depth: int) -> "CategoryPath":
        """The first ``depth`` names of the path."""
        return CategoryPath(self.names[:depth], self.is_rooted or len(self.names) > 1)

    def __str__(self) -> str:
        return join_path(self.names, is_unique=True)


def read_path(cell: str, separator: str | None, lists: str = "", *, is_ours: bool = False) -> CategoryPath:
    """The path that a cell states; without a separator the cell is one name.

    A separator within a name has a backslash before it, and so has a backslash before another. ``lists`` separates the
    entries of lists in this file, of which a category must be one; None of them is looked for where it is empty. A path
    that may be one that we wrote has no separators of others but by its names.
    """
    if separator is None:
        return CategoryPath((cell,))
    names = [" ".join(name.split()) for name in _split(cell, separator)]
    is_rooted = len(names) > 1 and not names[0]
    if is_rooted:
        names = names[1:]
    is_list, parts = _is_list(cell, separator, lists, len(names)) if lists else (False, ())
    return CategoryPath(tuple(names), is_rooted, is_list, _is_foreign(cell, separator, is_ours=is_ours), parts)


def _is_foreign(cell: str, separator: str, *, is_ours: bool) -> bool:
    bare = re.sub(r"\\.", "", cell)
    # We write a backslash before the last character of an arrow.
    marks = [mark for mark in _SEPARATORS if mark not in separator and not (is_ours and ">" not in mark)]
    return any(mark in bare for mark in marks) or (not is_ours and bare.count("/") > 1 > separator.count("/"))


def _is_list(cell: str, separator: str, lists: str, depth: int) -> tuple[bool, tuple[str, ...]]:
    bare = re.sub(r"\\.", "", cell)
    marks = {*_LISTS, lists} - {separator}
    if any(mark in bare for mark in marks):
        return True, ()
    if "," not in bare or separator == ",":
        return False, ()
    is_list = depth > 1 or re.search(r",\S", bare) is not None
    return is_list, tuple(part.strip() for part in cell.split(","))


def _split(cell: str, separator: str) -> Sequence[str]:
    if "\\" not in cell:
        return cell.split(separator)
    return [_unescape(separator)(r"\1", name) for name in _find_names(separator)(cell)]


@cache
def _find_names(separator: str) -> Any:
    mark = re.escape(separator)
    # A name begins at the start of the cell or behind a separator, and every character can match in one way only.
    return re.compile(rf"(?:\A|{mark})((?:\\(?:{mark}|[{_ESCAPED}])|(?!{mark}).)*)", re.DOTALL).findall


@cache
def _unescape(separator: str) -> Any:
    return re.compile(rf"\\({re.escape(separator)}|[{_ESCAPED}])").sub
