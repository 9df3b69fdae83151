"""Two counters: products count what happens beside the writes of clients, and events have both counters."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def big_integer() -> sa.types.TypeEngine[int]:
    """A 64-bit integer; SQLite makes only INTEGER a row id."""
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the counters. Entity tags that clients hold have the version alone, which is still compared."""
    op.add_column("products", sa.Column("live", big_integer(), nullable=False, server_default="0"))
    op.add_column("change_events", sa.Column("row_live", big_integer(), nullable=True))


def downgrade() -> None:
    """Take the counters away."""
    op.drop_column("change_events", "row_live")
    op.drop_column("products", "live")
