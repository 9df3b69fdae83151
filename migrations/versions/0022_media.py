"""Pictures: assets by their content, which products show them, and the one that stands on a product's row."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from app.core.model import UtcDateTime

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

STATUSES = "status IN ('receiving', 'processing', 'ready', 'failed', 'merged', 'removing')"
SCOPED = [
    sa.table(name, sa.column("id", sa.BigInteger), sa.column("scopes", sa.JSON().with_variant(JSONB(), "postgresql")))
    for name in ("api_keys", "webhooks")
]


def upgrade() -> None:
    """Add the two tables and the column."""
    op.create_table(
        "media_assets",
        sa.Column("id", big_integer(), nullable=False),
        sa.Column("sha256", ordered_text(64), nullable=True),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("keep", sa.String(8), server_default="copy", nullable=False),
        sa.Column("source_url", ordered_text(2000), nullable=True),
        sa.Column("media_type", sa.String(64), nullable=True),
        sa.Column("bytes", big_integer(), nullable=True),
        sa.Column("width", sa.Integer(), nullable=True),
        sa.Column("height", sa.Integer(), nullable=True),
        sa.Column("colour", sa.String(7), nullable=True),
        sa.Column("is_animated", sa.Boolean(), nullable=False),
        sa.Column("sources", json(), nullable=False),
        sa.Column("error_code", sa.String(64), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("merged_into_id", big_integer(), nullable=True),
        sa.Column("used_at", UtcDateTime(), nullable=False),
        sa.Column("is_settled", sa.Boolean(), nullable=False),
        sa.Column("deleted_at", UtcDateTime(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.CheckConstraint(STATUSES, name="status"),
        sa.CheckConstraint("keep IN ('copy', 'link')", name="keep"),
        sa.CheckConstraint("(status = 'merged') = (merged_into_id IS NOT NULL)", name="merged_into_id_of_merged"),
        sa.ForeignKeyConstraint(
            ["merged_into_id"],
            ["media_assets.id"],
            name="fk_media_assets_merged_into_id_media_assets",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_media_assets"),
        sqlite_autoincrement=True,
    )
    op.create_index("uq_media_assets_sha256", "media_assets", ["sha256"], unique=True)
    op.create_index("uq_media_assets_source_url_keep", "media_assets", ["source_url", "keep"], unique=True)
    for column in ("created_at", "updated_at", "used_at"):
        op.create_index(f"ix_media_assets_{column}_id", "media_assets", [column, "id"])
    op.create_index("ix_media_assets_merged_into_id", "media_assets", ["merged_into_id"])
    for column, where in (("is_settled", "is_settled IS false"), ("deleted_at", "deleted_at IS NOT NULL")):
        partial = sa.text(where if op.get_bind().dialect.name == "postgresql" else where.replace("false", "0"))
        op.create_index(
            f"ix_media_assets_{column}_id",
            "media_assets",
            [column, "id"],
            postgresql_where=partial,
            sqlite_where=partial,
        )
    op.create_table(
        "media_placements",
        sa.Column("product_id", big_integer(), nullable=False),
        sa.Column("media_id", big_integer(), nullable=False),
        sa.Column("position", big_integer(), nullable=False),
        sa.Column("alt", sa.String(500), nullable=False),
        sa.Column("variants", json(), nullable=False),
        sa.ForeignKeyConstraint(
            ["product_id"], ["products.id"], name="fk_media_placements_product_id_products", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["media_id"], ["media_assets.id"], name="fk_media_placements_media_id_media_assets", ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("product_id", "media_id", name="pk_media_placements"),
    )
    op.create_index("ix_media_placements_media_id", "media_placements", ["media_id", "product_id"])
    op.add_column("products", sa.Column("image", json(), nullable=True))


def downgrade() -> None:
    """Take them away again, with the scopes of API keys and of webhooks; the objects in the store stay."""
    op.drop_column("products", "image")
    op.drop_table("media_placements")
    op.drop_table("media_assets")
    for table in SCOPED:
        drop_scopes(table)


def drop_scopes(table: sa.TableClause) -> None:
    """Take the permissions on media from the rows of a table: the release before refuses an unknown scope."""
    connection = op.get_bind()
    for row in connection.execute(sa.select(table).where(table.c.scopes.is_not(None))).all():
        scopes = [scope for scope in row.scopes if not scope.startswith("media:")]
        if scopes != row.scopes:
            connection.execute(sa.update(table).where(table.c.id == row.id).values(scopes=scopes))


def big_integer() -> sa.types.TypeEngine[int]:
    """A 64-bit integer; SQLite makes only INTEGER a row id."""
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def json() -> sa.types.TypeEngine[object]:
    """JSON that PostgreSQL can index."""
    return sa.JSON().with_variant(JSONB(), "postgresql")


def ordered_text(length: int) -> sa.types.TypeEngine[str]:
    """A text that sorts by code point on both databases."""
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")
