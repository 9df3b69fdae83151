"""HTML in descriptions: search finds what a browser shows of them, and neither tags nor attributes."""

import html
import re
from collections.abc import Callable

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from app.core.text import words

revision = "0009"
down_revision = "0008"
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

# As the application had it when this was written.
ATTRIBUTES = r"""(?:[^<>=]++|=\s*+(?:"[^"]*+"|'[^']*+')?+)*+"""
MARKUP = re.compile(
    rf"""<!--(?:-?>|.*?(?:--!?>|\Z))
    |<(?P<hidden>script|style)(?=[\s/>]){ATTRIBUTES}>.*?(?:</(?P=hidden)(?=[\s/>]|\Z)[^>]*+>?|\Z)
    |</?(?P<name>[a-z][\w:.-]*+)(?=[\s/>]){ATTRIBUTES}(?P<end>>)?
    |<!\[CDATA\[|<[!?][^<>]*+>""",
    re.ASCII | re.DOTALL | re.IGNORECASE | re.VERBOSE,
)
is_inline = re.compile(
    r"a|abbr|b|bdi|bdo|big|cite|code|em|font|i|kbd|mark|q|s|samp|small|span|strike|strong|sub|sup|tt|u|var|wbr",
    re.IGNORECASE,
).fullmatch
ENDLESS_REFERENCE = re.compile(r"&#[0-9]{100,};?")


def upgrade() -> None:
    """Write the words of each product again whose description has tags or entities."""
    rewrite(plain_text)


def downgrade() -> None:
    """Take tags and entities for words again."""
    rewrite(lambda description: description)


def rewrite(read: Callable[[str], str]) -> None:
    """Set the search_text of the products whose description has a ``<`` or an ``&``, after reading that."""
    connection = op.get_bind()
    has_html = PRODUCTS.c.description.contains("<") | PRODUCTS.c.description.contains("&")
    # Locked, so that a change in between is not overwritten with the words from before it.
    by_id = sa.select(PRODUCTS).where(has_html).order_by(PRODUCTS.c.id).limit(ROWS_AT_ONCE).with_for_update()
    change = sa.update(PRODUCTS).where(PRODUCTS.c.id == sa.bindparam("product_id"))
    last_id = 0
    while rows := connection.execute(by_id.where(PRODUCTS.c.id > last_id)).all():
        written = [{"product_id": row.id, "search_text": search_text(row, read(row.description))} for row in rows]
        connection.execute(change, written)
        last_id = rows[-1].id


def search_text(row: sa.Row, description: str) -> str:
    """A line of words for the name, one for the sku and tags, one for the description, each word once."""
    seen: set[str] = set()
    lines = []
    for place in (row.name, " ".join([row.sku, *row.tags]), description):
        found = [word for word in words(place) if word not in seen]
        seen.update(found)
        lines.append("".join(f"{word} " for word in found))
    return "\n".join(lines)


def plain_text(text: str) -> str:
    """What a browser shows of a text."""
    return html.unescape(ENDLESS_REFERENCE.sub(" ", MARKUP.sub(shown, text)))


def shown(markup: re.Match[str]) -> str:
    """What stands in the place of markup: nothing, a blank, or an incomplete tag as it is."""
    if markup["name"] is None:
        return ""
    if markup["end"] is None:
        return markup[0]
    return "" if is_inline(markup["name"]) else " "
