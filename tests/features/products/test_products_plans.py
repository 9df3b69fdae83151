"""How the databases find what a list shows: by an index, and in the order of one (decision 6)."""

import re
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import insert, text

from app.core import clock
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.products.listing import LISTING
from app.features.products.models import Product
from tests.conftest import Caller, body_of

Make = Callable[..., dict[str, Any]]
Plan = Callable[[Caller, str], str]
QUERIES = [f"sort_by={sort}&order={order}" for sort in LISTING.sorts for order in ("asc", "desc")]


@pytest.fixture
def plan(explain: Callable[..., str]) -> Plan:
    """The plan of the statement that fetches the rows of a list, where nothing but an index will do."""
    return partial(explain, without_seqscan=True)


@pytest.fixture
def shelf(app: Flask, make_category: Make, make_brand: Make) -> int:
    """A category of a thousand products, in numbers as the planner of PostgreSQL would know them."""
    category_id: int = make_category()["id"]
    brand_ids = [make_brand(name=name)["id"] for name in ("Seldom", "Other")]
    now = clock.now()
    rows: list[dict[str, Any]] = [
        {
            "sku": f"S-{number}",
            "slug": f"s-{number}",
            "name": f"Name {number * 7919 % 1000}",
            "price": Decimal(number % 500 + 1),
            "currency": "USD",
            "category_id": category_id,
            "brand_id": brand_ids[number % 50 != 7],
            "stock": number % 50,
            "status": "draft" if number % 50 == 0 else "active",
            "tags": [],
            "search_text": f"name {number} \ns {number} \noak {'rare ' if number % 100 == 1 else ''}",
            "created_at": now + timedelta(seconds=number),
            "updated_at": now + timedelta(seconds=number),
            "version": 1,
        }
        for number in range(1000)
    ]
    with app.app_context(), unit_of_work():
        db.session.execute(insert(Product), rows)
        if db.engine.dialect.name == "postgresql":
            db.session.execute(text("ANALYZE products"))
            # As autovacuum does: what waits to be put into the index makes reading it dear.
            db.session.execute(text("SELECT gin_clean_pending_list('ix_products_search_vector')"))
    return category_id


def walk_from(caller: Caller, query: str) -> str:
    """The path of the second page of a walk."""
    link: str = body_of(caller.get(f"/products?cursor=&per_page=5&{query}"))["links"]["next"]
    return link.removeprefix("/api/v1")


@pytest.mark.parametrize("narrowed", ["", "category_id={shelf}&"], ids=["all", "category"])
@pytest.mark.parametrize("cast", ["alice", "bob"])
class TestEverySort:
    """In the catalogue and in a category, for those who see drafts and those who do not."""

    @pytest.fixture
    def caller(self, request: pytest.FixtureRequest, cast: str) -> Caller:
        """One of the cast."""
        caller: Caller = request.getfixturevalue(cast)
        return caller

    def test_reads_the_first_page_in_the_order_of_an_index(
        self, caller: Caller, plan: Plan, shelf: int, narrowed: str
    ) -> None:
        plans = {query: plan(caller, f"/products?cursor=&{narrowed.format(shelf=shelf)}{query}") for query in QUERIES}

        assert {query: steps for query, steps in plans.items() if sorts(steps)} == {}

    def test_reads_the_next_page_in_the_order_of_an_index(
        self, caller: Caller, plan: Plan, shelf: int, narrowed: str
    ) -> None:
        queries = [f"{narrowed.format(shelf=shelf)}{query}" for query in QUERIES]
        plans = {query: plan(caller, walk_from(caller, query)) for query in queries}

        assert {query: steps for query, steps in plans.items() if sorts(steps)} == {}

    def test_seeks_the_next_page_instead_of_reading_up_to_it(
        self, caller: Caller, plan: Plan, shelf: int, narrowed: str, backend: str
    ) -> None:
        queries = [f"{narrowed.format(shelf=shelf)}{query}" for query in QUERIES]
        seeks = "SEARCH products USING INDEX" if backend == "sqlite" else "Index Cond: "

        plans = {query: plan(caller, walk_from(caller, query)) for query in queries}

        bounds = {"sqlite": (">", "<"), "postgresql": (" > ", " < ", " >= ", " <= ")}[backend]
        assert {
            query: steps
            for query, steps in plans.items()
            if not any(seeks in line and any(bound in line for bound in bounds) for line in steps.splitlines())
        } == {}


def sorts(steps: str) -> bool:
    """Whether the rows must be sorted. The sku alone decides an order: PostgreSQL sorts incrementally, row by row."""
    return "USE TEMP B-TREE" in steps or re.search(r"^\W*Sort$", steps, re.MULTILINE) is not None


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
class TestEveryFilter:
    """SQLite keeps no statistics here, so that its plans do not depend on what is stored."""

    #: A value of these is rare: it is found by its own index and then sorted.
    RARE = (
        "currency=USD",
        "status=draft",
        "brand_id=1",
        "sku=A-1",
        "slug=a-1",
        "external_id=erp-1",
        "gtin=4006381333931",
    )
    COMMON = ("status=active", "in_stock=true", "in_stock=false", "min_price=5", "max_price=5")
    #: Several values are looked up one by one, and what they find is sorted.
    SEVERAL = (
        *("currency=EUR,USD", "brand_id=1,2", "status=archived,draft", "sku=A-1,A-2", "id=1,2", "below=1", "below=1,2"),
        *("slug=a-1,a-2", "external_id=erp-1,erp-2", "gtin=4006381333931,96385074"),
    )
    SINCE = ("created_since=2026-05-17T12:30:00Z", "updated_since=2026-05-17T12:30:00Z")

    @pytest.mark.parametrize("narrowed", [*COMMON, *RARE, *SINCE, "status=active,draft"])
    @pytest.mark.parametrize("category", ["", "category_id=1&", "category_id=1,2&"])
    def test_reads_an_index(self, alice: Caller, plan: Plan, narrowed: str, category: str) -> None:
        plans = {query: plan(alice, f"/products?cursor=&{category}{narrowed}&{query}") for query in QUERIES}

        assert {query: steps for query, steps in plans.items() if "products USING INDEX" not in steps} == {}

    @pytest.mark.parametrize("narrowed", ["tag=oak", "tag=ash,oak"])
    def test_finds_tags_by_the_index_of_values(self, alice: Caller, plan: Plan, narrowed: str) -> None:
        steps = plan(alice, f"/products?cursor=&{narrowed}&sort_by=name")

        assert "COVERING INDEX ix_attribute_values_attribute_id_text (attribute_id=? AND text=?" in steps

    @pytest.mark.parametrize("narrowed", COMMON)
    def test_reads_in_the_order_of_an_index(self, bob: Caller, plan: Plan, narrowed: str) -> None:
        plans = {query: plan(bob, f"/products?cursor=&{narrowed}&{query}") for query in QUERIES}

        assert {query: steps for query, steps in plans.items() if sorts(steps)} == {}

    @pytest.mark.parametrize("narrowed", RARE)
    def test_finds_what_is_rare_by_its_own_index(self, alice: Caller, plan: Plan, narrowed: str) -> None:
        steps = plan(alice, f"/products?cursor=&{narrowed}&sort_by=name")

        # A GTIN is looked up in the index of its fourteen digits.
        assert ("(<expr>=?" if narrowed.startswith("gtin") else f"({narrowed.partition('=')[0]}=?") in steps

    @pytest.mark.parametrize("narrowed", [*SEVERAL, "category_id=1,2", "id=1"])
    def test_looks_several_values_up(self, alice: Caller, plan: Plan, narrowed: str) -> None:
        column = {"below": "category_id", "id": "(id|rowid)", "gtin": "<expr>"}.get(
            narrowed.partition("=")[0], narrowed.partition("=")[0]
        )
        plans = {query: plan(alice, f"/products?cursor=&{narrowed}&{query}") for query in QUERIES}

        seeks = re.compile(rf"SEARCH products USING .*\({column}=\?")
        assert {query: steps for query, steps in plans.items() if not seeks.search(steps)} == {}


FTS = "SCAN products_search VIRTUAL TABLE INDEX"


@pytest.mark.usefixtures("shelf")
class TestSearch:
    #: With a currency, SQLite reads all that have it, and keeps those that the index of words names.
    NARROWED = ("", "in_stock=true&", "status=active&", "min_price=5&", "category_id=1&")
    ORDERS = [f"{place}&sort_by={sort}" for sort in LISTING.sorts for place in ("page=1", "cursor=")]

    #: Of products, and of a brand; with a number, which a tenth of a thousand begins with. Of a word that all have, it
    #: would be chance which index is cheapest for so small a table.
    WORDS = ("rare", "rar%201", "seldom", "seldom%201")

    @pytest.mark.parametrize("words", WORDS)
    def test_reads_the_index_of_words(self, alice: Caller, plan: Plan, backend: str, words: str) -> None:
        queries = [f"{narrowed}{order}" for narrowed in self.NARROWED for order in ["sort_by=relevance", *self.ORDERS]]
        plans = {query: plan(alice, f"/products?search={words}&{query}") for query in queries}

        if backend == "sqlite":
            joined = re.compile(r"category|SEARCH products USING .*\b(id|rowid)=\?\)")
            assert {
                query: steps for query, steps in plans.items() if FTS not in steps or not joined.search(steps)
            } == {}
        else:
            index = "Bitmap Index Scan on ix_products_search_vector"
            others = {query: steps for query, steps in plans.items() if "category" not in query}
            assert {query: steps for query, steps in others.items() if index not in steps} == {}

    def test_is_planned_for_its_own_words_however_often_it_is_asked(
        self, app: Flask, bob: Caller, backend: str
    ) -> None:
        for _ in range(8):
            assert body_of(bob.get("/products?search=rare"))["meta"]["total"] == 10
            assert len(body_of(bob.get("/products?search=rare&cursor="))["items"]) == 10

        if backend == "postgresql":
            with app.app_context():
                prepared = db.session.scalars(text("SELECT statement FROM pg_prepared_statements")).all()
            assert prepared
            assert [statement for statement in prepared if "search_vector @@" in statement] == []


class TestFacets:
    @pytest.mark.usefixtures("shelf")
    @pytest.mark.parametrize(
        ("narrowed", "index"),
        [
            ("search=rare", "ix_products_search_vector"),
            ("search=rare&in_stock=true&currency=USD&min_price=0", "ix_products_search_vector"),
            ("sku=S-7", "uq_products_sku"),
            ("currency=EUR", "ix_products_currency_price_id"),
            ("min_price=3&max_price=4", "price_id"),
        ],
    )
    def test_read_an_index(self, bob: Caller, plan: Plan, backend: str, narrowed: str, index: str) -> None:
        steps = plan(bob, f"/products/facets?{narrowed}")

        assert (FTS if backend == "sqlite" and "search" in narrowed else index) in steps

    @pytest.mark.usefixtures("shelf")
    @pytest.mark.parametrize(
        ("narrowed", "scans"),
        [
            ("", {"sqlite": 1, "postgresql": 2}),
            ("min_price=3", {"sqlite": 1, "postgresql": 2}),
            ("category_id=9999", {"sqlite": 1, "postgresql": 3}),
            ("category_id=9999&in_stock=true", {"sqlite": 1, "postgresql": 4}),
        ],
    )
    def test_read_the_products_once_and_on_postgresql_for_each_facet_that_is_filtered(
        self, bob: Caller, plan: Plan, backend: str, narrowed: str, scans: dict[str, int]
    ) -> None:
        steps = plan(bob, f"/products/facets?{narrowed}")

        assert len(re.findall(r"(?:SCAN|SEARCH|Scan .*\bon) products\b", steps)) == scans[backend], steps

    @pytest.mark.usefixtures("shelf")
    @pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
    def test_look_prices_up_where_no_currency_makes_a_facet_of_them(self, bob: Caller, plan: Plan) -> None:
        assert "(price<?)" in plan(bob, "/products/facets?min_price=3&max_price=4")

    @pytest.mark.usefixtures("shelf")
    @pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
    def test_read_an_index_for_the_facets_that_are_not_filtered(self, bob: Caller, plan: Plan) -> None:
        assert "ix_products_category_id" in plan(bob, "/products/facets?category_id=9999")
