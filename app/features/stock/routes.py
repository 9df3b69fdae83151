"""Routes of stock."""

from typing import Any

from sqlalchemy import Select

from app.features.products import service as products
from app.features.products.ledger import StockMovement
from app.features.products.models import NotSellable, Product, StockNotTracked
from app.features.stock import service
from app.features.stock.models import (
    DeltaUnfit,
    Hold,
    HoldEnded,
    OutOfStock,
    StockChanged,
    StockTooLarge,
)
from app.features.stock.schemas import (
    AvailabilitySchema,
    HoldCreateSchema,
    HoldSchema,
    MovementCreateSchema,
    MovementQuerySchema,
    MovementSchema,
)
from app.security.permissions import Permission
from app.web.access import current_identity
from app.web.contract import Blueprint, accepts, lists, locks, refuses, requires, returns

blueprint = Blueprint("stock", __name__, about="Stock movements, and quantities held for customers.")


def _movement_location(movement: StockMovement) -> str:
    return f"/api/v1/products/{movement.product_id}/stock-movements/{movement.id}"


@blueprint.get("/products/<id:product_id>/stock-movements")
@requires(Permission.STOCK_READ)
@lists(MovementSchema, MovementQuerySchema, service.LISTING)
def list_stock_movements(product_id: int) -> Select[StockMovement]:
    """List the movements of a product's stock; their deltas add up to the stock."""
    return service.movements_of(product_id, identity=current_identity())


@blueprint.post("/products/<id:product_id>/stock-movements")
@requires(Permission.STOCK_WRITE)
@locks(products.get_product)
@accepts(MovementCreateSchema)
@returns(MovementSchema, status=201, location=_movement_location)
@refuses(DeltaUnfit, NotSellable, OutOfStock, StockChanged, StockNotTracked, StockTooLarge)
def record_stock_movement(product: Product, data: dict[str, Any]) -> StockMovement:
    """Change a product's stock by a delta, taking away no more than is available.

    This changes the product's ETag in its second part, `live`: an update based on the ETag before still succeeds.
    """
    return service.record_movement(product, **data)


@blueprint.get("/products/<id:product_id>/stock-movements/<id:movement_id>")
@requires(Permission.STOCK_READ)
@returns(MovementSchema)
def read_stock_movement(product_id: int, movement_id: int) -> StockMovement:
    """Read a movement."""
    return service.get_movement(product_id, movement_id, identity=current_identity())


@blueprint.get("/products/<id:product_id>/availability")
@requires(Permission.PRODUCTS_READ)
@returns(AvailabilitySchema, cacheable=False)
def read_availability(product_id: int) -> service.Availability:
    """Read how many of a product can be sold or held now."""
    return service.get_availability(product_id, identity=current_identity())


@blueprint.post("/products/<id:product_id>/holds")
@requires(Permission.STOCK_WRITE)
@locks(products.get_product)
@accepts(HoldCreateSchema)
@returns(HoldSchema, status=201, location=lambda hold: f"/api/v1/holds/{hold.id}")
@refuses(NotSellable, OutOfStock)
def place_hold(product: Product, data: dict[str, Any]) -> Hold:
    """Hold a quantity of a product for a customer, until it is confirmed, cancelled or expires."""
    return service.place_hold(product, **data)


@blueprint.get("/holds/<id:hold_id>")
@requires(Permission.STOCK_READ)
@returns(HoldSchema)
def read_hold(hold_id: int) -> Hold:
    """Read a hold."""
    return service.get_hold(hold_id, identity=current_identity())


@blueprint.post("/holds/<id:hold_id>/confirm")
@requires(Permission.STOCK_WRITE)
@locks(service.get_hold)
@returns(HoldSchema)
@refuses(HoldEnded, OutOfStock)
def confirm_hold(hold: Hold) -> Hold:
    """Sell the held quantity: a movement subtracts it from the stock."""
    return service.confirm_hold(hold)


@blueprint.post("/holds/<id:hold_id>/cancel")
@requires(Permission.STOCK_WRITE)
@locks(service.get_hold)
@returns(HoldSchema)
@refuses(HoldEnded)
def cancel_hold(hold: Hold) -> Hold:
    """Release the held quantity."""
    return service.cancel_hold(hold)
