"""Wire shapes of products."""

from typing import Any

from app.core.listing import RELEVANCE
from app.features.products.batches import BatchMode, Outcome
from app.features.products.files import FileFormat
from app.features.products.models import MAX_ATTRIBUTES, MAX_STOCK, ProductStatus
from app.features.products.service import LISTING
from app.web import fields
from app.web.batch import Batch, Problem
from app.web.schemas import BodySchema, PatchSchema, QuerySchema, RankedQuerySchema, Schema

SKU: dict[str, Any] = {"max_length": 64, "pattern": r"^[A-Za-z0-9][A-Za-z0-9._/+-]*$", "example": "CHAIR-042"}
NAME: dict[str, Any] = {"max_length": 200, "example": "Oak chair"}
TAG: dict[str, Any] = {"max_length": 50, "example": "garden"}
EXTERNAL_ID: dict[str, Any] = {"max_length": 128, "allow_none": True, "example": "erp-7781"}


def _tags(**options: Any) -> fields.Items:
    return fields.Items(fields.Text(**TAG), max_items=50, example=["garden", "oak"], **options)


def _attributes(**options: Any) -> fields.Scalars:
    return fields.Scalars(max_properties=MAX_ATTRIBUTES, example={"width_cm": 45, "colour": "natural"}, **options)


class ProductSchema(Schema):
    """A product."""

    id = fields.Integer(dump_only=True, example=42)
    sku = fields.Text(**SKU)
    name = fields.Text(**NAME)
    description = fields.Prose(max_length=10_000, example="A chair of solid oak.")
    price = fields.Money(example="129.00")
    currency = fields.Currency(example="USD")
    category_id = fields.Integer(example=7)
    stock = fields.Integer(minimum=0, maximum=MAX_STOCK, example=12)
    status = fields.Choice(list(ProductStatus), example="active")
    tags = _tags()
    attributes = _attributes()
    external_id = fields.Text(**EXTERNAL_ID)
    created_at = fields.Moment(dump_only=True)
    updated_at = fields.Moment(dump_only=True)
    version = fields.Integer(dump_only=True, example=1)


class CategoryCountSchema(Schema):
    """How many products are filed directly under a category."""

    id = fields.Integer(dump_only=True, example=7)
    name = fields.Text(max_length=120, example="Chairs")
    count = fields.Integer(example=31)


class TagCountSchema(Schema):
    """How many products have a tag."""

    value = fields.Text(**TAG)
    count = fields.Integer(example=12)


class PriceCountSchema(Schema):
    """How many products cost from `min_price` to `max_price`, both included, in whatever currency."""

    min_price = fields.Money(example="100.00")
    max_price = fields.Money(example="199.99")
    count = fields.Integer(example=9)


class StockCountSchema(Schema):
    """How many products are in stock."""

    in_stock = fields.Integer(minimum=0, example=40)
    out_of_stock = fields.Integer(minimum=0, example=2)


class StatusCountSchema(Schema):
    """How many products have each status."""

    draft = fields.Integer(minimum=0, example=0)
    active = fields.Integer(minimum=0, example=42)
    archived = fields.Integer(minimum=0, example=0)


class FacetsSchema(Schema):
    """How many products there are, and of which kinds; the commonest 50 categories and tags, commonest first."""

    total = fields.Integer(minimum=0, example=42)
    category = fields.Nested(CategoryCountSchema, many=True)
    tag = fields.Nested(TagCountSchema, many=True)
    price = fields.Nested(PriceCountSchema, many=True, note="Where there are any, the cheapest first.")
    stock = fields.Nested(StockCountSchema)
    status = fields.Nested(StatusCountSchema)


class ProductReplaceSchema(BodySchema):
    """The whole of a product but its stock; what is missing takes its default, and the sku stays."""

    sku = fields.Text(**SKU)
    name = fields.Text(required=True, **NAME)
    description = fields.Prose(max_length=10_000, load_default="")
    price = fields.Money(required=True, example="129.00")
    currency = fields.Currency(example="USD", note="DEFAULT_CURRENCY when missing.")
    category_id = fields.Integer(required=True, example=7)
    status = fields.Choice(list(ProductStatus), load_default=ProductStatus.ACTIVE)
    tags = _tags(load_default=list)
    attributes = _attributes(load_default=dict)
    external_id = fields.Text(load_default=None, **EXTERNAL_ID)


class ProductCreateSchema(ProductReplaceSchema):
    """A new product; without a sku one is made from its id."""

    stock = fields.Integer(minimum=0, maximum=MAX_STOCK, load_default=0, example=12)


class ProductUpdateSchema(PatchSchema, ProductReplaceSchema):
    """What changes of a product; a null removes an attribute or the external id (RFC 7396)."""

    price = fields.Money(example="99.50")
    currency = fields.Currency(example="USD")
    attributes = _attributes(removable=True)


class ProductUpsertSchema(PatchSchema, ProductCreateSchema):
    """A product of a batch, found by its sku: a new one needs a name, a price and a category as well."""

    REQUIRED = ("sku",)
    price = fields.Money(example="99.50")
    currency = fields.Currency(example="USD")


class ProductBatchSchema(BodySchema):
    """Products to create, or to update where their sku is there."""

    mode = fields.Choice(
        list(BatchMode),
        load_default=BatchMode.ATOMIC,
        note="Whether a bad item refuses the whole batch (`atomic`) or is left out (`partial`).",
        example="atomic",
    )
    dry_run = fields.Boolean(load_default=False, note="Report what would be done, and write nothing.", example=False)
    items = Batch(
        ProductUpsertSchema,
        max_items=1000,
        required=True,
        example=[{"sku": "CHAIR-042", "name": "Oak chair", "price": "129.00", "category_id": 7}],
    )


class ProductUpsertResultSchema(Schema):
    """What became of an item: the product's id, or the problem."""

    index = fields.Integer(minimum=0, maximum=999, note="Its place in the batch, from 0.", example=0)
    sku = fields.Text(allow_none=True, example="CHAIR-042", **{k: v for k, v in SKU.items() if k != "example"})
    status = fields.Choice(list(Outcome), example="created")
    id = fields.Integer(dump_only=True, allow_none=True, example=42)
    problem = Problem(allow_none=True)


class BatchMetaSchema(Schema):
    """How many items there were, and how many of each outcome."""

    total = fields.Integer(minimum=0, maximum=1000, example=1)
    created = fields.Integer(minimum=0, maximum=1000, example=1)
    updated = fields.Integer(minimum=0, maximum=1000, example=0)
    unchanged = fields.Integer(minimum=0, maximum=1000, example=0)
    failed = fields.Integer(minimum=0, maximum=1000, example=0)


class ProductBatchResultSchema(Schema):
    """What became of each item of a batch, in their order."""

    items = fields.Nested(
        ProductUpsertResultSchema,
        many=True,
        example=[{"index": 0, "sku": "CHAIR-042", "status": "created", "id": 42, "problem": None}],
    )
    meta = fields.Nested(BatchMetaSchema, example={"total": 1, "created": 1, "updated": 0, "unchanged": 0, "failed": 0})


class ProductFilterSchema(QuerySchema):
    """Which products are meant."""

    search = fields.Text(
        max_length=200,
        note="Words that each begin a word of the name, the sku, a tag or the description, in any order. The HTML"
        " tags of a description are no words. Numbered pages and facets forgive typos where nothing is found, if the"
        " database can; in 1,000 products at most.",
    )
    category_id = fields.QueryInteger(note="Filed directly under this category.")
    min_price = fields.Money(note="This price or more.")
    max_price = fields.Money(note="This price or less.")
    in_stock = fields.QueryBoolean(note="Whether at least one is in stock.")
    status = fields.Choice(list(ProductStatus))
    currency = fields.Currency()
    sku = fields.Text(**SKU)
    tag = fields.Text(**TAG)


class ProductQuerySchema(ProductFilterSchema, RankedQuerySchema):
    """Filters and sorting of products."""

    sort_by = fields.Choice([*LISTING.sorts, RELEVANCE], load_default="created_at", note=RankedQuerySchema.NOTE)
    order = fields.Choice(["asc", "desc"], load_default="desc")


class ProductExportSchema(ProductFilterSchema):
    """Which products to export, and how."""

    format = fields.Choice(list(FileFormat), load_default=FileFormat.CSV)
