"""Keys: slugs, former ones too, GTINs, part numbers, weights; external ids are unique; stock that is not tracked."""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

from app.core.text import slugify
from migrations.tables import rebuild_table

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

LIVING = "deleted_at IS NULL"
GTIN_14 = "substr('000000' || gtin, length(gtin) - 7)"
#: The unique indexes of products, by name.
UNIQUE = {"uq_products_slug": "slug", "uq_products_gtin": GTIN_14, "uq_products_external_id": "external_id"}
ROWS_AT_ONCE = 1000
DISTINGUISH = f"""
    UPDATE products SET slug = substr(slug, 1, 120) || '-' || id WHERE id IN (
        SELECT id FROM (
            SELECT id, row_number() OVER (PARTITION BY slug ORDER BY id) AS place FROM products WHERE {LIVING}
        ) AS placed WHERE place > 1
    )
"""  # noqa: S608 -- a constant


def big_integer() -> sa.types.TypeEngine[int]:
    """A 64-bit integer; SQLite makes only INTEGER a row id."""
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def ordered_text(length: int) -> sa.types.TypeEngine[str]:
    """A text that sorts by code point on both databases."""
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    """Add the keys. Slugs are made from names; refuses, and changes nothing, where an external id is not unique."""
    require_unique_external_ids()
    op.create_table(
        "former_slugs",
        sa.Column("resource_type", sa.String(32), nullable=False),
        sa.Column("slug", ordered_text(140), nullable=False),
        sa.Column("resource_id", big_integer(), nullable=False),
        sa.PrimaryKeyConstraint("resource_type", "slug", name="pk_former_slugs"),
    )
    op.create_index("ix_former_slugs_resource_type_resource_id", "former_slugs", ["resource_type", "resource_id"])
    op.add_column("categories", sa.Column("external_id", sa.String(128), nullable=True))
    op.create_index("uq_categories_external_id", "categories", ["external_id"], unique=True)
    for column in (
        sa.Column("slug", ordered_text(140), nullable=True),
        sa.Column("gtin", sa.String(14), nullable=True),
        sa.Column("mpn", sa.String(70), nullable=True),
        sa.Column("track_stock", sa.Boolean(), nullable=False, server_default=sa.true()),
        sa.Column("weight_g", big_integer(), nullable=True),
    ):
        op.add_column("products", column)
    fill_slugs()
    if op.get_bind().dialect.name == "sqlite":
        rebuild_table("products", {"slug VARCHAR(140)": "slug VARCHAR(140) NOT NULL"})
    else:
        op.alter_column("products", "slug", nullable=False)
    for name, key in UNIQUE.items():
        op.create_index(
            name,
            "products",
            [sa.text(key)],
            unique=True,
            postgresql_where=sa.text(LIVING),
            sqlite_where=sa.text(LIVING),
        )


def downgrade() -> None:
    """Take the keys away again."""
    for name in UNIQUE:
        op.drop_index(name, "products")
    for column in ("weight_g", "track_stock", "mpn", "gtin", "slug"):
        op.drop_column("products", column)
    op.drop_index("uq_categories_external_id", "categories")
    op.drop_column("categories", "external_id")
    op.drop_table("former_slugs")


def require_unique_external_ids() -> None:
    """Refuse where several living products have one external id: none of them may lose it without notice."""
    statement = (
        f"SELECT external_id, min(id), max(id) FROM products WHERE {LIVING} AND external_id IS NOT NULL"  # noqa: S608 -- a constant
        " GROUP BY external_id HAVING count(*) > 1 ORDER BY 1 LIMIT 1"
    )
    found = op.get_bind().execute(sa.text(statement)).first()
    if found is not None:
        raise CommandError(
            f"the products {found[1]} and {found[2]}, and perhaps others, have the external id {found[0]!r}, which must"
            " be unique from now on: change it with the release before; nothing was changed"
        )


def fill_slugs() -> None:
    """Give each product a slug of its name, and those after the first of a name their id at the end of it."""
    connection = op.get_bind()
    change = sa.text("UPDATE products SET slug = :slug WHERE id = :product_id")
    for rows in batches(connection):
        connection.execute(
            change, [{"product_id": row.id, "slug": slugify(row.name)[:120].strip("-") or "product"} for row in rows]
        )
    # Another product's name may end with this id: the second round adds the id once more.
    while connection.execute(sa.text(DISTINGUISH)).rowcount:
        pass


def batches(connection: sa.Connection) -> Iterator[list[sa.Row]]:
    """The ids and names of all products, in batches by id."""
    rows = sa.text(f"SELECT id, name FROM products WHERE id > :last_id ORDER BY id LIMIT {ROWS_AT_ONCE}")  # noqa: S608 -- a constant
    last_id = 0
    while found := connection.execute(rows, {"last_id": last_id}).all():
        yield list(found)
        last_id = found[-1].id
