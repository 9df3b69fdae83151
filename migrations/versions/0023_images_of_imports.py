"""The pictures that rows of imports wait for, and how many have failed."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table and the column."""
    op.create_table(
        "import_images",
        sa.Column("import_id", big_integer(), nullable=False),
        sa.Column("line", big_integer(), nullable=False),
        sa.Column("media_id", big_integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["import_id"], ["imports.id"], name="fk_import_images_import_id_imports", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["media_id"], ["media_assets.id"], name="fk_import_images_media_id_media_assets", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("import_id", "line", "media_id", name="pk_import_images"),
    )
    op.create_index("ix_import_images_media_id", "import_images", ["media_id"])
    op.add_column("imports", sa.Column("images_failed", big_integer(), server_default="0", nullable=False))


def downgrade() -> None:
    """Take them away again; pictures that fail are no faults of imports then."""
    op.drop_column("imports", "images_failed")
    op.drop_table("import_images")


def big_integer() -> sa.types.TypeEngine[int]:
    """A 64-bit integer; SQLite makes only INTEGER a row id."""
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")
