"""The shape of a row, and the wire shapes of imports."""

from typing import Any

import marshmallow as ma

from app.core.errors import Malformed
from app.core.jobs import JobStatus
from app.features.brands import schemas as brands
from app.features.categories import schemas as categories
from app.features.imports.columns import Columns
from app.features.imports.models import FileUnreadable
from app.features.imports.service import FAULTS, LISTING
from app.features.products import schemas as products
from app.features.products.files import FileFormat
from app.web import fields
from app.web.body import parse_json
from app.web.schemas import ListQuerySchema, Order, QuerySchema, Schema, StatedSchema

#: The encodings that are taken, and Python's names for them. The first takes a byte order mark, or none.
ENCODINGS = {
    "utf-8": "utf-8-sig",
    "utf-16": "utf-16",
    "windows-1250": "cp1250",
    "windows-1251": "cp1251",
    "windows-1252": "cp1252",
    "iso-8859-1": "iso-8859-1",
    "iso-8859-15": "iso-8859-15",
    "macintosh": "mac-roman",
}
DELIMITERS = {",": ",", ";": ";", "|": "|", "tab": "\t"}


class ColumnMap(fields.Text):
    """A JSON object from fields to columns, in a query string; read as ``field=column`` pairs."""

    default_error_messages = {
        "not_a_map": "Not a JSON object from fields of a product to the names of columns: {reason}.",
    }

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        try:
            named = parse_json(super()._deserialize(value).encode())
        except Malformed:
            raise self.make_error("not_a_map", reason="it is not JSON") from None
        if not isinstance(named, dict) or not all(isinstance(column, str) for column in named.values()):
            raise self.make_error("not_a_map", reason="it is something else")
        pairs = [f"{name}={column}" for name, column in named.items()]
        try:
            Columns.parse(pairs)
        except FileUnreadable as reason:
            raise self.make_error("not_a_map", reason=str(reason)) from None
        return pairs


class ImportOptionsSchema(QuerySchema):
    """How to read a file; each option can also be a field of the form."""

    format = fields.Choice(FileFormat, note="By default that of the media type, or of the file's name in a form.")
    encoding = fields.Choice(list(ENCODINGS), name="Encoding", load_default="utf-8")
    delimiter = fields.Choice(
        list(DELIMITERS), name="Delimiter", load_default=",", note="Between the cells of a CSV file."
    )
    decimal = fields.Choice(
        [".", ","], name="DecimalMark", load_default=".", note="The decimal mark of the prices of a CSV file."
    )
    currency = fields.Currency(note="Of new products whose rows state none; DEFAULT_CURRENCY when missing.")
    map = ColumnMap(
        max_length=4000,
        note="The columns that feed fields which have another name: a JSON object. `attributes.NAME` is an attribute.",
        example='{"sku": "Article", "attributes.width_cm": "Width"}',
    )


class ImportSchema(Schema):
    """An import: a file of products that is read in the background, and how far that is."""

    id = fields.Integer(dump_only=True, example=3)
    user_id = fields.Integer(dump_only=True, example=1)
    status = fields.Choice(JobStatus, dump_only=True, example="running")
    format = fields.Choice(FileFormat, dump_only=True, example="csv")
    size = fields.Integer(minimum=0, dump_only=True, note="Of the file, in bytes.", example=81234)
    rows_read = fields.Integer(minimum=0, attribute="counts.rows_read", example=1000)
    created = fields.Integer(minimum=0, attribute="counts.created", example=900)
    updated = fields.Integer(minimum=0, attribute="counts.updated", example=50)
    unchanged = fields.Integer(minimum=0, attribute="counts.unchanged", example=20)
    merged = fields.Integer(
        minimum=0, attribute="counts.merged", note="Rows with the sku of an earlier one, which counts.", example=10
    )
    failed = fields.Integer(minimum=0, attribute="counts.failed", example=20)
    errors = fields.Integer(
        minimum=0, attribute="counts.faults", note="Of the failed rows, which may have several each.", example=21
    )
    error = fields.Text(
        max_length=1000,
        allow_none=True,
        note="Why the import as a whole failed, or has to be tried again.",
        example="line 7: this is not utf-8-sig; name the file's encoding",
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
    code = fields.Text(max_length=64, example="invalid")
    detail = fields.Text(max_length=1000, example="Not a decimal string.")


class ImportQuerySchema(ListQuerySchema):
    """Filters and sorting of imports."""

    sort_by = fields.Choice(list(LISTING.sorts), name="ImportSort", load_default="created_at")
    order = fields.Choice(Order, load_default="desc")
    status = fields.Values(fields.Choice(JobStatus))


class ImportFaultQuerySchema(ListQuerySchema):
    """Sorting of errors."""

    sort_by = fields.Choice(list(FAULTS.sorts), name="ImportFaultSort", load_default="line")
    order = fields.Choice(Order, load_default="asc")


class ImportRowSchema(StatedSchema, products.ProductCreateSchema):
    """A row states a product as the body that creates one does, but it has a sku, and may name its category and brand.

    What it does not state is left to the upsert: a product that exists keeps it.
    """

    sku = fields.Code(required=True, **products.SKU)
    category = fields.Text(**categories.NAME)
    category_id = fields.Integer(example=7)
    brand = fields.Text(allow_none=True, **brands.NAME)

    def load(self, data: Any, **options: Any) -> Any:
        """The values of a row; one in which nothing else is wrong must be filed somewhere."""
        values = super().load(data, **options)
        if "category" not in values and "category_id" not in values:
            message = fields.Message("required", "Name a category, or give its id.")
            raise ma.ValidationError({"category": [message]})
        return values
