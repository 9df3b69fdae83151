"""Attributes of products, and types of products that list them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from app.core.model import UtcDateTime

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

TYPES = "type IN ('text', 'integer', 'decimal', 'boolean', 'date', 'choice', 'choices')"
SCOPED = [
    sa.table(name, sa.column("id", sa.BigInteger), sa.column("scopes", sa.JSON().with_variant(JSONB(), "postgresql")))
    for name in ("api_keys", "webhooks")
]


def upgrade() -> None:
    """Add the three tables."""
    op.create_table(
        "attributes",
        sa.Column("id", big_integer(), nullable=False),
        sa.Column("code", ordered_text(63), nullable=False),
        sa.Column("label", ordered_text(120), nullable=False),
        sa.Column("type", sa.String(16), nullable=False),
        sa.Column("unit", sa.String(20), nullable=True),
        sa.Column("choices", json(), nullable=False),
        sa.Column("filterable", sa.Boolean(), nullable=False),
        sa.Column("searchable", sa.Boolean(), nullable=False),
        sa.Column("search_text", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.CheckConstraint(TYPES, name="type"),
        sa.PrimaryKeyConstraint("id", name="pk_attributes"),
        sa.UniqueConstraint("code", name="uq_attributes_code"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "product_types",
        sa.Column("id", big_integer(), nullable=False),
        sa.Column("code", ordered_text(63), nullable=False),
        sa.Column("label", ordered_text(120), nullable=False),
        sa.Column("attributes", json(), nullable=False),
        sa.Column("search_text", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_product_types"),
        sa.UniqueConstraint("code", name="uq_product_types_code"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "product_type_attributes",
        sa.Column("type_id", big_integer(), nullable=False),
        sa.Column("attribute_id", big_integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["type_id"],
            ["product_types.id"],
            name="fk_product_type_attributes_type_id_product_types",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["attribute_id"],
            ["attributes.id"],
            name="fk_product_type_attributes_attribute_id_attributes",
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("type_id", "attribute_id", name="pk_product_type_attributes"),
    )
    for table in ("attributes", "product_types"):
        for column in ("label", "created_at", "updated_at"):
            op.create_index(f"ix_{table}_{column}_id", table, [column, "id"])
    op.create_index("ix_product_type_attributes_attribute_id", "product_type_attributes", ["attribute_id"])


def downgrade() -> None:
    """Take them away again, with the scopes of API keys and of webhooks."""
    for table in ("product_type_attributes", "product_types", "attributes"):
        op.drop_table(table)
    for table in SCOPED:
        drop_scopes(table)


def drop_scopes(table: sa.TableClause) -> None:
    """Take the permissions on types from the rows of a table: the release before refuses an unknown scope."""
    connection = op.get_bind()
    for row in connection.execute(sa.select(table).where(table.c.scopes.is_not(None))).all():
        scopes = [scope for scope in row.scopes if not scope.startswith("types:")]
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
