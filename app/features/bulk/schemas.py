"""Wire shapes of batches of products."""

from app.features.bulk.drafts import IMAGES
from app.features.bulk.service import BatchMode, Outcome
from app.features.media.schemas import PictureReferences
from app.features.products.schemas import DECIMALS, MAX_POSITION, SKU, ProductRowSchema
from app.web import fields
from app.web.batch import Batch, Problem
from app.web.schemas import BodySchema, PatchSchema, Schema

PARENT_NOTE = (
    "The product of which this is a variant: one that is there, or that another item makes, before or after this one. A"
    " variant needs a sku and a price, and has the rest of its product; when missing, a variant stays one."
)
IMAGES_NOTE = (
    "Pictures by their URLs, which are fetched in the background, or by the SHA-256 of media that is there. They are"
    " shown before what the product shows already, which stays; those of a variant name it, behind the others of its"
    " product."
)


class ProductUpsertSchema(PatchSchema, ProductRowSchema):
    """A product of a batch, found by its sku: a new one needs a name, a price and a category as well."""

    REQUIRED = ("sku",)
    NOT_IN_EXAMPLE = ("parent_sku", IMAGES, *ProductRowSchema.NOT_IN_EXAMPLE)

    parent_sku = fields.Code(allow_none=True, note=PARENT_NOTE, **SKU)
    position = fields.Integer(
        minimum=0, maximum=MAX_POSITION, allow_none=True, note="Of a variant; null is ignored.", example=0
    )
    price = fields.Money(example="99.50", note=DECIMALS)
    currency = fields.Currency(example="USD")
    images = PictureReferences(note=IMAGES_NOTE)


class ProductBatchSchema(BodySchema):
    """Products to create, or to update where their sku is there."""

    mode = fields.Choice(
        BatchMode,
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
    sku = fields.Code(allow_none=True, **SKU)
    status = fields.Choice(Outcome, name="BatchOutcome", example="created")
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
