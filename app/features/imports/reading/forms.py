"""What a report says of a fault: the column as the file has it, the value that stands there, and what should."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from app.core.money import CURRENCY
from app.features.exports.files import IMAGES, NAMES, TAG_SEPARATOR, FileFormat
from app.features.imports.reading.files import RowFile
from app.features.imports.reading.options import Reading
from app.features.imports.row_schema import ImportRowSchema
from app.features.imports.rows import RowError, shortened
from app.features.products.models import AMOUNTS, KEYS
from app.web import fields
from app.web.schemas import shared


def explain(file: RowFile, error: RowError, cells: Sequence[str]) -> RowError:
    """The fault with the user's column, the value that stands there, and the expected form."""
    name = _field_of(error.field, file)
    if not name:
        return error
    column = error.column or file.sources.get(name, name)
    value = file.cell_of(column, cells) if column in file.names else file.reading.constants.get(name, "")
    expected = error.expected or _FORMS_OF_CODES.get(error.code) or expected_form(name, file.reading)
    return replace(error, column=shortened(column), value=shortened(value), expected=expected)


def expected_form(name: str, reading: Reading) -> str:
    """What a member is to be written like, in words without a verb."""
    if name == "category":
        return _category_form(reading)
    if name in AMOUNTS:
        return _amount_form(reading)
    if name == "tags":
        return _list_form(reading)
    return _FORMS.get(name) or _form_of_kind(shared(ImportRowSchema).fields.get(name), reading)


#: Of faults that are not in the form of the value.
_FORMS_OF_CODES = {
    "key_shortened": "the key with all of its digits",
    "currency_differs": "an amount in the currency of its row",
    "product_incomplete": "a value, for a new product",
    "parent_sku_unknown": "the sku of a product that is there, or that a row of this file makes a parent",
    "member_of_parent": "nothing, or what the row of its parent says",
    "media_unknown": "the SHA-256 of media that is there, or a URL",
    "rolled_up": "nothing, or what its variants come to",
    **{f"{key}_taken": f"a {key} that no other product has" for key in KEYS},
}
#: Of members that are more than texts.
_FORMS = {
    "sku": "at most 64 visible characters, with no blanks but ordinary ones between them",
    "gtin": "8, 12, 13 or 14 digits, the last of which is their check digit",
    "options": 'of a parent the names of its options, such as size|colour; of a variant JSON, such as {"size": "M"}',
    IMAGES: f"URLs of pictures, or SHA-256 hashes of media that is there, with {TAG_SEPARATOR} between them",
    "attributes": 'a JSON object, such as {"colour": "natural"}',
    CURRENCY: "an ISO 4217 code, such as EUR",
}


def _form_of_kind(field: Any, reading: Reading) -> str:
    match field:
        case fields.Choice():
            return f"one of {', '.join([*field.choices, *reading.status_words])}"
        case fields.Integer() if reading.file_format is FileFormat.NDJSON:
            return f"a JSON number from {field.minimum} to {field.maximum}, whole and without quotation marks"
        case fields.Integer():
            return f"a whole number from {field.minimum} to {field.maximum}, {_marks(reading)}"
        case fields.Boolean():
            return "true or false"
        case fields.Text():
            return f"a text of at most {field.max_length:,} characters"
        case _:
            return ""


def _field_of(pointer: str, file: RowFile) -> str:
    """The field that a pointer into the row's members leads to."""
    name, _, rest = pointer.partition("/")
    if name in NAMES and name not in file.sources and NAMES[name] in file.sources:
        return NAMES[name]
    one = f"{name}.{rest}"
    return one if rest and (one in file.sources or one in file.names) else name


def _amount_form(reading: Reading) -> str:
    example = f"1{reading.thousands[:1]}299{reading.decimal}00"
    beside = ", with or without its currency" if reading.currency_marks else ""
    return f"an amount such as {example}{beside}, {_marks(reading)}, and no more decimals than its {CURRENCY} has"


def _marks(reading: Reading) -> str:
    decimal = f"{_shown(reading.decimal)} before decimals"
    if reading.file_format is FileFormat.NDJSON and reading.decimal == "." and not reading.thousands:
        return decimal
    thousands = " or ".join(_shown(mark) for mark in reading.thousands)
    return f"{decimal} and {thousands or 'nothing'} between thousands"


def _list_form(reading: Reading) -> str:
    form = "texts of at most 50 characters, each once"
    if reading.file_format is FileFormat.NDJSON:
        return f"a list of {form}"
    alone = ", or behind one that has a comma or semicolon" if reading.list_separator == TAG_SEPARATOR else ""
    return f"{form}, with {_shown(reading.list_separator)} between them{alone}"


def _category_form(reading: Reading) -> str:
    if reading.category_separator is None:
        return "the name of one category"
    mark = reading.category_separator
    return f"one category: its name, slug or external id, or its path, such as A {mark} B; \\{mark} within a name"


def _shown(mark: str) -> str:
    return {" ": "a blank", "\t": "a tab", ".": "a point", ",": "a comma"}.get(mark, mark)
