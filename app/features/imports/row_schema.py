"""The shape of a row, whatever file it comes from."""

from typing import Any

from app.features.brands import schemas as brands
from app.features.categories import schemas as categories
from app.features.imports.paths import CategoryPath
from app.features.media.schemas import PictureReferences
from app.features.product_types import schemas as product_types
from app.features.products import schemas as products
from app.features.products.models import ProductKind
from app.web import fields
from app.web.schemas import PatchSchema


class CategoryName(fields.Field):
    """The path of a category, of which each name is as one of a category's."""

    _NAME = fields.Text(**categories.NAME)
    MAX_DEPTH = 20
    default_error_messages = {
        "invalid": "Not the name or the path of one category.",
        "too_deep": "A path of more than 20 categories.",
    }

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> CategoryPath:
        if not isinstance(value, CategoryPath):
            raise self.make_error("invalid")
        if not value.is_checked:
            self._check(value)
        return value

    def _check(self, path: CategoryPath) -> None:
        if len(path.names) > self.MAX_DEPTH:
            raise self.make_error("too_deep")
        for name in path.names:
            self._NAME.read(name)
        path.mark_checked()


class ImportRowSchema(PatchSchema, products.ProductRowSchema):
    """A row states a product as the body that creates one does, but may name its category, brand, type and parent.

    What it does not state is left to the upsert: a product that exists keeps it. Its ``kind`` follows from the others,
    and must agree with them where it is stated.
    """

    category = CategoryName()
    category_id = fields.Integer(example=7)
    brand = fields.Text(allow_none=True, **brands.NAME)
    type = fields.Text(allow_none=True, **product_types.CODE)
    kind = fields.Choice(ProductKind, allow_none=True)
    parent_sku = fields.Code(allow_none=True, **products.SKU)
    position = fields.Integer(minimum=0, maximum=products.MAX_POSITION, allow_none=True, example=0)
    images = PictureReferences()
