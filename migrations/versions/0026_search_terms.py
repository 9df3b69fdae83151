"""What products are searched for, by week."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "search_terms",
        sa.Column("id", big_integer(), nullable=False),
        sa.Column("week", sa.String(length=8), nullable=False),
        sa.Column("term", ordered_text(64), nullable=False),
        sa.Column("searches", big_integer(), nullable=False),
        sa.Column("empty_searches", big_integer(), nullable=False),
        sa.CheckConstraint("searches > 0", name="searches_positive"),
        sa.CheckConstraint("empty_searches BETWEEN 0 AND searches", name="empty_searches_among_searches"),
        sa.PrimaryKeyConstraint("id", name="pk_search_terms"),
        sqlite_autoincrement=True,
    )
    op.create_index("uq_search_terms_week_term", "search_terms", ["week", "term"], unique=True)


def downgrade() -> None:
    """Take it away again, with what was counted."""
    op.drop_table("search_terms")


def big_integer() -> sa.types.TypeEngine[int]:
    """A 64-bit integer; SQLite makes only INTEGER a row id."""
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def ordered_text(length: int) -> sa.types.TypeEngine[str]:
    """A text that sorts by code point on both databases."""
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")
