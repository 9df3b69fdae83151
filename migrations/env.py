"""How migrations run: in one transaction, one runner at a time, without the request's time limits."""

import re
from typing import Any

from alembic import context
from flask import current_app
from sqlalchemy import text

from app.core.connections import wait_without_timeout
from app.core.model import Money, UtcDateTime

db = current_app.extensions["migrate"].db

#: Any number that no other lock of this application uses.
MIGRATION_LOCK = 7_215_330_912


def render_item(kind: str, item: object, autogen_context: Any) -> str | bool:
    """Write our column types into migrations under their own names."""
    if kind == "type" and isinstance(item, Money | UtcDateTime):
        autogen_context.imports.add("from app.core.model import Money, UtcDateTime")
        return f"{type(item).__name__}()"
    return False


#: What SQLite does not have, or cannot reflect to be compared.
NOT_ON_SQLITE = {"ix_products_tags", "uq_users_username"}


#: What the models do not know, since only one of the databases has it (app.features.products.search).
OF_ONE_DATABASE = re.compile(r"products_search(_\w+)?|search_vector|ix_products_search_(vector|trigrams)")


def include_object(_item: object, name: str | None, kind: str, _reflected: bool, _compared_to: object) -> bool:
    """Leave out of a comparison what the database cannot show."""
    if name and OF_ONE_DATABASE.fullmatch(name):
        return False
    return not (kind == "index" and name in NOT_ON_SQLITE and db.engine.dialect.name == "sqlite")


def run_migrations() -> None:
    """Bring the database to the asked revision; a second runner waits and then finds nothing to do."""
    with db.engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=db.metadata,
            render_item=render_item,
            include_object=include_object,
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
            context.run_migrations()


if context.is_offline_mode():
    raise SystemExit("Offline migrations are not supported: they could not take the lock.")
run_migrations()
