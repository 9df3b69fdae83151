"""What an export can be asked for."""

from app.features.exports.files import FileFormat
from app.features.products.schemas import ProductFilterSchema
from app.web import fields


class ProductExportSchema(ProductFilterSchema):
    """Which products to export, and how."""

    format = fields.Choice(FileFormat, load_default=FileFormat.CSV)
    with_ids = fields.QueryBoolean(
        load_default=False,
        note="Whether each product begins with its `id`, by which events name it; an import leaves the column unread.",
    )
