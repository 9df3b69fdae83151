"""Wire shapes of stock."""

from typing import Any

from app.features.products.ledger import Reason
from app.features.products.models import MAX_STOCK
from app.features.stock.models import HoldStatus
from app.features.stock.service import LISTING
from app.web import fields
from app.web.schemas import BodySchema, ListQuerySchema, Schema

DELTA: dict[str, Any] = {"least": -MAX_STOCK, "most": MAX_STOCK, "example": 12}
STOCK: dict[str, Any] = {"least": 0, "most": MAX_STOCK, "example": 12}
QUANTITY: dict[str, Any] = {"most": MAX_STOCK, "example": 2}
REFERENCE: dict[str, Any] = {"most": 128, "allow_none": True, "example": "order-1001"}


class MovementSchema(Schema):
    """A change of a product's stock."""

    id = fields.Integer(dump_only=True, example=9001)
    product_id = fields.Integer(example=42)
    delta = fields.Integer(**DELTA)
    reason = fields.Choice(list(Reason), example="receipt")
    reference = fields.Text(**REFERENCE)
    stock_after = fields.Integer(**STOCK)
    created_at = fields.Moment(dump_only=True)
    actor_id = fields.Integer(allow_none=True, note="The user; null for commands.", example=1)


class MovementCreateSchema(BodySchema):
    """What comes in or goes out."""

    delta = fields.Integer(required=True, note="Receipts and returns add, sales take away.", **DELTA)
    reason = fields.Choice(list(Reason), required=True, example="receipt")
    reference = fields.Text(load_default=None, **REFERENCE)
    expected_stock = fields.Integer(least=0, most=MAX_STOCK, note="Move only if this is the stock now.")


class MovementQuerySchema(ListQuerySchema):
    """Filters and sorting of movements; the newest first unless asked otherwise."""

    sort_by = fields.Choice(list(LISTING.sorts), load_default="id")
    order = fields.Choice(["asc", "desc"], load_default="desc")
    reason = fields.Choice(list(Reason))


class HoldSchema(Schema):
    """A quantity that is kept for somebody."""

    id = fields.Integer(dump_only=True, example=501)
    product_id = fields.Integer(example=42)
    quantity = fields.Integer(**QUANTITY)
    status = fields.Choice(list(HoldStatus), example="live")
    reference = fields.Text(**REFERENCE)
    expires_at = fields.Moment(dump_only=True)
    created_at = fields.Moment(dump_only=True)


class HoldCreateSchema(BodySchema):
    """What is to be kept, and for how many seconds."""

    quantity = fields.Integer(required=True, **QUANTITY)
    expires_in = fields.Integer(most=1800, load_default=900, example=900)
    reference = fields.Text(load_default=None, **REFERENCE)


class AvailabilitySchema(Schema):
    """How many of a product there are, are held, and can be sold or held."""

    product_id = fields.Integer(example=42)
    stock = fields.Integer(**STOCK)
    held = fields.Integer(least=0, most=MAX_STOCK, example=2)
    available = fields.Integer(least=0, most=MAX_STOCK, example=10)
