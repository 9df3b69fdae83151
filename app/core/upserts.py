"""INSERT ... ON CONFLICT: PostgreSQL and SQLite spell it alike, and SQLAlchemy has a class of its own for each."""

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import FromClause
from sqlalchemy.dialects import postgresql, sqlite

from app.extensions import Model, db

Insertion = postgresql.Insert | sqlite.Insert

_INSERTS: Mapping[str, Callable[[Any], Insertion]] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}


def insert_into(table: type[Model] | FromClause, *, dialect: str | None = None) -> Insertion:
    """An INSERT that takes ON CONFLICT, in the named dialect or else in that of the application's database."""
    return _INSERTS[dialect or db.engine.dialect.name](table)
