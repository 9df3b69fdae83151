"""References that a model declares once: what is unknown, and what keeps a row from being deleted."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from app.core.query_stats import QueryStats, current_stats
from app.core.references import (
    constraints_on_deletion,
    find_unknown,
    find_unknown_among,
    is_referred_to,
    references_of,
    refers_to,
    refusals_of_references,
    stated_references,
)
from app.core.transactions import unit_of_work
from app.features.auth.models import LoginFailures
from app.features.brands.models import BrandUnknown
from app.features.categories.models import Category, CategoryUnknown
from app.features.categories.service import create_category
from app.features.product_types.models import ProductTypeUnknown
from app.features.products.models import Product
from tests.conftest import Caller
from tests.references import SupplierUnknown


class Base(DeclarativeBase):
    """A registry beside the application's."""


class Shelf(Base):
    __tablename__ = "categories"

    id: Mapped[int] = mapped_column(primary_key=True)


class Supplier(Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)


class Thing(Base):
    """A model with two references, to tables that the database has."""

    __tablename__ = "things"

    id: Mapped[int] = mapped_column(primary_key=True)
    category_id: Mapped[int] = mapped_column(refers_to("categories.id", unknown=CategoryUnknown))
    supplier_id: Mapped[int | None] = mapped_column(refers_to("users.id", unknown=SupplierUnknown))


THING: Any = Thing
NOWHERE = 999_999


@pytest.fixture
def category_id(app: Flask) -> int:
    with app.app_context(), unit_of_work():
        return create_category(name="Chairs").id


@pytest.fixture
def unknown_of(app: Flask) -> Callable[[dict[str, Any]], str | None]:
    """The member of the first unknown reference of some values."""

    def unknown_of(values: dict[str, Any]) -> str | None:
        with app.app_context(), unit_of_work():
            reference = find_unknown(stated_references(THING, values))
        return reference.member if reference is not None else None

    return unknown_of


class TestReferencesOf:
    def test_are_those_of_the_columns_in_their_order(self) -> None:
        found = [(one.member, str(one.key), one.unknown) for one in references_of(THING)]

        assert found == [
            ("category_id", "categories.id", CategoryUnknown),
            ("supplier_id", "users.id", SupplierUnknown),
        ]

    def test_name_their_constraints_as_the_database_does(self) -> None:
        assert refusals_of_references(Product) == {
            "fk_products_category_id_categories": CategoryUnknown,
            "fk_products_brand_id_brands": BrandUnknown,
            "fk_products_type_id_product_types": ProductTypeUnknown,
        }


class TestFindUnknown:
    def test_finds_none_where_all_are_there(self, unknown_of: Any, category_id: int, alice: Caller) -> None:
        assert unknown_of({"category_id": category_id, "supplier_id": alice.user_id}) is None

    def test_finds_each(self, unknown_of: Any, category_id: int, alice: Caller) -> None:
        assert unknown_of({"category_id": NOWHERE, "supplier_id": alice.user_id}) == "category_id"
        assert unknown_of({"category_id": category_id, "supplier_id": NOWHERE}) == "supplier_id"

    def test_takes_none_for_no_reference(self, unknown_of: Any, category_id: int) -> None:
        assert unknown_of({"category_id": category_id, "supplier_id": None}) is None
        assert unknown_of({}) is None

    def test_asks_once_for_all(self, app: Flask, category_id: int) -> None:
        token = current_stats.set(counted := QueryStats())
        with app.app_context(), unit_of_work(reading=True):
            find_unknown(stated_references(THING, {"category_id": category_id, "supplier_id": NOWHERE}))
        current_stats.reset(token)

        assert counted.statements == 1


class TestFindUnknownAmong:
    def test_finds_the_first_of_each_row(self, app: Flask, category_id: int, alice: Caller) -> None:
        rows: dict[str, dict[str, Any]] = {
            "good": {"category_id": category_id, "supplier_id": alice.user_id},
            "no supplier": {"category_id": category_id, "supplier_id": None},
            "unknown supplier": {"category_id": category_id, "supplier_id": NOWHERE},
            "nothing known": {"category_id": NOWHERE, "supplier_id": NOWHERE},
            "nothing stated": {},
        }

        with app.app_context(), unit_of_work():
            unknown = find_unknown_among(THING, rows)

        assert {key: reference.unknown for key, reference in unknown.items()} == {
            "unknown supplier": SupplierUnknown,
            "nothing known": CategoryUnknown,
        }


class TestDeletion:
    def test_is_refused_by_every_table_that_refers_to_the_row(self) -> None:
        assert constraints_on_deletion(Category) == [
            "fk_categories_parent_id_categories",
            "fk_products_category_id_categories",
        ]


def test_a_row_that_no_table_can_refer_to_is_not_referred_to(app: Flask) -> None:
    # Nothing refers to login counters: the condition is empty.
    with app.app_context(), unit_of_work(reading=True):
        assert not is_referred_to(LoginFailures(account="x"))
