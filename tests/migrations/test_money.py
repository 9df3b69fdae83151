"""Revision 0012: every price keeps its value, and on SQLite a table that is rebuilt keeps everything else."""

import random
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask
from flask_migrate import check, downgrade, upgrade
from sqlalchemy import inspect, select, text
from sqlalchemy.exc import IntegrityError

from app import create_app
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.products.models import Product
from app.features.products.search import find_words
from tests.conftest import settings_for
from tests.migrations.schema import schema
from tests.rows import MOMENT, ROWS

pytestmark = [
    pytest.mark.filterwarnings("ignore:Skipped unsupported reflection:sqlalchemy.exc.SAWarning"),
    pytest.mark.filterwarnings("ignore:autogenerate skipping metadata-specified expression-based index:UserWarning"),
]

BEFORE, AFTER = "0011", "0012"
#: In hundredths, as the release before had them: the least, the most, and yen with a fraction.
AWKWARD = [(1, "USD"), (10050, "JPY"), (1, "JPY"), (999_999_999_999, "EUR"), (125, "KWD")]


@pytest.fixture
def shop(backend: str, new_database: Callable[[str], str]) -> Iterator[Flask]:
    """An application on the schema of the release before, with a row in each table."""
    app = create_app(settings_for(new_database(backend)))
    with app.app_context():
        upgrade(revision=BEFORE)
        there = inspect(db.engine)
        columns = {name: {column["name"] for column in there.get_columns(name)} for name in there.get_table_names()}
        with unit_of_work():
            for table, row in ROWS.items():
                if table in columns:
                    insert(table, {name: value for name, value in row.items() if name in columns[table]})
        yield app
        db.engine.dispose()


def insert(table: str, *rows: dict[str, Any]) -> None:
    names, places = ", ".join(rows[0]), ", ".join(f":{name}" for name in rows[0])
    db.session.execute(text(f"INSERT INTO {table} ({names}) VALUES ({places})"), list(rows))


def execute(statement: str) -> None:
    with unit_of_work():
        db.session.execute(text(statement))


def read(statement: str) -> list[Any]:
    with unit_of_work(reading=True):
        return [tuple(row) for row in db.session.execute(text(statement))]


def stored(hundredths: int) -> Any:
    """A price as the release before stored it."""
    return hundredths if db.engine.dialect.name == "sqlite" else Decimal(hundredths).scaleb(-2)


def product(number: int, price: int, currency: str = "USD") -> dict[str, Any]:
    row = {**ROWS["products"], "id": number, "sku": f"B-{number}", "price": stored(price), "currency": currency}
    row |= {"slug": f"b-{number}", "gtin": None, "external_id": None, "search_text": f"oak{number} \n\n"}
    # There were no brands yet.
    return {name: value for name, value in row.items() if name != "brand_id"}


def prices() -> dict[int, Decimal]:
    with unit_of_work(reading=True):
        return {row.id: row.price for row in db.session.execute(select(Product.id, Product.price))}


def revision() -> str:
    ((found,),) = read("SELECT version_num FROM alembic_version")
    return str(found)


def refused(move: Callable[..., None], caplog: pytest.LogCaptureFixture, **options: Any) -> str:
    """What a migration that is refused says."""
    caplog.clear()
    with pytest.raises(SystemExit):
        move(**options)
    return caplog.text


@pytest.mark.usefixtures("shop")
class TestPrices:
    def test_keep_their_values_up_and_down(self) -> None:
        draw = random.Random(4217)
        with unit_of_work():
            insert("products", *(product(number, *awkward) for number, awkward in enumerate(AWKWARD, 10)))
            many = range(100, 20_100)
            insert("products", *(product(number, draw.randint(1, 999_999_999_999)) for number in many))
        unit = Decimal(1).scaleb(-2) if db.engine.dialect.name == "sqlite" else Decimal(1)
        before = {number: price * unit for number, price in read("SELECT id, price FROM products")}
        everything = "SELECT id, sku, name, tags, stock, search_text, updated_at, version FROM products ORDER BY id"
        others = read(everything)

        upgrade()

        assert len(before) == 1 + len(AWKWARD) + len(many)
        assert prices() == before
        assert before[11] == Decimal("100.50")
        assert read(everything) == others
        downgrade(revision=BEFORE)
        assert {number: price * unit for number, price in read("SELECT id, price FROM products")} == before
        assert read(everything) == others

    def test_of_nothing_can_be_stored_afterwards(self) -> None:
        upgrade()

        execute("UPDATE products SET price = 0")

        assert prices() == {1: Decimal(0)}
        with pytest.raises(IntegrityError):
            execute("UPDATE products SET price = -1")

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            ("UPDATE products SET price = 0", "1 products have a price of 0"),
            ("UPDATE products SET price = {finer}", "1 products have a price with more than two decimals"),
            ("UPDATE users SET username = '{long}'", "1 users have a username of more than 32 characters"),
        ],
    )
    def test_that_the_release_before_cannot_store_refuse_the_downgrade(
        self, caplog: pytest.LogCaptureFixture, change: str, sentence: str
    ) -> None:
        upgrade(revision=AFTER)
        finer = "12345" if db.engine.dialect.name == "sqlite" else "1.2345"
        execute(change.format(finer=finer, long="x" * 33))
        before = schema(), read("SELECT * FROM products"), read("SELECT * FROM users")

        said = refused(downgrade, caplog, revision=BEFORE)

        assert f"{sentence}, which the release before cannot store; nothing was changed" in said
        assert (schema(), read("SELECT * FROM products"), read("SELECT * FROM users")) == before
        assert revision() == AFTER


@pytest.mark.usefixtures("shop")
class TestTheTables:
    def test_keep_their_words_and_find_new_ones(self) -> None:
        with unit_of_work():
            insert("products", product(2, 100), product(3, 100))

        upgrade()

        with unit_of_work():
            insert("products", {**product(4, 100), "search_text": "elm \n\n"})
            db.session.execute(text("UPDATE products SET search_text = 'ash \n\n' WHERE id = 2"))
            db.session.execute(text("DELETE FROM products WHERE id = 3"))
        with unit_of_work(reading=True):
            words = ("p", "oak2", "oak3", "ash", "elm")
            found = [db.session.scalars(select(Product.id).where(find_words(word).condition)).all() for word in words]
        assert found == [[1], [], [], [2], [4]]

    def test_keep_what_refers_to_them(self) -> None:
        children = ("stock_movements", "holds", "sessions", "api_keys", "imports", "session_networks")
        before = [read(f"SELECT * FROM {table}") for table in children]

        upgrade()

        after = [read(f"SELECT * FROM {table}") for table in children]
        # Later migrations add columns.
        assert [[row[: len(old[0])] for row in rows] for rows, old in zip(after, before, strict=True)] == before
        assert all(before)
        for broken in ("UPDATE holds SET product_id = 9", "DELETE FROM products"):
            with pytest.raises(IntegrityError):
                execute(broken)
        execute("DELETE FROM users")
        assert read("SELECT * FROM sessions") == []

    def test_use_no_id_again(self) -> None:
        with unit_of_work():
            insert("products", product(99, 100))
            db.session.execute(text("DELETE FROM products WHERE id = 99"))
            if db.engine.dialect.name == "postgresql":
                db.session.execute(text("SELECT setval(pg_get_serial_sequence('products', 'id'), 99)"))

        upgrade()

        with unit_of_work():
            insert("products", {name: value for name, value in product(0, 100).items() if name != "id"})
        assert read("SELECT max(id) FROM products") == [(100,)]

    def test_have_every_index_and_trigger_again(self, backend: str) -> None:
        before = schema()

        # A later migration makes the indexes of lists anew.
        upgrade(revision=AFTER)
        upgraded = schema()
        downgrade(revision=BEFORE)

        assert schema() == before
        indexes = {name: parts for name, parts in before.items() if "ix_" in name or "uq_" in name}
        assert indexes.items() <= upgraded.items()
        if backend == "sqlite":
            triggers = [name for name in before if name.startswith("products_search_")]
            assert {name: before[name] for name in triggers}.items() <= upgraded.items()
            assert {"products_search_insert", "products_search_delete", "products_search_update"} <= set(triggers)

    def test_without_rows_are_rebuilt_as_well(self) -> None:
        there = inspect(db.engine).get_table_names()
        for table in reversed(ROWS):
            if table in there:
                execute(f"DELETE FROM {table}")

        upgrade()
        check()

        assert "compare_at_price" in [column["name"] for column in inspect(db.engine).get_columns("products")]


class TestBrokenReferences:
    """SQLite alone can have them: with foreign keys off, as its command line has them."""

    @pytest.fixture
    def backend(self) -> str:
        return "sqlite"

    @pytest.mark.usefixtures("shop")
    def test_refuse_the_migration(self, caplog: pytest.LogCaptureFixture) -> None:
        with db.engine.connect() as connection:
            driver: Any = connection.connection.dbapi_connection
            driver.execute("PRAGMA foreign_keys=OFF")
            members = "id, product_id, quantity, expires_at, created_at, updated_at"
            driver.execute(f"INSERT INTO holds ({members}) VALUES (7, 9, 1, ?, ?, ?)", [MOMENT] * 3)
            driver.execute("PRAGMA foreign_keys=ON")
        before = schema()

        said = refused(upgrade, caplog)

        assert "row 7 of holds refers to a row of products that is not there; nothing was changed" in said
        assert (schema(), revision()) == (before, BEFORE)
        with pytest.raises(IntegrityError):
            execute("UPDATE holds SET product_id = 10 WHERE id = 1")
