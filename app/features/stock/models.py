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
    """The state of a hold. `live` and `expired` are derived from the clock and not stored."""

    LIVE = "live"
    CONFIRMED = "confirmed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class OutOfStock(Conflict):
    """Fewer are available than you requested; `available` is the number."""

    members = {"available": int}


class StockChanged(Conflict):
    """The stock is not `expected_stock`; `stock` is the current one."""

    members = {"stock": int}


class StockTooLarge(Conflict):
    """This would raise the stock above the maximum of a product; move less."""


class HoldEnded(Conflict):
    """The hold was already confirmed or cancelled, or has expired; `hold_status` says which."""

    members = {"hold_status": HoldStatus}


class DeltaUnfit(Invalid):
    """The delta must be positive for receipts and returns, negative for sales, and not zero for corrections."""

    pointer = "/delta"


class Hold(Keyed, Stamped, Audited, Model):
    """A quantity reserved until it is confirmed, cancelled or expires; expiry is a comparison and needs no worker."""

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
        """The current state, by the clock."""
        return self.outcome or (HoldStatus.LIVE if self.expires_at > clock.now() else HoldStatus.EXPIRED)

    def end(self, outcome: HoldStatus) -> None:
        """Confirm or cancel the hold; ``HoldEnded`` unless it is live."""
        if self.status is not HoldStatus.LIVE:
            raise HoldEnded(hold_status=self.status)
        self.outcome = outcome


_IS_OPEN = Hold.outcome.is_(None)
Index(
    "ix_holds_product_id_expires_at", Hold.product_id, Hold.expires_at, postgresql_where=_IS_OPEN, sqlite_where=_IS_OPEN
)
