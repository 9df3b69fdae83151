"""Keys: slugs, former ones too, GTINs, part numbers, weights; external ids are unique; stock that is not tracked."""

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
DISTINGUISH = """
    UPDATE made_slugs SET slug = substr(slug, 1, 120) || '-' || id WHERE id IN (
        SELECT id FROM (
            SELECT id, row_number() OVER (PARTITION BY slug ORDER BY id) AS place FROM made_slugs WHERE NOT dead
        ) AS placed WHERE place > 1
    )
"""
LOOK_UP = """
    CREATE FUNCTION pg_temp.made_slug(BIGINT) RETURNS VARCHAR LANGUAGE sql STABLE
    AS 'SELECT slug FROM made_slugs WHERE id = $1'
"""


def big_integer() -> sa.types.TypeEngine[int]:
    """A 64-bit integer; SQLite makes only INTEGER a row id."""
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def ordered_text(length: int) -> sa.types.TypeEngine[str]:
    """A text that sorts by code point on both databases."""
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    """Add the keys. Slugs are made from names; refuses, and changes nothing, where an external id is not unique."""
    require_unique_external_ids()
    make_slugs()
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


def make_slugs() -> None:
    """Make a slug for each product that there is, in a table of this transaction's own.

    It reads products in the time in which others may still write them: their table is not locked yet.
    """
    connection = op.get_bind()
    connection.execute(
        sa.text("CREATE TEMPORARY TABLE made_slugs (id BIGINT PRIMARY KEY, slug VARCHAR(140), dead BOOLEAN)")
    )
    insert_slugs(sa.text("SELECT id, name, deleted_at FROM products WHERE id > :last_id ORDER BY id LIMIT :number"))


def insert_slugs(rows: sa.TextClause) -> None:
    """Make slugs of the names of these products; of the living of one name, the first alone has it without its id."""
    connection = op.get_bind()
    insert = sa.text("INSERT INTO made_slugs (id, slug, dead) VALUES (:id, :slug, :dead)")
    last_id = 0
    while found := connection.execute(rows, {"last_id": last_id, "number": ROWS_AT_ONCE}).all():
        slugs = [slugify(row.name)[:120].strip("-") or "product" for row in found]
        dead = [row.deleted_at is not None for row in found]
        made = zip(found, slugs, dead, strict=True)
        connection.execute(insert, [{"id": row.id, "slug": slug, "dead": is_dead} for row, slug, is_dead in made])
        last_id = found[-1].id
    # Another product's name may end with this id: the second round adds the id once more.
    while connection.execute(sa.text(DISTINGUISH)).rowcount:
        pass


def fill_slugs() -> None:
    """Give the products their slugs, and make those of products that were created meanwhile."""
    insert_slugs(
        sa.text(
            "SELECT id, name, deleted_at FROM products WHERE id > :last_id AND id NOT IN (SELECT id FROM made_slugs)"
            " ORDER BY id LIMIT :number"
        )
    )
    if op.get_bind().dialect.name == "sqlite":
        op.execute("UPDATE products SET slug = made_slugs.slug FROM made_slugs WHERE made_slugs.id = products.id")
    else:
        # The table is rewritten at once: an UPDATE of every row, under all of its indexes, takes several times as long.
        op.execute(LOOK_UP)
        op.execute('ALTER TABLE products ALTER slug TYPE VARCHAR(140) COLLATE "C" USING pg_temp.made_slug(id)')
        op.execute("DROP FUNCTION pg_temp.made_slug(BIGINT)")
    op.execute("DROP TABLE made_slugs")
