"""Keys that open jobs have once, and indexes for lists of jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

IS_OPEN = sa.text("status IN ('queued', 'running')")


def upgrade() -> None:
    """Add the keys; workers of the release before leave them empty."""
    op.add_column("jobs", sa.Column("key", sa.String(64), nullable=True))
    op.create_index("ix_jobs_created_at_id", "jobs", ["created_at", "id"])
    op.create_index("ix_jobs_kind_id", "jobs", ["kind", "id"])
    op.create_index("ix_jobs_status_id", "jobs", ["status", "id"])
    op.create_index("uq_jobs_key", "jobs", ["key"], unique=True, postgresql_where=IS_OPEN, sqlite_where=IS_OPEN)


def downgrade() -> None:
    """Take the keys away; jobs with one are left as others are."""
    for name in ("uq_jobs_key", "ix_jobs_status_id", "ix_jobs_kind_id", "ix_jobs_created_at_id"):
        op.drop_index(name, "jobs")
    op.drop_column("jobs", "key")
