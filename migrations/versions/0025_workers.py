"""The processes that run jobs, and indexes for what is counted: unready pictures and blocked accounts."""

import sqlalchemy as sa
from alembic import op

from app.core.model import UtcDateTime

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

UNREADY = "status IN ('failed', 'processing', 'receiving', 'removing')"


def upgrade() -> None:
    """Add the table and the indexes."""
    op.create_table(
        "workers",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=False),
        sa.Column("seen_at", UtcDateTime(), nullable=False),
        sa.CheckConstraint("kind IN ('worker', 'celery', 'server')", name="kind"),
        sa.PrimaryKeyConstraint("id", name="pk_workers"),
    )
    add_partial_index("ix_media_assets_status_id", "media_assets", ["status", "id"], UNREADY)
    add_partial_index("ix_login_failures_first_at", "login_failures", ["first_at"], "failures >= 50")
    add_partial_index("ix_network_login_failures_first_at", "network_login_failures", ["first_at"], "failures >= 10")


def downgrade() -> None:
    """Take them away again."""
    op.drop_index("ix_network_login_failures_first_at", "network_login_failures")
    op.drop_index("ix_login_failures_first_at", "login_failures")
    op.drop_index("ix_media_assets_status_id", "media_assets")
    op.drop_table("workers")


def add_partial_index(name: str, table: str, columns: list[str], condition: str) -> None:
    """Add an index of the rows that meet a condition."""
    where = sa.text(condition)
    op.create_index(name, table, columns, postgresql_where=where, sqlite_where=where)
