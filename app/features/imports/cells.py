"""From CSV cells, which are all strings, to the values of an NDJSON line or a request body.

What does not convert stays a string, and the schema refuses it: one place decides what is right.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from app.core.errors import Malformed
from app.features.imports.columns import Layout, put_field
from app.features.products import files
from app.web.body import parse_json


class CellReader:
    """Converts the cells of a record.

    An empty cell states nothing, and blanks around cells and tags are dropped, those within a name, a category or a
    line of the description collapsed. A file that we exported is taken to the letter: its blanks are meant, and an
    empty cell empties a member that can be empty.
    """

    def __init__(self, layout: Layout, *, decimal_mark: str) -> None:
        self.width = layout.width
        self._layout = layout
        self._marks = str.maketrans({",": ".", ".": ","}) if decimal_mark == "," else {}
        self._tidy: dict[str, Callable[[str], str]] = {
            "name": _one_line,
            "category": _one_line,
            "description": _tidy_lines,
        }
        self._can_be_empty = {"description", "tags", "external_id"} if layout.is_export else set()
        self._convert: dict[str, Callable[[str], Any]] = {
            # Marks change places, so that a thousands separator becomes what no price has.
            "price": lambda cell: cell.translate(self._marks),
            "category_id": _integer,
            "stock": _integer,
            "tags": files.split_tags if layout.is_export else _tidy_tags,
            "attributes": _json,
            "external_id": lambda cell: cell or None,
        }

    def read(self, record: Sequence[str]) -> dict[str, Any]:
        """The values that a record states."""
        values: dict[str, Any] = {}
        for name, place in self._layout.places:
            cell = files.unguard_formula(record[place])
            if not self._layout.is_export:
                cell = self._tidy.get(name, str.strip)(cell)
            if not cell and name not in self._can_be_empty:
                continue
            convert = self._convert.get(name)
            put_field(values, name, convert(cell) if convert else cell)
        return values


def _one_line(cell: str) -> str:
    return " ".join(cell.split())


def _tidy_lines(cell: str) -> str:
    return "\n".join(" ".join(line.split()) for line in cell.splitlines()).strip()


def _tidy_tags(cell: str) -> list[str]:
    return [tag for part in files.split_tags(cell) if (tag := part.strip())]


def _integer(cell: str) -> int | str:
    # ASCII digits, and nothing else that int() takes, such as 1_000.
    return int(cell) if re.fullmatch(r"-?[0-9]{1,20}", cell) else cell


def _json(cell: str) -> Any:
    try:
        return parse_json(cell.encode())
    except (Malformed, UnicodeEncodeError):
        return cell
