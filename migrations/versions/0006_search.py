"""Search: words are indexed, by weighted vectors on PostgreSQL and by an FTS5 table on SQLite."""

from collections.abc import Callable

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from app.core.text import fold, words

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

PRODUCTS = sa.table(
    "products",
    sa.column("id", sa.BigInteger),
    sa.column("name", sa.Text),
    sa.column("sku", sa.Text),
    sa.column("tags", sa.JSON().with_variant(JSONB(), "postgresql")),
    sa.column("description", sa.Text),
    sa.column("search_text", sa.Text),
)
ROWS_AT_ONCE = 1000

ON_POSTGRESQL = (
    """ALTER TABLE products ADD COLUMN search_vector tsvector GENERATED ALWAYS AS (
        CAST(replace(split_part(search_text, chr(10), 1), ' ', ':1A ')
        || replace(split_part(search_text, chr(10), 2), ' ', ':1B ')
        || replace(split_part(search_text, chr(10), 3), ' ', ':1C ') AS tsvector)) STORED""",
    "CREATE INDEX ix_products_search_vector ON products USING gin (search_vector) WHERE deleted_at IS NULL",
    # An extension that may not be installed, or not permitted; without it no typos are forgiven.
    """DO $$ BEGIN
        CREATE EXTENSION IF NOT EXISTS pg_trgm;
        CREATE INDEX ix_products_search_trigrams ON products USING gin (
            (split_part(search_text, chr(10), 1) || split_part(search_text, chr(10), 2)) gin_trgm_ops)
            WHERE deleted_at IS NULL;
    EXCEPTION WHEN OTHERS THEN
        RAISE NOTICE USING MESSAGE = 'searches forgive no typos: ' || SQLERRM;
    END $$""",
)


def row(which: str) -> str:
    """The id of a product and the three lines of its search_text."""
    lines = f"""'["' || replace({which}.search_text, char(10), '","') || '"]'"""
    places = ", ".join(f"json_extract(lines, '$[{number}]')" for number in range(3))
    return f"id, {places} FROM (SELECT {which}.id AS id, {lines} AS lines)"


COLUMNS = "rowid, name, labels, description"
TAKE_OUT = f"INSERT INTO products_search (products_search, {COLUMNS}) SELECT 'delete', {row('old')}"
PUT_IN = f"INSERT INTO products_search ({COLUMNS}) SELECT {row('new')}"
ON_SQLITE = (
    """CREATE VIRTUAL TABLE products_search USING fts5(
        name, labels, description, content='', columnsize=0, detail='column', tokenize='ascii')""",
    f"CREATE TRIGGER products_search_insert AFTER INSERT ON products BEGIN {PUT_IN}; END",
    f"CREATE TRIGGER products_search_delete AFTER DELETE ON products BEGIN {TAKE_OUT}; END",
    f"""CREATE TRIGGER products_search_update AFTER UPDATE OF search_text ON products
        WHEN old.search_text <> new.search_text BEGIN {TAKE_OUT}; {PUT_IN}; END""",
)


FILL = PUT_IN.replace("AS lines)", "AS lines FROM products AS new)")


def upgrade() -> None:
    """Write the words of every product anew, and index them."""
    rewrite(words_by_place)
    on_sqlite = op.get_bind().dialect.name == "sqlite"
    for statement in (ON_SQLITE[0], FILL, *ON_SQLITE[1:]) if on_sqlite else ON_POSTGRESQL:
        # Not as text, in which a colon begins a parameter.
        op.execute(sa.DDL(statement))


def downgrade() -> None:
    """Go back to one folded text. The extension stays: others may use it."""
    if op.get_bind().dialect.name == "sqlite":
        for event in ("insert", "delete", "update"):
            op.execute(f"DROP TRIGGER products_search_{event}")
        op.execute("DROP TABLE products_search")
    else:
        op.execute("DROP INDEX IF EXISTS ix_products_search_trigrams")
        op.drop_column("products", "search_vector")
    rewrite(lambda row: fold(" ".join([row.name, row.sku, *row.tags, row.description])))


def rewrite(search_text: Callable[[sa.Row], str]) -> None:
    """Set the search_text of every product."""
    connection = op.get_bind()
    by_id = sa.select(PRODUCTS).order_by(PRODUCTS.c.id).limit(ROWS_AT_ONCE)
    change = sa.update(PRODUCTS).where(PRODUCTS.c.id == sa.bindparam("product_id"))
    last_id = 0
    while rows := connection.execute(by_id.where(PRODUCTS.c.id > last_id)).all():
        connection.execute(change, [{"product_id": row.id, "search_text": search_text(row)} for row in rows])
        last_id = rows[-1].id


def words_by_place(row: sa.Row) -> str:
    """A line of words for the name, one for the sku and tags, one for the description, each word once."""
    seen: set[str] = set()
    lines = []
    for place in (row.name, " ".join([row.sku, *row.tags]), row.description):
        found = [word for word in words(place) if word not in seen]
        seen.update(found)
        lines.append("".join(f"{word} " for word in found))
    return "\n".join(lines)
