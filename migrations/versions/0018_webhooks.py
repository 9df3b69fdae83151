"""Webhooks: endpoints, what is sent to them, and how far the feed is queued for them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from app.core.model import UtcDateTime

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

IS_PENDING = sa.text("status = 'pending'")
IS_SENDING = sa.text("status = 'sending'")
HAS_ENDED = sa.text("finished_at IS NOT NULL")
STATUSES = "status IN ('pending', 'sending', 'delivered', 'dead', 'skipped')"


def big_integer() -> sa.types.TypeEngine[int]:
    """A 64-bit integer; SQLite makes only INTEGER a row id."""
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def json() -> sa.types.TypeEngine[object]:
    """JSON that PostgreSQL can index."""
    return sa.JSON().with_variant(JSONB(), "postgresql")


def nullable_json() -> sa.types.TypeEngine[object]:
    """The same, in which None is the database's NULL."""
    return sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    """Add the three tables."""
    op.create_table(
        "webhooks",
        sa.Column("id", big_integer(), nullable=False),
        sa.Column("user_id", big_integer(), nullable=False),
        sa.Column("url", sa.String(2000), nullable=False),
        sa.Column("description", sa.String(200), nullable=False),
        sa.Column("events", json(), nullable=False),
        sa.Column("is_enabled", sa.Boolean(), nullable=False),
        sa.Column("disabled_reason", sa.String(16), nullable=True),
        sa.Column("scopes", nullable_json(), nullable=True),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("previous_secret", sa.Text(), nullable=True),
        sa.Column("previous_until", UtcDateTime(), nullable=True),
        sa.Column("job_id", big_integer(), nullable=True),
        sa.Column("starts_after", big_integer(), nullable=False),
        sa.Column("stops_after", big_integer(), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("failing_since", UtcDateTime(), nullable=True),
        sa.Column("paused_until", UtcDateTime(), nullable=True),
        sa.Column("deleted_at", UtcDateTime(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("live", big_integer(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_webhooks_user_id_users", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_webhooks_job_id_jobs", ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id", name="pk_webhooks"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_webhooks_user_id", "webhooks", ["user_id"])
    op.create_index("ix_webhooks_job_id", "webhooks", ["job_id"])
    op.create_index("ix_webhooks_created_at_id", "webhooks", ["created_at", "id"])

    op.create_table(
        "webhook_deliveries",
        sa.Column("id", big_integer(), nullable=False),
        sa.Column("webhook_id", big_integer(), nullable=False),
        sa.Column("message_id", sa.String(64), nullable=False),
        sa.Column("event_id", big_integer(), nullable=True),
        sa.Column("resource_type", sa.String(32), nullable=True),
        sa.Column("resource_id", big_integer(), nullable=True),
        sa.Column("row_version", big_integer(), nullable=True),
        sa.Column("row_live", big_integer(), nullable=True),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("types", json(), nullable=False),
        sa.Column("merged", sa.Integer(), nullable=False),
        sa.Column("occurred_at", UtcDateTime(), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("due_at", UtcDateTime(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("tried_since", UtcDateTime(), nullable=True),
        sa.Column("attempted_at", UtcDateTime(), nullable=True),
        sa.Column("finished_at", UtcDateTime(), nullable=True),
        sa.Column("response_status", sa.Integer(), nullable=True),
        sa.Column("latency_ms", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("request_body", sa.Text(), nullable=True),
        sa.Column("response_body", sa.Text(), nullable=True),
        sa.CheckConstraint(STATUSES, name="status"),
        sa.ForeignKeyConstraint(
            ["webhook_id"], ["webhooks.id"], name="fk_webhook_deliveries_webhook_id_webhooks", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_deliveries"),
        sqlite_autoincrement=True,
    )
    table = "webhook_deliveries"
    place = ["webhook_id", "resource_type", "resource_id"]
    _partial_index("uq_webhook_deliveries_webhook_id_resource_type_resource_id", place, IS_PENDING, unique=True)
    _partial_index("ix_webhook_deliveries_due", ["webhook_id", "due_at", "id"], IS_PENDING)
    _partial_index("ix_webhook_deliveries_sending", ["webhook_id"], IS_SENDING)
    op.create_index("ix_webhook_deliveries_webhook_id_id", table, ["webhook_id", "id"])
    op.create_index("ix_webhook_deliveries_webhook_id_status_id", table, ["webhook_id", "status", "id"])
    _partial_index("ix_webhook_deliveries_finished_at", ["finished_at"], HAS_ENDED)

    op.create_table(
        "webhook_dispatch",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("position", big_integer(), nullable=False),
        sa.CheckConstraint("id = 1", name="one_row"),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_dispatch"),
    )


def _partial_index(name: str, columns: list[str], condition: sa.TextClause, *, unique: bool = False) -> None:
    where = {"postgresql_where": condition, "sqlite_where": condition}
    op.create_index(name, "webhook_deliveries", columns, unique=unique, **where)


def downgrade() -> None:
    """Take them away, with all that waits."""
    for table in ("webhook_dispatch", "webhook_deliveries", "webhooks"):
        op.drop_table(table)
