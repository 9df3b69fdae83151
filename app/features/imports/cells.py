"""From CSV cells, which are all strings, to the values of an NDJSON line or a request body.

What does not convert stays a string, and the schema refuses it: one place decides what is right.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import marshmallow as ma

from app.core.errors import Malformed
from app.features.imports.columns import Layout, put_field
from app.features.imports.schemas import ImportRowSchema
from app.features.products import files
from app.web import fields
from app.web.body import parse_json
from app.web.schemas import shared


class CellReader:
    """Converts the cells of a record, each by the field that its member has in a row.

    An empty cell states nothing, and blanks around cells and tags are dropped, those within a name, a category, a
    brand or a line of the description collapsed. A file that we exported is taken to the letter: its blanks are meant,
    and an empty cell empties a member that can be empty.
    """

    def __init__(self, layout: Layout, *, decimal_mark: str) -> None:
        self.width = layout.width
        self._layout = layout
        self._marks = str.maketrans({",": ".", ".": ","}) if decimal_mark == "," else {}
        self._tidy: dict[str, Callable[[str], str]] = {
            "name": _one_line,
            "category": _one_line,
            "brand": _one_line,
            "description": _tidy_lines,
        }
        members = shared(ImportRowSchema).fields
        self._convert = {name: self._conversion(field) for name, field in members.items()}
        self._can_be_empty = {name for name, field in members.items() if layout.is_export and self._takes_empty(field)}

    def read(self, record: Sequence[str]) -> dict[str, Any]:
        """The values that a record states, by their members."""
        values: dict[str, Any] = {}
        for name, place in self._layout.places:
            cell = files.unguard_formula(record[place])
            if not self._layout.is_export:
                cell = self._tidy.get(name, str.strip)(cell)
            if cell or name in self._can_be_empty:
                put_field(values, name, self._convert.get(name, _as_it_is)(cell))
        return values

    def _conversion(self, field: ma.fields.Field[Any]) -> Callable[[str], Any]:
        match field:
            case fields.Money():
                convert: Callable[[str], Any] = self._decimal
            case fields.Integer():
                convert = _integer
            case fields.Boolean():
                convert = _boolean
            case fields.Items():
                convert = files.split_tags if self._layout.is_export else _tidy_tags
            case fields.Scalars():
                convert = _json
            case _:
                convert = _as_it_is
        return _nullable(convert) if field.allow_none else convert

    def _decimal(self, cell: str) -> str:
        # Marks change places, so that a thousands separator becomes what no price has.
        return cell.translate(self._marks)

    def _takes_empty(self, field: ma.fields.Field[Any]) -> bool:
        try:
            field.deserialize(self._conversion(field)(""))
        except ma.ValidationError:
            return False
        return True


def _nullable(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda cell: convert(cell) if cell else None


def _as_it_is(cell: str) -> str:
    return cell


def _one_line(cell: str) -> str:
    return " ".join(cell.split())


def _tidy_lines(cell: str) -> str:
    return "\n".join(" ".join(line.split()) for line in cell.splitlines()).strip()


def _tidy_tags(cell: str) -> list[str]:
    return [tag for part in files.split_tags(cell) if (tag := part.strip())]


def _integer(cell: str) -> int | str:
    # ASCII digits, and nothing else that int() takes, such as 1_000.
    return int(cell) if re.fullmatch(r"-?[0-9]{1,20}", cell) else cell


def _boolean(cell: str) -> bool | str:
    return {"true": True, "false": False}.get(cell.lower(), cell)


def _json(cell: str) -> Any:
    try:
        return parse_json(cell.encode())
    except (Malformed, UnicodeEncodeError):
        return cell
