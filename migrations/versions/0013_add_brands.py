"""Brands, and the brand of a product."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from app.core.model import UtcDateTime
from migrations.references import add_reference, drop_reference

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

LIVING = sa.text("deleted_at IS NULL")
API_KEYS = sa.table(
    "api_keys", sa.column("id", sa.BigInteger), sa.column("scopes", sa.JSON().with_variant(JSONB(), "postgresql"))
)


def upgrade() -> None:
    """Add the brands, and let products refer to one."""
    op.create_table(
        "brands",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", ordered_text(120), nullable=False),
        sa.Column("slug", ordered_text(140), nullable=False),
        sa.Column("website", sa.String(500), nullable=True),
        sa.Column("external_id", sa.String(128), nullable=True),
        sa.Column("search_text", sa.Text(), nullable=False),
        sa.Column("name_words", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_brands")),
        sa.UniqueConstraint("external_id", name=op.f("uq_brands_external_id")),
        sa.UniqueConstraint("name", name=op.f("uq_brands_name")),
        sa.UniqueConstraint("slug", name=op.f("uq_brands_slug")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_brands_created_at_id", "brands", ["created_at", "id"])
    op.create_index("ix_brands_updated_at_id", "brands", ["updated_at", "id"])
    add_reference("products", "brand_id", "brands")
    op.create_index(
        "ix_products_brand_id_created_at_id",
        "products",
        ["brand_id", "created_at", "id"],
        postgresql_where=LIVING,
        sqlite_where=LIVING,
    )


def downgrade() -> None:
    """Take the brands away again, with their former slugs and the scopes of API keys."""
    drop_reference("products", "brand_id")
    op.drop_table("brands")
    op.execute("DELETE FROM former_slugs WHERE resource_type = 'brand'")
    drop_scopes()


def drop_scopes() -> None:
    """Take the permissions on brands from the API keys: the release before refuses a key with an unknown scope."""
    connection = op.get_bind()
    for key in connection.execute(sa.select(API_KEYS)).all():
        scopes = [scope for scope in key.scopes if not scope.startswith("brands:")]
        if scopes != key.scopes:
            connection.execute(sa.update(API_KEYS).where(API_KEYS.c.id == key.id).values(scopes=scopes))


def ordered_text(length: int) -> sa.types.TypeEngine[str]:
    """A text that sorts by code point on both databases."""
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")
