"""Stock: the ledger of movements, and holds."""

import sqlalchemy as sa
from alembic import op

from app.core.model import UtcDateTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def big_integer() -> sa.types.TypeEngine[int]:
    """A 64-bit integer; SQLite makes only INTEGER a row id."""
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add both, and open the ledger with what there is in stock."""
    op.create_table(
        "stock_movements",
        sa.Column("id", big_integer(), nullable=False),
        sa.Column("product_id", big_integer(), nullable=False),
        sa.Column("delta", big_integer(), nullable=False),
        sa.Column("reason", sa.String(16), nullable=False),
        sa.Column("reference", sa.String(128), nullable=True),
        sa.Column("stock_after", big_integer(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("actor_id", big_integer(), nullable=True),
        sa.CheckConstraint(
            "(reason = 'sale' AND delta < 0) OR (reason IN ('receipt', 'return') AND delta > 0)"
            " OR (reason = 'correction' AND delta <> 0)",
            name=op.f("ck_stock_movements_delta_fits_reason"),
        ),
        sa.CheckConstraint("stock_after >= 0", name=op.f("ck_stock_movements_stock_after_not_negative")),
        sa.ForeignKeyConstraint(
            ["product_id"], ["products.id"], name="fk_stock_movements_product_id_products", ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_stock_movements"),
        sqlite_autoincrement=True,
    )
    # Deleted products too: their accounts must be right when they are restored.
    op.execute(
        "INSERT INTO stock_movements (product_id, delta, reason, reference, stock_after, created_at)"
        " SELECT id, stock, 'receipt', 'opening', stock, updated_at FROM products WHERE stock > 0 ORDER BY id"
    )
    for columns in (("product_id", "id"), ("product_id", "created_at", "id")):
        op.create_index(f"ix_stock_movements_{'_'.join(columns)}", "stock_movements", list(columns))

    op.create_table(
        "holds",
        sa.Column("id", big_integer(), nullable=False),
        sa.Column("product_id", big_integer(), nullable=False),
        sa.Column("quantity", big_integer(), nullable=False),
        sa.Column("reference", sa.String(128), nullable=True),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.CheckConstraint("quantity > 0", name=op.f("ck_holds_quantity_positive")),
        sa.CheckConstraint("outcome IN ('confirmed', 'cancelled')", name=op.f("ck_holds_outcome")),
        sa.ForeignKeyConstraint(
            ["product_id"], ["products.id"], name="fk_holds_product_id_products", ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_holds"),
        sqlite_autoincrement=True,
    )
    is_open = sa.text("outcome IS NULL")
    op.create_index(
        "ix_holds_product_id_expires_at",
        "holds",
        ["product_id", "expires_at"],
        postgresql_where=is_open,
        sqlite_where=is_open,
    )


def downgrade() -> None:
    """Take them away; the products keep their stock."""
    for table in ("holds", "stock_movements"):
        op.drop_table(table)
