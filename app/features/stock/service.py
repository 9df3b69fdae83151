"""Use cases of stock."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import BigInteger, ScalarSelect, Select, and_, cast, func, inspect, select, update

from app.core import clock
from app.core.changelog import record_in_log, scope_columns_of
from app.core.errors import Conflict, NotFound
from app.core.listing import Listing, OneOf
from app.core.pruning import delete_batch
from app.extensions import db
from app.features.products import families
from app.features.products import service as products
from app.features.products.ledger import Reason, StockMovement
from app.features.products.listing import visible_to
from app.features.products.models import (
    MAX_STOCK,
    PRODUCTS,
    NotSellable,
    Product,
    ProductKind,
    ProductStatus,
    StockNotTracked,
)
from app.features.stock.models import (
    DeltaUnfit,
    Hold,
    HoldStatus,
    OutOfStock,
    StockChanged,
    StockTooLarge,
)
from app.security.identity import Identity

LISTING = Listing(
    filters={"reason": OneOf(StockMovement.reason)},
    sorts={"id": StockMovement.id, "created_at": StockMovement.created_at},
    tie_breaker=StockMovement.id,
)

#: How long a hold can be read after its expiry; then `prune_holds` deletes it.
HOLD_RETENTION = timedelta(days=30)

#: What of a product the log of changes has to know of a movement, beside its references.
_KNOWN = ("stock", "track_stock", "low_stock_at", "status", "version", "live")


@dataclass(frozen=True)
class Availability:
    """How many of a product are in stock, and how many of them are held."""

    product_id: int
    track_stock: bool
    stock: int
    held: int
    kind: ProductKind = ProductKind.SINGLE
    #: How many of the variants of a parent can be sold or held.
    free: int | None = None

    @property
    def available(self) -> int | None:
        """How many can be sold or held: 0 where an import has set the stock below what is held, None if untracked."""
        if not self.track_stock:
            return None
        return max(self.stock - self.held, 0) if self.free is None else self.free


def movements_of(product_id: int, *, identity: Identity) -> Select[StockMovement]:
    """The movements of a product; ``NotFound`` if ``identity`` may not see the product."""
    products.get_product(product_id, identity=identity)
    return select(StockMovement).where(StockMovement.product_id == product_id)


def get_movement(product_id: int, movement_id: int, *, identity: Identity) -> StockMovement:
    """The movement of a product; ``NotFound`` if there is none, or ``identity`` may not see the product."""
    movement = db.session.scalar(movements_of(product_id, identity=identity).where(StockMovement.id == movement_id))
    if movement is None:
        raise NotFound
    return movement


def record_movement(
    product: Product, *, delta: int, reason: Reason, reference: str | None = None, expected_stock: int | None = None
) -> StockMovement:
    """Change the stock of a product, which must be locked, by ``delta``; takes away nothing that is held.

    Refuses a parent (``NotSellable``), a product whose stock is not tracked (``StockNotTracked``), a delta whose sign
    does not fit the reason (``DeltaUnfit``), a stock other than ``expected_stock`` (``StockChanged``), more than
    is available (``OutOfStock``), and a stock above ``MAX_STOCK`` (``StockTooLarge``).
    """
    if not reason.allows(delta):
        raise DeltaUnfit
    _require_sellable(product)
    return _move(
        StockMovement(product_id=product.id, delta=delta, reason=reason, reference=reference),
        min_stock=_held_quantity() if delta < 0 else 0,
        expected_stock=expected_stock,
    )


def get_availability(product_id: int, *, identity: Identity) -> Availability:
    """The availability of a product; ``NotFound`` if ``identity`` may not see it.

    Of a parent it is that of its active variants together.
    """
    own = _read_availability(visible_to(identity).where(Product.id == product_id))
    if own.kind != ProductKind.PARENT:
        return own
    is_sold = and_(Product.deleted_at.is_(None), Product.status == ProductStatus.ACTIVE)
    variants = _availabilities(select(Product).where(Product.parent_id == product_id, is_sold))
    counted = [one for one in variants if one.track_stock]
    return Availability(
        product_id,
        track_stock=len(counted) == len(variants),
        stock=sum(one.stock for one in counted),
        held=sum(one.held for one in variants),
        # More may be held of one than it has, and none of that is another's.
        free=sum(one.available or 0 for one in counted),
    )


def place_hold(product: Product, *, quantity: int, expires_in: int, reference: str | None = None) -> Hold:
    """Hold a quantity of a product, which must be locked, for ``expires_in`` seconds.

    Refuses a parent (``NotSellable``), and more than is available (``OutOfStock``). Where the stock is not tracked,
    that is as much as can be held: ``MAX_STOCK`` in all.
    """
    _require_sellable(product)
    now = _read_availability(select(Product).where(Product.id == product.id))
    available = MAX_STOCK - now.held if now.available is None else now.available
    if quantity > available:
        raise OutOfStock(available=available)
    expires_at = clock.now() + timedelta(seconds=expires_in)
    hold = Hold(product_id=product.id, quantity=quantity, reference=reference, expires_at=expires_at)
    db.session.add(hold)
    db.session.flush()
    return hold


def get_hold(hold_id: int, *, identity: Identity, lock: bool = False) -> Hold:
    """The hold, if ``identity`` may see its product; else ``NotFound``. ``lock`` locks the hold and the product."""
    rows = visible_to(identity).join(Hold, Hold.product_id == Product.id).where(Hold.id == hold_id)
    holds = rows.with_only_columns(Hold, maintain_column_froms=True)
    hold = db.session.scalar(holds.with_for_update(key_share=True) if lock else holds)
    if hold is None:
        raise NotFound
    return hold


def confirm_hold(hold: Hold) -> Hold:
    """Sell the quantity of a hold, which must be locked with its product; a stock that is not tracked does not move.

    Refuses a hold that has ended (``HoldEnded``), and more than is in stock (``OutOfStock``).
    """
    hold.end(HoldStatus.CONFIRMED)
    reference = hold.reference or f"hold {hold.id}"
    with suppress(StockNotTracked):
        _move(StockMovement(product_id=hold.product_id, delta=-hold.quantity, reason=Reason.SALE, reference=reference))
    return hold


def cancel_hold(hold: Hold) -> Hold:
    """Release the quantity of a hold, which must be locked; refuses a hold that has ended (``HoldEnded``)."""
    hold.end(HoldStatus.CANCELLED)
    return hold


def prune_holds() -> int:
    """Delete a batch of the holds that expired ``HOLD_RETENTION`` ago; their number. Their sales stay in the ledger."""
    return delete_batch(Hold, Hold.expires_at < clock.now() - HOLD_RETENTION)


def _move(
    movement: StockMovement, *, min_stock: int | ScalarSelect[int] = 0, expected_stock: int | None = None
) -> StockMovement:
    """Move the stock if at least ``min_stock`` remains, insert the movement into the ledger, and record both.

    Raises ``StockNotTracked``, ``OutOfStock``, ``StockChanged`` and ``StockTooLarge``, before anything is written. The
    caller must have locked the product. The conditions of this UPDATE alone are not enough: when it has waited for
    the row, PostgreSQL rechecks them against the row's new stock but not against holds inserted meanwhile (READ
    COMMITTED).
    """
    stock_after = PRODUCTS.c.stock + movement.delta
    is_tracked = PRODUCTS.c.track_stock.is_(True)
    conditions = [PRODUCTS.c.id == movement.product_id, is_tracked, stock_after.between(min_stock, MAX_STOCK)]
    if expected_stock is not None:
        conditions.append(PRODUCTS.c.stock == expected_stock)
    statement = update(PRODUCTS).where(*conditions).values(stock=stock_after, live=PRODUCTS.c.live + 1)
    references = [PRODUCTS.c[name] for name in scope_columns_of(inspect(Product))]
    returned = (*(PRODUCTS.c[name] for name in _KNOWN), *references)
    moved = db.session.execute(statement.returning(*returned)).mappings().one_or_none()
    if moved is None:
        raise _refusal_of(movement, expected_stock)
    movement.stock_after = moved["stock"]
    record_in_log(
        Product,
        "stock.moved",
        movement.product_id,
        version=moved["version"],
        live=moved["live"],
        members=["stock"],
        before={**moved, "stock": moved["stock"] - movement.delta},
        after=dict(moved),
    )
    if moved["parent_id"] is not None:
        counts = moved["status"] == ProductStatus.ACTIVE
        families.move_stock(moved["parent_id"], movement.delta if counts else 0, returned)
    db.session.add(movement)
    db.session.flush()
    return movement


def _require_sellable(product: Product) -> None:
    if product.kind == ProductKind.PARENT:
        raise NotSellable


def _refusal_of(movement: StockMovement, expected_stock: int | None) -> Conflict:
    current = _read_availability(select(Product).where(Product.id == movement.product_id))
    if not current.track_stock:
        return StockNotTracked()
    if expected_stock not in {None, current.stock}:
        return StockChanged(stock=current.stock)
    return OutOfStock(available=current.available) if movement.delta < 0 else StockTooLarge()


def _read_availability(rows: Select[Product]) -> Availability:
    found = _availabilities(rows)
    if not found:
        raise NotFound
    return found[0]


def _availabilities(rows: Select[Product]) -> Sequence[Availability]:
    columns = (Product.id, Product.track_stock, Product.stock, _held_quantity(), Product.kind)
    return [Availability(*row) for row in db.session.execute(rows.with_only_columns(*columns))]


def _held_quantity() -> ScalarSelect[int]:
    """A scalar subquery: the total of the live holds of the enclosing statement's product."""
    total = cast(func.coalesce(func.sum(Hold.quantity), 0), BigInteger)
    is_live = and_(Hold.outcome.is_(None), Hold.expires_at > clock.now())
    return select(total).where(Hold.product_id == PRODUCTS.c.id, is_live).correlate(PRODUCTS).scalar_subquery()
