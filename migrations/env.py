"""How migrations run: in one transaction, one runner at a time, without the request's time limits."""

import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from alembic import context
from alembic.ddl.sqlite import SQLiteImpl
from alembic.operations.ops import MigrationScript
from alembic.util import CommandError
from flask import current_app
from sqlalchemy import Connection, ForeignKeyConstraint, text

from app.core.connections import wait_without_timeout
from migrations.writing import next_number, render_item, write_references

db = current_app.extensions["migrate"].db

#: Any number that no other lock of this application uses.
MIGRATION_LOCK = 7_215_330_912


def finish(_context: object, _revision: object, scripts: list[MigrationScript]) -> None:
    """Give a new migration the next number, and its references the form that both databases understand."""
    (script,) = scripts
    # `flask db check` calls this too, and reports it itself.
    if getattr(context.config.cmd_opts, "autogenerate", False) and script.upgrade_ops.is_empty():
        raise SystemExit("Nothing to migrate: the migrations make what the models say.")
    script.rev_id = next_number(found.revision for found in context.script.walk_revisions())
    write_references(script)


OPTIONS_OF_REFERENCE = text('SELECT on_delete, on_update FROM pragma_foreign_key_list(:table) WHERE "from" = :column')


class SQLite(SQLiteImpl):
    """Alembic's comparison of SQLite's schema, which reads the options of a reference in a column's definition too."""

    __dialect__ = "sqlite"

    def correct_for_autogen_foreignkeys(
        self,
        conn_fks: Iterable[ForeignKeyConstraint],
        metadata_fks: Iterable[ForeignKeyConstraint],  # noqa: ARG002 -- Alembic passes it by name or place
    ) -> None:
        """Add what SQLAlchemy leaves out of a reference that was added with its column (migrations.references)."""
        for found in conn_fks:
            if found.name is None:
                names = {"table": found.table.name, "column": found.column_keys[0]}
                found.ondelete, found.onupdate = self.connection.execute(OPTIONS_OF_REFERENCE, names).one()


#: What SQLite does not have, or cannot reflect to be compared.
NOT_ON_SQLITE = {"uq_users_username"}
# Both warn of each comparison that they leave it out.
for _message in ("Skipped unsupported reflection", "autogenerate skipping metadata-specified expression-based index"):
    warnings.filterwarnings("ignore", _message)


#: What the models do not know, since only one of the databases has it (app.features.products.search).
OF_ONE_DATABASE = re.compile(r"products_search(_\w+)?|search_vector|ix_products_search_(vector|trigrams)")


#: An index of an expression that PostgreSQL stores in other words. The tests of migrations compare it.
NOT_COMPARABLE = {"uq_products_gtin"}


def include_object(_item: object, name: str | None, kind: str, _reflected: bool, _compared_to: object) -> bool:
    """Leave out of a comparison what the database cannot show."""
    if name and (OF_ONE_DATABASE.fullmatch(name) or name in NOT_COMPARABLE):
        return False
    return not (kind == "index" and name in NOT_ON_SQLITE and db.engine.dialect.name == "sqlite")


@contextmanager
def references_unenforced(connection: Connection) -> Iterator[None]:
    """Let migrations drop a table of SQLite that others refer to, and make it again (migrations.tables).

    Foreign keys can only be switched outside a transaction: it begins and ends in the block.
    """
    if connection.dialect.name != "sqlite":
        yield
        return
    driver: Any = connection.connection.dbapi_connection
    driver.execute("PRAGMA foreign_keys=OFF")
    try:
        yield
    finally:
        driver.execute("PRAGMA foreign_keys=ON")


def require_references(connection: Connection) -> None:
    """Refuse to commit migrations that leave a reference to a row that is not there."""
    if connection.dialect.name == "sqlite" and (broken := connection.execute(text("PRAGMA foreign_key_check")).first()):
        table, row, referred, _ = broken
        raise CommandError(f"row {row} of {table} refers to a row of {referred} that is not there; nothing was changed")


def run_migrations() -> None:
    """Bring the database to the requested revision; a second runner waits and then finds nothing to do."""
    with db.engine.connect() as connection, references_unenforced(connection):
        context.configure(
            connection=connection,
            target_metadata=db.metadata,
            render_item=render_item,
            include_object=include_object,
            process_revision_directives=finish,
            compare_type=True,
            # SQLite has transactional DDL; Alembic assumes that its driver does not, which is true of the driver's
            # own BEGIN but not of ours.
            transactional_ddl=True,
        )
        with context.begin_transaction():
            # BEGIN IMMEDIATE makes the second runner wait on SQLite, this lock on PostgreSQL.
            if connection.dialect.name == "postgresql":
                wait_without_timeout(connection)
                connection.execute(text("SET LOCAL lock_timeout = 0"))
                connection.execute(text("SET LOCAL statement_timeout = 0"))
                connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": MIGRATION_LOCK})
            before = context.get_context().get_current_heads()
            context.run_migrations()
            if context.get_context().get_current_heads() != before:
                require_references(connection)


if context.is_offline_mode():
    raise SystemExit("Offline migrations are not supported: they could not take the lock.")
run_migrations()
