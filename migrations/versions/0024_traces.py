"""The trace and the request that jobs and changes come from."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

TABLES = ("jobs", "change_log", "change_events", "webhook_deliveries")


def upgrade() -> None:
    """Add the columns. What the release before writes has no trace."""
    for table in TABLES:
        op.add_column(table, sa.Column("traceparent", sa.String(length=55), nullable=True))
    op.add_column("jobs", sa.Column("request_id", sa.String(length=64), nullable=True))


def downgrade() -> None:
    """Take the columns away."""
    op.drop_column("jobs", "request_id")
    for table in reversed(TABLES):
        op.drop_column(table, "traceparent")
