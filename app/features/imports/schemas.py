"""The shape of a row."""

from collections.abc import Mapping
from typing import Any

import marshmallow as ma

from app.features.categories import schemas as categories
from app.features.products import schemas as products
from app.web import fields


class ImportRowSchema(products.ProductCreateSchema):
    """A row states a product as the body that creates one does, but it has a sku, and may name its category.

    What it does not state is left to the upsert: a product that exists keeps it.
    """

    sku = fields.Text(required=True, **products.SKU)
    category = fields.Text(**categories.NAME)
    category_id = fields.Integer(example=7)

    def __init__(self) -> None:
        super().__init__(partial=("description", "stock", "status", "tags", "attributes", "external_id"))

    @ma.validates_schema
    def _require_category(self, data: Mapping[str, Any], **_: Any) -> None:
        if "category" not in data and "category_id" not in data:
            raise ma.ValidationError([fields.Message("required", "Name a category, or give its id.")], "category")
