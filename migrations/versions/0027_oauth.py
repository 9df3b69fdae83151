"""Identities of providers, OAuth clients, and what their sessions may do."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.references import add_reference, drop_reference

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables and the columns. Nothing is known of addresses that people have registered themselves."""
    op.add_column("users", sa.Column("email_verified", sa.Boolean(), nullable=False, server_default=sa.false()))
    # Only administrators make accounts of other roles than this one.
    op.execute("UPDATE users SET email_verified = true WHERE role <> 'user'")
    op.create_table(
        "identities",
        sa.Column("id", big_integer(), nullable=False),
        sa.Column("user_id", big_integer(), nullable=False),
        sa.Column("issuer", sa.String(length=255), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_identities_user_id_users", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_identities"),
        sa.UniqueConstraint("issuer", "subject", name="uq_identities_issuer_subject"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_identities_user_id_id", "identities", ["user_id", "id"])
    op.create_table(
        "oauth_clients",
        sa.Column("id", big_integer(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("redirect_uris", json(), nullable=False),
        sa.Column("scopes", json(), nullable=False),
        sa.Column("secret_hash", sa.String(length=64), nullable=True),
        sa.Column("last_four", sa.String(length=4), nullable=True),
        sa.Column("previous_hash", sa.String(length=64), nullable=True),
        sa.Column("previous_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.CheckConstraint("type IN ('confidential', 'public')", name="type"),
        sa.CheckConstraint("(type = 'confidential') = (secret_hash IS NOT NULL)", name="secret"),
        sa.PrimaryKeyConstraint("id", name="pk_oauth_clients"),
        sqlite_autoincrement=True,
    )
    add_reference("sessions", "client_id", "oauth_clients", on_delete="CASCADE")
    op.add_column("sessions", sa.Column("scopes", json(), nullable=True))
    add_reference("sessions", "identity_id", "identities", on_delete="SET NULL")
    op.add_column("sessions", sa.Column("provider_session", sa.String(length=255), nullable=True))
    named = sa.text("provider_session IS NOT NULL")
    op.create_index(
        "ix_sessions_provider_session", "sessions", ["provider_session"], postgresql_where=named, sqlite_where=named
    )
    op.create_table(
        "authorization_codes",
        sa.Column("code_hash", sa.String(length=64), nullable=False),
        sa.Column("client_id", big_integer(), nullable=False),
        sa.Column("user_id", big_integer(), nullable=False),
        sa.Column("redirect_uri", sa.String(length=2000), nullable=False),
        sa.Column("scopes", json(), nullable=False),
        sa.Column("code_challenge", sa.String(length=128), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("session_id", big_integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["client_id"],
            ["oauth_clients.id"],
            name="fk_authorization_codes_client_id_oauth_clients",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_authorization_codes_user_id_users", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["session_id"], ["sessions.id"], name="fk_authorization_codes_session_id_sessions", ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("code_hash", name="pk_authorization_codes"),
    )
    op.create_table(
        "login_codes",
        sa.Column("code_hash", sa.String(length=64), nullable=False),
        sa.Column("user_id", big_integer(), nullable=False),
        sa.Column("identity_id", big_integer(), nullable=False),
        sa.Column("provider_session", sa.String(length=255), nullable=True),
        sa.Column("code_challenge", sa.String(length=128), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("session_id", big_integer(), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_login_codes_user_id_users", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["identity_id"], ["identities.id"], name="fk_login_codes_identity_id_identities", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["session_id"], ["sessions.id"], name="fk_login_codes_session_id_sessions", ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("code_hash", name="pk_login_codes"),
    )
    for table, columns in REFERRING.items():
        for column in columns:
            op.create_index(f"ix_{table}_{column}", table, [column])


def downgrade() -> None:
    """Take them away again; sessions of apps end, and so does what providers alone let in."""
    op.drop_table("login_codes")
    op.drop_table("authorization_codes")
    # Without its scopes, a session of an app would be one of the person.
    op.execute("DELETE FROM refresh_tokens WHERE session_id IN (SELECT id FROM sessions WHERE client_id IS NOT NULL)")
    op.execute("DELETE FROM sessions WHERE client_id IS NOT NULL")
    op.drop_index("ix_sessions_provider_session", "sessions")
    op.drop_column("sessions", "provider_session")
    drop_reference("sessions", "identity_id")
    op.drop_column("sessions", "scopes")
    drop_reference("sessions", "client_id")
    op.drop_table("oauth_clients")
    op.drop_table("identities")
    op.drop_column("users", "email_verified")


#: What refers to rows that are deleted, or expires.
REFERRING = {
    "authorization_codes": ("client_id", "user_id", "session_id", "expires_at"),
    "login_codes": ("user_id", "identity_id", "session_id", "expires_at"),
}


def big_integer() -> sa.types.TypeEngine[int]:
    """A 64-bit integer; SQLite makes only INTEGER a row id."""
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def json() -> sa.types.TypeEngine[object]:
    """JSON that PostgreSQL can index."""
    return sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
