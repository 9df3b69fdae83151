"""How products are written to CSV and NDJSON files, so that an import of the file gives the same products back.

A spreadsheet takes a cell that begins with one of = + - @, their full-width forms, TAB, CR or LF for a formula. An
apostrophe before it makes it text (OWASP, CSV Injection). Where apostrophes stand before such a character already, one
more is put; so taking one away always gives the cell back.
"""

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any

import orjson

from app.core.money import CURRENCY, amount_text
from app.features.products.models import AMOUNTS, INHERITED, MEMBERS, ProductKind


class FileFormat(StrEnum):
    """What a file of products is written in."""

    CSV = "csv"
    NDJSON = "ndjson"


MEDIA_TYPES = {FileFormat.CSV: "text/csv", FileFormat.NDJSON: "application/x-ndjson"}
SUFFIXES = {
    ".csv": FileFormat.CSV,
    ".tsv": FileFormat.CSV,
    ".txt": FileFormat.CSV,
    ".ndjson": FileFormat.NDJSON,
    ".jsonl": FileFormat.NDJSON,
}

#: Between the tags of a cell, and between the names of a category's path.
TAG_SEPARATOR, CATEGORY_SEPARATOR = "|", ">"

#: The names of other rows that stand beside their ids: a name finds the row in another catalogue, and the id of a
#: category distinguishes it from others of the same name in this one. That of a type is its code.
NAMES: Mapping[str, str] = {"category_id": "category", "brand_id": "brand", "type_id": "type"}
#: The column with the sku of the parent of a variant.
PARENT = "parent_sku"
#: What makes a product single, a parent or a variant.
FAMILY = ("kind", PARENT, "options", "position")
#: The column with the pictures that a product shows, or that are of a variant: the SHA-256 of what is kept, or a URL.
IMAGES = "images"
#: The columns of a CSV file and the members of an NDJSON line.
COLUMNS = (
    *(name for member in MEMBERS for name in ((NAMES[member], member) if member in NAMES else (member,))),
    *FAMILY,
    IMAGES,
)
#: The columns that say of a variant what its parent says, and of a parent what its variants do: rows leave them empty.
FOREIGN: Mapping[str, frozenset[str]] = {
    ProductKind.VARIANT: frozenset({*INHERITED, *NAMES.values()}),
    ProductKind.PARENT: frozenset({"price", "stock", "track_stock"}),
}
#: The column of the ids in this catalogue, by which the change feed names products; an import leaves it unread.
ID = "id"

_FORMULA = "=+\\-@\uff1d\uff0b\uff0d\uff20\t\r\n"
_is_formula = re.compile(f"'*[{_FORMULA}]").match
_is_guarded = re.compile(f"'+[{_FORMULA}]").match


def write_products(
    batches: Iterable[Sequence[Mapping[str, Any]]], file_format: FileFormat, *, with_ids: bool = False
) -> Iterator[str]:
    """The text of a file of products, piece by piece; ``with_ids`` puts the column `ID` before the others."""
    return _WRITERS[file_format](batches, (ID, *COLUMNS) if with_ids else COLUMNS)


def guard_formula(cell: str) -> str:
    """The cell, made text where a spreadsheet would take it for a formula."""
    return f"'{cell}" if _is_formula(cell) else cell


def unguard_formula(cell: str) -> str:
    """The cell as it was before `guard_formula`."""
    return cell[1:] if cell.startswith("'") and _is_guarded(cell) else cell


def join_tags(tags: Iterable[str]) -> str:
    """The tags in one cell, with ``|`` between them; a ``|`` or backslash within a tag has a backslash before it."""
    return TAG_SEPARATOR.join(re.sub(r"([\\|])", r"\\\1", tag) for tag in tags)


def split_tags(cell: str) -> list[str]:
    """The tags of a cell; where nothing stands between two ``|`` there is none."""
    if "\\" not in cell:
        return [tag for tag in cell.split("|") if tag]
    return [re.sub(r"\\([\\|])", r"\1", tag) for tag in re.findall(r"(?:\\[\\|]|[^|])+", cell)]


def split_images(cell: str) -> list[str]:
    """The pictures of a cell; no URL has a ``|`` or a blank."""
    return [image for part in cell.split(TAG_SEPARATOR) if (image := part.strip())]


def join_path(names: Sequence[str], *, is_unique: bool) -> str:
    """The path of a category in one cell, from the root down; a ``>`` or backslash within a name has one before it.

    A root of whose name there are others in the tree has a ``>`` before it: a bare name means any category of it.
    """
    path = f" {CATEGORY_SEPARATOR} ".join(re.sub(r"([\\>])", r"\\\1", name) for name in names)
    return path if is_unique or len(names) > 1 else f"{CATEGORY_SEPARATOR} {path}"


def _write_csv(batches: Iterable[Sequence[Mapping[str, Any]]], columns: Sequence[str]) -> Iterator[str]:
    yield _csv_text([columns])
    for batch in batches:
        rows = (_values(row, columns) for row in batch)
        yield _csv_text([guard_formula(_cell(row.get(column))) for column in columns] for row in rows)


def _csv_text(records: Iterable[Sequence[str]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(records)
    return text.getvalue()


def _values(row: Mapping[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    """What a row says in each column; an amount is a decimal string, as in a body."""
    foreign = FOREIGN.get(row["kind"], ())
    values = {column: row[column] for column in columns if column not in foreign}
    for name in AMOUNTS:
        if values.get(name) is not None:
            values[name] = amount_text(values[name], row[CURRENCY])
    return values


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case list():
            return join_tags(value)
        case dict():
            return _json_text(value)
        case _:
            return str(value)


def _write_ndjson(batches: Iterable[Sequence[Mapping[str, Any]]], columns: Sequence[str]) -> Iterator[str]:
    for batch in batches:
        yield "".join(f"{_json_text(_values(row, columns))}\n" for row in batch)


def _json_text(value: Mapping[str, Any]) -> str:
    return orjson.dumps(value).decode()


_WRITERS: dict[FileFormat, Callable[[Iterable[Sequence[Mapping[str, Any]]], Sequence[str]], Iterator[str]]] = {
    FileFormat.CSV: _write_csv,
    FileFormat.NDJSON: _write_ndjson,
}
