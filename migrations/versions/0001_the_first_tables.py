"""The first tables: users, their sessions and refresh tokens, categories, products."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from app.core.model import UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ALIVE = {"postgresql_where": sa.text("deleted_at IS NULL"), "sqlite_where": sa.text("deleted_at IS NULL")}
SORTS = ("created_at", "updated_at", "name", "price", "stock")


def big_integer() -> sa.types.TypeEngine[int]:
    """A 64-bit integer; SQLite makes only INTEGER a row id."""
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def ordered_text(length: int) -> sa.String:
    """A text that sorts by code point."""
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def json() -> sa.types.TypeEngine[object]:
    """JSON that PostgreSQL can index."""
    return sa.JSON().with_variant(JSONB(), "postgresql")


def money() -> sa.types.TypeEngine[object]:
    """An amount with two decimals; SQLite, which has no true decimal, counts hundredths."""
    return sa.Numeric(12, 2).with_variant(sa.BigInteger(), "sqlite")


def stamps() -> list[sa.Column]:
    """When a row was made and changed, and how often."""
    return [
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
    ]


def upgrade() -> None:
    """Create everything."""
    # op.f marks a name as whole: of a CHECK, the naming convention would prefix it once more.
    op.create_table(
        "users",
        sa.Column("id", big_integer(), nullable=False),
        sa.Column("email", sa.String(254), nullable=False),
        sa.Column("username", sa.String(32), nullable=False),
        sa.Column("password_hash", sa.String(255), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("search_text", sa.Text(), nullable=False),
        *stamps(),
        sa.CheckConstraint("role IN ('user', 'editor', 'admin')", name=op.f("ck_users_role")),
        sa.CheckConstraint("email = lower(email)", name=op.f("ck_users_email_lower")),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("email", name="uq_users_email"),
        sqlite_autoincrement=True,
    )
    op.create_index("uq_users_username", "users", [sa.text("lower(username)")], unique=True)
    for column in ("created_at", "username"):
        op.create_index(f"ix_users_{column}_id", "users", [column, "id"])

    op.create_table(
        "sessions",
        sa.Column("id", big_integer(), nullable=False),
        sa.Column("user_id", big_integer(), nullable=False),
        sa.Column("device", sa.String(200), nullable=False),
        sa.Column("address", sa.String(45), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("last_seen_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.Column("revoked_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_sessions_user_id_users", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_sessions_user_id_id", "sessions", ["user_id", "id"])

    op.create_table(
        "refresh_tokens",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("session_id", big_integer(), nullable=False),
        sa.Column("issued_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.Column("used_at", UtcDateTime(), nullable=True),
        sa.Column("successor_id", sa.String(36), nullable=True),
        sa.ForeignKeyConstraint(
            ["session_id"], ["sessions.id"], name="fk_refresh_tokens_session_id_sessions", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_refresh_tokens"),
    )
    op.create_index("ix_refresh_tokens_session_id", "refresh_tokens", ["session_id"])

    op.create_table(
        "categories",
        sa.Column("id", big_integer(), nullable=False),
        sa.Column("name", ordered_text(120), nullable=False),
        sa.Column("slug", ordered_text(140), nullable=False),
        sa.Column("parent_id", big_integer(), nullable=True),
        sa.Column("search_text", sa.Text(), nullable=False),
        *stamps(),
        sa.CheckConstraint("parent_id <> id", name=op.f("ck_categories_not_its_own_parent")),
        sa.ForeignKeyConstraint(
            ["parent_id"], ["categories.id"], name="fk_categories_parent_id_categories", ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_categories"),
        sa.UniqueConstraint("slug", name="uq_categories_slug"),
        sqlite_autoincrement=True,
    )
    for columns in (("name", "id"), ("created_at", "id"), ("updated_at", "id"), ("parent_id", "name", "id")):
        op.create_index(f"ix_categories_{'_'.join(columns)}", "categories", list(columns))

    op.create_table(
        "products",
        sa.Column("id", big_integer(), nullable=False),
        sa.Column("sku", ordered_text(64), nullable=False),
        sa.Column("name", ordered_text(200), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("price", money(), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("category_id", big_integer(), nullable=False),
        sa.Column("stock", big_integer(), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("tags", json(), nullable=False),
        sa.Column("attributes", json(), nullable=False),
        sa.Column("external_id", sa.String(128), nullable=True),
        sa.Column("search_text", sa.Text(), nullable=False),
        sa.Column("deleted_at", UtcDateTime(), nullable=True),
        *stamps(),
        sa.CheckConstraint("price > 0", name=op.f("ck_products_price_positive")),
        sa.CheckConstraint("stock >= 0", name=op.f("ck_products_stock_not_negative")),
        sa.CheckConstraint("status IN ('draft', 'active', 'archived')", name=op.f("ck_products_status")),
        sa.CheckConstraint("length(currency) = 3", name=op.f("ck_products_currency")),
        sa.ForeignKeyConstraint(
            ["category_id"], ["categories.id"], name="fk_products_category_id_categories", ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_products"),
        sqlite_autoincrement=True,
    )
    op.create_index("uq_products_sku", "products", ["sku"], unique=True, **ALIVE)
    op.create_index("ix_products_category_id", "products", ["category_id"])
    indexed = [("id",), ("category_id", "id"), ("category_id", "sku", "id")]
    indexed += [(sort, "id") for sort in SORTS] + [("category_id", sort, "id") for sort in SORTS]
    indexed += [("status", "created_at", "id"), ("currency", "price", "id")]
    for columns in indexed:
        op.create_index(f"ix_products_{'_'.join(columns)}", "products", list(columns), **ALIVE)
    if op.get_bind().dialect.name == "postgresql":
        op.create_index(
            "ix_products_tags", "products", ["tags"], postgresql_using="gin", postgresql_ops={"tags": "jsonb_path_ops"}
        )


def downgrade() -> None:
    """Drop everything; indexes go with their tables."""
    for table in ("products", "categories", "refresh_tokens", "sessions", "users"):
        op.drop_table(table)
