"""References: a column with a foreign key, added to a table that exists and has rows.

    def upgrade() -> None:
        add_reference("products", "brand_id", "brands")

    def downgrade() -> None:
        drop_reference("products", "brand_id")

`make migration` writes these lines when a model has got such a column.

Both databases add the column by one ALTER TABLE that touches no row. The table stays as it is, with its triggers, CHECK
constraints, partial indexes and AUTOINCREMENT. Alembic's batch mode would copy the table and drop the original. That
loses the triggers that search needs, AUTOINCREMENT and the highest id that was ever used; and SQLite refuses to drop a
table whose rows others refer to.

The column is nullable. SQLite cannot add another one to a table with rows, nor change it later; the schema of the
request says what must have a value.

On PostgreSQL the statement locks both tables until the migration commits: the one that gets the column against
everything, the other against writes. The new constraint is valid at once, because PostgreSQL knows that the new column
is empty. NOT VALID followed by VALIDATE CONSTRAINT is for a column that has values: here it would read the whole table
under the same lock. What takes time is the index, about a second for a million rows. CREATE INDEX CONCURRENTLY does not
lock, but cannot run in a transaction, and all migrations are one. For a table that is too large for this say
``index=False``, create the index by hand with CONCURRENTLY once the release runs, and let the next migration create it
with ``if_not_exists=True``.
"""

import sqlalchemy as sa
from alembic import op

BIG_INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def add_reference(table: str, column: str, referred: str, *, on_delete: str = "RESTRICT", index: bool = True) -> None:
    """Add a nullable column to ``table`` that refers to the ``id`` of ``referred``, and an index for it."""
    bind = op.get_bind()
    quote = bind.dialect.identifier_preparer.quote
    statement = (
        f"ALTER TABLE {quote(table)} ADD COLUMN {quote(column)} {BIG_INTEGER.compile(bind.dialect)}"
        f" CONSTRAINT {quote(f'fk_{table}_{column}_{referred}')}"
        f" REFERENCES {quote(referred)} (id) ON DELETE {on_delete}"
    )
    op.execute(statement)
    if index:
        op.create_index(f"ix_{table}_{column}", table, [column])


def drop_reference(table: str, column: str) -> None:
    """Take the column away again, with every index that has it; PostgreSQL drops these by itself."""
    bind = op.get_bind()
    if bind.dialect.name == "sqlite":
        for index in sa.inspect(bind).get_indexes(table):
            if column in index["column_names"] and index["name"]:
                op.drop_index(index["name"], table)
    op.drop_column(table, column)
