"""The wire shapes of imports."""

import codecs
from collections.abc import Callable, Mapping
from typing import Any

import marshmallow as ma

from app.core.errors import Malformed
from app.core.jobs import JobStatus
from app.features.exports.files import CATEGORY_SEPARATOR, TAG_SEPARATOR, FileFormat
from app.features.imports.models import FileUnreadable
from app.features.imports.reading.columns import Columns, require_field
from app.features.imports.reading.options import Quoting
from app.features.imports.service import FAULTS, LISTING
from app.features.products.models import KEYS, ProductStatus
from app.web import fields
from app.web.body import parse_json
from app.web.schemas import ListQuerySchema, Order, QuerySchema, Schema

#: Codecs of Python that are no encodings of files.
_NO_FILES = frozenset({"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape", "utf-7"})
#: The word for a separator that there is not.
NONE = "none"
_NAMED_MARKS = {"tab": "\t", "\\t": "\t", "space": " ", "blank": " "}


class Encoding(fields.Text):
    """The name of a character encoding (IANA), loaded as Python has it."""

    default_error_messages = {"encoding_unknown": "There is no text encoding of this name."}

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str:
        name = super()._deserialize(value)
        try:
            codec = codecs.lookup(name)
            "".encode(name)
        except (LookupError, UnicodeError, ValueError):
            raise self.make_error("encoding_unknown") from None
        if codec.name in _NO_FILES:
            raise self.make_error("encoding_unknown")
        # With a byte order mark or without one.
        return "utf-8-sig" if codec.name == "utf-8" else codec.name


class Mark(fields.Text):
    """A separator; ``tab`` and ``space`` stand for themselves, and ``none`` for none where there may be none."""

    default_error_messages = {"not_a_mark": "Not a separator: no letter, digit, quotation mark or line end."}

    def __init__(self, *, max_length: int = 1, may_be_none: bool = False, **options: Any) -> None:
        self._most, self._may_be_none = max_length, may_be_none
        super().__init__(max_length=16, pattern=fields.LINES, **options)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        mark = _NAMED_MARKS.get(value, value)
        if value == NONE and self._may_be_none:
            return None
        mark = super()._deserialize(mark)
        if len(mark) > self._most or any(one in '"\\\r\n\0' or one.isalnum() for one in mark):
            raise self.make_error("not_a_mark")
        return mark


class Pairs(fields.Text):
    """A JSON object of names and texts, in a query string; ``check`` refuses what they may not be."""

    default_error_messages = {"not_a_map": "Not a JSON object of names and texts: {reason}."}

    def __init__(self, *, check: Callable[[dict[str, str]], Any], **options: Any) -> None:
        self._check = check
        super().__init__(max_length=4000, **options)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        try:
            named = parse_json(super()._deserialize(value).encode())
        except Malformed:
            raise self.make_error("not_a_map", reason="it is not JSON") from None
        if not isinstance(named, dict) or not all(isinstance(text, str) for text in named.values()):
            raise self.make_error("not_a_map", reason="it is something else")
        try:
            return self._check(named)
        except FileUnreadable as reason:
            raise self.make_error("not_a_map", reason=str(reason)) from None


def _columns(named: dict[str, str]) -> list[str]:
    pairs = [f"{name}={column}" for name, column in named.items()]
    Columns.parse(pairs)
    return pairs


def _constants(named: dict[str, str]) -> dict[str, str]:
    for name in named:
        require_field(name)
    return named


def _words(named: dict[str, str]) -> dict[str, str]:
    for word, status in named.items():
        if status not in list(ProductStatus):
            raise FileUnreadable(f"{word!r} cannot stand for {status!r}: there are {', '.join(ProductStatus)}")
    return named


class ImportOptionsSchema(QuerySchema):
    """How to read a file; each option can also be a field of the form."""

    format = fields.Choice(FileFormat, note="By default that of the media type, or of the file's name.")
    encoding = Encoding(
        max_length=40,
        example="windows-1252",
        note="The name of the character encoding. By default the charset of the media type, and else UTF-8.",
    )
    delimiter = Mark(
        example=";",
        note="Between the cells of a CSV file, `tab` for a tab. A line `sep=;` in the file goes before it. By default"
        " `tab` where the file's name ends in .tsv, and else a comma.",
    )
    quoting = fields.Choice(
        Quoting,
        load_default=Quoting.STANDARD,
        note="Whether quotation marks enclose cells of a CSV file, or are text: `none`.",
    )
    skip_lines = fields.QueryInteger(
        minimum=0, maximum=1000, load_default=0, note="How many lines stand above the header.", example=0
    )
    key = fields.Choice(
        list(KEYS),
        name="ImportKey",
        load_default="sku",
        note="The key by which a row finds its product. Every row needs it.",
    )
    map = Pairs(
        check=_columns,
        note="The columns that feed fields which have another name. `attribute.NAME` is an attribute, and"
        " `option.NAME` an option of a variant.",
        example='{"sku": "Article", "attribute.width_cm": "Width"}',
    )
    set = Pairs(
        check=_constants,
        note="The values of fields that rows do not state, as if there were a column of it: `status`, `category`.",
        example='{"category": "Chairs", "status": "active"}',
    )
    clear_with = fields.Text(
        min_length=0,
        max_length=40,
        pattern=fields.LINES,
        note="The word in a cell that empties its field; with an empty word, an empty cell does. By default none does.",
        example="CLEAR",
    )
    decimal = fields.Choice([".", ","], name="DecimalMark", load_default=".", note="The decimal mark.")
    thousands = Mark(
        max_length=4,
        may_be_none=True,
        note="The marks that may stand between thousands: one or several of a point, a comma, an apostrophe and a"
        " blank, which stands for every kind of blank. By default none may.",
        # Right with either decimal mark.
        example="'",
    )
    currency_marks = fields.QueryBoolean(
        load_default=False,
        note="Whether a sign or code of the currency may stand beside an amount. One that contradicts the currency of"
        " the row is a fault; a code says the currency of a row that has no other.",
    )
    trailing_zeros = fields.QueryBoolean(
        load_default=False, note="Whether amounts may have zeros past the decimals of their currency: `12.9900`."
    )
    currency = fields.Currency(note="Of new products whose rows state none; DEFAULT_CURRENCY when missing.")
    list_separator = Mark(max_length=3, load_default=TAG_SEPARATOR, note="Between the tags of a cell.", example=",")
    category_separator = Mark(
        max_length=3,
        may_be_none=True,
        load_default=CATEGORY_SEPARATOR,
        note="Between the names of a category's path, from the root down; a backslash before it makes it part of a"
        " name. `none` where the whole cell is one name.",
        example="/",
    )
    status_words = Pairs(
        check=_words,
        note="What words in the column `status` mean, beside `active`, `draft` and `archived`.",
        example='{"1": "active", "0": "draft"}',
    )

    @ma.validates_schema
    def _refuse_one_mark_twice(self, data: Mapping[str, Any], **_: Any) -> None:
        if data["decimal"] in (data.get("thousands") or ""):
            message = fields.Message("same_mark", "The decimal mark cannot stand between thousands as well.")
            raise ma.ValidationError([message], "thousands")


class FaultGroupSchema(Schema):
    """Equal faults."""

    column = fields.Text(max_length=200, note="As the file has it; empty for the whole row.", example="Preis")
    code = fields.Text(max_length=64, example="invalid")
    detail = fields.Text(max_length=1000, note="Of the first of them.", example="Not a decimal string.")
    expected = fields.Text(max_length=1000, example="an amount such as 1299.00")
    count = fields.Integer(minimum=1, example=17)
    lines = fields.Items(fields.Integer(), max_items=3, note="The first.", example=[12, 15])
    values = fields.Items(fields.Text(max_length=200), max_items=3, note="The first.", example=["free"])


class ImportSchema(Schema):
    """An import: a file of products that is read in the background, and how far that is."""

    id = fields.Integer(dump_only=True, example=3)
    user_id = fields.Integer(dump_only=True, example=1)
    status = fields.Choice(JobStatus, dump_only=True, example="running")
    format = fields.Choice(FileFormat, dump_only=True, example="csv")
    size = fields.Integer(minimum=0, dump_only=True, note="Of the file, in bytes.", example=81234)
    dry_run = fields.Boolean(note="Whether it reports what would happen, and changes nothing.", example=False)
    rows_read = fields.Integer(minimum=0, attribute="report.rows", example=1000)
    created = fields.Integer(minimum=0, attribute="report.created", example=900)
    updated = fields.Integer(minimum=0, attribute="report.updated", example=50)
    unchanged = fields.Integer(minimum=0, attribute="report.unchanged", example=20)
    merged = fields.Integer(
        minimum=0, attribute="report.merged", note="Rows that are the same as an earlier one.", example=10
    )
    failed = fields.Integer(minimum=0, attribute="report.failed", example=20)
    errors = fields.Integer(
        minimum=0, attribute="report.faults", note="Of the failed rows, which may have several each.", example=21
    )
    made_active = fields.Integer(
        minimum=0,
        attribute="report.made_active",
        note="Products that are public since: new ones, and others that were not.",
        example=0,
    )
    made_draft = fields.Integer(minimum=0, attribute="report.made_draft", example=900)
    made_archived = fields.Integer(minimum=0, attribute="report.made_archived", example=0)
    stock_assumed = fields.Integer(
        minimum=0,
        attribute="report.stock_assumed",
        note="New products whose stock is 0 because their rows state none.",
        example=900,
    )
    images = fields.Integer(
        minimum=0, attribute="report.images", note="Pictures that its rows state, each as often as one does.", example=0
    )
    images_ready = fields.Integer(minimum=0, dump_only=True, example=0)
    images_pending = fields.Integer(
        minimum=0,
        dump_only=True,
        note="That are being fetched or rendered. The rows do not wait for them: the import may have ended before. Of a"
        " dry run, those that would be.",
        example=0,
    )
    images_failed = fields.Integer(
        minimum=0, dump_only=True, note="Each is an error of its row, which stays as it is.", example=0
    )
    unread_columns = fields.Items(
        fields.Text(max_length=200),
        attribute="report.unread",
        max_items=200,
        note="That feed no field. An import leaves them out.",
        example=["Remarks"],
    )
    made_categories = fields.Items(
        fields.Text(max_length=200),
        attribute="report.categories",
        max_items=200,
        example=["Garden > Chairs"],
    )
    made_brands = fields.Items(
        fields.Text(max_length=200), attribute="report.brands", max_items=200, example=["Oakworks"]
    )
    fault_groups = fields.Nested(
        FaultGroupSchema, many=True, attribute="report.fault_groups", note="At most 51, the commonest first."
    )
    error = fields.Text(
        max_length=1000,
        allow_none=True,
        note="Why the import as a whole failed, or has to be tried again.",
        example="line 7: this is not UTF-8; name the file's encoding",
    )
    created_at = fields.Moment(dump_only=True)
    started_at = fields.Moment(dump_only=True, allow_none=True)
    finished_at = fields.Moment(dump_only=True, allow_none=True)


class ImportFaultSchema(Schema):
    """What is wrong with one row."""

    id = fields.Integer(dump_only=True, example=77)
    line = fields.Integer(dump_only=True, note="On which the row begins, from 1.", example=12)
    pointer = fields.Text(
        max_length=200, note="The member, as a JSON pointer; empty for the whole row.", example="/price"
    )
    column = fields.Text(
        max_length=200, allow_none=True, attribute="file_column", note="As the file has it.", example="Preis"
    )
    value = fields.Text(max_length=200, allow_none=True, note="What stands there, shortened.", example="free")
    code = fields.Text(max_length=64, example="invalid")
    detail = fields.Text(max_length=1000, example="Not a decimal string.")
    expected = fields.Text(max_length=1000, allow_none=True, example="an amount such as 1299.00")


class ImportQuerySchema(ListQuerySchema):
    """Filters and sorting of imports."""

    sort_by = fields.Choice(list(LISTING.sorts), name="ImportSort", load_default="created_at")
    order = fields.Choice(Order, load_default="desc")
    status = fields.Values(fields.Choice(JobStatus))


class ImportFaultQuerySchema(ListQuerySchema):
    """Sorting of errors."""

    sort_by = fields.Choice(list(FAULTS.sorts), name="ImportFaultSort", load_default="line")
    order = fields.Choice(Order, load_default="asc")
