"""Migrations: up, down and up, with rows in the tables, several at once, and just what the models say."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from flask import Flask
from flask_migrate import check, downgrade, upgrade
from sqlalchemy import inspect, select, text
from sqlalchemy.exc import DBAPIError

from app import create_app
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.api_keys.models import ApiKey
from app.features.auth.models import LoginFailures
from app.features.products.ledger import StockMovement
from app.features.products.models import Product, search_text
from app.features.products.search import find_words
from app.features.sessions.models import SessionNetwork
from app.features.webhooks.models import Webhook
from tests.conftest import Caller, code_of, empty, settings_for
from tests.migrations.schema import schema
from tests.rows import MOMENT, ROWS
from tests.servers import INHERITED, PROJECT

# SQLite cannot show the index on lower(username) as columns; the comparison of schemas below reads its text.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Skipped unsupported reflection:sqlalchemy.exc.SAWarning"),
    pytest.mark.filterwarnings("ignore:autogenerate skipping metadata-specified expression-based index:UserWarning"),
]

SCRIPTS = ScriptDirectory(str(PROJECT / "migrations"))
REVISIONS = [script.revision for script in SCRIPTS.walk_revisions()]


@pytest.fixture
def make_app(backend: str, new_database: Callable[[str], str]) -> Iterator[Callable[[], Flask]]:
    """Make an application on a database without a schema."""
    made = []

    def make() -> Flask:
        app = create_app(settings_for(new_database(backend)))
        made.append(app)
        return app

    yield make
    for app in made:
        with app.app_context():
            db.engine.dispose()


@pytest.fixture
def bare(make_app: Callable[[], Flask]) -> Iterator[Flask]:
    """An application on a database without a schema, and its context."""
    app = make_app()
    with app.app_context():
        yield app


#: Rows of tables as they were at old revisions: what ROWS has of today's columns is not for them.
OLD_STAMPS = {"created_at": MOMENT, "updated_at": MOMENT, "version": 1}
OLD_CATEGORY = {"id": 1, "name": "c", "slug": "c", "search_text": "c", **OLD_STAMPS}
OLD_PRODUCT = {
    "id": 1,
    "sku": "A-1",
    "name": "p",
    "description": "",
    "price": 1,
    "currency": "USD",
    "category_id": 1,
    "stock": 0,
    "status": "active",
    "tags": "[]",
    "attributes": "{}",
    "search_text": "p",
    **OLD_STAMPS,
}
OLD_USER = {
    "id": 1,
    "email": "bob@example.com",
    "username": "bob",
    "password_hash": "",
    "role": "user",
    "is_active": True,
    "epoch": 0,
    "search_text": "bob",
    **OLD_STAMPS,
}
OLD_SESSION = {
    "user_id": 1,
    "device": "",
    "address": "",
    "created_at": MOMENT,
    "last_seen_at": MOMENT,
    "expires_at": MOMENT,
}
OLD_LOGIN_FAILURES = {"account": "0" * 64, "failures": 1, "first_at": MOMENT}


def fill() -> None:
    """Put a row into each table."""
    with unit_of_work():
        for table, row in ROWS.items():
            insert(table, row)


def insert(table: str, row: dict[str, Any]) -> None:
    """Put a row into a table."""
    names = ", ".join(row)
    places = ", ".join(f":{name}" for name in row)
    db.session.execute(text(f"INSERT INTO {table} ({names}) VALUES ({places})"), row)


def tables() -> set[str]:
    """The tables that there are, but for those that SQLite's search keeps by itself."""
    found = set(inspect(db.engine).get_table_names()) - {"alembic_version"}
    return {name for name in found if not name.startswith("products_search")}


def revision() -> str | None:
    """The revision of the database."""
    with db.engine.connect() as connection:
        found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
        return found


class TestScripts:
    def test_have_a_single_head(self) -> None:
        assert SCRIPTS.get_heads() == [REVISIONS[0]]

    def test_have_a_single_base(self) -> None:
        assert SCRIPTS.get_bases() == [REVISIONS[-1]]

    def test_are_a_chain(self) -> None:
        assert [script.down_revision for script in SCRIPTS.walk_revisions()] == [*REVISIONS[1:], None]


class TestUp:
    @pytest.mark.usefixtures("bare")
    def test_makes_the_tables_of_the_models(self) -> None:
        upgrade()

        assert tables() == set(db.metadata.tables)
        assert revision() == REVISIONS[0]

    @pytest.mark.usefixtures("bare")
    def test_is_nothing_the_second_time(self) -> None:
        upgrade()
        fill()
        before = schema()

        upgrade()

        assert schema() == before

    @pytest.mark.usefixtures("bare")
    def test_leaves_nothing_for_alembic_to_add(self) -> None:
        upgrade()

        check()

    def test_leaves_nothing_between_the_schema_and_the_models(self, make_app: Callable[[], Flask]) -> None:
        with make_app().app_context():
            upgrade()
            migrated = schema()
        with make_app().app_context():
            db.create_all()
            modelled = schema()

        assert migrated == modelled

    @pytest.mark.usefixtures("bare")
    def test_that_fails_leaves_nothing_behind(self) -> None:
        with unit_of_work():
            db.session.execute(text("CREATE TABLE products (id INTEGER)"))

        with pytest.raises(DBAPIError):
            upgrade()

        assert tables() == {"products"}

    @pytest.mark.usefixtures("bare")
    def test_is_not_written_out_instead_of_done(self) -> None:
        with pytest.raises(SystemExit, match="not supported"):
            upgrade(sql=True)


class TestTheLedger:
    @pytest.mark.usefixtures("bare")
    def test_opens_with_what_there_is_in_stock(self) -> None:
        upgrade(revision="0003")
        products: list[dict[str, Any]] = [{"stock": 7}, {"stock": 0}, {"stock": 5, "deleted_at": MOMENT}]
        rows = [("categories", OLD_CATEGORY)]
        rows += [
            ("products", {**OLD_PRODUCT, "id": number, "sku": f"A-{number}", **product})
            for number, product in enumerate(products, 1)
        ]
        with unit_of_work():
            for table, row in rows:
                insert(table, row)

        upgrade()

        with unit_of_work(reading=True):
            found = db.session.execute(select(StockMovement).order_by(StockMovement.product_id)).scalars().all()
        told = [(row.product_id, row.delta, row.reason, row.stock_after, row.created_at) for row in found]
        moment = datetime.fromisoformat(MOMENT)
        assert told == [(1, 7, "receipt", 7, moment), (3, 5, "receipt", 5, moment)]


class TestNetworks:
    """Revision 0008 remembers the networks of the sessions that there are."""

    @pytest.mark.usefixtures("bare")
    def test_are_those_of_the_last_90_days(self) -> None:
        upgrade(revision="0007")
        old, recent, now = (datetime.now(UTC) - timedelta(days=days) for days in (91, 80, 0))
        sessions = [
            ("192.0.2.7", recent),
            ("192.0.2.9", now),
            ("::ffff:192.0.2.5", old),
            ("203.0.113.1", old),
            ("2001:db8:1:2:3::4", recent),
            ("", recent),
        ]
        with unit_of_work():
            insert("users", OLD_USER)
            insert("login_failures", OLD_LOGIN_FAILURES)
            for number, (address, moment) in enumerate(sessions, 1):
                row = {**OLD_SESSION, "id": number, "address": address, "last_seen_at": str(moment)}
                insert("sessions", row)

        upgrade()

        with unit_of_work(reading=True):
            found = db.session.execute(select(SessionNetwork.network, SessionNetwork.seen_at)).all()
            failures = db.session.scalars(select(LoginFailures.failures)).all()
        assert {tuple(row) for row in found} == {("192.0.2.0/24", now), ("2001:db8:1:2::/64", recent), ("", recent)}
        assert failures == [1]


class TestKeys:
    @staticmethod
    def fill(*products: dict[str, Any]) -> None:
        """Put products into a database of the revision before."""
        upgrade(revision="0009")
        with unit_of_work():
            insert("categories", OLD_CATEGORY)
            for number, product in enumerate(products, start=1):
                insert("products", {**OLD_PRODUCT, "id": number, "sku": f"A-{number}", **product})

    @pytest.mark.usefixtures("bare")
    def test_give_every_product_a_slug_of_its_own(self) -> None:
        names = ["Oak chair", "Oak Chair!", "椅子", "Oak chair 2", "Oak chair", "桌子", "x" * 200, "x" * 200]
        self.fill(*({"name": name} for name in names), {"name": "Oak chair", "deleted_at": MOMENT})

        upgrade()

        with unit_of_work(reading=True):
            slugs = db.session.scalars(select(Product.slug).order_by(Product.id)).all()
        *living, _ = slugs
        assert living[:3] == ["oak-chair", "oak-chair-2", "product"]
        assert len(set(living)) == len(living)
        assert slugs[-1] == "oak-chair"
        assert all(slug.startswith("oak-chair") for slug in (living[3], living[4]))
        assert {len(slug) for slug in living[6:]} == {120, 122}

    @pytest.mark.usefixtures("bare")
    def test_that_are_not_unique_are_refused_and_change_nothing(self) -> None:
        self.fill({"external_id": "erp-1"}, {"external_id": "erp-1"}, {"external_id": "erp-2"})
        before = schema()

        with pytest.raises(SystemExit):
            upgrade()

        assert (revision(), schema()) == ("0009", before)

    @pytest.mark.usefixtures("bare")
    def test_of_deleted_products_need_not_be_unique(self) -> None:
        self.fill({"external_id": "erp-1"}, {"external_id": "erp-1", "deleted_at": MOMENT})

        upgrade()

        assert revision() == REVISIONS[0]

    @pytest.mark.usefixtures("bare")
    def test_leave_the_highest_id_the_references_and_the_search(self, backend: str) -> None:
        self.fill({"name": "Oak chair", "search_text": "oak chair \na 1 \n"}, {})
        with unit_of_work():
            insert("stock_movements", {**ROWS["stock_movements"], "product_id": 1})
            db.session.execute(text("DELETE FROM products WHERE id = 2"))

        upgrade()

        with unit_of_work(reading=True):
            found = select(Product.id).where(find_words("oak chair").condition)
            assert db.session.scalars(found).all() == [1]
            assert db.session.scalars(select(StockMovement.product_id)).all() == [1]
            if backend == "sqlite":
                assert db.session.scalar(text("SELECT seq FROM sqlite_sequence WHERE name = 'products'")) == 2


class TestDown:
    @pytest.mark.usefixtures("bare")
    def test_removes_every_table_and_its_rows(self) -> None:
        upgrade()
        fill()

        downgrade(revision="base")

        assert tables() == set()
        assert revision() is None

    @pytest.mark.usefixtures("bare")
    def test_and_up_again_is_the_same_schema(self) -> None:
        upgrade()
        fill()
        before = schema()

        downgrade(revision="base")
        upgrade()

        assert schema() == before
        fill()

    @pytest.mark.timeout(600)
    def test_to_each_revision_and_up_again_works_with_rows(self, bare: Flask) -> None:
        upgrade()
        for target in (*REVISIONS[1:], "base"):
            fill()

            downgrade(revision=target)
            assert revision() == (None if target == "base" else target)
            upgrade()

            assert revision() == REVISIONS[0]
            check()
            # What is left of some tables would be in the way of the next rows.
            empty(bare)


class TestBrands:
    """Revision 0013 adds them, and on the way down leaves nothing that the release before cannot read."""

    @pytest.mark.usefixtures("bare")
    def test_go_with_their_former_slugs_and_scopes(self) -> None:
        upgrade()
        fill()
        with unit_of_work():
            insert("former_slugs", {"resource_type": "brand", "slug": "b-1", "resource_id": 1})
            db.session.execute(text("""UPDATE api_keys SET scopes = '["brands:read", "products:read"]'"""))

        downgrade(revision="0012")

        with unit_of_work(reading=True):
            assert db.session.scalars(select(ApiKey.scopes)).all() == [["products:read"]]
            assert db.session.scalars(text("SELECT resource_type FROM former_slugs")).all() == ["product"]


class TestProductTypes:
    """Revision 0019 adds them, and on the way down leaves no scope that the release before refuses."""

    @pytest.mark.usefixtures("bare")
    def test_go_with_their_scopes(self) -> None:
        upgrade()
        fill()
        with unit_of_work():
            for table in ("api_keys", "webhooks"):
                db.session.execute(text(f"""UPDATE {table} SET scopes = '["products:read", "types:read"]'"""))

        downgrade(revision="0018")

        with unit_of_work(reading=True):
            assert db.session.scalars(select(ApiKey.scopes)).all() == [["products:read"]]
            assert db.session.scalars(select(Webhook.scopes)).all() == [["products:read"]]


class TestSearch:
    """Revision 0006 writes the words of products that were there before."""

    #: What no text of words has: quotes, weights and operators of either database.
    TEXT = "It's \"Oak\":1A & 'Été' \\ {name} : *"

    @pytest.mark.usefixtures("bare")
    def test_finds_what_was_there_before(self) -> None:
        upgrade(revision="0002")
        with unit_of_work():
            insert("categories", {**OLD_CATEGORY, "search_text": self.TEXT})
            insert("products", {**OLD_PRODUCT, "description": self.TEXT, "search_text": self.TEXT})

        upgrade()

        with unit_of_work(reading=True):
            found = [
                db.session.scalars(select(Product.id).where(find_words(word).condition)).all()
                for word in ("ete oa", "elm")
            ]
            assert found == [[1], []]
            assert db.session.scalar(select(Product.search_text)) == "p \na 1 \nit s oak 1a ete name "

    @pytest.mark.usefixtures("bare")
    def test_leaves_the_folded_text_on_the_way_down(self) -> None:
        upgrade()
        fill()

        downgrade(revision="0002")

        with unit_of_work(reading=True):
            assert db.session.scalar(text("SELECT search_text FROM products")) == "p a-1"


class TestHtml:
    """Revision 0009 reads the descriptions that were there before as HTML."""

    DESCRIPTIONS = (
        ("<p class=elm>Caf&eacute;</p><p>table</p>", "cafe table ", "p class elm caf eacute table "),
        ("a < b", "a b ", "a b "),
        ("R&amp;D", "r d ", "r amp d "),
        ("p", "untouched", "untouched"),
    )

    @pytest.fixture
    def rows(self, bare: Flask) -> None:
        upgrade(revision="0008")
        with unit_of_work():
            insert("categories", OLD_CATEGORY)
            for number, (description, _, _) in enumerate(self.DESCRIPTIONS):
                names = {
                    "id": number + 1,
                    "sku": f"S-{number}",
                    "name": "Oak",
                    "description": description,
                }
                insert("products", {**OLD_PRODUCT, **names, "search_text": f"oak \ns {number} \nuntouched"})

    def texts(self) -> list[str]:
        """The words of the descriptions."""
        with unit_of_work(reading=True):
            found = db.session.scalars(text("SELECT search_text FROM products ORDER BY id")).all()
        assert [row.rpartition("\n")[0] for row in found] == [f"oak \ns {number} " for number in range(len(found))]
        return [row.rpartition("\n")[2] for row in found]

    @pytest.mark.usefixtures("rows")
    def test_is_found_by_what_it_shows(self) -> None:
        upgrade()

        assert self.texts() == [shown for _, shown, _ in self.DESCRIPTIONS]
        with unit_of_work(reading=True):
            found = [
                db.session.scalars(select(Product.id).where(find_words(word).condition)).all()
                for word in ("cafe", "elm")
            ]
            assert found == [[1], []]

    @pytest.mark.usefixtures("rows")
    def test_is_the_same_in_the_application(self) -> None:
        upgrade()
        with unit_of_work():
            products = db.session.scalars(select(Product).order_by(Product.id)).all()
            expected = [
                search_text(name=row.name, sku=row.sku, description=row.description, tags=row.tags) for row in products
            ]

            assert [row.search_text for row in products[:3]] == expected[:3]

    @pytest.mark.usefixtures("rows")
    def test_is_found_by_its_markup_on_the_way_down(self) -> None:
        upgrade()

        downgrade(revision="0008")

        assert self.texts() == [raw for _, _, raw in self.DESCRIPTIONS]

    @pytest.mark.usefixtures("rows")
    def test_may_be_in_more_rows_than_are_read_at_once(self) -> None:
        with unit_of_work():
            for number in range(len(self.DESCRIPTIONS), 2100):
                row = {**OLD_PRODUCT, "id": number + 1, "sku": f"S-{number}", "name": "Oak", "description": "<p>elm"}
                insert("products", {**row, "search_text": f"oak \ns {number} \n"})

        upgrade()

        assert set(self.texts()[len(self.DESCRIPTIONS) :]) == {"elm "}


#: Three processes that migrate one database from the same moment on. The application is loaded once for all.
SEVERAL = """
import os, signal
from app import create_app
from flask_migrate import upgrade

app = create_app()
waiting, start = os.pipe()
runners = []
for _ in range(3):
    runner = os.fork()
    if not runner:
        signal.alarm(80)
        os.close(start)
        os.read(waiting, 1)
        with app.app_context():
            upgrade()
        os._exit(0)
    runners.append(runner)
os.close(start)
print([os.waitstatus_to_exitcode(os.waitpid(runner, 0)[1]) for runner in runners])
"""


class TestSeveralAtOnce:
    def test_do_no_harm(self, bare: Flask) -> None:
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ} | {
            "APP_ENV": "testing",
            "DATABASE_URL": bare.config["DATABASE_URL"],
            "SECRET_KEY": "s" * 32,
            "JWT_SECRET_KEY": "j" * 32,
        }

        ended = subprocess.run(
            [sys.executable, "-c", SEVERAL],
            cwd=PROJECT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

        assert ended.stdout == "[0, 0, 0]\n", ended.stderr[-2000:]
        assert tables() == set(db.metadata.tables)
        fill()


class TestReadiness:
    def test_comes_with_the_schema_of_this_release(self, bare: Flask) -> None:
        upgrade()

        assert Caller(bare).get("//readyz").status_code == 200

    def test_waits_for_a_schema(self, bare: Flask) -> None:
        answer = Caller(bare).get("//readyz")

        assert answer.status_code == 503
        assert code_of(answer) == "database_not_ready"
        assert answer.headers["Retry-After"] == "1"

    def test_waits_for_the_migration_after_a_downgrade(self, bare: Flask) -> None:
        upgrade()
        downgrade(revision="base")

        assert Caller(bare).get("//readyz").status_code == 503

    def test_goes_with_a_schema_that_this_release_does_not_know(self, bare: Flask) -> None:
        upgrade()
        with unit_of_work():
            db.session.execute(text("UPDATE alembic_version SET version_num = '9999'"))

        answer = Caller(bare).get("//readyz")

        assert answer.status_code == 503
        assert code_of(answer) == "database_not_ready"
        assert Caller(bare).get("//livez").status_code == 200
