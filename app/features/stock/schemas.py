"""Wire shapes of stock."""

from typing import Any

from app.features.products.ledger import Reason
from app.features.products.models import MAX_STOCK
from app.features.stock.models import HoldStatus
from app.features.stock.service import LISTING
from app.web import fields
from app.web.schemas import BodySchema, ListQuerySchema, Order, Schema

DELTA: dict[str, Any] = {"minimum": -MAX_STOCK, "maximum": MAX_STOCK, "example": 12}
STOCK: dict[str, Any] = {"minimum": 0, "maximum": MAX_STOCK, "example": 12}
QUANTITY: dict[str, Any] = {"maximum": MAX_STOCK, "example": 2}
REFERENCE: dict[str, Any] = {"max_length": 128, "allow_none": True, "example": "order-1001"}


class MovementSchema(Schema):
    """A change of a product's stock."""

    id = fields.Integer(dump_only=True, example=9001)
    product_id = fields.Integer(example=42)
    delta = fields.Integer(**DELTA)
    reason = fields.Choice(Reason, name="MovementReason", example="receipt")
    reference = fields.Text(**REFERENCE)
    stock_after = fields.Integer(**STOCK)
    created_at = fields.Moment(dump_only=True)
    actor_id = fields.Integer(allow_none=True, note="The user; null for commands.", example=1)


class MovementCreateSchema(BodySchema):
    """A movement to record."""

    delta = fields.Integer(required=True, note="Positive for receipts and returns, negative for sales.", **DELTA)
    reason = fields.Choice(Reason, name="MovementReason", required=True, example="receipt")
    reference = fields.Text(load_default=None, **REFERENCE)
    expected_stock = fields.Integer(minimum=0, maximum=MAX_STOCK, note="Refuse the movement unless the stock is this.")


class MovementQuerySchema(ListQuerySchema):
    """Filters and sorting of movements; by default the newest first."""

    sort_by = fields.Choice(list(LISTING.sorts), name="MovementSort", load_default="id")
    order = fields.Choice(Order, load_default="desc")
    reason = fields.Values(fields.Choice(Reason, name="MovementReason"))


class HoldSchema(Schema):
    """A quantity that is held for a customer."""

    id = fields.Integer(dump_only=True, example=501)
    product_id = fields.Integer(example=42)
    quantity = fields.Integer(**QUANTITY)
    status = fields.Choice(HoldStatus, example="live")
    reference = fields.Text(**REFERENCE)
    expires_at = fields.Moment(dump_only=True)
    created_at = fields.Moment(dump_only=True)


class HoldCreateSchema(BodySchema):
    """A quantity to hold, and for how many seconds."""

    quantity = fields.Integer(required=True, **QUANTITY)
    expires_in = fields.Integer(maximum=1800, load_default=900, example=900)
    reference = fields.Text(load_default=None, **REFERENCE)


class AvailabilitySchema(Schema):
    """How many of a product are in stock, are held, and can be sold or held."""

    product_id = fields.Integer(example=42)
    track_stock = fields.Boolean(example=True)
    stock = fields.Integer(**STOCK)
    held = fields.Integer(minimum=0, maximum=MAX_STOCK, example=2)
    available = fields.Integer(
        minimum=0,
        maximum=MAX_STOCK,
        allow_none=True,
        note="Null where the stock is not tracked: any quantity can be sold or held.",
        example=10,
    )
