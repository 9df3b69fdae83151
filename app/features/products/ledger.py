"""The ledger of stock: every change of a product's `stock` is a movement, and their sum is the stock.

It stands beside the column that it accounts for, because each way to create products opens their accounts here. Later
movements come from the feature `stock` and from imports.
"""

from enum import StrEnum

from sqlalchemy import (
    CheckConstraint,
    ColumnElement,
    ForeignKey,
    FromClause,
    Index,
    Insert,
    String,
    bindparam,
    func,
    insert,
    literal,
    select,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.core import clock
from app.core.audit import Audited, origin
from app.core.model import Keyed, Moment, big_integer
from app.extensions import Model, db
from app.features.products.models import PRODUCTS


class Reason(StrEnum):
    """Why stock moved. Receipts and returns add, sales take away, corrections do either."""

    RECEIPT = "receipt"
    SALE = "sale"
    CORRECTION = "correction"
    RETURN = "return"

    def allows(self, delta: int) -> bool:
        """Whether stock may move by ``delta`` for this reason; the table's CHECK says the same."""
        return {Reason.SALE: delta < 0, Reason.CORRECTION: delta != 0}.get(self, delta > 0)


class StockMovement(Keyed, Audited, Model):
    """One change of a product's stock. No use case changes or deletes a row of this table."""

    __tablename__ = "stock_movements"
    audited_as = "stock_movement"
    __table_args__ = (
        CheckConstraint(
            "(reason = 'sale' AND delta < 0) OR (reason IN ('receipt', 'return') AND delta > 0)"
            " OR (reason = 'correction' AND delta <> 0)",
            name="delta_fits_reason",
        ),
        CheckConstraint("stock_after >= 0", name="stock_after_not_negative"),
        {"sqlite_autoincrement": True},
    )

    product_id: Mapped[int] = mapped_column(big_integer, ForeignKey("products.id", ondelete="RESTRICT"))
    delta: Mapped[int] = mapped_column(big_integer)
    reason: Mapped[Reason] = mapped_column(String(16))
    reference: Mapped[str | None] = mapped_column(String(128))
    stock_after: Mapped[int] = mapped_column(big_integer)
    created_at: Mapped[Moment] = mapped_column(default=clock.now)
    actor_id: Mapped[int | None] = mapped_column(big_integer, default=lambda: origin.get().user_id)


# A movement is written by the transaction that locks the product's row, so that a product's movements have ids in the
# order of their commits.
Index("ix_stock_movements_product_id_id", StockMovement.product_id, StockMovement.id)
Index(
    "ix_stock_movements_product_id_created_at_id",
    StockMovement.product_id,
    StockMovement.created_at,
    StockMovement.id,
)

# By table and not by mapper, here and below: the audit trail has the products themselves.
MOVEMENTS = StockMovement.metadata.tables["stock_movements"]


def opening(products: FromClause) -> Insert:
    """The first receipt of each of ``products`` that has something in stock; the parameter ``mover`` is who made it."""
    made = products.c
    receipt = {
        "product_id": made.id,
        "delta": made.stock,
        "reason": literal(Reason.RECEIPT.value, String),
        "stock_after": made.stock,
        "created_at": made.created_at,
        "actor_id": bindparam("mover", None, big_integer),
    }
    return insert(MOVEMENTS).from_select(list(receipt), select(*receipt.values()).where(made.stock > 0))


def balance(products: ColumnElement[bool], *, reason: Reason) -> None:
    """Bring the ledger to what ``products`` say now: one movement for each whose stock differs from its last one's.

    One statement, however many they are. The caller has made or locked them in this transaction.
    """
    product, before = PRODUCTS, MOVEMENTS.alias("before")
    accounted = func.coalesce(
        select(before.c.stock_after)
        .where(before.c.product_id == product.c.id)
        .order_by(before.c.id.desc())
        .limit(1)
        .scalar_subquery(),
        0,
    )
    movements = select(product.c.id, product.c.stock - accounted, literal(reason), product.c.stock).where(
        products, product.c.stock != accounted
    )
    members = ["product_id", "delta", "reason", "stock_after"]
    db.session.execute(insert(MOVEMENTS).from_select(members, movements))
