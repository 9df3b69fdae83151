"""Reading a file: from bytes to rows, in flat memory.

A fault of one record is a bad row; a fault that hides where the next record begins ends the reading.
"""

import codecs
import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from app.core.errors import Malformed
from app.features.imports.cells import CellReader
from app.features.imports.columns import MAX_COLUMNS, Columns
from app.features.imports.models import BadRow, FileUnreadable, Row, RowError
from app.features.products.files import FileFormat
from app.web.body import DuplicateKey, JsonMalformed, NumberOutOfRange, parse_json

#: In characters; what the body of a request that creates a product may have.
MAX_RECORD_LENGTH = 2**20

_JSON_FAULTS: dict[type[Malformed], str] = {
    JsonMalformed: "Not one JSON text (RFC 8259).",
    DuplicateKey: "An object has the same key twice.",
    NumberOutOfRange: "A number does not fit 64 bits.",
}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How to read a file. ``columns`` names the column of a field where it is not the field's own name."""

    file_format: FileFormat
    encoding: str = "utf-8-sig"
    delimiter: str = ","
    decimal_mark: str = "."
    columns: Columns = field(default_factory=Columns)


@dataclass(frozen=True)
class RowFile:
    """A file that can be read: its rows, the number of its lines, and the columns that feed no field."""

    rows: Iterator[Row | BadRow]
    lines: int
    ignored: tuple[str, ...] = ()


def read_rows(stream: IO[bytes], reading: Reading) -> RowFile:
    """The rows of a seekable file, which is closed after the last.

    It is read once before, to prove its encoding: half a file is not imported. Raises ``FileUnreadable``, here or from
    the rows.
    """
    line_count = _count_lines(stream, reading.encoding)
    stream.seek(0)
    # The csv module wants line ends as they are; an NDJSON line ends at a line feed only.
    newline = "" if reading.file_format is FileFormat.CSV else "\n"
    text = io.TextIOWrapper(stream, reading.encoding, newline=newline)
    if reading.file_format is FileFormat.NDJSON:
        return RowFile(_closing(text, _read_ndjson(_Lines(text), reading.columns)), line_count)
    rows, ignored = _read_csv(_Lines(text), reading)
    return RowFile(_closing(text, rows), line_count, ignored)


class _Lines:
    """The lines of a text, counted; a record of many lines is bounded, be it an unclosed quote or an attack."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._left = MAX_RECORD_LENGTH
        self.number = 0

    def begin_record(self) -> int:
        """The number of the line that comes next."""
        self._left = MAX_RECORD_LENGTH
        return self.number + 1

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._text.readline(self._left + 1)
        if not line:
            raise StopIteration
        self.number += 1
        self._left -= len(line)
        if self._left < 0:
            raise FileUnreadable(
                f"line {self.number}: a record is longer than {MAX_RECORD_LENGTH:,} characters; is a quote left open?"
            )
        return line


def _closing(text: io.TextIOWrapper, rows: Iterator[Row | BadRow]) -> Iterator[Row | BadRow]:
    with text:
        yield from rows


def _count_lines(stream: IO[bytes], encoding: str) -> int:
    try:
        "".encode(encoding)
    except LookupError:
        raise FileUnreadable(f"there is no text encoding {encoding!r}") from None
    lines, ends_within_line = 0, False
    try:
        decoder = codecs.getincrementaldecoder(encoding)()
        while block := stream.read(2**16):
            text = decoder.decode(block)
            text.encode()  # some decoders make halves of characters, which no database takes
            lines += text.count("\n")
            ends_within_line = not text.endswith("\n") if text else ends_within_line
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        line = lines + error.object[: error.start].count(b"\n") + 1
        raise FileUnreadable(f"line {line}: this is not {encoding}; name the file's encoding") from None
    except UnicodeError:
        raise FileUnreadable(f"this is not {encoding}; name the file's encoding") from None
    return lines + ends_within_line


def _read_csv(lines: _Lines, reading: Reading) -> tuple[Iterator[Row | BadRow], tuple[str, ...]]:
    # The limit is the process's; _Lines keeps a record below it, and the default is below the largest product.
    csv.field_size_limit(MAX_RECORD_LENGTH)
    records = csv.reader(lines, delimiter=reading.delimiter, strict=True)
    try:
        header = next((record for record in records if any(record)), None)
    except csv.Error as error:
        raise FileUnreadable(f"line {lines.number}: the header is not CSV: {error}") from None
    if header is None:
        raise FileUnreadable("the file is empty: its first line must name the columns")
    # A byte order mark is left there by who says utf-8 for a file that has one.
    names = [name.removeprefix("\ufeff").strip() for name in header]
    layout = reading.columns.lay_out(names)
    cells = CellReader(layout, decimal_mark=reading.decimal_mark)
    return _csv_rows(lines, records, cells), layout.ignored


def _csv_rows(lines: _Lines, records: Iterator[list[str]], cells: CellReader) -> Iterator[Row | BadRow]:
    while True:
        line = lines.begin_record()
        try:
            record = next(records)
        except StopIteration:
            return
        except csv.Error as error:
            where = f"Lines {line} to {lines.number} are" if lines.number > line else "This is"
            yield _bad_row(line, "csv_malformed", f"{where} not a CSV record: {error}.")
            continue
        if not any(record):
            continue  # a blank line, or the empty rows that spreadsheets leave at the end
        if len(record) != cells.width:
            sentence = f"This row has {len(record)} cells, and the header {cells.width}."
            yield _bad_row(line, "cell_count", sentence)
            continue
        yield Row(line, cells.read(record))


def _read_ndjson(lines: _Lines, columns: Columns) -> Iterator[Row | BadRow]:
    while True:
        number = lines.begin_record()
        line = next(lines, None)
        if line is None:
            return
        if line.isspace():
            continue
        try:
            value: Any = parse_json(line.encode())
        except Malformed as refusal:
            yield _bad_row(number, refusal.code(), _JSON_FAULTS.get(type(refusal), refusal.sentence()))
            continue
        if not isinstance(value, dict):
            yield _bad_row(number, "not_an_object", "Not an object.")
            continue
        if len(value) > MAX_COLUMNS:
            sentence = f"This object has {len(value):,} members, and {MAX_COLUMNS} are the most."
            yield _bad_row(number, "too_many_members", sentence)
            continue
        yield Row(number, columns.pick(value))


def _bad_row(line: int, code: str, sentence: str) -> BadRow:
    return BadRow(line, (RowError(line, "", code, sentence),))
