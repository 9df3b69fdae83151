"""The failed rows of an import as a file that can be mended and sent again.

It has the header and the dialect of the file that was sent, and one column more, at the end, which says what is wrong
with each row; an import leaves that column unread. A row that is no record stands there as it was.
"""

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import orjson

from app.core.errors import Malformed
from app.features.exports.files import FileFormat
from app.features.imports.reading.columns import REASON, is_reason
from app.features.imports.reading.files import CELL_COUNT, RowFile
from app.features.imports.reading.options import Quoting
from app.features.imports.rows import BadRow
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
        text = _with_room(row.source.text, file)
        return text if text.endswith(("\n", "\r")) else f"{text}\r\n"
    return _csv_line([*_cells_of(file, row), _reason(row)], file)


def _with_room(text: str, file: RowFile) -> str:
    """The text of what is no record, with an empty cell for the reason behind each line that may become one."""
    marks = len(_without_reason(file, file.names)) - 1
    lines = re.findall(r"[^\r\n]*(?:\r\n|\r|\n|\Z)", text)
    return "".join(_with_cell(line, file.delimiter) if line.count(file.delimiter) == marks else line for line in lines)


def _with_cell(line: str, delimiter: str) -> str:
    content = line.rstrip("\r\n")
    return f"{content}{delimiter}{line[len(content) :]}" if content else line


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


def _cells_of(file: RowFile, row: BadRow) -> Sequence[str]:
    """The cells of a row without the reason of before, which is the last where there are too many or too few.

    Were that to stay, a row that is sent twice as it is would have the right number of cells, and a reason for a value.
    """
    cells = row.source.cells
    if len(cells) == len(file.names):
        return _without_reason(file, cells)
    return cells[:-1] if file.has_reasons and cells and cells[-1].startswith(CELL_COUNT) else cells


def _without_reason(file: RowFile, cells: Sequence[str]) -> list[str]:
    places = [place for place, name in enumerate(file.names) if is_reason(name)]
    return [cell for place, cell in enumerate(cells) if place not in places]


def _csv_line(cells: Sequence[str], file: RowFile) -> str:
    text = io.StringIO(newline="")
    if file.reading.quoting == Quoting.NONE:
        # Without quotation marks nothing can keep these from ending the cell.
        blank = "_" if file.delimiter == " " else " "
        cells = [*cells[:-1], re.sub(rf"[{re.escape(file.delimiter)}\r\n]", blank, cells[-1])]
        csv.writer(text, delimiter=file.delimiter, quoting=csv.QUOTE_NONE, quotechar=None).writerow(cells)
    else:
        csv.writer(text, delimiter=file.delimiter).writerow(cells)
    return text.getvalue()
