"""Wire shapes of products."""

from typing import Any

from app.features.products.files import FileFormat
from app.features.products.models import MOST_ATTRIBUTES, ProductStatus
from app.features.products.service import LISTING
from app.web import fields
from app.web.schemas import BodySchema, ListQuerySchema, Schema, SearchSchema

SKU: dict[str, Any] = {"most": 64, "pattern": r"^[A-Za-z0-9][A-Za-z0-9._/+-]*$", "example": "CHAIR-042"}
NAME: dict[str, Any] = {"most": 200, "example": "Oak chair"}
TAG: dict[str, Any] = {"most": 50, "example": "garden"}
EXTERNAL_ID: dict[str, Any] = {"most": 128, "allow_none": True, "example": "erp-7781"}
MOST_STOCK = 2**53


def _tags(**options: Any) -> fields.Items:
    return fields.Items(fields.Text(**TAG), most=50, example=["garden", "oak"], **options)


def _attributes(**options: Any) -> fields.Scalars:
    return fields.Scalars(most=MOST_ATTRIBUTES, example={"width_cm": 45, "colour": "natural"}, **options)


class ProductSchema(Schema):
    """A product."""

    id = fields.Integer(dump_only=True, example=42)
    sku = fields.Text(**SKU)
    name = fields.Text(**NAME)
    description = fields.Prose(most=10_000, example="A chair of solid oak.")
    price = fields.Money(example="129.00")
    currency = fields.Currency(example="USD")
    category_id = fields.Integer(example=7)
    stock = fields.Integer(least=0, most=MOST_STOCK, example=12)
    status = fields.Choice(list(ProductStatus), example="active")
    tags = _tags()
    attributes = _attributes()
    external_id = fields.Text(**EXTERNAL_ID)
    created_at = fields.Moment(dump_only=True)
    updated_at = fields.Moment(dump_only=True)
    version = fields.Integer(dump_only=True, example=1)


class ProductReplaceSchema(BodySchema):
    """The whole of a product but its stock; what is missing takes its default, and the sku stays."""

    sku = fields.Text(**SKU)
    name = fields.Text(required=True, **NAME)
    description = fields.Prose(most=10_000, load_default="")
    price = fields.Money(required=True, example="129.00")
    currency = fields.Currency(example="USD", note="DEFAULT_CURRENCY when missing.")
    category_id = fields.Integer(required=True, example=7)
    status = fields.Choice(list(ProductStatus), load_default=ProductStatus.ACTIVE)
    tags = _tags(load_default=list)
    attributes = _attributes(load_default=dict)
    external_id = fields.Text(load_default=None, **EXTERNAL_ID)


class ProductCreateSchema(ProductReplaceSchema):
    """A new product; without a sku one is made from its id."""

    stock = fields.Integer(least=0, most=MOST_STOCK, load_default=0, example=12)


class ProductUpdateSchema(BodySchema):
    """What changes of a product; a null removes an attribute or the external id (RFC 7396)."""

    sku = fields.Text(**SKU)
    name = fields.Text(**NAME)
    description = fields.Prose(most=10_000)
    price = fields.Money(example="99.50")
    currency = fields.Currency(example="USD")
    category_id = fields.Integer(example=7)
    status = fields.Choice(list(ProductStatus))
    tags = _tags()
    attributes = _attributes(removable=True)
    external_id = fields.Text(**EXTERNAL_ID)


class ProductFilterSchema(SearchSchema):
    """Which products."""

    category_id = fields.QueryInteger(note="Filed directly under this category.")
    min_price = fields.Money(note="This price or more.")
    max_price = fields.Money(note="This price or less.")
    in_stock = fields.QueryBoolean(note="Whether at least one is in stock.")
    status = fields.Choice(list(ProductStatus))
    currency = fields.Currency()
    sku = fields.Text(**SKU)
    tag = fields.Text(**TAG)


class ProductQuerySchema(ListQuerySchema, ProductFilterSchema):
    """Filters and sorting of products."""

    sort_by = fields.Choice(list(LISTING.sorts), load_default="created_at")
    order = fields.Choice(["asc", "desc"], load_default="desc")


class ProductExportSchema(ProductFilterSchema):
    """Which products to export, and how."""

    format = fields.Choice(list(FileFormat), load_default=FileFormat.CSV)
