"""Parents and their variants: a variant is a product that refers to a row which is a parent."""

import sqlalchemy as sa
from alembic import op

from app.core.model import Money
from migrations.references import add_reference, drop_reference

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

LIVING = "deleted_at IS NULL"
OF_PARENT = "parent_id IS NOT NULL"
LISTED = "deleted_at IS NULL AND parent_id IS NULL"
#: The indexes of lists, by their columns: of those before this release, which had variants in none.
SORTS = ("name", "price", "stock")
WITHIN_CATEGORY = ("created_at", "updated_at", "name", "price", "stock", "sku")
LISTS = (
    *((sort, "id") for sort in SORTS),
    *(("category_id", sort, "id") for sort in WITHIN_CATEGORY),
    ("category_id", "id"),
    ("status", "created_at", "id"),
    ("currency", "price", "id"),
    ("brand_id", "created_at", "id"),
)
COLUMNS = (
    *("attribute_words", "missing", "variant_words", "parent_status", "option_key"),
    *("variant_count", "price_max", "position", "options"),
)


def upgrade() -> None:
    """Add the columns; every product is single. A new CHECK stands with its column, which SQLite can add to a table."""
    dialect = op.get_bind().dialect
    integer = sa.BigInteger().with_variant(sa.Integer(), "sqlite").compile(dialect)
    json = "JSONB" if dialect.name == "postgresql" else "JSON"
    # SQLite can add to a table only such a column as is not stored.
    stored = "STORED" if dialect.name == "postgresql" else ""
    is_kind = "CONSTRAINT ck_products_kind CHECK (kind IN ('single', 'parent', 'variant'))"
    add("kind", f"VARCHAR(8) DEFAULT 'single' NOT NULL {is_kind}")
    add("parent_key", f"{integer} GENERATED ALWAYS AS (CASE WHEN kind = 'parent' THEN id END) {stored}".rstrip())
    op.create_index("uq_products_parent_key", "products", ["parent_key"], unique=True)
    is_of_variant = "CONSTRAINT ck_products_parent_id_of_variant CHECK ((kind = 'variant') = (parent_id IS NOT NULL))"
    reference = "CONSTRAINT fk_products_parent_id_products REFERENCES products (parent_key) ON DELETE RESTRICT"
    add("parent_id", f"{integer} {is_of_variant} {reference}")
    is_placed = "CONSTRAINT ck_products_position_of_variant CHECK ((kind = 'variant') = (position IS NOT NULL))"
    add("position", f"{integer} {is_placed}")
    add("options", json)
    add("price_max", Money().load_dialect_impl(dialect).compile(dialect))
    add("variant_count", integer)
    add("option_key", "TEXT")
    add("parent_status", "VARCHAR(16)")
    add("variant_words", "TEXT")
    add("missing", json)
    add("attribute_words", "TEXT")
    add_reference("products", "type_id", "product_types")
    of_parent = sa.text(OF_PARENT)
    op.create_index(
        "ix_products_parent_id", "products", ["parent_id"], postgresql_where=of_parent, sqlite_where=of_parent
    )
    create_index(("parent_id", "position", "id"), f"{LIVING} AND {OF_PARENT}")
    where = sa.text(f"{LIVING} AND {OF_PARENT}")
    op.create_index(
        "uq_products_parent_id_option_key",
        "products",
        ["parent_id", "option_key"],
        unique=True,
        postgresql_where=where,
        sqlite_where=where,
    )
    for columns in LISTS:
        op.drop_index(name_of(columns), "products")
        create_index(columns, LISTED)
    create_values()


def downgrade() -> None:
    """Take the columns away. Variants stay as products that are sold by themselves.

    A parent, which nothing was ever received or sold of, is archived and has no stock. A variant that shoppers did not
    see, because they did not see its parent, has the status of that.
    """
    op.drop_table("attribute_values")
    drop_reference("products", "type_id")
    for columns in LISTS:
        op.drop_index(name_of(columns), "products")
    for name in ("uq_products_parent_id_option_key", name_of(("parent_id", "position", "id")), "ix_products_parent_id"):
        op.drop_index(name, "products")
    op.execute("UPDATE products SET status = parent_status WHERE status = 'active' AND parent_status <> 'active'")
    op.execute("UPDATE products SET parent_id = NULL, position = NULL, kind = 'single' WHERE kind = 'variant'")
    op.execute("UPDATE products SET kind = 'single', stock = 0, status = 'archived' WHERE kind = 'parent'")
    for column in (*COLUMNS, "parent_id"):
        op.drop_column("products", column)
    op.drop_index("uq_products_parent_key", "products")
    for column in ("parent_key", "kind"):
        op.drop_column("products", column)
    for columns in LISTS:
        create_index(columns, LIVING)


def create_values() -> None:
    """Create the index of values, and fill it with the tags that products have: there are no attributes yet."""
    integer = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    text = sa.String(200).with_variant(sa.String(200, collation="C"), "postgresql")
    op.create_table(
        "attribute_values",
        sa.Column("product_id", integer, nullable=False),
        sa.Column("listed_id", integer, nullable=True),
        sa.Column("attribute_id", integer, nullable=True),
        sa.Column("text", text, nullable=False),
        sa.Column("number", sa.Float(53), nullable=True),
        sa.ForeignKeyConstraint(
            ["product_id"], ["products.id"], name="fk_attribute_values_product_id_products", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["attribute_id"], ["attributes.id"], name="fk_attribute_values_attribute_id_attributes", ondelete="RESTRICT"
        ),
    )
    is_postgresql = op.get_bind().dialect.name == "postgresql"
    tags = (
        "jsonb_array_elements_text(products.tags) AS tag (value)"
        if is_postgresql
        else "json_each(products.tags) AS tag"
    )
    op.execute(
        "INSERT INTO attribute_values (product_id, listed_id, text) SELECT DISTINCT products.id, products.id, tag.value"  # noqa: S608 -- constants of this file
        f" FROM products, {tags} WHERE products.deleted_at IS NULL"
    )
    has_number = sa.text("number IS NOT NULL")
    op.create_index("ix_attribute_values_product_id", "attribute_values", ["product_id"])
    op.create_index(
        "ix_attribute_values_attribute_id_text", "attribute_values", ["attribute_id", "text", "listed_id", "product_id"]
    )
    op.create_index(
        "ix_attribute_values_attribute_id_number",
        "attribute_values",
        ["attribute_id", "number", "listed_id", "product_id"],
        postgresql_where=has_number,
        sqlite_where=has_number,
    )


def add(column: str, definition: str) -> None:
    """Add a column to the products."""
    op.execute(f"ALTER TABLE products ADD COLUMN {column} {definition}")


def create_index(columns: tuple[str, ...], where: str) -> None:
    """Create an index of the products that a condition leaves."""
    condition = sa.text(where)
    op.create_index(name_of(columns), "products", list(columns), postgresql_where=condition, sqlite_where=condition)


def name_of(columns: tuple[str, ...]) -> str:
    """The name of an index."""
    return f"ix_products_{'_'.join(columns)}"
