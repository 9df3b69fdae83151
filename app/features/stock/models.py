"""The table of holds, and the refusals of stock."""

from enum import StrEnum

from sqlalchemy import CheckConstraint, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.core import clock
from app.core.audit import Audited
from app.core.errors import Conflict, Invalid
from app.core.model import Keyed, Moment, Stamped, big_integer
from app.extensions import Model


class HoldStatus(StrEnum):
    """Where a hold is in its life; nothing writes `live` or `expired` down, since time alone makes the difference."""

    LIVE = "live"
    CONFIRMED = "confirmed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class OutOfStock(Conflict):
    """Fewer than that are available: `available` says how many."""


class StockChanged(Conflict):
    """The stock is not what you expect: `stock` says what it is."""


class StockTooLarge(Conflict):
    """A product cannot have that many in stock."""


class HoldEnded(Conflict):
    """The hold was confirmed or cancelled already, or has expired: `hold_status` says which."""


class DeltaUnfit(Invalid):
    """Receipts and returns add, sales take away, corrections do either, and nothing moves by zero."""

    pointer = "/delta"


class Hold(Keyed, Stamped, Audited, Model):
    """A quantity that is kept for somebody until it is confirmed, cancelled or expires; no worker has to notice."""

    __tablename__ = "holds"
    audited_as = "hold"
    __table_args__ = (
        CheckConstraint("quantity > 0", name="quantity_positive"),
        CheckConstraint("outcome IN ('confirmed', 'cancelled')", name="outcome"),
        {"sqlite_autoincrement": True},
    )

    product_id: Mapped[int] = mapped_column(big_integer, ForeignKey("products.id", ondelete="RESTRICT"))
    quantity: Mapped[int] = mapped_column(big_integer)
    reference: Mapped[str | None] = mapped_column(String(128))
    expires_at: Mapped[Moment]
    outcome: Mapped[HoldStatus | None] = mapped_column(String(16))

    @property
    def status(self) -> HoldStatus:
        """What the hold is now."""
        return self.outcome or (HoldStatus.LIVE if self.expires_at > clock.now() else HoldStatus.EXPIRED)

    def end(self, outcome: HoldStatus) -> None:
        """Confirm or cancel a hold that is live."""
        if self.status is not HoldStatus.LIVE:
            raise HoldEnded(hold_status=self.status)
        self.outcome = outcome


_IS_OPEN = Hold.outcome.is_(None)
Index(
    "ix_holds_product_id_expires_at", Hold.product_id, Hold.expires_at, postgresql_where=_IS_OPEN, sqlite_where=_IS_OPEN
)
