"""All names of a change, the time before which events may be pruned, and when the stock of a product is low."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from app.core.model import UtcDateTime

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def big_integer() -> sa.types.TypeEngine[int]:
    """A 64-bit integer; SQLite makes only INTEGER a row id."""
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def json() -> sa.types.TypeEngine[object]:
    """JSON, as the database has it."""
    return sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    """Add the columns. What the release before has recorded, or records still, has its type for its only name."""
    for table in ("change_log", "change_events"):
        op.add_column(table, sa.Column("names", json(), nullable=True))
    op.add_column("catalogue_state", sa.Column("pruned_before", UtcDateTime(), nullable=True))
    # In one statement with its column, which SQLite can add to a table, as it can drop both.
    integer = big_integer().compile(op.get_bind().dialect)
    is_fit = "CONSTRAINT ck_products_low_stock_at_not_negative CHECK (low_stock_at >= 0)"
    op.execute(f"ALTER TABLE products ADD COLUMN low_stock_at {integer} {is_fit}")


def downgrade() -> None:
    """Take the columns away."""
    op.drop_column("products", "low_stock_at")
    op.drop_column("catalogue_state", "pruned_before")
    for table in ("change_events", "change_log"):
        op.drop_column(table, "names")
