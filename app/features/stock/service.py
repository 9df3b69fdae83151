"""Use cases of stock."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import BigInteger, ScalarSelect, Select, and_, cast, func, select, update

from app.core import clock
from app.core.errors import Conflict, NotFound
from app.core.feed import Change, publish
from app.core.listing import Listing
from app.core.pruning import delete_batch
from app.extensions import db
from app.features.products import service as products
from app.features.products.ledger import Reason, StockMovement
from app.features.products.models import MAX_STOCK, PRODUCTS, Product
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
    filters={"reason": lambda reason: StockMovement.reason == reason},
    sorts={"id": StockMovement.id, "created_at": StockMovement.created_at},
    tie_breaker=StockMovement.id,
)

#: How long a hold can still be read after it has ended.
HOLDS_KEPT = timedelta(days=30)


@dataclass(frozen=True)
class Availability:
    """How many of a product there are, and how many of them are held."""

    product_id: int
    stock: int
    held: int

    @property
    def available(self) -> int:
        """How many can be sold or held; an import may state a stock below what is held."""
        return max(self.stock - self.held, 0)


def movements_of(product_id: int, *, identity: Identity) -> Select[StockMovement]:
    """The movements of a product that ``identity`` may see."""
    products.get_product(product_id, identity=identity)
    return select(StockMovement).where(StockMovement.product_id == product_id)


def get_movement(product_id: int, movement_id: int, *, identity: Identity) -> StockMovement:
    """One of these movements."""
    movement = db.session.scalar(movements_of(product_id, identity=identity).where(StockMovement.id == movement_id))
    if movement is None:
        raise NotFound
    return movement


def record_movement(
    product: Product, *, delta: int, reason: Reason, reference: str | None = None, expected_stock: int | None = None
) -> StockMovement:
    """Move the stock of a product, which is locked, by ``delta``; what is held stays.

    Refuses a sign that the reason does not have, a stock that is not the expected one, and more than is available.
    """
    if not reason.allows(delta):
        raise DeltaUnfit
    return _move(
        StockMovement(product_id=product.id, delta=delta, reason=reason, reference=reference),
        least=_held() if delta < 0 else 0,
        expected_stock=expected_stock,
    )


def get_availability(product_id: int, *, identity: Identity) -> Availability:
    """How many of a product that ``identity`` may see can be sold or held."""
    return _read_availability(products.visible_to(identity).where(Product.id == product_id))


def place_hold(product: Product, *, quantity: int, expires_in: int, reference: str | None = None) -> Hold:
    """Keep a quantity of a product, which is locked, for ``expires_in`` seconds; refuses more than is available."""
    available = _read_availability(select(Product).where(Product.id == product.id)).available
    if quantity > available:
        raise OutOfStock(available=available)
    expires_at = clock.now() + timedelta(seconds=expires_in)
    hold = Hold(product_id=product.id, quantity=quantity, reference=reference, expires_at=expires_at)
    db.session.add(hold)
    db.session.flush()
    return hold


def get_hold(hold_id: int, *, identity: Identity, lock: bool = False) -> Hold:
    """One hold of a product that ``identity`` may see; ``lock`` locks both."""
    rows = products.visible_to(identity).join(Hold, Hold.product_id == Product.id).where(Hold.id == hold_id)
    holds = rows.with_only_columns(Hold, maintain_column_froms=True)
    hold = db.session.scalar(holds.with_for_update(key_share=True) if lock else holds)
    if hold is None:
        raise NotFound
    return hold


def confirm_hold(hold: Hold) -> Hold:
    """Sell what is held by a hold that is locked with its product; refuses one that has ended."""
    hold.end(HoldStatus.CONFIRMED)
    reference = hold.reference or f"hold {hold.id}"
    _move(StockMovement(product_id=hold.product_id, delta=-hold.quantity, reason=Reason.SALE, reference=reference))
    return hold


def cancel_hold(hold: Hold) -> Hold:
    """Give free what is held by a hold that is locked; refuses one that has ended."""
    hold.end(HoldStatus.CANCELLED)
    return hold


def prune_holds() -> int:
    """Delete a batch of the holds that ended long ago; their number. What they sold stays in the ledger."""
    return delete_batch(Hold, Hold.expires_at < clock.now() - HOLDS_KEPT)


def _move(
    movement: StockMovement, *, least: int | ScalarSelect[int] = 0, expected_stock: int | None = None
) -> StockMovement:
    """Move the stock if at least ``least`` stays, and write it into the ledger.

    The statement decides, but not alone: while it waits for the row, PostgreSQL has another transaction's new stock
    looked at and not its new holds. So the caller has locked the product before.
    """
    after = PRODUCTS.c.stock + movement.delta
    fits = [PRODUCTS.c.id == movement.product_id, after.between(least, MAX_STOCK)]
    if expected_stock is not None:
        fits.append(PRODUCTS.c.stock == expected_stock)
    moved = update(PRODUCTS).where(*fits).values(stock=after, version=PRODUCTS.c.version + 1)
    there = db.session.execute(moved.returning(PRODUCTS.c.stock, PRODUCTS.c.version)).one_or_none()
    if there is None:
        raise _refusal_of(movement, expected_stock)
    movement.stock_after = there.stock
    publish([Change("stock.moved", "product", movement.product_id, there.version)])
    db.session.add(movement)
    db.session.flush()
    return movement


def _refusal_of(movement: StockMovement, expected_stock: int | None) -> Conflict:
    there = _read_availability(select(Product).where(Product.id == movement.product_id))
    if expected_stock not in {None, there.stock}:
        return StockChanged(stock=there.stock)
    return OutOfStock(available=there.available) if movement.delta < 0 else StockTooLarge()


def _read_availability(rows: Select[Product]) -> Availability:
    row = db.session.execute(rows.with_only_columns(Product.id, Product.stock, _held())).one_or_none()
    if row is None:
        raise NotFound
    return Availability(*row)


def _held() -> ScalarSelect[int]:
    """How many of the enclosing statement's product are held now."""
    total = cast(func.coalesce(func.sum(Hold.quantity), 0), BigInteger)
    is_live = and_(Hold.outcome.is_(None), Hold.expires_at > clock.now())
    return select(total).where(Hold.product_id == PRODUCTS.c.id, is_live).correlate(PRODUCTS).scalar_subquery()
