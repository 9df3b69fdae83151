"""From cells, which are all strings in CSV, to the values of a request body.

What does not convert stays as it is, and the schema refuses it: one place decides what is right.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import marshmallow as ma

from app.core.errors import Fault, Invalid, Malformed
from app.core.money import CURRENCY
from app.features.exports import files
from app.features.imports.paths import CategoryPath, read_path
from app.features.imports.reading.amounts import Amount, NumberReader
from app.features.imports.reading.columns import ATTRIBUTE, OPTION, Layout, put_field
from app.features.imports.reading.options import Reading
from app.features.imports.row_schema import ImportRowSchema
from app.features.imports.rows import BadRow, Row, Source
from app.features.products.models import AMOUNTS, AttributePatch, ProductKind
from app.web import fields
from app.web.body import parse_json
from app.web.schemas import shared


class KeyShortened(Invalid):
    """A spreadsheet has shortened this number; show it there as a number without decimals, and save the file again."""


class CurrencyDiffers(Invalid):
    """The currency beside the amount is not that of the row; state the currency of the file, or of the row."""


class VariantUnsupported(Invalid):
    """This row seems to be a variant; map the column that names its product to parent_sku, if it has skus."""


class NotClearable(Invalid):
    """This cannot be emptied."""


#: The members that are keys, or like them: whole numbers in some files, and never sums.
CODES = ("sku", "gtin", "mpn", "external_id", "slug", files.PARENT)
#: How a spreadsheet writes a number that it finds too long. No code of a person's looks like that.
_is_shortened = re.compile(r"[+-]?[0-9]([.,][0-9]*)?[eE]\+[0-9]{1,3}").fullmatch
_is_guarded = re.compile(r'="(?:[^"]|"")*"').fullmatch
#: URLs with another mark between them than ours. One URL may have another in its path, behind a stroke.
_is_run_together = re.compile(r"[,;\s]\s*https?://", re.IGNORECASE).search
#: The members that have no lines.
_ONE_LINE = frozenset({*CODES, *AMOUNTS, CURRENCY, "name", "category", "brand", "type", "status", "stock", "kind"})
#: A number of more digits is not what was written, perhaps: a float keeps no more.
MAX_DIGITS = 15
#: Paths of categories that are read once.
MAX_PATHS = 10_000


class Cell(str):
    """What stands in the column of one attribute, or of one option: its type is known where the attribute is."""


class Conversions:
    """Converts values, each by the field that its member has in a row, as a `Reading` says."""

    def __init__(self, reading: Reading) -> None:
        self._reading, self._numbers = reading, NumberReader(reading)
        self._paths: dict[str, CategoryPath] = {}
        self._words = {word.casefold(): status for word, status in reading.status_words.items()}
        self._members = shared(ImportRowSchema).fields
        self.of_text = {name: self._conversion(name, field) for name, field in self._members.items()}
        self.of_export = {**self.of_text, "tags": files.split_tags, "category": self._exported_category}
        kept = {*files.FAMILY, files.IMAGES}
        self.clearable = {name for name in self._members if name not in kept and self._takes_empty(name)}

    def amount(self, cell: str) -> Amount:
        """The amount in a cell."""
        return self._numbers.amount(cell)

    def constants(self) -> dict[str, Any]:
        """The values that stand in the columns which are not there; raises the schema's errors."""
        values: dict[str, Any] = {}
        for name, cell in self._reading.constants.items():
            value = self.of_text.get(name, Cell)(cell.strip())
            put_field(values, name, value.text if isinstance(value, Amount) else value)
        errors = {name: said for name, value in values.items() if (said := self._errors_of(name, value))}
        if errors:
            raise ma.ValidationError(errors)
        return values

    def _errors_of(self, name: str, value: Any) -> Any:
        try:
            self._members[name].deserialize(value)
        except ma.ValidationError as error:
            return error.messages
        return None

    def _conversion(self, name: str, field: ma.fields.Field[Any]) -> Callable[[str], Any]:
        match field:
            case fields.Money():
                convert: Callable[[str], Any] = self._numbers.amount
            case fields.Integer():
                convert = self._numbers.integer
            case fields.Boolean():
                convert = boolean
            case _ if name == files.IMAGES:
                convert = self._images
            case fields.Items():
                convert = self._tags
            case fields.Scalars():
                convert = _json
            case _ if name == "status":
                convert = self._status
            case _ if name == "options":
                convert = _options
            case _ if name == "category":
                convert = self._category
            case _:
                return _nullable(_as_it_is) if field.allow_none else _as_it_is
        return _nullable(convert) if field.allow_none else convert

    def _images(self, cell: str) -> list[str] | str:
        """The pictures of a cell, each once; the cell where it seems to have several that nothing separates.

        A separator of lists that is stated separates where another picture begins: a URL may have a comma.
        """
        separator = re.escape(self._reading.list_separator)
        parts = re.split(rf"\s*{separator}\s*(?=https?://|[0-9a-f]{{64}}\b)", cell, flags=re.IGNORECASE)
        images = [image for part in parts for image in files.split_images(part)]
        return cell if any(map(_is_run_together, images)) else list(dict.fromkeys(images))

    def _tags(self, cell: str) -> list[str] | str:
        separator = self._reading.list_separator
        if separator == files.TAG_SEPARATOR and separator not in cell and any(mark in cell for mark in ",;\n"):
            return cell  # seems to be several tags, which nothing separates
        parts = files.split_tags(cell) if separator == files.TAG_SEPARATOR else cell.split(separator)
        return [tag for part in parts if (tag := part.strip())]

    def _status(self, cell: str) -> str:
        return self._words.get(cell.casefold()) or cell.lower()

    def _category(self, cell: str) -> CategoryPath:
        # The rows of a file name a few categories again and again.
        path = self._paths.get(cell)
        if path is None:
            path = read_path(cell, self._reading.category_separator, self._reading.list_separator)
            if len(self._paths) < MAX_PATHS:
                self._paths[cell] = path
        return path

    @staticmethod
    def _exported_category(cell: str) -> CategoryPath:
        return read_path(cell, files.CATEGORY_SEPARATOR, is_ours=True)

    def _takes_empty(self, name: str) -> bool:
        return self._errors_of(name, self.of_export[name]("")) is None


def is_plain(name: str) -> bool:
    """Whether a member takes its value without more ado."""
    return name not in {*CODES, *AMOUNTS} and not name.startswith((ATTRIBUTE, OPTION))


def check_constants(reading: Reading) -> None:
    """Raise the schema's errors of the constants that are not acceptable."""
    Conversions(reading).constants()


class CellReader:
    """Converts the cells of CSV records.

    An empty cell states nothing, and blanks around cells and tags are dropped, those within a name, a category, a
    brand or a line of the description collapsed, and what spreadsheets put around a number to keep it is taken off. A
    file that we exported is taken to the letter: its blanks are meant, and an empty cell empties a member that can be
    empty.
    """

    def __init__(self, layout: Layout, reading: Reading) -> None:
        self.width = layout.width
        self._layout, self._reading = layout, reading
        self._conversions = Conversions(reading)
        self._convert = self._conversions.of_export if layout.is_export else self._conversions.of_text
        self._clear = layout.is_export or reading.clear_with == ""
        self._constants = self._conversions.constants()
        self._plan = [
            (name, place, self._tidy(name), self._convert.get(name, Cell), is_plain(name))
            for name, place in layout.places
        ]
        self._one_line = [place for name, place in layout.places if name in _ONE_LINE]
        self._parent = dict(layout.places).get(files.PARENT)

    def holds_rows(self, record: Sequence[str], lines: Sequence[str], delimiter: str) -> bool:
        """Whether a record of several lines is several rows between two stray quotation marks.

        Then each line has as many delimiters as a row, which a text has by chance; so where a text may have lines, its
        delimiters must also be none of a sentence, which have a blank behind them.
        """
        if self._layout.is_export or self.width == 1:
            return False
        rows = [line for line in lines if not line.isspace()]
        if not all(line.count(delimiter) == self.width - 1 for line in rows):
            return False
        if any("\n" in record[place] or "\r" in record[place] for place in self._one_line):
            return True
        return self.width > 2 and not any(f"{delimiter} " in line for line in rows[1:])

    def read(self, line: int, record: Sequence[str]) -> Row | BadRow:
        """The row that a record makes."""
        if self._layout.reasons:
            # Two rows are the same whatever was wrong with them before.
            record = ["" if place in self._layout.reasons else cell for place, cell in enumerate(record)]
        if self._layout.parents and any(record[place].strip() for place in self._layout.parents):
            return BadRow.of_faults(line, VariantUnsupported().faults, Source(record))
        row = RowMaker(line, Source(record), self._reading, self._conversions)
        word, values = self._reading.clear_with, row.values
        clearable = self._conversions.clearable
        if self._parent is not None and record[self._parent].strip():
            # What a variant has of its parent is not its own to be emptied.
            clearable = clearable - files.FOREIGN[ProductKind.VARIANT]
        for name, place, tidy, convert, is_plain in self._plan:
            cell = tidy(record[place])
            if cell and cell != word:
                if is_plain:
                    values[name] = convert(cell)
                else:
                    row.put(name, convert(cell), cell)
            elif cell or (self._clear and name in clearable):
                row.clear(name)
        return row.finish(self._constants)

    def _tidy(self, name: str) -> Callable[[str], str]:
        if self._layout.is_export:
            return files.unguard_formula
        return _TIDY.get(name, _tidy_value)


class MemberReader:
    """Converts the members of NDJSON lines, which have types of their own."""

    def __init__(self, reading: Reading) -> None:
        self._reading, self._conversions = reading, Conversions(reading)
        self._constants = self._conversions.constants()

    def read(self, line: int, values: Mapping[str, Any], source: Source) -> Row | BadRow:
        """The row that the members of a line make."""
        row = RowMaker(line, source, self._reading, self._conversions)
        for name, value in values.items():
            if self._reading.clear_with and value == self._reading.clear_with:
                row.clear(name)
            else:
                row.put(name, self._value(name, value), value)
        return row.finish(self._constants)

    def _value(self, name: str, value: Any) -> Any:
        if isinstance(value, str) and name == "category":
            # What is no list in JSON is none.
            separator = self._reading.category_separator
            return read_path(value, separator, is_ours=separator == files.CATEGORY_SEPARATOR)
        if isinstance(value, str) and name in {*AMOUNTS, "status", files.IMAGES}:
            return self._conversions.of_text[name](value)
        if isinstance(value, bool) and name == "status":
            return self._conversions.of_text[name](str(value))
        if isinstance(value, bool) or not isinstance(value, int | float):
            return value
        if name in AMOUNTS:
            return _written(value)
        is_text = name == "status" or (name in CODES and isinstance(value, int))
        return self._conversions.of_text[name](str(value)) if is_text else value


class RowMaker:
    """Puts the values of one row together, and what is wrong with them before the schema sees them."""

    def __init__(self, line: int, source: Source, reading: Reading, conversions: Conversions) -> None:
        self._line, self._source, self._reading, self._conversions = line, source, reading, conversions
        self.values: dict[str, Any] = {}
        self._faults: list[Fault] = []
        self._beside: list[tuple[str, Amount]] = []

    def put(self, name: str, value: Any, cell: Any) -> None:
        """State a member."""
        if isinstance(value, Amount):
            if value.currencies is not None:
                self._beside.append((name, value))
            value = value.text
        elif name in CODES and isinstance(cell, str) and "+" in cell and _is_shortened(cell):
            self._fail(KeyShortened, name)
        put_field(self.values, name, value)

    def clear(self, name: str) -> None:
        """State that a member is empty."""
        if name in self._conversions.clearable:
            self.values[name] = self._conversions.of_export[name]("")
        else:
            self._fail(NotClearable, name.replace(".", "/", 1))

    def finish(self, constants: Mapping[str, Any]) -> Row | BadRow:
        """The row; a constant stands where it states nothing, and what it says is its own."""
        foreign = files.FOREIGN.get(self._kind, ())
        for name, value in constants.items():
            if name in foreign:
                continue
            if isinstance(value, AttributePatch) and isinstance(stated := self.values.get(name, value), dict):
                self.values[name] = type(stated)({**value, **stated})
            else:
                self.values.setdefault(name, value)
        for name, amount in self._beside:
            self._take_currency(name, amount)
        if self._faults:
            return replace(BadRow.of_faults(self._line, self._faults, self._source), values=self.values)
        return Row(self._line, self.values, self._source)

    @property
    def _kind(self) -> ProductKind:
        """What the row seems to be."""
        if self.values.get(files.PARENT):
            return ProductKind.VARIANT
        is_parent = isinstance(self.values.get("options"), list) or self.values.get("kind") == ProductKind.PARENT
        return ProductKind.PARENT if is_parent else ProductKind.SINGLE

    def _take_currency(self, name: str, amount: Amount) -> None:
        # A code says which currency it is; a sign is only compared, for several currencies may have it.
        stated = self.values.get(CURRENCY, self._reading.currency)
        if stated is None and not amount.has_code:
            stated = self._reading.default_currency
        currencies = amount.currencies or frozenset()
        if stated is None and len(currencies) == 1:
            (stated,) = currencies
        if stated in currencies:
            self.values[CURRENCY] = stated
        else:
            self._fail(CurrencyDiffers, name)

    def _fail(self, refusal: type[Invalid], name: str) -> None:
        self._faults += refusal.at(name).faults


def _nullable(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda cell: convert(cell) if cell else None


def _as_it_is(cell: str) -> str:
    return cell


def _one_line(cell: str) -> str:
    return " ".join(files.unguard_formula(cell).split())


def _tidy_lines(cell: str) -> str:
    lines = files.unguard_formula(cell).splitlines()
    if len(lines) == 1:
        return " ".join(lines[0].split())
    return "\n".join([" ".join(line.split()) for line in lines]).strip()


def _tidy_value(cell: str) -> str:
    """A cell without blanks around it, and without what keeps a spreadsheet from changing a number."""
    cell = cell.strip()
    if not cell or cell[0] not in "'=":
        return cell
    if cell[0] == "'":
        cell = cell[1:] if cell[1:2].isdigit() else files.unguard_formula(cell)
    if cell.startswith('="') and _is_guarded(cell):
        cell = cell[2:-1].replace('""', '"').strip()
    return cell


_TIDY: Mapping[str, Callable[[str], str]] = {
    "name": _one_line,
    "category": _one_line,
    "brand": _one_line,
    "description": _tidy_lines,
}


def boolean(cell: str) -> bool | str:
    """The truth value that a cell states, or the cell."""
    return {"true": True, "false": False}.get(cell.lower(), cell)


def _options(cell: str) -> Any:
    """The names of a parent's options, or a variant's options as JSON."""
    return _json(cell) if cell.startswith("{") else files.split_tags(cell)


def _json(cell: str) -> Any:
    try:
        return parse_json(cell.encode())
    except (Malformed, UnicodeEncodeError):
        return cell


def _written(number: float) -> Any:
    """A JSON number as the text that it was written as, if that is certain."""
    text = str(number)
    is_exact = "e" not in text and len(text.strip("-").replace(".", "").lstrip("0")) <= MAX_DIGITS
    return text.removesuffix(".0") if is_exact else number
