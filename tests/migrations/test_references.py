"""A reference that a migration adds to a table with rows: what it is, and what it leaves as it was."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from flask import Flask
from flask_migrate import upgrade
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from app import create_app
from app.core.model import big_integer
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.products.models import Product
from app.features.products.search import find_words
from migrations.references import add_reference, drop_reference
from tests.conftest import settings_for
from tests.migrations.schema import schema
from tests.rows import ROWS

pytestmark = [
    pytest.mark.filterwarnings("ignore:Skipped unsupported reflection:sqlalchemy.exc.SAWarning"),
    pytest.mark.filterwarnings("ignore:autogenerate skipping metadata-specified expression-based index:UserWarning"),
]


def insert(table: str, row: dict[str, Any]) -> None:
    names, places = ", ".join(row), ", ".join(f":{name}" for name in row)
    db.session.execute(text(f"INSERT INTO {table} ({names}) VALUES ({places})"), row)


@pytest.fixture
def shop(backend: str, new_database: Callable[[str], str]) -> Iterator[Flask]:
    """An application with a row in each table, and makers, of which there is one."""
    app = create_app(settings_for(new_database(backend)))
    with app.app_context():
        upgrade()
        migrate(lambda operations: operations.create_table("makers", sa.Column("id", big_integer, primary_key=True)))
        with unit_of_work():
            for table, row in ROWS.items():
                insert(table, row)
            insert("makers", {"id": 1})
        yield app
        db.engine.dispose()


def migrate(change: Callable[[Operations], Any]) -> None:
    """Do in one transaction what a migration does."""
    with db.engine.begin() as connection, Operations.context(MigrationContext.configure(connection)) as operations:
        change(operations)


def add(**options: Any) -> None:
    migrate(lambda _: add_reference("products", "maker_id", "makers", **options))


def drop() -> None:
    migrate(lambda _: drop_reference("products", "maker_id"))


def models_with(**options: Any) -> sa.MetaData:
    """The models, if products had the reference."""
    metadata = sa.MetaData(naming_convention=db.metadata.naming_convention)
    for table in db.metadata.sorted_tables:
        table.to_metadata(metadata)
    sa.Table("makers", metadata, sa.Column("id", big_integer, primary_key=True))
    products = metadata.tables["products"]
    products.append_column(sa.Column("maker_id", big_integer, sa.ForeignKey("makers.id", **options)))
    sa.Index("ix_products_maker_id", products.c.maker_id)
    return metadata


def differences(metadata: sa.MetaData) -> list[Any]:
    """What Alembic would change of the reference."""
    with db.engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection), metadata)
    return [change for change in found if "maker" in str(change)]


def parts() -> set[tuple[str, str]]:
    return {(name, part) for name, lines in schema().items() for part in lines}


#: The keys of another product.
OTHER = {"sku": "B-2", "slug": "b-2", "gtin": None, "external_id": None}


def columns() -> list[str]:
    return [column["name"] for column in sa.inspect(db.engine).get_columns("products")]


class TestAdding:
    #: The keys of another product.

    @pytest.mark.usefixtures("shop")
    def test_keeps_every_row(self) -> None:
        before = columns()
        statement = text(f"SELECT {', '.join(before)} FROM products ORDER BY id")
        with unit_of_work(reading=True):
            rows = db.session.execute(statement).all()

        add()

        with unit_of_work(reading=True):
            assert db.session.execute(statement).all() == rows
            assert db.session.scalars(text("SELECT maker_id FROM products")).all() == [None]

    @pytest.mark.usefixtures("shop")
    def test_leaves_the_rest_of_the_schema_as_it_was(self, backend: str) -> None:
        before = parts()

        add()

        rule = "FOREIGN KEY (maker_id) REFERENCES makers(id) ON DELETE RESTRICT"
        assert before - parts() == set()
        assert {part for _, part in parts() - before} >= {
            "sqlite": {f"CONSTRAINT fk_products_maker_id_makers {rule.replace('Y (', 'Y(').replace('s(', 's (')}"},
            "postgresql": {"fk_products_maker_id_makers", rule},
        }[backend]
        assert {name.split(" ")[0] for name, _ in parts() - before} == {
            "sqlite": {"products", "ix_products_maker_id"},
            "postgresql": {"products.maker_id", "fk_products_maker_id_makers", "ix_products_maker_id"},
        }[backend]

    @pytest.mark.usefixtures("shop")
    def test_uses_no_id_again(self) -> None:
        with unit_of_work():
            insert("products", {**ROWS["products"], **OTHER, "id": 99})
            db.session.execute(text("DELETE FROM products WHERE id = 99"))
            if db.engine.dialect.name == "postgresql":
                db.session.execute(text("SELECT setval(pg_get_serial_sequence('products', 'id'), 99)"))

        add()

        with unit_of_work():
            insert("products", {key: value for key, value in ROWS["products"].items() if key != "id"} | OTHER)
            assert db.session.scalar(text("SELECT max(id) FROM products")) == 100

    @pytest.mark.usefixtures("shop")
    def test_keeps_what_is_found_by_words(self) -> None:
        add()

        with unit_of_work():
            db.session.execute(text("UPDATE products SET search_text = 'oak \n\n'"))
        with unit_of_work(reading=True):
            assert db.session.scalars(sa.select(Product.id).where(find_words("oak").condition)).all() == [1]

    @pytest.mark.usefixtures("shop")
    def test_makes_a_reference_that_the_database_keeps(self) -> None:
        add()

        with pytest.raises(IntegrityError), unit_of_work():
            db.session.execute(text("UPDATE products SET maker_id = 2"))
        with unit_of_work():
            db.session.execute(text("UPDATE products SET maker_id = 1"))
        with pytest.raises(IntegrityError), unit_of_work():
            db.session.execute(text("DELETE FROM makers"))

    @pytest.mark.usefixtures("shop")
    def test_can_end_with_what_it_refers_to_and_have_its_index_later(self) -> None:
        add(on_delete="SET NULL", index=False)

        with unit_of_work():
            db.session.execute(text("UPDATE products SET maker_id = 1"))
            db.session.execute(text("DELETE FROM makers"))
            assert db.session.scalars(text("SELECT maker_id FROM products")).all() == [None]
        assert "ix_products_maker_id" not in str(parts())

    @pytest.mark.usefixtures("shop")
    def test_is_what_alembic_finds_in_the_models(self) -> None:
        add()

        assert differences(models_with(ondelete="RESTRICT")) == []
        assert sorted(kind for kind, _ in differences(models_with(ondelete="CASCADE"))) == ["add_fk", "remove_fk"]


class TestDropping:
    @pytest.mark.usefixtures("shop")
    def test_leaves_the_schema_as_it_was(self) -> None:
        before = parts()
        add()
        index = "ix_products_maker_id_id", "products", ["maker_id", "id"]
        migrate(lambda operations: operations.create_index(*index, sqlite_where=sa.text("deleted_at IS NULL")))

        drop()

        assert parts() == before
