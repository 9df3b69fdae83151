"""Pages and walks of a collection, for any rows, order and length of page."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert

from app.core.listing import Criteria, CursorInvalid, CursorPage, read_keyset_page, read_page
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.categories.models import Category
from app.features.products.listing import LISTING, visible_to
from app.features.products.models import Product
from app.security.identity import Identity
from app.security.permissions import GRANTS, Role

any_rows = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
EDITOR = Identity(permissions=GRANTS[Role.EDITOR])
SOME_DAY = datetime(2026, 5, 17, tzinfo=UTC)
CATEGORY_ID = 1


@st.composite
def products(draw: st.DrawFn) -> dict[str, Any]:
    """A product whose values often tie with another's."""
    return {
        "name": draw(st.sampled_from(["", "A", "a", "a ", "ab", "é", "\uffee", "🪑", "Z"])),
        "price": draw(st.sampled_from(["0.01", "0.10", "9.99", "10.00", "9999999999.99"])),
        "stock": draw(st.sampled_from([0, 1, 2**53])),
        "moment": draw(st.sampled_from([0, 1, 999_999, 1_000_000])),
    }


any_criteria = st.builds(
    Criteria,
    sort_by=st.sampled_from(list(LISTING.sorts)),
    descending=st.booleans(),
    per_page=st.integers(1, 13),
    page=st.just(1),
    cursor=st.none(),
    search=st.none(),
    filters=st.just({}),
)
rows_of_products = st.lists(products(), max_size=12)


@contextmanager
def catalogue_of(app: Flask, rows: list[dict[str, Any]]) -> Iterator[None]:
    """These products, until the end of the block."""
    with app.app_context():
        stamps = {"created_at": SOME_DAY, "updated_at": SOME_DAY, "version": 1, "search_text": ""}
        db.session.execute(insert(Category), [{"id": CATEGORY_ID, "name": "c", "slug": "c", **stamps}])
        add(rows)
        yield
        db.session.rollback()


def add(rows: list[dict[str, Any]], first: int = 1) -> None:
    """Insert products with the ids from ``first`` on."""
    for product_id, row in enumerate(rows, first):
        moment = SOME_DAY + timedelta(microseconds=row["moment"])
        db.session.execute(
            insert(Product).values(
                id=product_id,
                sku=f"S{-product_id % 7}-{product_id}",
                slug=f"s-{product_id}",
                name=row["name"],
                price=Decimal(row["price"]),
                stock=row["stock"],
                currency="USD",
                category_id=CATEGORY_ID,
                search_text="",
                created_at=moment,
                updated_at=SOME_DAY - (moment - SOME_DAY),
                version=1,
            )
        )


def place(product: Product, sort_by: str) -> tuple[Any, int]:
    """Where Python would sort the product."""
    return getattr(product, sort_by), product.id


def next_page(criteria: Criteria, cursor: str) -> CursorPage:
    """The page of a walk at a cursor."""
    asked = replace(criteria, cursor=cursor)
    return read_keyset_page(visible_to(EDITOR), LISTING, asked, keys=["s" * 32], scope="/products")


def walk(criteria: Criteria) -> Iterator[list[Product]]:
    """The pages of a walk."""
    cursor: str | None = ""
    while cursor is not None:
        page = next_page(criteria, cursor)
        cursor = page.next_cursor
        yield list(page.items)


class TestAnyCollection:
    @any_rows
    @given(rows_of_products, any_criteria)
    def test_pages_are_the_sorted_list_in_parts(
        self, app: Flask, rows: list[dict[str, Any]], criteria: Criteria
    ) -> None:
        with catalogue_of(app, rows):
            asked = [replace(criteria, page=page) for page in range(1, 15)]
            pages = [read_page(visible_to(EDITOR), LISTING, criteria) for criteria in asked]

            everything = [product for page in pages for product in page.items]
            assert everything == sorted(
                everything, key=lambda row: place(row, criteria.sort_by), reverse=criteria.descending
            )
            assert len(everything) == len(rows)
            assert {page.total for page in pages} == {len(rows)}
            assert all(len(page.items) == criteria.per_page for page in pages[: len(rows) // criteria.per_page])

    @any_rows
    @given(rows_of_products, any_criteria)
    def test_a_walk_visits_what_the_pages_show(
        self, app: Flask, rows: list[dict[str, Any]], criteria: Criteria
    ) -> None:
        with catalogue_of(app, rows):
            whole = read_page(visible_to(EDITOR), LISTING, replace(criteria, per_page=100))
            pages = list(walk(criteria))

            assert [product for page in pages for product in page] == list(whole.items)
            assert all(len(page) == criteria.per_page for page in pages[:-1])

    @any_rows
    @given(rows_of_products, any_criteria, st.data())
    def test_a_walk_meets_every_survivor_once_while_others_come_and_go(
        self, app: Flask, rows: list[dict[str, Any]], criteria: Criteria, data: st.DataObject
    ) -> None:
        with catalogue_of(app, rows):
            survivors, newest, seen = set(range(1, len(rows) + 1)), len(rows), []
            for page in walk(criteria):
                seen += [product.id for product in page]
                gone = data.draw(st.integers(1, len(rows) + 1))
                survivors.discard(gone)
                db.session.execute(delete(Product).where(Product.id == gone))
                if newest < len(rows) + 5:
                    newest += 1
                    add([data.draw(products())], first=newest)

            assert len(seen) == len(set(seen))
            assert survivors <= set(seen)


class TestPages:
    def test_beyond_the_end_are_empty(self, app: Flask) -> None:
        with catalogue_of(app, []):
            page = read_page(visible_to(EDITOR), LISTING, Criteria(sort_by="id", descending=False, per_page=9, page=7))

        assert (page.items, page.total) == ([], 0)


class TestValues:
    """Against Python, for every filter of several values that is a column."""

    @any_rows
    @given(rows_of_products, any_criteria, st.lists(st.integers(1, 14), min_size=1, max_size=5, unique=True))
    def test_find_the_rows_that_have_one_of_them(
        self, app: Flask, rows: list[dict[str, Any]], criteria: Criteria, sought: list[int]
    ) -> None:
        with catalogue_of(app, rows):
            skus = tuple(sorted(f"S{-product_id % 7}-{product_id}" for product_id in sought))
            ids = tuple(sorted(sought))
            for filters in ({"id": ids}, {"sku": skus}, {"id": ids, "sku": skus, "category_id": (CATEGORY_ID, 99)}):
                asked = replace(criteria, filters=filters, per_page=100)
                objects = read_page(visible_to(EDITOR), LISTING, asked)
                tuples = read_page(visible_to(EDITOR), LISTING, asked, ("id", "sku"))

                expected = {product_id for product_id in sought if product_id <= len(rows)}
                assert {product.id for product in objects.items} == expected
                assert [row.id for row in tuples.items] == [product.id for product in objects.items]
                walked = [product.id for page in walk(replace(asked, per_page=2)) for product in page]
                assert walked == [row.id for row in tuples.items]

    def test_of_an_empty_catalogue_are_found_nowhere(self, app: Flask) -> None:
        with catalogue_of(app, []):
            asked = Criteria(sort_by="id", descending=False, per_page=9, filters={"tag": ("a", "b"), "below": (1, 2)})

            assert read_page(visible_to(EDITOR), LISTING, asked).items == []


class TestCursors:
    CRITERIA = Criteria(sort_by="price", descending=False, per_page=1)

    @pytest.fixture
    def cursor(self, app: Flask) -> Iterator[str]:
        """A cursor after the first of two products."""
        row = {"name": "a", "price": "1.00", "stock": 0, "moment": 0}
        with catalogue_of(app, [row, row]):
            cursor = next_page(self.CRITERIA, "").next_cursor
            assert cursor is not None
            yield cursor

    def test_lead_on(self, cursor: str) -> None:
        assert [product.id for product in next_page(self.CRITERIA, cursor).items] == [2]

    @pytest.mark.parametrize(
        "changed",
        [
            {"sort_by": "stock"},
            {"descending": True},
            {"search": "a"},
            {"filters": {"in_stock": False}},
            {"filters": {"min_price": Decimal("1.00")}},
            {"filters": {"id": (1, 2)}},
        ],
        ids=str,
    )
    def test_are_bound_to_the_query(self, cursor: str, changed: dict[str, Any]) -> None:
        with pytest.raises(CursorInvalid):
            next_page(replace(self.CRITERIA, **changed), cursor)

    @pytest.mark.parametrize(("secret", "scope"), [("t" * 32, "/products"), ("s" * 32, "/categories")])
    def test_are_bound_to_the_server_and_the_collection(self, cursor: str, secret: str, scope: str) -> None:
        asked = replace(self.CRITERIA, cursor=cursor)

        with pytest.raises(CursorInvalid):
            read_keyset_page(visible_to(EDITOR), LISTING, asked, keys=[secret], scope=scope)

    def test_are_not_bound_to_the_length_of_the_page(self, cursor: str) -> None:
        asked = replace(self.CRITERIA, per_page=50)

        assert [product.id for product in next_page(asked, cursor).items] == [2]

    @any_rows
    @given(st.text(max_size=80))
    def test_cannot_be_made_up(self, app: Flask, cursor: str) -> None:
        with app.app_context(), unit_of_work(reading=True):
            if cursor:
                with pytest.raises(CursorInvalid):
                    next_page(self.CRITERIA, cursor)
