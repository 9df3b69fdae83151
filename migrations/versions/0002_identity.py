"""Identity: the guard on failed logins, API keys, the audit trail."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from app.core.model import UtcDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def big_integer() -> sa.types.TypeEngine[int]:
    """A 64-bit integer; SQLite makes only INTEGER a row id."""
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def json() -> sa.types.TypeEngine[object]:
    """JSON that PostgreSQL can index."""
    return sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    """Add what identity needs."""
    op.create_table(
        "login_failures",
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("first_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("account", name="pk_login_failures"),
    )

    op.create_table(
        "api_keys",
        sa.Column("id", big_integer(), nullable=False),
        sa.Column("user_id", big_integer(), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("scopes", json(), nullable=False),
        sa.Column("secret_hash", sa.String(64), nullable=False),
        sa.Column("last_four", sa.String(4), nullable=False),
        sa.Column("previous_hash", sa.String(64), nullable=True),
        sa.Column("previous_until", UtcDateTime(), nullable=True),
        sa.Column("expires_at", UtcDateTime(), nullable=True),
        sa.Column("last_used_at", UtcDateTime(), nullable=True),
        sa.Column("revoked_at", UtcDateTime(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_api_keys_user_id_users", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_api_keys_user_id_id", "api_keys", ["user_id", "id"])

    op.create_table(
        "audit_events",
        sa.Column("id", big_integer(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("actor_id", big_integer(), nullable=True),
        sa.Column("session_id", big_integer(), nullable=True),
        sa.Column("api_key_id", big_integer(), nullable=True),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("resource_type", sa.String(32), nullable=False),
        sa.Column("resource_id", big_integer(), nullable=True),
        sa.Column("before", json(), nullable=True),
        sa.Column("after", json(), nullable=True),
        sa.Column("request_id", sa.String(64), nullable=True),
        sa.Column("address", sa.String(45), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_audit_events"),
        sqlite_autoincrement=True,
    )
    for columns in (
        ("actor_id", "id"),
        ("action", "id"),
        ("resource_type", "resource_id", "id"),
        ("created_at", "id"),
    ):
        op.create_index(f"ix_audit_events_{'_'.join(columns)}", "audit_events", list(columns))


def downgrade() -> None:
    """Take it away again, with what was recorded."""
    for table in ("audit_events", "api_keys", "login_failures"):
        op.drop_table(table)
