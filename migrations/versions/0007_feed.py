"""The change feed, and the version of the catalogue."""

import sqlalchemy as sa
from alembic import op

from app.core.model import UtcDateTime

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def big_integer() -> sa.types.TypeEngine[int]:
    """A 64-bit integer; SQLite makes only INTEGER a row id."""
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the count of the catalogue's changes, and the changes."""
    op.create_table(
        "catalogue_state",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("version", big_integer(), nullable=False),
        sa.Column("pruned_through", big_integer(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_catalogue_state_one_row")),
        sa.PrimaryKeyConstraint("id", name="pk_catalogue_state"),
    )
    op.create_table(
        "change_events",
        sa.Column("id", big_integer(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("resource_type", sa.String(32), nullable=False),
        sa.Column("resource_id", big_integer(), nullable=False),
        sa.Column("row_version", big_integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_change_events"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_change_events_created_at_id", "change_events", ["created_at", "id"])


def downgrade() -> None:
    """Take it all away."""
    op.drop_table("change_events")
    op.drop_table("catalogue_state")
