"""Background jobs, and imports."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from app.core.model import UtcDateTime

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

IS_OPEN = sa.text("status IN ('queued', 'running')")


def big_integer() -> sa.types.TypeEngine[int]:
    """A 64-bit integer; SQLite makes only INTEGER a row id."""
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def json() -> sa.types.TypeEngine[object]:
    """JSON that PostgreSQL can index."""
    return sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    """Add the table of jobs, and those of imports."""
    op.create_table(
        "jobs",
        sa.Column("id", big_integer(), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("payload", json(), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("due_at", UtcDateTime(), nullable=False),
        sa.Column("lease", sa.String(32), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("progress", json(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=True),
        sa.Column("finished_at", UtcDateTime(), nullable=True),
        sa.CheckConstraint("status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')", name="status"),
        sa.CheckConstraint("(status = 'running') = (lease IS NOT NULL)", name="leased_while_running"),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_jobs_due_at_id", "jobs", ["due_at", "id"], postgresql_where=IS_OPEN, sqlite_where=IS_OPEN)

    op.create_table(
        "imports",
        sa.Column("id", big_integer(), nullable=False),
        sa.Column("user_id", big_integer(), nullable=False),
        sa.Column("job_id", big_integer(), nullable=False),
        sa.Column("size", big_integer(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_imports_user_id_users", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_imports_job_id_jobs", ondelete="RESTRICT"),
        sa.UniqueConstraint("job_id", name="uq_imports_job_id"),
        sa.PrimaryKeyConstraint("id", name="pk_imports"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_imports_user_id_id", "imports", ["user_id", "id"])

    op.create_table(
        "import_chunks",
        sa.Column("import_id", big_integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["import_id"], ["imports.id"], name="fk_import_chunks_import_id_imports", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("import_id", "number", name="pk_import_chunks"),
    )
    op.create_table(
        "import_skus",
        sa.Column("import_id", big_integer(), nullable=False),
        sa.Column("sku", sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql"), nullable=False),
        sa.Column("category", sa.String(200), nullable=False),
        sa.ForeignKeyConstraint(
            ["import_id"], ["imports.id"], name="fk_import_skus_import_id_imports", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("import_id", "sku", name="pk_import_skus"),
    )
    op.create_table(
        "import_faults",
        sa.Column("id", big_integer(), nullable=False),
        sa.Column("import_id", big_integer(), nullable=False),
        sa.Column("line", big_integer(), nullable=False),
        sa.Column("pointer", sa.Text(), nullable=False),
        sa.Column("code", sa.String(64), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["import_id"], ["imports.id"], name="fk_import_faults_import_id_imports", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_import_faults"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_import_faults_import_id_line_id", "import_faults", ["import_id", "line", "id"])


def downgrade() -> None:
    """Take it away again, with every import that was not finished."""
    for table in ("import_faults", "import_skus", "import_chunks", "imports", "jobs"):
        op.drop_table(table)
