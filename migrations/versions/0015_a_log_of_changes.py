"""The log of changes, and how far the change feed has numbered it."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from app.core.model import UtcDateTime

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def big_integer() -> sa.types.TypeEngine[int]:
    """A 64-bit integer; SQLite makes only INTEGER a row id."""
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def json() -> sa.types.TypeEngine[object]:
    """JSON, as the database has it."""
    return sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    """Add the log, which starts empty: what is in the feed is numbered already."""
    op.create_table(
        "change_log",
        sa.Column("id", big_integer(), nullable=False),
        sa.Column("xid", big_integer(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("resource_type", sa.String(32), nullable=False),
        sa.Column("resource_id", big_integer(), nullable=False),
        sa.Column("row_version", big_integer(), nullable=False),
        sa.Column("row_live", big_integer(), nullable=True),
        sa.Column("members", json(), nullable=True),
        sa.Column("scopes", json(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_change_log")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_change_log_xid_id", "change_log", ["xid", "id"])
    op.add_column("catalogue_state", sa.Column("log_id", big_integer(), nullable=False, server_default="0"))
    op.add_column("catalogue_state", sa.Column("log_floor", big_integer(), nullable=False, server_default="0"))
    op.add_column("catalogue_state", sa.Column("log_snapshot", sa.Text(), nullable=True))
    op.add_column("catalogue_state", sa.Column("log_xid", big_integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    """Take the log away again; what is in it and not in the feed is lost to the feed's readers."""
    op.drop_column("catalogue_state", "log_xid")
    op.drop_column("catalogue_state", "log_snapshot")
    op.drop_column("catalogue_state", "log_floor")
    op.drop_column("catalogue_state", "log_id")
    op.drop_table("change_log")
