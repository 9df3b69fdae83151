"""Tags are found by the index of values: those of a parent are its own, and the index of the column goes away."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Write the tags of parents, take those of variants from what lists show, and drop the index on PostgreSQL."""
    dialect = op.get_bind().dialect.name
    tags = "jsonb_array_elements_text(products.tags) AS tag (value)"
    if dialect != "postgresql":
        tags = "json_each(products.tags) AS tag"
    op.execute(
        "INSERT INTO attribute_values (product_id, listed_id, text) SELECT DISTINCT products.id, products.id, tag.value"  # noqa: S608 -- constants of this file
        f" FROM products, {tags} WHERE products.kind = 'parent' AND products.deleted_at IS NULL"
    )
    op.execute("UPDATE attribute_values SET listed_id = NULL WHERE attribute_id IS NULL AND listed_id <> product_id")
    if dialect == "postgresql":
        op.drop_index("ix_products_tags", "products")


def downgrade() -> None:
    """Put it back as it was."""
    if op.get_bind().dialect.name == "postgresql":
        op.create_index(
            "ix_products_tags", "products", ["tags"], postgresql_using="gin", postgresql_ops={"tags": "jsonb_path_ops"}
        )
    is_of = "(SELECT id FROM products WHERE kind = 'parent')"
    op.execute(f"DELETE FROM attribute_values WHERE attribute_id IS NULL AND product_id IN {is_of}")  # noqa: S608 -- a constant
    op.execute(
        sa.text(
            "UPDATE attribute_values SET listed_id = (SELECT parent_id FROM products WHERE id = product_id"
            " AND status = 'active') WHERE attribute_id IS NULL AND listed_id IS NULL"
        )
    )
