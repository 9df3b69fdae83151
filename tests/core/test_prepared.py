"""SELECTs that readers put to the driver themselves: the same is found as through SQLAlchemy, or the same error."""

import gc
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import psycopg
import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Select, bindparam, func, insert, literal, make_url, select, text
from sqlalchemy.exc import DBAPIError

from app.core import listing
from app.core.fastsql import Prepared, find_row, public_columns
from app.core.listing import Criteria, CursorPage, NumberedPage, read_keyset_page, read_page, read_tree
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.categories.models import Category
from app.features.products.listing import LISTING, visible_to
from app.features.products.models import Product, ProductStatus
from app.features.products.values import store
from app.security.identity import Identity
from app.security.permissions import CATALOG_READS, GRANTS, Role
from app.web.links import describe_page, link_header
from tests.conftest import Caller, body_of, empty

any_rows = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SOME_DAY = datetime(2026, 5, 17, tzinfo=UTC)
MEMBERS = (
    "id",
    "sku",
    "name",
    "price",
    "stock",
    "status",
    "tags",
    "attributes",
    "external_id",
    "created_at",
    "version",
)
#: The parent of each category.
PARENTS = {1: None, 2: 1}
EDITOR, READER = (Identity(permissions=rights) for rights in (GRANTS[Role.EDITOR], CATALOG_READS))

ROW: dict[str, Any] = {
    "name": "é",
    "price": Decimal("1.00"),
    "stock": 2**53,
    "status": ProductStatus.ACTIVE,
    "currency": "USD",
    "category_id": 1,
    "tags": [],
    "attributes": {},
    "external_id": None,
    "moment": 0,
}
scalars = st.booleans() | st.integers(0, 2) | st.sampled_from(["", "é", '"'])
products = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["", "A", "a", "a ", "ab", "é", "\uffee", "🪑", "Z"]),
        "price": st.sampled_from([Decimal("0.01"), Decimal("9.99"), Decimal("10.00"), Decimal("9999999999.99")]),
        "stock": st.sampled_from([0, 1, 2**53]),
        "status": st.sampled_from(ProductStatus),
        "currency": st.sampled_from(["EUR", "USD"]),
        "category_id": st.sampled_from([1, 2]),
        "tags": st.lists(st.sampled_from(["garden", "oak", '"', "é", "%", "[]"]), unique=True, max_size=3),
        "attributes": st.dictionaries(st.sampled_from(["a", "b"]), scalars),
        "external_id": st.none() | st.sampled_from(["", "erp-1"]),
        "moment": st.sampled_from([0, 1, 999_999, 1_000_000]),
    }
)


def some_of(values: Sequence[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    """One or several of the values of a filter, as its field loads them."""
    chosen = st.lists(st.sampled_from(values), min_size=1, max_size=4, unique=True)
    return chosen.map(lambda several: tuple(sorted(several)))


moments = st.sampled_from([SOME_DAY, SOME_DAY + timedelta(microseconds=1), SOME_DAY + timedelta(seconds=1)])
some_filters = st.fixed_dictionaries(
    {},
    optional={
        "id": some_of([1, 2, 3, 2**63 - 1]),
        "category_id": some_of([1, 2, 3, 2**63 - 1]),
        "below": some_of([1, 2, 3, 2**63 - 1]),
        "min_price": st.sampled_from([Decimal("0.01"), Decimal("9.99"), Decimal("9999999999.99")]),
        "max_price": st.sampled_from([Decimal("0.01"), Decimal("10.0"), Decimal("10")]),
        "in_stock": st.booleans(),
        "status": some_of(list(ProductStatus)),
        "currency": some_of(["EUR", "USD", "XXX"]),
        "sku": some_of(["S-1", "S-3", "s-1", "'"]),
        "external_id": some_of(["", "-1", "erp-1-1", "erp-1-2"]),
        "tag": some_of(["garden", '"', "é", "%", "[]", "", "none"]),
        "created_since": moments,
        "updated_since": moments,
    },
)
any_criteria = st.builds(
    Criteria,
    sort_by=st.sampled_from(list(LISTING.sorts)),
    descending=st.booleans(),
    per_page=st.integers(1, 7),
    page=st.integers(1, 4),
    search=st.sampled_from([None, None, None, "a", "é s"]),
    filters=some_filters,
)
identities = st.sampled_from([EDITOR, READER])


@contextmanager
def catalogue_of(app: Flask, rows: Sequence[dict[str, Any]]) -> Iterator[None]:
    """These products, committed, as readers on connections of their own need it."""
    empty(app)
    stamps = {"created_at": SOME_DAY, "updated_at": SOME_DAY, "version": 1, "search_text": ""}
    with app.app_context():
        with unit_of_work():
            db.session.execute(
                insert(Category),
                [
                    {"id": one, "name": "c", "slug": f"c{one}", "parent_id": parent, **stamps}
                    for one, parent in PARENTS.items()
                ],
            )
            for product_id, row in enumerate(rows, 1):
                values = {name: value for name, value in row.items() if name != "moment"}
                moment = SOME_DAY + timedelta(microseconds=row["moment"])
                named = {"id": product_id, "slug": f"s-{product_id}"} | keys_of(row, product_id)
                named |= {"created_at": moment, "search_text": row["name"]}
                db.session.execute(insert(Product).values({**stamps, **values, **named}))
                # Tags are found by the index of values.
                store({product_id: (product_id, [(None, tag, None) for tag in row["tags"]])})
        yield


def keys_of(row: dict[str, Any], product_id: int) -> dict[str, Any]:
    """The keys that a product is stored with: unique, but for None."""
    external_id = row["external_id"]
    unique = None if external_id is None else f"{external_id}-{product_id}"
    return {"sku": f"S-{product_id}", "external_id": unique}


def ways(read: Callable[[Sequence[str]], Any]) -> tuple[Any, Any]:
    """What is found as readers find it, and through the session."""
    with unit_of_work(reading=True):
        prepared = read(MEMBERS)
    plain = read(())
    db.session.rollback()
    return prepared, plain


def values_of(items: Sequence[Any]) -> list[list[tuple[type, Any]]]:
    """The members of the rows with their types, whatever the rows are."""
    return [[(type(getattr(item, name)), getattr(item, name)) for name in MEMBERS] for item in items]


class TestAnyListing:
    @any_rows
    @given(st.lists(products, max_size=12), st.lists(st.tuples(identities, any_criteria), min_size=1, max_size=6))
    def test_pages_are_those_of_the_plain_way(
        self, app: Flask, rows: list[dict[str, Any]], asked: list[tuple[Identity, Criteria]]
    ) -> None:
        with catalogue_of(app, rows):
            for identity, criteria in asked:
                prepared, plain = ways(partial(read_page, visible_to(identity), LISTING, criteria))

                assert values_of(prepared.items) == values_of(plain.items)
                assert replace(prepared, items=()) == replace(plain, items=())
                # And that of no statement of this module's at all.
                assert ids_of(plain) == ids_by_hand(rows, identity, criteria) or criteria.search

    @any_rows
    @given(st.lists(products, max_size=12), identities, any_criteria)
    def test_walks_are_those_of_the_plain_way(
        self, app: Flask, rows: list[dict[str, Any]], identity: Identity, criteria: Criteria
    ) -> None:
        def walk(names: Sequence[str]) -> list[CursorPage]:
            pages, cursor = [], ""
            while True:
                asked = replace(criteria, page=1, cursor=cursor)
                pages.append(read_keyset_page(visible_to(identity), LISTING, asked, names, keys=["s" * 32], scope="/p"))
                if pages[-1].next_cursor is None:
                    return pages
                cursor = pages[-1].next_cursor

        with catalogue_of(app, rows):
            prepared, plain = ways(walk)

            assert [values_of(page.items) for page in prepared] == [values_of(page.items) for page in plain]
            assert [page.next_cursor for page in prepared] == [page.next_cursor for page in plain]

    @any_rows
    @given(st.lists(products, max_size=12), identities, any_criteria)
    def test_everything_at_once_and_one_row_are_those_of_the_plain_way(
        self, app: Flask, rows: list[dict[str, Any]], identity: Identity, criteria: Criteria
    ) -> None:
        with catalogue_of(app, rows):
            prepared, plain = ways(partial(read_tree, visible_to(identity), LISTING, criteria))
            assert values_of(prepared) == values_of(plain)
            for product in plain:
                with unit_of_work(reading=True):
                    found = find_row(visible_to(identity), Product.id, product.id)
                assert [getattr(found, column.key) for column in public_columns(Product)] == [
                    getattr(product, column.key) for column in public_columns(Product)
                ]


class TestAnyTwoQuestions:
    def test_are_not_taken_for_each_other(self, app: Flask) -> None:
        """Questions that differ in one thing only, one after the other."""
        values: dict[str, list[Any]] = {
            "status": [
                *((one,) for one in ProductStatus),
                tuple(sorted(ProductStatus))[:2],
                tuple(sorted(ProductStatus)),
            ],
            "in_stock": [True, False],
            "currency": [("EUR",), ("USD",), ("EUR", "USD"), ("GBP", "USD"), ("CHF", "EUR", "GBP")],
            "min_price": [Decimal("0.01"), Decimal("9.00")],
            "max_price": [Decimal("9.00"), Decimal("10.00")],
            "tag": [("garden",), ("oak",), ("garden", "oak"), ("ash", "oak")],
            "below": [(1,), (2,), (1, 2), (2, 3)],
            "id": [(1,), (2,), (1, 2), (3, 4, 5)],
        }
        rows = [
            {**ROW, "stock": number % 2, "status": list(ProductStatus)[number % 3], "price": Decimal(number % 5 + 6)}
            | {"currency": ["EUR", "USD"][number % 2], "tags": [["oak"], ["garden"]][number % 2]}
            for number in range(12)
        ]
        one = Criteria(sort_by="id", descending=False, per_page=3)
        asked = [replace(one, filters={name: value}) for name, several in values.items() for value in several]
        asked += [one, replace(one, descending=True), replace(one, page=2), replace(one, per_page=4)]
        asked += [replace(one, sort_by=name) for name in LISTING.sorts]
        with catalogue_of(app, rows):
            for criteria in asked:
                prepared, plain = ways(partial(read_page, visible_to(EDITOR), LISTING, criteria))
                assert ids_of(prepared) == ids_of(plain) == ids_by_hand(rows, EDITOR, criteria), criteria


def ids_of(page: NumberedPage) -> list[int]:
    return [item.id for item in page.items]


def has_value(name: str, row: dict[str, Any], values: tuple[Any, ...]) -> bool:
    return row[name] in values


def ids_by_hand(rows: list[dict[str, Any]], identity: Identity, criteria: Criteria) -> list[int]:
    """What Python finds."""
    is_met: dict[str, Callable[[dict[str, Any], Any], bool]] = {
        "min_price": lambda row, value: row["price"] >= value,
        "max_price": lambda row, value: row["price"] <= value,
        "in_stock": lambda row, value: (row["stock"] > 0) is value,
        "tag": lambda row, values: not {*values}.isdisjoint(row["tags"]),
        "below": lambda row, values: not {*values}.isdisjoint({row["category_id"], PARENTS[row["category_id"]]}),
        "created_since": lambda row, value: SOME_DAY + timedelta(microseconds=row["moment"]) >= value,
        "updated_since": lambda _row, value: value <= SOME_DAY,
    }
    numbered = [
        {**row, "id": number, "created_at": row["moment"], "updated_at": 0} | keys_of(row, number)
        for number, row in enumerate(rows, 1)
        if identity is EDITOR or row["status"] == ProductStatus.ACTIVE
    ]
    for name, value in criteria.filters.items():
        fits = is_met.get(name, partial(has_value, name))
        numbered = [row for row in numbered if fits(row, value)]
    numbered.sort(key=lambda row: (row[criteria.sort_by], row["id"]), reverse=criteria.descending)
    first = (criteria.page - 1) * criteria.per_page
    return [row["id"] for row in numbered[first : first + criteria.per_page]]


def both(app: Flask, statement: Select[Any], values: dict[str, Any]) -> tuple[Any, Any]:
    """The rows of a statement, prepared and through the session."""
    with app.app_context():
        with unit_of_work(reading=True):
            prepared = Prepared(statement).all(values)
        return prepared, db.session.execute(statement, values).all()


class TestAnyStatement:
    @pytest.mark.parametrize("name", ["prepared", "plain"])
    def test_gives_values_of_the_same_types(self, app: Flask, name: str) -> None:
        row = {**ROW, "price": Decimal("9999999999.99"), "tags": ["a", "é"], "moment": 123_456}
        row["attributes"] = {"a": True, "b": 1, "c": 0.5, "d": "x"}
        with catalogue_of(app, [row]):
            found = dict(zip(("prepared", "plain"), both(app, select(*Product.__table__.c), {}), strict=True))[name]

        shown = {key: (type(value), value) for key, value in found[0]._asdict().items()}
        assert shown["price"] == (Decimal, Decimal("9999999999.99"))
        assert shown["created_at"] == (datetime, SOME_DAY + timedelta(microseconds=123_456))
        assert shown["created_at"][1].tzinfo is UTC
        assert shown["attributes"] == (dict, row["attributes"])
        assert shown["attributes"][1]["a"] is True
        assert shown["tags"] == (list, ["a", "é"])
        assert shown["external_id"] == shown["deleted_at"] == (type(None), None)

    def test_takes_the_defaults_of_its_parameters(self, app: Flask) -> None:
        statement = select(literal(1).label("one")).where(literal(7) == bindparam("seven", 7))

        assert both(app, statement, {}) == ([(1,)], [(1,)])
        assert both(app, statement, {"seven": 8}) == ([], [])

    def test_fails_as_it_does_otherwise(self, app: Flask, backend: str) -> None:
        wrong = select(func.no_such_function(Product.id))
        raised = []
        with app.app_context():
            for reading in (True, False):
                with pytest.raises(DBAPIError) as error, unit_of_work(reading=reading):
                    Prepared(wrong).all()
                raised.append((type(error.value), type(error.value.orig), error.value.connection_invalidated))
            # The connection is as good as before.
            with unit_of_work(reading=True):
                assert Prepared(select(func.count(Product.id))).one_or_none()[0] == 0

        assert raised[0] == raised[1]
        assert raised[0][2] is False, backend

    def test_tells_when_its_connection_was_lost(self, app: Flask, backend: str) -> None:
        if backend == "sqlite":
            return
        url = make_url(app.config["DATABASE_URL"]).set(drivername="postgresql")
        count = Prepared(select(func.count(Product.id)))
        with app.app_context():
            with unit_of_work(reading=True):
                mine = Prepared(select(func.pg_backend_pid())).one_or_none()[0]
                with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as other:
                    other.execute("SELECT pg_terminate_backend(%s, 5000)", [mine])
                with pytest.raises(DBAPIError) as error:
                    count.all()
            assert error.value.connection_invalidated
            with unit_of_work(reading=True):
                assert count.one_or_none()[0] == 0

    def test_is_forgotten_with_the_rows_that_were_made_for_a_request(self, app: Flask) -> None:
        with app.app_context(), unit_of_work(reading=True):
            rows = visible_to(EDITOR).where(Product.category_id == 7)
            read_page(rows, LISTING, Criteria(sort_by="id", descending=False, per_page=3), MEMBERS)
            gone = weakref.ref(rows)
            del rows
        gc.collect()

        assert gone() is None


class TestCappedTotals:
    MOST = 5

    @pytest.fixture
    def full(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
        """More products than are counted."""
        monkeypatch.setattr(listing, "MAX_COUNTED", self.MOST)
        with catalogue_of(app, [ROW] * 13):
            yield 13

    @pytest.mark.parametrize("members", [MEMBERS, ()], ids=["tuples", "objects"])
    @pytest.mark.parametrize("per_page", [1, 2, 4, 5, 6, 12, 13, 14])
    def test_end_with_a_page_that_knows(self, full: int, per_page: int, members: Sequence[str]) -> None:
        criteria = Criteria(sort_by="id", descending=False, per_page=per_page)
        seen: list[int] = []
        last = -(-full // per_page)
        for number in range(1, last + 1):
            with unit_of_work(reading=True):
                page = read_page(visible_to(EDITOR), LISTING, replace(criteria, page=number), members)
            seen += ids_of(page)
            assert page.has_more is (number < last)
            assert page.total_is_exact is (number == last)
            assert page.total == full if number == last else self.MOST <= page.total <= full
            meta, links = describe_page(page, replace(criteria, page=number), "/p", {})
            assert ("total_is_exact" in meta) is (number < last)
            assert (links["last"] is None) is (number < last)
            assert ('rel="last"' in link_header(links)) is (number == last)
            assert links["next"] == (f"/p?page={number + 1}" if number < last else None)
            assert links["prev"] == (f"/p?page={number - 1}" if number > 1 else None)

        assert seen == list(range(1, full + 1))

    def test_are_walked_by_next(self, full: int, bob: Caller) -> None:
        path, seen, page = "/products?per_page=3&sort_by=id&order=asc", [], {}
        while path:
            page = body_of(bob.get(path.removeprefix("/api/v1")))
            seen += [item["id"] for item in page["items"]]
            path = page["links"]["next"]

        assert seen == list(range(1, full + 1))
        assert page["meta"] == {"page": 5, "per_page": 3, "total": full, "pages": 5}

    def test_are_exact_up_to_the_most_that_are_counted(self, full: int, bob: Caller, app: Flask) -> None:
        with app.app_context(), unit_of_work():
            db.session.execute(text("DELETE FROM products WHERE id > 5"))

        assert full
        page = body_of(bob.get("/products?per_page=2"))
        assert page["meta"] == {"page": 1, "per_page": 2, "total": 5, "pages": 3}
        assert page["links"]["last"].endswith("page=3")
