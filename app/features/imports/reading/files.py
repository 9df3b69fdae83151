"""Reading a file: from bytes to rows, in flat memory.

A fault of one record is a bad row; a fault that hides where the next record begins ends the reading.
"""

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import PurePath
from typing import IO, Any

import marshmallow as ma
import orjson

from app.core.errors import Malformed
from app.features.exports.files import PARENT, FileFormat
from app.features.imports.models import FileUnreadable
from app.features.imports.reading.cells import CellReader, MemberReader, VariantUnsupported
from app.features.imports.reading.columns import MAX_COLUMNS, REASON, is_parent, is_reason
from app.features.imports.reading.options import Quoting, Reading
from app.features.imports.rows import BadRow, Row, RowError, Source, shortened
from app.web.body import DuplicateKey, JsonMalformed, NumberOutOfRange, parse_json
from app.web.validation import faults_of

#: How the fault of a row begins that has another number of cells than the header.
CELL_COUNT = "This row has"
#: In characters; what the body of a request that creates a product may have.
MAX_RECORD_LENGTH = 2**20
#: How many names of members an NDJSON file may have, before they share a column.
MAX_MEMBERS = 2000

_JSON_FAULTS: dict[type[Malformed], str] = {
    JsonMalformed: "Not one JSON text (RFC 8259).",
    DuplicateKey: "An object has the same key twice.",
    NumberOutOfRange: "A number does not fit 64 bits.",
}
#: How files begin that are no text, and what to do with them.
_ADVICE: Mapping[bytes, str] = {
    b"PK\x03\x04": "this is a ZIP archive, as XLSX and ODS workbooks are; save the sheet as CSV (UTF-8), or unpack it",
    b"\xd0\xcf\x11\xe0": "this is a workbook of an old Excel (XLS); save the sheet as CSV (UTF-8)",
    b"\x1f\x8b": "this is compressed with gzip; unpack it first (gunzip)",
    b"%PDF": "this is a PDF; ask for the data as CSV",
}
#: The encodings whose byte order marks no text of another begins with.
_BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
#: Control characters that ISO 8859 has room for and no text uses; Windows has quotation marks and the euro there.
_is_of_windows = re.compile("[\x80-\x84\x86-\x9f]").search
_JSON_ADVICE = "an import takes one object per line (NDJSON), which `jq -c '.[]' FILE` makes of an array"


@dataclass
class RowFile:
    """A file that can be read: its rows, the number of its lines, and what they are called there."""

    rows: Iterator[Row | BadRow]
    lines: int
    reading: Reading
    #: The names of the columns, as the file has them; of NDJSON, of those members that were met so far.
    names: list[str] = field(default_factory=list)
    #: The names of the columns that feed fields, by the field, where they differ from it.
    sources: Mapping[str, str] = field(default_factory=dict)
    unread: dict[str, None] = field(default_factory=dict)
    #: What stands above the header, to the letter.
    above: str = ""
    #: As the file states it, if it does.
    delimiter: str = ","
    #: Whether rows may name the product that they are a variant of.
    has_variants: bool = False
    #: Begins the rows again.
    rewind: Callable[[], None] = lambda: None

    @property
    def has_reasons(self) -> bool:
        """Whether it is a file of rows that failed before."""
        return any(is_reason(name) for name in self.names)

    @property
    def ignored(self) -> tuple[str, ...]:
        """The columns that feed no field, as far as the file was read."""
        return tuple(self.unread)

    def cell_of(self, column: str, cells: Sequence[str]) -> str:
        """What a row has in a column; nothing where it ends before it."""
        place = self.names.index(column) if column in self.names else len(cells)
        return cells[place] if place < len(cells) else ""

    def skip(self, count: int) -> None:
        """Leave rows out that were read before."""
        # Reading again what was read before is fast, and the only way to be sure of where a CSV record begins.
        next(islice(self.rows, count, count), None)


def read_rows(stream: IO[bytes], reading: Reading) -> RowFile:
    """The rows of a seekable file.

    It is read once before, to prove its encoding: half a file is not imported. Raises ``FileUnreadable``, here or from
    the rows.
    """
    _refuse_what_is_no_text(stream, reading)
    parent = reading.columns.named.get(PARENT, PARENT)
    line_count, has_word = _count_lines(stream, reading.encoding, parent)
    file = RowFile(iter(()), line_count, reading)
    begin = _ndjson_reader(file) if reading.file_format is FileFormat.NDJSON else partial(_read_csv, file=file)
    file.rewind = partial(_rewind, stream, file, begin)
    try:
        file.rewind()
    except ma.ValidationError as error:
        said = "; ".join(f"{fault.pointer or ''}: {fault.detail}" for fault in faults_of(error.messages))
        raise FileUnreadable(f"a constant is not acceptable: {said or error}") from None
    # A name beyond ASCII may be escaped in JSON.
    has_column = PARENT in file.sources if reading.file_format is FileFormat.CSV else has_word or not parent.isascii()
    file.has_variants = has_column or PARENT in reading.constants
    return file


def _rewind(stream: IO[bytes], file: RowFile, begin: "_Begin") -> None:
    stream.seek(0)
    # The csv module wants line ends as they are; an NDJSON line ends at a line feed only.
    newline = "" if file.reading.file_format is FileFormat.CSV else "\n"
    text = io.TextIOWrapper(stream, file.reading.encoding, newline=newline)
    file.rows = _detaching(text, begin(_Lines(text)))


def advice_on(name: str) -> str | None:
    """What to do with a file whose name says that it is neither CSV nor NDJSON; None where it says nothing."""
    suffix = PurePath(name).suffix.lower()
    if suffix in {".xlsx", ".xls", ".ods"}:
        return "This is a workbook: save the sheet as CSV (UTF-8)."
    if suffix in {".gz", ".zip"}:
        return "This is compressed: unpack it first."
    if suffix == ".json":
        return f"State the format ndjson: {_JSON_ADVICE}."
    return None


class _Lines:
    """The lines of a text, counted; a record of many lines is bounded, be it an unclosed quote or an attack."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._left = MAX_RECORD_LENGTH
        self.number = 0
        self._waiting: list[str] = []
        #: Takes the lines of the present record as well.
        self.record: Callable[[str], None] | None = None

    def begin_record(self) -> int:
        """The number of the line that comes next."""
        self._left = MAX_RECORD_LENGTH
        return self.number + 1

    def put_back(self, line: str) -> None:
        """Have a line come again."""
        self.number -= 1
        self._waiting.append(line)

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._waiting.pop() if self._waiting else self._text.readline(self._left + 1)
        if not line:
            raise StopIteration
        self.number += 1
        self._left -= len(line)
        if self._left < 0:
            raise FileUnreadable(
                f"line {self.number}: a record is longer than {MAX_RECORD_LENGTH:,} characters; is a quote left open?"
            )
        if self.record is not None:
            self.record(line)
        return line


_Begin = Callable[[_Lines], Iterator[Row | BadRow]]


def _detaching(text: io.TextIOWrapper, rows: Iterator[Row | BadRow]) -> Iterator[Row | BadRow]:
    """The rows; after the last the file can be read again."""
    try:
        yield from rows
    finally:
        if not text.closed:
            text.detach()


def _refuse_what_is_no_text(stream: IO[bytes], reading: Reading) -> None:
    beginning = stream.read(1024)
    stream.seek(0)
    _refuse_another_mark(beginning, reading.encoding)
    for magic, advice in _ADVICE.items():
        if beginning.startswith(magic):
            raise FileUnreadable(advice)
    text = beginning.removeprefix(codecs.BOM_UTF8).lstrip()
    if re.match(rb"\[\s*\{", text):
        raise FileUnreadable(f"this is a JSON array; {_JSON_ADVICE}")
    if reading.file_format is FileFormat.CSV and re.match(rb'\{\s*"', text):
        raise FileUnreadable("this is JSON and no CSV; state the format ndjson, if each line is one object")


def _refuse_another_mark(beginning: bytes, encoding: str) -> None:
    """Refuse a file whose byte order mark is that of another encoding."""
    stated = encoding.lower().replace("_", "-")
    for mark, found in _BYTE_ORDER_MARKS.items():
        # That of UTF-32 begins as that of UTF-16 does.
        if beginning.startswith(mark) and not stated.startswith((found, "utf-32")):
            advice = f"it begins as {found} does; name that encoding"
            raise FileUnreadable(f"line 1: this is not {_shown(encoding)}: {advice}")


def _shown(encoding: str) -> str:
    """The encoding as people call it; that we skip a byte order mark is our affair."""
    return "UTF-8" if encoding == "utf-8-sig" else encoding


def _count_lines(stream: IO[bytes], encoding: str, word: str) -> tuple[int, bool]:
    """How many lines a file has, and whether a word is in it, in whatever case; raises what is wrong with its text."""
    try:
        "".encode(encoding)
    except LookupError:
        raise FileUnreadable(f"there is no text encoding {encoding!r}") from None
    lines, ends_within_line = 0, False
    has_word, end, word = False, "", word.casefold()
    try:
        decoder = codecs.getincrementaldecoder(encoding)()
        while block := stream.read(2**16):
            text = decoder.decode(block)
            if encoding.startswith("iso8859") and (found := _is_of_windows(text)):
                line = lines + text.count("\n", 0, found.start()) + 1
                raise FileUnreadable(f"line {line}: this is not {encoding}; name the file's encoding: windows-1252?")
            text.encode()  # some decoders make halves of characters, which no database takes
            lines += text.count("\n")
            has_word = has_word or word in f"{end}{text}".casefold()
            end = text[-len(word) :]
            ends_within_line = not text.endswith("\n") if text else ends_within_line
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        line = lines + error.object[: error.start].count(b"\n") + 1
        raise FileUnreadable(f"line {line}: this is not {_shown(encoding)}; name the file's encoding") from None
    except UnicodeError:
        raise FileUnreadable(f"this is not {_shown(encoding)}; name the file's encoding") from None
    return lines + ends_within_line, has_word


def _read_csv(lines: _Lines, file: RowFile) -> Iterator[Row | BadRow]:
    # The limit is the process's; _Lines keeps a record below it, and the default is below the largest product.
    csv.field_size_limit(MAX_RECORD_LENGTH)
    reading = file.reading
    above, delimiter = _skip(lines, reading)
    if reading.quoting == Quoting.NONE:
        records = csv.reader(lines, delimiter=delimiter, strict=True, quoting=csv.QUOTE_NONE)
    else:
        records = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        header = next((record for record in records if any(record)), None)
    except csv.Error as error:
        raise FileUnreadable(f"line {lines.number}: the header is not CSV: {error}") from None
    if header is None:
        raise FileUnreadable("the file is empty: its first line must name the columns")
    # A byte order mark is left there by who says utf-8 for a file that has one.
    names = [name.removeprefix("\ufeff").strip() for name in header]
    layout = reading.columns.lay_out(names, key=reading.key, constants=reading.constants)
    file.names, file.sources, file.above = names, layout.sources, above
    file.unread, file.delimiter = dict.fromkeys(layout.ignored), delimiter
    return _csv_rows(lines, records, CellReader(layout, reading), file)


def _skip(lines: _Lines, reading: Reading) -> tuple[str, str]:
    """What stands above the header, and the delimiter, which a line such as ``sep=;`` states for spreadsheets."""
    above = "".join(islice(lines, reading.skip_lines))
    lines.begin_record()
    line = next(lines, "")
    stated = line.removeprefix("\ufeff").strip("\r\n").lower()
    if stated.startswith("sep=") and len(stated) == len("sep=") + 1:
        return above + line, stated[-1]
    if line:
        lines.put_back(line)
    lines.begin_record()
    return above, reading.delimiter


def _csv_rows(lines: _Lines, records: Iterator[list[str]], cells: CellReader, file: RowFile) -> Iterator[Row | BadRow]:
    raw: list[str] = []
    lines.record = raw.append
    while True:
        raw.clear()
        line = lines.begin_record()
        try:
            record = next(records)
        except StopIteration:
            return
        except csv.Error as error:
            where = f"Lines {line} to {lines.number} are" if lines.number > line else "This is"
            sentence = f"{where} not a CSV record: {error}. Where quotation marks are text, state quoting none."
            yield _bad_row(line, "csv_malformed", sentence, Source(text="".join(raw)))
            continue
        if not any(record):
            continue  # a blank line, or the empty rows that spreadsheets leave at the end
        if _lacks_reason(record, raw, file):
            record = [*record, ""]
        if len(record) != cells.width:
            yield BadRow(line, (_cell_count(line, record, cells.width, file.delimiter),), Source(record))
            continue
        if len(raw) > 1 and cells.holds_rows(record, raw, file.delimiter):
            sentence = (
                f"Lines {line} to {lines.number} look like {len(raw)} records that quotation marks make one."
                " Where quotation marks are text, state quoting none."
            )
            yield _bad_row(line, "csv_malformed", sentence, Source(text="".join(raw)))
            continue
        yield cells.read(line, record)


def _lacks_reason(record: Sequence[str], raw: Sequence[str], file: RowFile) -> bool:
    """Whether a row was mended and the reason at its end taken away, with its cell or by what was missing.

    That is one that ends where the reason would begin; not one whose last cell is still the reason, nor a record of
    several lines, which quotation marks may have made of several rows.
    """
    if len(record) != len(file.names) - 1 or len(raw) > 1:
        return False
    return is_reason(file.names[-1]) and not record[-1].startswith(CELL_COUNT)


def _ndjson_reader(file: RowFile) -> _Begin:
    # Each member has the place where it was met first, however often the file is read.
    members, reader = _Members(file), MemberReader(file.reading)

    def begin(lines: _Lines) -> Iterator[Row | BadRow]:
        file.above = "".join(islice(lines, file.reading.skip_lines))
        return _ndjson_rows(lines, file, members, reader)

    return begin


def _ndjson_rows(lines: _Lines, file: RowFile, members: "_Members", reader: MemberReader) -> Iterator[Row | BadRow]:
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
            yield _bad_row(
                number, refusal.code(), _JSON_FAULTS.get(type(refusal), refusal.sentence()), Source(text=line)
            )
            continue
        if not isinstance(value, dict):
            yield _bad_row(number, "not_an_object", "Not an object.", Source(text=line))
            continue
        if len(value) > MAX_COLUMNS:
            sentence = f"This object has {len(value):,} members, and {MAX_COLUMNS} are the most."
            yield _bad_row(number, "too_many_members", sentence, Source(text=line))
            continue
        value.pop(REASON, None)
        values, sources = file.reading.columns.pick(value)
        members.meet(value, sources)
        if any(value.get(name) for name in members.parents):
            source = Source(members.cells_of(value), line)
            yield BadRow.of_faults(number, VariantUnsupported().faults, source)
            continue
        yield reader.read(number, values, Source(members.cells_of(value), line))


class _Members:
    """The members of the lines of an NDJSON file, each with a place among the columns, in the order of the file."""

    def __init__(self, file: RowFile) -> None:
        self._file, self._places = file, dict[str, int]()
        #: Those that name the product of which a line is a variant.
        self.parents: list[str] = []
        file.sources = file.reading.columns.named

    def meet(self, value: Mapping[str, Any], sources: Mapping[str, str]) -> None:
        """Take note of the members of a line."""
        if self._places.keys() >= value.keys():
            return
        read = {*sources.values(), *self._file.sources.values()}
        for name in value:
            if name not in self._places and len(self._places) < MAX_MEMBERS:
                self._places[name] = len(self._places)
                self._file.names.append(name)
                if name not in read:
                    self._file.unread[name] = None
                    self.parents += [name] if is_parent(name) else []

    def cells_of(self, value: Mapping[str, Any]) -> list[str]:
        """The members as the cells of a record; those that are too many are in the last."""
        places = [self._places.get(name, MAX_MEMBERS) for name in value]
        cells = [""] * (max(places, default=-1) + 1)
        for place, member in zip(places, value.values(), strict=True):
            cells[place] += member if isinstance(member, str) else orjson.dumps(member).decode()
        return cells


def _bad_row(line: int, code: str, sentence: str, source: Source) -> BadRow:
    return BadRow(line, (RowError(line, "", code, sentence),), source)


def _cells(count: int) -> str:
    return "1 cell" if count == 1 else f"{count} cells"


def _cell_count(line: int, record: Sequence[str], width: int, delimiter: str) -> RowError:
    sentence = f"{CELL_COUNT} {_cells(len(record))}, and the header {width}."
    text = (delimiter if delimiter.isprintable() else " ").join(record)
    expected = f"{_cells(width)} as in the header, with quotation marks around one in which the delimiter is text"
    return RowError(line, "", "cell_count", sentence, value=shortened(text), expected=expected)
