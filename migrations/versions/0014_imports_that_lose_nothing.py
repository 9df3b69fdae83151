"""What an import remembers of the rows of its file, its failed rows, and what it says of a fault."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what imports remember; ``import_skus`` stays for workers of the release before."""
    op.create_table(
        "import_first_rows",
        sa.Column("import_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("key", ordered_text(140), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["import_id"], ["imports.id"], name=op.f("fk_import_first_rows_import_id_imports"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("import_id", "key", name=op.f("pk_import_first_rows")),
    )
    op.create_table(
        "import_failed_rows",
        sa.Column("import_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("line", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["import_id"], ["imports.id"], name=op.f("fk_import_failed_rows_import_id_imports"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("import_id", "line", name=op.f("pk_import_failed_rows")),
    )
    op.add_column("import_faults", sa.Column("file_column", sa.Text(), nullable=True))
    op.add_column("import_faults", sa.Column("value", sa.Text(), nullable=True))
    op.add_column("import_faults", sa.Column("expected", sa.Text(), nullable=True))


def downgrade() -> None:
    """Forget it again."""
    op.drop_column("import_faults", "expected")
    op.drop_column("import_faults", "value")
    op.drop_column("import_faults", "file_column")
    op.drop_table("import_failed_rows")
    op.drop_table("import_first_rows")


def ordered_text(length: int) -> sa.types.TypeEngine[str]:
    """A text that sorts by code point on both databases."""
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")
