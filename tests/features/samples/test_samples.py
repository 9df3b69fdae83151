"""The demo catalogue, and products by the million."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.attributes.models import AttributeType
from app.features.attributes.service import create_attribute
from app.features.brands.service import create_brand
from app.features.bulk import upserts
from app.features.categories.models import Category
from app.features.categories.service import create_category
from app.features.exports import service as exports
from app.features.exports.files import CATEGORY_SEPARATOR, COLUMNS
from app.features.imports.paths import read_path
from app.features.imports.row_schema import ImportRowSchema
from app.features.product_types.models import ProductType
from app.features.product_types.rules import all_definitions, find_rules
from app.features.product_types.service import create_product_type
from app.features.products import ledger
from app.features.products.models import PRODUCTS, Product, search_text
from app.features.products.values import TABLE, Definitions, listed_id_of, store
from app.features.samples import service as samples
from app.features.samples.vocabulary import BRANDS
from app.features.users.models import User
from app.security.passwords import hash_password
from app.security.permissions import Role
from tests.conftest import empty, rows_of
from tests.features.stock.test_movements import assert_ledger_adds_up
from tests.live.test_variants import assert_families_add_up

Generate = Callable[..., None]


def load_demo(app: Flask) -> samples.Loaded | None:
    with app.app_context(), unit_of_work():
        return samples.load_demo(currency="EUR")


def products_of(app: Flask) -> list[dict[str, Any]]:
    with app.app_context(), unit_of_work(reading=True):
        return [dict(row) for batch in exports.iter_products() for row in batch]


def rows_of_kind(app: Flask, *kinds: str) -> list[dict[str, Any]]:
    with app.app_context(), unit_of_work(reading=True):
        return [dict(row) for row in db.session.execute(select(PRODUCTS).where(PRODUCTS.c.kind.in_(kinds))).mappings()]


def state_of(app: Flask) -> list[Any]:
    tables = ("users", "categories", "brands", "attributes", "product_types", "products")
    return [rows_of(app, table) for table in tables]


class TestLoadDemo:
    def test_fills_an_empty_database(self, app: Flask) -> None:
        loaded = load_demo(app)

        assert loaded is not None
        assert len(rows_of_kind(app, "single", "parent")) == loaded.products >= 280
        assert len(rows_of_kind(app, "variant")) == loaded.variants >= 30
        assert len(rows_of(app, "categories")) == loaded.categories >= 25
        assert len(rows_of(app, "brands")) == loaded.brands >= 10

    def test_makes_a_tree_of_three_levels(self, app: Flask) -> None:
        load_demo(app)

        with app.app_context(), unit_of_work(reading=True):
            parents = {row.id: row.parent_id for row in db.session.execute(select(Category.id, Category.parent_id))}
        deepest = [category for category, parent in parents.items() if parent and parents[parent]]
        assert deepest
        assert all(parents[parents[parents[category] or 0] or 0] is None for category in deepest)

    def test_makes_products_that_the_api_would_take(self, app: Flask) -> None:
        load_demo(app)

        for product in products_of(app):
            row = {name: product[name] for name in COLUMNS if product[name] is not None}
            path = read_path(product["category"], CATEGORY_SEPARATOR)
            ImportRowSchema().load({**row, "category": path, "price": str(product["price"])})

    def test_gives_a_range_one_brand_or_none(self, app: Flask) -> None:
        load_demo(app)

        shown = {row["id"] for row in rows_of_kind(app, "single", "parent")}
        listed = [product for product in products_of(app) if product["id"] in shown]
        pairs = {(product["attributes"]["range"], product["brand"]) for product in listed}
        assert len(pairs) == len({name for name, _ in pairs})
        assert {brand for _, brand in pairs} == {*BRANDS, None}

    def test_has_attributes_that_its_products_fit(self, app: Flask) -> None:
        load_demo(app)

        with app.app_context(), unit_of_work(reading=True):
            definitions = all_definitions()
        values = [
            (definitions[code], value)
            for product in products_of(app)
            for code, value in product["attributes"].items()
            if code in definitions
        ]
        assert {definition.code for definition, _ in values} == {*definitions}
        assert [definition.fault_of(value) for definition, value in values if definition.fault_of(value)] == []

    def test_has_types_of_its_attributes(self, app: Flask) -> None:
        load_demo(app)

        with app.app_context(), unit_of_work(reading=True):
            found = find_rules(db.session.scalars(select(ProductType.id)).all())
        assert [[*rules.definitions] for rules in found.values()] == [
            ["width_cm", "seats", "range"],
            ["width_cm", "length_cm", "range"],
            ["colour", "range"],
        ]

    def test_names_no_two_products_alike(self, app: Flask) -> None:
        load_demo(app)

        listed = rows_of_kind(app, "single", "parent")
        assert Counter(product["name"] for product in listed).most_common(1)[0][1] == 1

    def test_has_products_of_each_type_with_variants(self, app: Flask) -> None:
        load_demo(app)

        parents = rows_of_kind(app, "parent")
        with app.app_context(), unit_of_work(reading=True):
            types = set(db.session.scalars(select(ProductType.id)))
        assert {parent["type_id"] for parent in parents} == types
        assert all(parent["missing"] is None for parent in parents)
        assert any(parent["stock"] == 0 for parent in rows_of_kind(app, "variant"))
        assert_families_add_up(app)

    def test_is_found_by_its_attributes_and_options(self, app: Flask) -> None:
        load_demo(app)

        with app.app_context(), unit_of_work(reading=True):
            before = sorted(map(tuple, db.session.execute(select(TABLE))), key=repr)
        with app.app_context(), unit_of_work():
            rows = {row["id"]: row for row in rows_of_kind(app, "single", "parent", "variant")}
            definitions = Definitions.of(rows.values())
            assessed = {one: definitions.assess(row, rows.get(row["parent_id"])) for one, row in rows.items()}
            store({one: (listed_id_of(row), assessed[one].values) for one, row in rows.items()})
        with app.app_context(), unit_of_work(reading=True):
            assert sorted(map(tuple, db.session.execute(select(TABLE))), key=repr) == before
        assert len(before) > len(rows)

    def test_has_drafts_archived_ones_and_some_out_of_stock(self, app: Flask) -> None:
        load_demo(app)

        products = products_of(app)
        assert {product["status"] for product in products} == {"draft", "active", "archived"}
        assert any(product["stock"] == 0 for product in products)

    def test_always_makes_the_same(self, app: Flask) -> None:
        load_demo(app)
        ids = {"id": 0, "category_id": 0, "brand_id": 0, "type_id": 0}
        first = [{**product, **ids} for product in products_of(app)]
        empty(app)

        load_demo(app)

        assert [{**product, **ids} for product in products_of(app)] == first

    def test_makes_a_user_of_each_role_who_can_log_in(self, app: Flask) -> None:
        load_demo(app)

        for login in samples.DEMO_LOGINS:
            answer = app.test_client().post(
                "/api/v1/auth/login", json={"email": login.email, "password": login.password}
            )
            assert answer.status_code == 200
        assert {login.role for login in samples.DEMO_LOGINS} == set(Role)

    @pytest.mark.parametrize("there", ["category", "brand", "attribute", "product type", "user"])
    def test_does_nothing_where_there_is_something(self, app: Flask, there: str) -> None:
        with app.app_context(), unit_of_work():
            if there == "user":
                db.session.add(User(email="a@example.com", username="alice", password_hash=hash_password("p" * 8)))
            elif there == "brand":
                create_brand(name="Oakworks")
            elif there == "attribute":
                create_attribute(code="width", label="Width", type=AttributeType.INTEGER)
            elif there == "product type":
                create_product_type(code="chair", label="Chair")
            else:
                create_category(name="Chairs")
        before = state_of(app)

        assert load_demo(app) is None
        assert state_of(app) == before

    def test_does_nothing_the_second_time(self, app: Flask) -> None:
        load_demo(app)
        before = state_of(app)

        assert load_demo(app) is None
        assert state_of(app) == before

    def test_that_crashes_leaves_nothing(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        def crash(*_: Any) -> None:
            raise RuntimeError("the plug was pulled")

        monkeypatch.setattr(upserts, "insert_products", crash)

        with pytest.raises(RuntimeError):
            load_demo(app)

        assert state_of(app) == [[], [], [], [], [], []]

    def test_twice_at_once_fills_it_once(self, app: Flask) -> None:
        def load(_number: int) -> samples.Loaded | None:
            for _ in range(10):
                # On a busy machine the one that comes first may take longer than the database lets the other wait.
                with suppress(OperationalError):
                    return load_demo(app)
            return load_demo(app)

        with ThreadPoolExecutor(2) as pool:
            loaded = list(pool.map(load, range(2)))

        assert loaded.count(None) == 1


class TestWorkingLogins:
    def test_are_those_of_the_demo(self, app: Flask) -> None:
        load_demo(app)

        with app.app_context(), unit_of_work(reading=True):
            assert samples.working_logins() == list(samples.DEMO_LOGINS)

    def test_are_none_without_the_demo(self, app: Flask) -> None:
        with app.app_context(), unit_of_work(reading=True):
            assert samples.working_logins() == []

    def test_are_not_those_whose_password_was_changed(self, app: Flask) -> None:
        load_demo(app)
        with app.app_context(), unit_of_work():
            admin = db.session.scalars(select(User).where(User.role == Role.ADMIN)).one()
            admin.password_hash = hash_password("another password")

        with app.app_context(), unit_of_work(reading=True):
            assert [login.role for login in samples.working_logins()] == [Role.EDITOR, Role.USER]

    def test_are_not_those_that_were_deactivated(self, app: Flask) -> None:
        load_demo(app)
        with app.app_context(), unit_of_work():
            db.session.scalars(select(User).where(User.role == Role.USER)).one().is_active = False

        with app.app_context(), unit_of_work(reading=True):
            assert [login.role for login in samples.working_logins()] == [Role.ADMIN, Role.EDITOR]


class TestGenerateProducts:
    @pytest.fixture
    def generate(self, app: Flask) -> Generate:
        def generate(count: int, seed: int = 1, parents: int = 0) -> None:
            with app.app_context(), unit_of_work():
                first = samples.next_number(seed)
                shelves = samples.plant_tree()
                numbers = range(first, first + count)
                samples.generate_products(seed, numbers, shelves, currency="EUR", parents=parents)

        return generate

    def test_makes_as_many_as_asked(self, app: Flask, generate: Generate) -> None:
        generate(500)

        assert len(products_of(app)) == 500

    def test_makes_as_many_with_variants_as_asked(self, app: Flask, generate: Generate) -> None:
        generate(500, parents=15)

        parents = rows_of_kind(app, "parent")
        assert 45 < len(parents) < 105
        assert len(rows_of_kind(app, "single")) == 500 - len(parents)
        sizes = Counter(row["parent_id"] for row in rows_of_kind(app, "variant"))
        assert sizes.keys() == {parent["id"] for parent in parents}
        assert (min(sizes.values()), max(sizes.values())) == (2, 8)
        assert_families_add_up(app)
        assert_ledger_adds_up(app)

    def test_makes_the_same_singles_whatever_the_share_of_parents(self, app: Flask, generate: Generate) -> None:
        generate(60)
        without = {row["sku"]: row["name"] for row in rows_of_kind(app, "single")}
        empty(app)

        generate(30, parents=50)
        generate(30, parents=50)

        singles = {row["sku"]: row["name"] for row in rows_of_kind(app, "single")}
        assert singles.items() <= without.items()
        assert 15 < len(singles) < 45
        first = [(row["sku"], row["name"], row["price"]) for row in rows_of_kind(app, "parent", "variant")]
        empty(app)
        generate(60, parents=50)
        again = [(row["sku"], row["name"], row["price"]) for row in rows_of_kind(app, "parent", "variant")]
        assert sorted(again) == sorted(first)

    def test_makes_products_that_the_api_would_take(self, app: Flask, generate: Generate) -> None:
        generate(500)

        for product in products_of(app):
            row = {name: product[name] for name in COLUMNS if product[name] is not None}
            path = read_path(product["category"], CATEGORY_SEPARATOR)
            ImportRowSchema().load({**row, "category": path, "price": str(product["price"])})

    def test_keeps_the_search_text(self, app: Flask, generate: Generate) -> None:
        generate(50)

        with app.app_context(), unit_of_work():
            for product in db.session.scalars(select(Product)):
                expected = search_text(
                    name=product.name, sku=product.sku, description=product.description, tags=product.tags
                )
                assert product.search_text == expected

    def test_makes_the_same_for_the_same_seed(self, app: Flask, generate: Generate) -> None:
        generate(50)
        first = [{**product, "id": 0} for product in products_of(app)]
        with app.app_context(), unit_of_work():
            db.session.execute(ledger.MOVEMENTS.delete())
            db.session.execute(PRODUCTS.delete())

        generate(20)
        generate(30)

        assert [{**product, "id": 0} for product in products_of(app)] == first

    def test_goes_on_though_somebody_uses_a_sku_like_its_own(self, app: Flask, generate: Generate) -> None:
        generate(5)
        with app.app_context(), unit_of_work():
            row = {"sku": "GEN-1-9x", "name": "Mine", "price": Decimal(1), "currency": "EUR"}
            upserts.insert_products([{**row, "category_id": create_category(name="Mine").id}])

        generate(5)

        assert max(product["sku"] for product in products_of(app) if product["name"] != "Mine") == "GEN-1-000000010"

    def test_makes_others_for_another_seed(self, app: Flask, generate: Generate) -> None:
        generate(50, seed=1)
        generate(50, seed=11)

        names = [product["name"] for product in products_of(app)]
        assert names[:50] != names[50:]
        assert len(names) == 100

    def test_files_them_on_the_shelves_of_the_demo(self, app: Flask, generate: Generate) -> None:
        load_demo(app)
        before = len(rows_of(app, "categories"))

        generate(50)

        assert len(rows_of(app, "categories")) == before

    def test_makes_believable_prices(self, app: Flask, generate: Generate) -> None:
        generate(300)

        amounts = sorted(product["price"] for product in products_of(app))
        assert amounts[0] > Decimal(1)
        assert amounts[-1] < Decimal(5000)
