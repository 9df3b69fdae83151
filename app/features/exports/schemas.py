"""What an export can be asked for."""

from app.features.exports.files import FileFormat
from app.features.products.schemas import ANY_KIND, ProductFilterSchema
from app.web import fields


class ProductExportSchema(ProductFilterSchema):
    """Which products to export, and how; all kinds unless it says which."""

    KINDS = ANY_KIND

    format = fields.Choice(FileFormat, load_default=FileFormat.CSV)
    with_ids = fields.QueryBoolean(
        load_default=False,
        note="Whether each product begins with its `id`, by which events name it; an import leaves the column unread.",
    )
