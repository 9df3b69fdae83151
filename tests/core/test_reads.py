"""What a response reads: compared with what SQLite says that its statements read, and with what a change touches."""

import inspect as signatures
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from operator import eq
from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Select, column, exists, func, inspect, literal_column, select, table, text, true
from sqlalchemy.orm import aliased

from app.core import listing as listing_module
from app.core.changelog import LoggedChange, Published
from app.core.errors import NotFound
from app.core.fastsql import Prepared, find_row, find_rows
from app.core.listing import MAX_SCOPES, Criteria, Listing, OneOf, read_keyset_page, read_page, read_tree
from app.core.membership import among
from app.core.reads import Reads, extent_of, gathered, gathering
from app.core.topics import kind_of_table, topics_of_change
from app.core.transactions import connection, run, unit_of_work
from app.extensions import db
from app.features.brands.models import Brand
from app.features.categories import service as categories
from app.features.categories.models import Category
from app.features.facets.service import count_facets
from app.features.products import listing as product_lists
from app.features.products import service as products
from app.features.products.models import PRODUCTS, SEARCHED, Product, ProductStatus, search_text
from app.features.users.models import User
from app.security.identity import Identity
from app.security.permissions import CATALOG_READS, GRANTS, Role
from tests.conftest import on_one_database

Make = Callable[..., dict[str, Any]]

EDITOR, READER = (Identity(permissions=rights) for rights in (GRANTS[Role.EDITOR], CATALOG_READS))
any_rows = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
#: Of one product alone, as the doors say it.
ROWS = {"product/1", "product/2", "product/3"}


@pytest.fixture
def catalogue(app: Flask, make_product: Make, make_category: Make, make_brand: Make) -> Iterator[dict[str, Any]]:
    """Two categories, one below the other, a brand, and products; and a context to read them in."""
    above = make_category(name="Seats")
    below = make_category(name="Chairs", parent_id=above["id"])
    brand = make_brand(name="Oakwood")
    made = [
        make_product(name=f"Chair {number}", category_id=below["id"], brand_id=brand["id"], tags=["garden"])
        for number in range(3)
    ]
    with app.app_context():
        yield {"above": above["id"], "below": below["id"], "brand": brand["id"], "ids": [one["id"] for one in made]}


@contextmanager
def observed() -> Iterator[tuple[Reads, set[tuple[str, str]]]]:
    """What is gathered in the block, and which columns the database says that its statements read (sqlite3_authorizer).

    A statement that reads a table and none of its columns reads a column without a name.
    """
    seen: set[tuple[str, str]] = set()

    def note(action: int, table: str | None, column: str | None, *_: object) -> int:
        if action == sqlite3.SQLITE_READ:
            seen.add((table or "", column or ""))
        return sqlite3.SQLITE_OK

    with unit_of_work(reading=True):
        driver: Any = connection().connection.dbapi_connection
        # What was prepared before is prepared again.
        driver.set_authorizer(note)
        try:
            with gathering() as reads:
                yield reads, seen
        finally:
            driver.set_authorizer(None)


def missed(reads: Reads, seen: set[tuple[str, str]], beside: str = "") -> set[tuple[str, str]]:
    """The columns that were read and that no topic has; ``beside`` those of a table."""
    unscoped = {topic.partition("?")[0] for topic in reads.topics}
    return {(table, column) for table, column in seen if table != beside and not _is_told(unscoped, table, column)}


def _is_told(topics: set[str], table: str, column: str) -> bool:
    if table.startswith(("json_each", "sqlite_")) or not table:
        return True
    if table.startswith("products_search"):
        return "product.search_text" in topics or "product" in topics
    if table == "attribute_values":
        return "product.attribute_words" in topics or "product" in topics
    kind = kind_of_table(table)
    return kind in topics or (f"{kind}*" in topics and (column in {"", "id", "ROWID"} or f"{kind}.{column}" in topics))


_other = aliased(Product)
_below = select(Category.id).where(Category.id == 1).cte(recursive=True)
_below = _below.union(select(Category.id).join(_below, Category.parent_id == _below.c.id))
_counted = select(Product.brand_id, func.count().label("n")).group_by(Product.brand_id).cte("counted")
_tags = func.json_each(Product.tags).table_valued("value")

STATEMENTS: dict[str, Any] = {
    "an entity": select(Product),
    "an alias of one": select(_other),
    "a table": select(PRODUCTS),
    "columns": select(Product.name, PRODUCTS.c.price),
    "a condition": select(Product.id).where(Product.price > Decimal(1), Product.deleted_at.is_(None)),
    "an order": select(Product.id).order_by(Product.stock.desc()),
    "a group": select(func.count()).select_from(Product).group_by(Product.status),
    "a condition on a group": select(Product.status)
    .group_by(Product.status)
    .having(func.max(Product.price) > Decimal(1)),
    "a count": select(func.count()).select_from(Product),
    "no column": select(true()).select_from(Category),
    "a join": select(Product.id).join(Category, Category.id == Product.category_id).where(Category.slug == "x"),
    "an outer join": select(Product.id).outerjoin(_other, _other.brand_id == Product.brand_id),
    "what exists": select(select(_other.id).where(_other.slug == "x").exists()),
    "a scalar subquery": select(select(func.max(_other.stock)).scalar_subquery()),
    "a correlated one": select(
        Category.id, select(func.count(Product.sku)).where(Product.category_id == Category.id).scalar_subquery()
    ),
    "a subquery": select(select(Product.weight_g).subquery()),
    "a CTE": select(Brand.name).join(_counted, _counted.c.brand_id == Brand.id),
    "a recursive CTE": select(Product.id).where(Product.category_id.in_(select(_below.c.id))),
    "a CTE beside": select(Brand.id).add_cte(select(Product.mpn).cte("beside")),
    "a union": select(Product.name).union_all(select(Category.name)),
    "a condition of ours": select(Product.id).where(among(Product.sku, ["x"])),
    "rows of a function": select(_tags.c.value).select_from(Product).join(_tags, true()),
    "a filter of ours": select(Product.id).where(categories.is_at_or_below(Product.category_id, 1)),
}


@on_one_database
class TestAStatement:
    @pytest.mark.parametrize("statement", STATEMENTS.values(), ids=STATEMENTS)
    def test_reads_what_the_database_says(self, catalogue: object, statement: Any) -> None:
        with observed() as (reads, seen):
            run(statement).all()

        assert seen
        assert missed(reads, seen) == set()
        assert reads.is_logged

    @pytest.mark.parametrize("statement", STATEMENTS.values(), ids=STATEMENTS)
    def test_is_noted_in_whatever_way_it_is_executed(self, catalogue: object, statement: Any) -> None:
        ways: list[Callable[[], Any]] = [
            lambda: run(statement).all(),
            lambda: db.session.execute(statement).all(),
            lambda: db.session.scalars(statement).all(),
            lambda: db.session.scalar(statement),
        ]
        if isinstance(statement, Select) and len({one.key for one in statement.selected_columns}) == len(
            statement.selected_columns
        ):
            ways.append(
                Prepared(statement.with_only_columns(*statement.selected_columns, maintain_column_froms=True)).all
            )
        for execute in ways:
            with unit_of_work(reading=True), gathering() as reads:
                execute()
            assert reads.topics == set().union(*extent_of(statement).topics.values())

    @pytest.mark.parametrize("statement", [select(User.id), select(Product.id).where(exists().where(User.id == 1))])
    def test_of_rows_that_are_not_published_is_not_logged(self, catalogue: object, statement: Any) -> None:
        with unit_of_work(reading=True), gathering() as reads:
            run(statement)

        assert not reads.is_logged

    def test_of_the_drivers_own_and_a_write_are_not_logged(self, catalogue: object) -> None:
        ways: list[Callable[[], Any]] = [
            lambda: db.session.connection().exec_driver_sql("SELECT 1"),
            lambda: db.session.execute(PRODUCTS.delete()),
        ]
        for execute in ways:
            with unit_of_work():
                # On SQLite this begins with a statement of the driver's.
                db.session.connection()
                with gathering() as reads:
                    execute()
                db.session.rollback()
            assert not reads.is_logged

    def test_is_noted_only_while_something_gathers(self, catalogue: object) -> None:
        with unit_of_work(reading=True):
            with gathering() as reads:
                assert gathered() is reads
            run(select(Product.id))

        assert gathered() is None
        assert reads.topics == set()


class TestAnExtent:
    def test_reads_no_more_than_it_says(self) -> None:
        statement = select(Product.name).where(Product.price > Decimal(1))

        assert extent_of(statement).topics == {"product": {"product*", "product.name", "product.price"}}

    @pytest.mark.parametrize(
        "statement",
        [
            text("SELECT 1"),
            text("SELECT id FROM products").columns(column("id")),
            select(text("id")).select_from(Product),
            select(literal_column("products.stock")).select_from(Product),
            select(literal_column("*")).select_from(Product),
            select(column("price")).select_from(Product),
            select(Product.id).where(text("price > 1")),
            select(Product.id).order_by(text("price")),
            select(table("products", column("price"))),
            select(exists().where(Product.slug == "x")),
        ],
        ids=str,
    )
    def test_that_is_not_understood_reads_everything(self, statement: Any) -> None:
        assert "*" in set().union(*extent_of(statement).topics.values())


@on_one_database
class TestADoor:
    def test_to_one_row_reads_that_row(self, catalogue: dict[str, Any]) -> None:
        product_id = catalogue["ids"][0]
        with unit_of_work(reading=True), gathering() as reads:
            product = products.read_product(product_id, identity=EDITOR)
            products.read_product_by_key("slug", product.slug, identity=READER)

        assert reads.topics == {f"product/{product_id}"}

    def test_to_a_row_that_is_missing_reads_what_its_statement_reads(self, catalogue: object) -> None:
        with unit_of_work(reading=True), gathering() as reads, pytest.raises(NotFound):
            products.read_product(999_999, identity=READER)

        # Among them is `updated_at`.
        assert reads.topics == {"product"}

    def test_to_some_rows_reads_these_whether_they_are_there(self, catalogue: dict[str, Any]) -> None:
        with unit_of_work(reading=True), gathering() as reads:
            find_rows(product_lists.visible_to(READER), Product.id, [catalogue["ids"][1], 999_999])

        assert reads.topics == {f"product/{catalogue['ids'][1]}", "product/999999"}

    def test_to_rows_by_no_key_reads_what_its_statement_reads(self, catalogue: dict[str, Any]) -> None:
        with unit_of_work(reading=True), gathering() as reads:
            find_rows(product_lists.visible_to(READER), Product.category_id, [catalogue["below"]])

        assert reads.topics == {"product"}

    def test_to_a_row_that_is_compared_with_others_reads_these(self, catalogue: dict[str, Any]) -> None:
        other = aliased(Product)
        dearer = select(other.id).where(other.price > Product.price, other.id != Product.id)
        dearest = select(Product).where(~dearer.exists())
        with unit_of_work(reading=True), gathering() as reads:
            find_row(dearest, Product.id, catalogue["ids"][0])

        assert "product" in reads.topics

    def test_to_a_row_beside_others_reads_the_others_as_well(self, catalogue: dict[str, Any]) -> None:
        joined = select(Product).join(Category, Category.id == Product.category_id).where(Category.name == "Chairs")
        with unit_of_work(reading=True), gathering() as reads:
            find_row(joined, Product.id, catalogue["ids"][0])

        assert reads.topics == {f"product/{catalogue['ids'][0]}", "category*", "category.name"}


def page(
    rows: Select[Any] | None = None,
    listing: Listing = product_lists.LISTING,
    members: Sequence[str] = ("id",),
    **criteria: Any,
) -> Reads:
    """What a page reads, numbered and by keyset; both the same."""
    stated = Criteria(**{"sort_by": "created_at", "descending": True, "per_page": 2, **criteria})
    chosen = product_lists.visible_to(READER) if rows is None else rows
    with observed() as (reads, seen):
        read_page(chosen, listing, stated, members)
    assert missed(reads, seen) == set() or members != ("id",)
    with unit_of_work(reading=True), gathering() as walked:
        read_keyset_page(chosen, listing, stated, members, keys=["k" * 32], scope="/")
    assert walked.topics == reads.topics
    return reads


@on_one_database
class TestAPage:
    ALWAYS = {"product*", "product.status", "product.deleted_at", "product.parent_status"}

    def test_reads_the_rows_that_it_shows_and_what_decides_which_these_are(self, catalogue: dict[str, Any]) -> None:
        reads = page(members=("name", "price"))

        shown = {f"product/{one}" for one in catalogue["ids"][1:]}
        assert reads.topics == self.ALWAYS | shown | {"product.created_at"}

    def test_is_the_same_where_members_are_no_columns(self, catalogue: object) -> None:
        assert page(members=()).topics == page().topics

    @pytest.mark.parametrize(
        ("filters", "expected"),
        [
            ({"max_price": Decimal(100)}, {"product.price", "product.variant_count"}),
            ({"in_stock": True}, {"product.stock", "product.track_stock"}),
            ({"tag": ("garden",)}, {"product.attribute_words"}),
            ({"currency": ("USD", "EUR")}, {"product.currency"}),
            ({"gtin": ("12345678",)}, {"product.gtin"}),
        ],
    )
    def test_reads_the_columns_of_its_filters(self, catalogue: object, filters: Any, expected: set[str]) -> None:
        topics = {topic for topic in page(filters=filters).topics if "/" not in topic}

        assert topics == self.ALWAYS | {"product.created_at"} | expected

    def test_in_the_order_of_what_always_moves_reads_any_change(self, catalogue: object) -> None:
        assert {topic for topic in page(sort_by="updated_at").topics if "/" not in topic} == {"product"}

    def test_of_a_category_reads_nothing_of_others(self, catalogue: dict[str, Any]) -> None:
        below = catalogue["below"]
        reads = page(filters={"category_id": (below,)})

        of_all = self.ALWAYS | {"product.created_at", "product.category_id"}
        assert {topic for topic in reads.topics if "/" not in topic} == {f"{one}?category_id={below}" for one in of_all}

    def test_of_some_categories_reads_nothing_of_others(self, catalogue: dict[str, Any]) -> None:
        reads = page(filters={"category_id": (7, 8), "max_price": Decimal(5)})

        assert {topic.partition("?")[2] for topic in reads.topics} == {"category_id=7", "category_id=8"}

    def test_of_many_categories_reads_those_of_all(self, catalogue: object) -> None:
        reads = page(filters={"category_id": tuple(range(MAX_SCOPES + 1))})

        assert {"product*", "product.category_id"} <= reads.topics

    def test_of_a_condition_other_than_equality_has_no_scope(self, catalogue: dict[str, Any]) -> None:
        listing = Listing(
            filters={"category_id": OneOf(Product.category_id, lambda column, value: column != value)},
            sorts={"id": Product.id},
            tie_breaker=Product.id,
        )
        reads = page(listing=listing, sort_by="id", filters={"category_id": (7,)})

        assert "product.category_id" in reads.topics

    @pytest.mark.parametrize("name", ["status", "name"])
    def test_of_a_column_that_refers_to_nothing_has_no_scope(self, catalogue: object, name: str) -> None:
        listing = Listing(
            filters={name: OneOf(getattr(Product, name), eq)}, sorts={"id": Product.id}, tie_breaker=Product.id
        )
        reads = page(listing=listing, sort_by="id", filters={name: ("x",)})

        assert f"product.{name}" in reads.topics

    def test_that_compares_its_rows_with_others_has_no_scope(self, catalogue: dict[str, Any]) -> None:
        other = aliased(Product)
        rows = select(Product).where(Product.price > select(func.avg(other.price)).scalar_subquery())
        reads = page(rows, filters={"category_id": (catalogue["below"],)})

        assert {"product*", "product.price"} <= reads.topics

    BRANCH = ALWAYS | {"product.created_at", "product.category_id"}
    TREE = {"category*", "category.parent_id"}

    @pytest.mark.parametrize("is_filter", [True, False])
    def test_below_a_category_reads_the_tree_and_nothing_of_other_branches(
        self, catalogue: dict[str, Any], make_category: Make, is_filter: bool
    ) -> None:
        above, below = catalogue["above"], catalogue["below"]
        make_category(name="Tables")
        rows = None if is_filter else product_lists.filed_below(above, identity=READER)
        reads = page(rows, filters={"below": (above,)} if is_filter else {})

        scoped = {f"{topic}?category_id={each}" for topic in self.BRANCH for each in (above, below)}
        assert {topic for topic in reads.topics if "/" not in topic} == scoped | self.TREE

    def test_below_many_categories_reads_those_of_all(
        self, catalogue: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        counts = {}
        for limit in (1, 2):
            monkeypatch.setattr(listing_module, "MAX_FOUND_SCOPES", limit)
            topics = page(filters={"below": (catalogue["above"],)}).topics
            counts[limit] = len({topic for topic in topics if "?" in topic})
            assert (topics >= self.BRANCH) == (limit == 1)

        assert counts == {1: 0, 2: 2 * len(self.BRANCH)}

    def test_in_a_category_below_another_reads_that_one(self, catalogue: dict[str, Any]) -> None:
        reads = page(filters={"below": (catalogue["above"],), "category_id": (catalogue["below"],)})

        assert {topic.partition("?")[2] for topic in reads.topics if "product." in topic} == {
            f"category_id={catalogue['below']}"
        }

    @pytest.mark.parametrize(
        "combine", [lambda below: below | (Product.price < Decimal(5)), lambda below: ~below], ids=["or", "not"]
    )
    def test_below_a_category_or_elsewhere_has_no_scope(
        self, catalogue: dict[str, Any], combine: Callable[[Any], Any]
    ) -> None:
        below = categories.is_at_or_below(Product.category_id, catalogue["above"])

        assert page(select(Product).where(combine(below))).topics >= {"product*", "product.category_id"}

    def test_of_the_categories_below_one_reads_the_tree(self, catalogue: dict[str, Any]) -> None:
        rows = categories.visible_to(READER)
        reads = page(rows, categories.LISTING, sort_by="name", filters={"below": (catalogue["above"],)})

        assert {topic for topic in reads.topics if "/" not in topic} == {"category.name", *self.TREE}

    @pytest.mark.parametrize("sort_by", ["created_at", "relevance"])
    def test_of_a_search_reads_the_words_and_the_brands(self, catalogue: object, sort_by: str) -> None:
        stated = Criteria(sort_by=sort_by, descending=True, per_page=2, search="oakw cha")
        with observed() as (reads, seen):
            found = read_page(product_lists.visible_to(READER), product_lists.LISTING, stated, ("id",))

        assert found.total == 3
        assert missed(reads, seen) == set()
        assert {"product.search_text", "product*", "brand"} <= reads.topics
        assert "*" not in reads.topics

    def test_of_what_is_compared_by_chance_reads_any_change(self, catalogue: object) -> None:
        listing = Listing(
            sorts=product_lists.LISTING.sorts,
            tie_breaker=Product.id,
            search=product_lists.LISTING.search,
            max_similar=2,
        )
        stated = Criteria(sort_by="created_at", descending=True, per_page=2, search="chair")
        with unit_of_work(reading=True), gathering() as reads:
            read_page(product_lists.visible_to(READER), listing, stated, ("id",))

        assert "product" in reads.topics

    def test_of_categories_within_a_parent_has_its_scope(self, catalogue: dict[str, Any]) -> None:
        above, below = catalogue["above"], catalogue["below"]
        rows = categories.visible_to(READER)
        reads = page(rows, categories.LISTING, sort_by="name", filters={"parent_id": (above,)})

        scoped = {f"category{what}?parent_id={above}" for what in ("*", ".name", ".parent_id")}
        assert reads.topics == {f"category/{below}", *scoped}

    def test_beyond_the_end_reads_the_total_as_well(self, catalogue: object) -> None:
        stated = Criteria(sort_by="created_at", descending=True, per_page=2, page=9, filters={"max_price": Decimal(10)})
        with observed() as (reads, seen):
            read_page(product_lists.visible_to(READER), product_lists.LISTING, stated, ("id",))

        assert missed(reads, seen) == set()
        assert {"product*", "product.price"} <= reads.topics

    def test_of_unpublished_rows_is_not_logged(self, catalogue: object) -> None:
        listing = Listing(sorts={"id": User.id}, tie_breaker=User.id)

        assert not page(select(User), listing, ("email",), sort_by="id").is_logged

    def test_as_a_tree_reads_the_columns_that_it_shows(self, catalogue: object) -> None:
        stated = Criteria(sort_by="name", descending=False, per_page=2)
        with observed() as (reads, seen):
            read_tree(categories.visible_to(READER), categories.LISTING, stated, ("id", "name", "parent_id", "slug"))

        assert missed(reads, seen) == set()
        assert reads.topics == {"category*", "category.name", "category.parent_id", "category.slug"}


def facets(identity: Identity = READER, **filters: Any) -> set[str]:
    """What the facets of some filters read, without the names of categories and brands, and without attributes."""
    with observed() as (reads, seen):
        count_facets(product_lists.visible_to(identity), product_lists.LISTING, identity=identity, **filters)
    assert missed(reads, seen) == set()
    names = {"category*", "category.name", "brand*", "brand.name", "attribute*", "attribute.filterable"}
    assert reads.topics >= names
    return {topic for topic in reads.topics - names if not topic.startswith("attribute.")}


def of_products(*names: str) -> set[str]:
    """The topics of some columns of products, and of what decides which products a reader sees."""
    return {"product*", *(f"product.{name}" for name in ("status", "deleted_at", "parent_status", *names))}


def within(scope: str, topics: set[str]) -> set[str]:
    return {f"{topic}?{scope}" for topic in topics}


@on_one_database
class TestFacets:
    #: Of the variants of parents, and of the index of values.
    OF_SOLD = ("kind", "parent_id", "attribute_words")
    SHOWN = ("category_id", "brand_id", "price", "stock", "track_stock", *OF_SOLD)

    def test_of_all_products_read_what_each_counts(self, catalogue: object) -> None:
        assert facets() == of_products(*self.SHOWN)

    def test_of_a_category_read_of_others_only_which_products_they_have(self, catalogue: dict[str, Any]) -> None:
        below = catalogue["below"]
        read = facets(category_id=(below,), currency=("USD",))

        of_category = within(f"category_id={below}", of_products(*self.SHOWN, "currency"))
        assert read == of_category | of_products("category_id", "currency")

    def test_of_a_category_and_a_brand_read_each_within_the_other(self, catalogue: dict[str, Any]) -> None:
        below, brand = catalogue["below"], catalogue["brand"]
        read = facets(category_id=(below,), brand_id=(brand,))

        of_category = within(f"category_id={below}", of_products(*self.SHOWN))
        assert read == of_category | within(f"brand_id={brand}", of_products("category_id", "brand_id"))

    @pytest.mark.parametrize(
        ("filters", "own"),
        [
            ({"tag": ("garden",)}, {"attribute_words"}),
            ({"min_price": Decimal(5), "currency": ("USD",)}, {"price", "price_max", "variant_count"}),
            ({"in_stock": True}, {"stock", "track_stock"}),
            ({"status": (ProductStatus.ACTIVE,)}, {"status"}),
        ],
        ids=["tag", "price", "stock", "status"],
    )
    def test_that_are_filtered_read_of_all_products_of_the_category_the_same(
        self, catalogue: dict[str, Any], filters: dict[str, Any], own: set[str]
    ) -> None:
        """Their own filter has no scope, and they are within those of the others."""
        below, others = catalogue["below"], {"currency"} & filters.keys()
        read = facets(category_id=(below,), **filters)

        of_category = within(f"category_id={below}", of_products(*self.SHOWN, *own, *others))
        assert read == of_category | of_products("category_id", *own, *others)

    def test_below_a_category_read_nothing_of_other_branches(self, catalogue: dict[str, Any]) -> None:
        read = facets(below=(catalogue["above"],), in_stock=True, tag=("garden",))

        branch = [within(f"category_id={catalogue[each]}", of_products(*self.SHOWN)) for each in ("above", "below")]
        assert read == set().union(*branch) | {"category.parent_id"}

    def test_of_many_brands_read_those_of_all(self, catalogue: object) -> None:
        assert facets(brand_id=tuple(range(1, MAX_SCOPES + 2))) == of_products(*self.SHOWN)

    def test_of_a_search_read_all_products(self, catalogue: dict[str, Any]) -> None:
        with unit_of_work(reading=True), gathering() as reads:
            category_id = (catalogue["below"],)
            rows = product_lists.visible_to(READER)
            count_facets(rows, product_lists.LISTING, identity=READER, search="chair", category_id=category_id)

        assert not any("?" in topic for topic in reads.topics)
        assert {f"product.{name}" for name in (*self.SHOWN, "search_text")} <= reads.topics


class TestASearch:
    """On either database, each of which has words of its own of SQL for it."""

    def test_reads_the_words_and_the_brands_and_no_text_that_is_unknown(self, catalogue: object) -> None:
        for search in ("oakw cha", "chair", "nothing at all"):
            for sort_by in ("price", "relevance"):
                stated = Criteria(sort_by=sort_by, descending=True, per_page=2, search=search)
                with unit_of_work(reading=True), gathering() as reads:
                    read_page(product_lists.visible_to(READER), product_lists.LISTING, stated, ("id",))

                assert {"product.search_text", "product*", "brand"} <= reads.topics
                assert "*" not in reads.topics
                assert reads.is_logged

    def test_for_facets_is_known_as_well(self, catalogue: object) -> None:
        with unit_of_work(reading=True), gathering() as reads:
            count_facets(product_lists.visible_to(READER), product_lists.LISTING, identity=READER, search="oakw cha")

        assert {"product.search_text", "product.stock", "category.name", "brand"} <= reads.topics
        assert "*" not in reads.topics


some_filters = st.fixed_dictionaries(
    {},
    optional={
        "category_id": st.sampled_from([(1,), (1, 2), (3,)]),
        "below": st.sampled_from([(1,), (1, 2)]),
        "brand_id": st.sampled_from([(1,), (1, 2)]),
        "max_price": st.just(Decimal(10)),
        "in_stock": st.booleans(),
        "status": st.sampled_from([(ProductStatus.DRAFT,), tuple(ProductStatus)]),
        "currency": st.sampled_from([("USD",), ("EUR", "USD")]),
        "tag": st.sampled_from([("garden",), ("a", "b")]),
        "complete": st.booleans(),
        "type_id": st.just((1,)),
        "gtin": st.just(("12345678",)),
    },
)
words = st.sampled_from([None, None, "chair", "oakw cha", "nothing"])


@on_one_database
class TestAnyQuery:
    @any_rows
    @given(some_filters, st.sampled_from(list(product_lists.LISTING.sorts)), words, st.sampled_from([EDITOR, READER]))
    def test_of_a_page_tells_what_the_database_reads(
        self, catalogue: object, filters: dict[str, Any], sort_by: str, search: str | None, identity: Identity
    ) -> None:
        stated = Criteria(sort_by=sort_by, descending=True, per_page=2, search=search, filters=filters)
        with observed() as (reads, seen):
            # Of the rows it reads their ids alone; so all else is in the conditions and the order.
            read_page(product_lists.visible_to(identity), product_lists.LISTING, stated, ("id",))

        assert missed(reads, seen) == set()

    @any_rows
    @given(some_filters, words, st.sampled_from([EDITOR, READER]))
    def test_of_facets_tells_what_the_database_reads(
        self, catalogue: object, filters: dict[str, Any], search: str | None, identity: Identity
    ) -> None:
        with observed() as (reads, seen):
            count_facets(
                product_lists.visible_to(identity), product_lists.LISTING, identity=identity, search=search, **filters
            )

        assert missed(reads, seen) == set()
        assert reads.is_logged
        assert "*" not in reads.topics


def change(members: set[str] | None, **scopes: list[int]) -> set[str]:
    return set(
        topics_of_change(LoggedChange(1, "product", 42, None if members is None else frozenset(members), scopes))
    )


class TestAChange:
    def test_touches_its_row_and_the_columns_that_changed(self) -> None:
        assert change({"price"}) == {"*", "product", "product/42", "product.price"}

    def test_touches_them_in_each_scope_before_and_after(self) -> None:
        touched = change({"category_id"}, category_id=[5, 9], brand_id=[2])

        expected = {"*", "product/42"}
        for scope in ("", "?category_id=5", "?category_id=9", "?brand_id=2"):
            expected |= {f"product{scope}", f"product.category_id{scope}"}
        assert touched == expected

    def test_of_the_whole_row_touches_which_rows_there_are(self) -> None:
        assert change(None, category_id=[5]) == {
            *("*", "product/42", "product", "product*", "product?category_id=5", "product*?category_id=5")
        }

    @pytest.mark.parametrize("name", SEARCHED)
    def test_of_what_is_searched_touches_the_words(self, name: str) -> None:
        assert "product.search_text" in change({name})

    def test_of_something_else_does_not_touch_the_words(self) -> None:
        assert "product.search_text" not in change({"price", "stock", "status", "category_id"})

    def test_of_the_words_alone_touches_them_and_their_row(self) -> None:
        assert change({"search_text"}) == {"*", "product", "product/42", "product.search_text"}

    def test_touches_each_topic_once(self) -> None:
        members = frozenset({"name", "sku", "search_text"})
        touched = [*topics_of_change(LoggedChange(1, "product", 42, members, {"category_id": [5]}))]

        assert len(touched) == len(set(touched))

    def test_of_a_kind_that_is_unknown_touches_what_it_can(self) -> None:
        assert set(topics_of_change(LoggedChange(1, "supplier", 7, frozenset({"name"}), {}))) == {
            *("*", "supplier", "supplier/7", "supplier.name")
        }

    def test_of_any_column_touches_what_reads_it(self) -> None:
        """A change of a column that the log names touches all that reads it; another column is any change of a row."""
        models: list[type[Published]] = [Product, Category, Brand]
        for model in models:
            kind = model.audited_as
            for read in inspect(model).columns:
                topics = extent_of(select(read)).topics[kind]
                named = LoggedChange(1, kind, 1, frozenset({str(read.key)}), {})
                assert read.primary_key or not topics.isdisjoint(topics_of_change(named))


class TestTheSearchedMembers:
    def test_are_what_the_words_are_made_of(self) -> None:
        parameters = signatures.signature(search_text).parameters.values()

        named = {one.name for one in parameters if one.kind is not one.VAR_KEYWORD}
        # The words of attributes are made of these and of what a type says of them.
        assert {*SEARCHED} - {"attributes", "type_id"} == named - {"attribute_words", "variant_words"}
