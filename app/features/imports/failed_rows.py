"""The failed rows of an import as a file that can be mended and sent again.

It has the header and the dialect of the file that was sent, and one column more, at the end, which says what is wrong
with each row; an import leaves that column unread. A row that is no record stands there as it was.
"""

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import orjson

from app.core.errors import Malformed
from app.features.imports.reading.columns import REASON, fold_name
from app.features.imports.reading.files import RowFile
from app.features.imports.reading.options import Quoting
from app.features.imports.rows import BadRow
from app.features.products.files import FileFormat
from app.web.body import parse_json


def head_of(file: RowFile) -> str:
    """What stands above the first row."""
    if file.reading.file_format is FileFormat.NDJSON:
        return file.above
    return file.above + _csv_line([*_without_reason(file, file.names), REASON], file)


def text_of(file: RowFile, rows: Iterable[BadRow]) -> str:
    """The rows as they stood in the file, each with what is wrong."""
    write: Callable[[BadRow], str] = (
        _json_text if file.reading.file_format is FileFormat.NDJSON else partial(_csv_text, file)
    )
    return "".join(write(row) for row in rows)


def encoding_of(encoding: str) -> str:
    """The encoding of the file of failed rows: that of the file that was sent, without a byte order mark of UTF-8."""
    return encoding.removesuffix("-sig")


def _csv_text(file: RowFile, row: BadRow) -> str:
    if row.source.text is not None:
        return row.source.text if row.source.text.endswith(("\n", "\r")) else f"{row.source.text}\r\n"
    return _csv_line([*_without_reason(file, row.source.cells), _reason(row)], file)


def _json_text(row: BadRow) -> str:
    text = row.source.text or ""
    try:
        members: Any = parse_json(text.encode())
    except Malformed:
        members = None
    if not isinstance(members, dict):
        return f"{text.rstrip()}\n"
    return orjson.dumps({**members, REASON: _reason(row)}).decode() + "\n"


def _reason(row: BadRow) -> str:
    sentences = (f"{error.column or error.field}: {error.sentence}".removeprefix(": ") for error in row.errors)
    return " ".join(sentences)


def _without_reason(file: RowFile, cells: Sequence[str]) -> list[str]:
    places = [place for place, name in enumerate(file.names) if fold_name(name) == REASON]
    return [cell for place, cell in enumerate(cells) if place not in places]


def _csv_line(cells: Sequence[str], file: RowFile) -> str:
    text = io.StringIO(newline="")
    if file.reading.quoting == Quoting.NONE:
        # Without quotation marks nothing can keep these from ending the cell.
        cells = [*cells[:-1], cells[-1].replace(file.delimiter, " ").replace("\n", " ").replace("\r", " ")]
        csv.writer(text, delimiter=file.delimiter, quoting=csv.QUOTE_NONE, quotechar=None).writerow(cells)
    else:
        csv.writer(text, delimiter=file.delimiter).writerow(cells)
    return text.getvalue()
