"""A table of SQLite that is rebuilt: what becomes of it, and which tables are refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations

from migrations.tables import rebuild_table

MADE = (
    'CREATE TABLE "order" (id INTEGER PRIMARY KEY AUTOINCREMENT, note TEXT, "group" INTEGER CHECK ("group" > 0))',
    "CREATE TABLE log (note TEXT)",
    'CREATE INDEX by_group ON "order" ("group") WHERE note IS NOT NULL',
    "CREATE TRIGGER noted AFTER INSERT ON \"order\" BEGIN INSERT INTO log VALUES (new.note || ':' || new.id); END",
    'INSERT INTO "order" (id, note, "group") VALUES (7, \':x\', 1), (41, NULL, 2)',
    'DELETE FROM "order" WHERE id = 41',
    "DELETE FROM log",
)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sa.Connection]:
    """A database with a table whose names need quotes, and a migration that is under way."""
    engine = sa.create_engine(f"sqlite:///{tmp_path}/tables.db")
    with engine.connect() as connection, Operations.context(MigrationContext.configure(connection)):
        for statement in MADE:
            connection.exec_driver_sql(statement)
        yield connection
    engine.dispose()


def rows(connection: sa.Connection, statement: str) -> list[Any]:
    return [tuple(row) for row in connection.exec_driver_sql(statement)]


class TestRebuildTable:
    def test_replaces_texts_and_computes_values(self, connection: sa.Connection) -> None:
        rebuild_table(
            "order", {'"group" > 0': '"group" >= 0', "note TEXT": "old TEXT, note TEXT"}, values={"old": "note"}
        )

        assert rows(connection, 'SELECT id, old, note, "group" FROM "order"') == [(7, ":x", ":x", 1)]
        connection.exec_driver_sql('UPDATE "order" SET "group" = 0')

    def test_keeps_indexes_triggers_and_the_highest_id(self, connection: sa.Connection) -> None:
        parts = "SELECT name, sql FROM sqlite_schema WHERE type IN ('index', 'trigger') ORDER BY name"
        before = rows(connection, parts)

        # Twice: a table that was renamed has its name in quotes.
        for old, new in (("> 0", ">= 0"), (">= 0", "> 0")):
            rebuild_table("order", {old: new})

        connection.exec_driver_sql("INSERT INTO \"order\" (note) VALUES ('new')")
        assert rows(connection, parts) == before != []
        assert rows(connection, "SELECT note FROM log") == [("new:42",)]

    @pytest.mark.parametrize("text", ["no such text", "INTEGER"])
    def test_refuses_a_table_that_is_not_the_expected_one(self, connection: sa.Connection, text: str) -> None:
        before = rows(connection, "SELECT sql FROM sqlite_schema")

        with pytest.raises(ValueError, match="times, not once"):
            rebuild_table("order", {text: "x"})

        assert rows(connection, "SELECT sql FROM sqlite_schema") == before
