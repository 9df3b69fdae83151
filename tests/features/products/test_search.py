"""Finding products by words, on both databases alike; and by words that are nearly right, where PostgreSQL can."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from flask import Flask
from flask_migrate import check
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select, text, update
from werkzeug.test import TestResponse

from app.core import clock
from app.core.listing import Criteria, read_page
from app.core.text import plain_text, words
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.brands.models import Brand
from app.features.bulk import upserts
from app.features.categories.models import Category
from app.features.products.listing import LISTING, visible_to
from app.features.products.models import Product, search_text
from app.features.products.search import MAX_WORDS, can_compare, find_similar_words
from app.security.identity import Identity
from app.security.permissions import GRANTS, Role
from tests.conftest import Caller, body_of, empty, faults_of
from tests.features.products.conftest import migrated
from tests.servers import create_database

Make = Callable[..., dict[str, Any]]
EDITOR = Identity(permissions=GRANTS[Role.EDITOR])


def search(caller: Caller, words: str, **query: Any) -> TestResponse:
    """Search for words, the oldest product first unless the query says otherwise."""
    return caller.get("/products", query_string={"search": words, "sort_by": "id", "order": "asc", **query})


def names_of(answer: TestResponse) -> list[str]:
    """The names of the listed products, in their order."""
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return [item["name"] for item in body_of(answer)["items"]]


class TestWords:
    @pytest.fixture(autouse=True)
    def _rows(self, make_product: Make) -> None:
        make_product(name="Straßencafé chair", sku="CAF-9", description="For the GARDEN", tags=["oak wood"])
        make_product(name="100% wool_rug", sku="RUG/1", description="a\\b near it")
        make_product(name="1000 wool rugs", sku="RUG/12", description="ab")
        make_product(name="木製の椅子", sku="SKU_100+", description="Стол ½ И")

    CAFE, RUG, RUGS, SEAT = "Straßencafé chair", "100% wool_rug", "1000 wool rugs", "木製の椅子"

    @pytest.mark.parametrize(
        ("words", "found"),
        [
            ("chair", [CAFE]),
            ("CHAIR STRASSENCAFE", [CAFE]),
            ("chair straßencafé", [CAFE]),
            ("STRASSENCAFE\u0301", [CAFE]),
            ("  strassen   cha ", [CAFE]),
            ("cha str", [CAFE]),
            ("hair", []),
            ("chairs", []),
            ("garden oak", [CAFE]),
            ("wood chair", [CAFE]),
            ("chair wool", []),
            ("wool", [RUG, RUGS]),
            ("rug", [RUG, RUGS]),
            ("椅子", [SEAT]),
            ("椅", [SEAT]),
            ("стол", [SEAT]),
            ("ст", [SEAT]),
        ],
    )
    def test_are_found_by_their_beginnings_in_any_order(self, bob: Caller, words: str, found: list[str]) -> None:
        assert names_of(search(bob, words)) == found

    @pytest.mark.parametrize(
        ("sku", "found"),
        [("caf-9", [CAFE]), ("RUG/1", [RUG, RUGS]), ("RUG/12", [RUGS]), ("SKU_100+", [SEAT]), ("UG/1", [])],
    )
    def test_may_be_a_whole_sku(self, bob: Caller, sku: str, found: list[str]) -> None:
        assert names_of(search(bob, sku)) == found

    @pytest.mark.parametrize(
        ("words", "found"),
        [
            ("100%", [RUG, RUGS, SEAT]),
            ("1%0", []),
            ("wool_rug", [RUG, RUGS]),
            ("a\\b", [RUG]),
            ("'wool'", [RUG, RUGS]),
            ('"wool', [RUG, RUGS]),
            ("(wool", [RUG, RUGS]),
            ("wool*", [RUG, RUGS]),
            ("wool:*A", [RUG, RUGS]),
            ("name : wool", []),
            ("{name} : chair", []),
            ("wool & !rugs", [RUGS]),
            ("wool -rugs", [RUGS]),
            ("wool | chair", []),
            ("wool OR chair", []),
            ("wool AND rug", []),
            ("NOT chair", []),
            ("NEAR(wool rug)", [RUG]),
            ("NEAR(wool rug, 1)", [RUG]),
            ("wool <-> rug", [RUG, RUGS]),
            ("^wool + rug", [RUG, RUGS]),
            ("'; DROP TABLE products; --", []),
        ],
    )
    def test_are_letters_and_digits_whatever_stands_between(self, bob: Caller, words: str, found: list[str]) -> None:
        assert names_of(search(bob, words)) == found

    @pytest.mark.parametrize("nothing", ["%", "_", "\\", "/", "'", '"', "*", "-", "!", ":*", "()", "🪑"])
    def test_that_are_none_find_nothing(self, bob: Caller, nothing: str) -> None:
        assert names_of(search(bob, nothing)) == []
        assert body_of(search(bob, nothing, cursor=""))["items"] == []
        assert names_of(search(bob, nothing, sort_by="relevance")) == []

    def test_narrow_with_every_filter(self, bob: Caller) -> None:
        assert names_of(search(bob, "wool", sku="RUG/1", min_price="1.00", in_stock="false")) == [self.RUG]

    def test_narrow_a_walk(self, bob: Caller) -> None:
        first = body_of(search(bob, "wool", cursor="", per_page=1))
        second = body_of(bob.get(first["links"]["next"].removeprefix("/api/v1")))

        assert [item["name"] for item in first["items"] + second["items"]] == [self.RUG, self.RUGS]
        assert second["links"]["next"] is None

    def test_of_a_draft_are_not_found_by_those_who_may_not_see_it(
        self, alice: Caller, bob: Caller, make_product: Make
    ) -> None:
        make_product(name="Secret", status="draft")

        assert names_of(search(bob, "secret")) == []
        assert names_of(search(alice, "secret")) == ["Secret"]


class TestLongSearches:
    def test_compare_the_beginnings_of_long_words(self, bob: Caller, make_product: Make) -> None:
        make_product(name="Long", description="x" * 10_000)

        assert names_of(search(bob, "x" * 200)) == ["Long"]

    def test_compare_the_first_words(self, bob: Caller, make_product: Make) -> None:
        make_product(name=" ".join(f"w{number}" for number in range(MAX_WORDS)))

        many = [f"w{number}" for number in range(MAX_WORDS + 5)]
        assert len(names_of(search(bob, " ".join(many)))) == 1
        assert names_of(search(bob, " ".join(many[::-1]))) == []

    def test_can_be_of_nothing_but_letters(self, bob: Caller, make_product: Make) -> None:
        make_product(name="a b c d e f g h i j k l m n o")

        assert len(names_of(search(bob, " ".join("abcdefghijklmno"), sort_by="relevance"))) == 1

    def test_meet_the_longest_texts(self, bob: Caller, make_product: Make) -> None:
        # A character that folds to eighteen, and as many different words as there is room for.
        make_product(name="ﷺ" * 200, description="ﷺ" * 10_000)
        make_product(name="Many", description=" ".join(map(str, range(2000))))

        assert names_of(search(bob, "1999")) == ["Many"]


class TestHtml:
    """A description may be HTML: found is what a browser shows of it."""

    HTML = '<div class="elm"><p>Caf&eacute;</p><p>table, <b>bold</b>er than "&lt;u&gt;"</p><!-- ash --></div>'

    @pytest.mark.parametrize("word", ["café", "cafe table", "bolder", "u"])
    def test_is_found_by_what_it_shows(self, bob: Caller, make_product: Make, word: str) -> None:
        make_product(name="Oak", description=self.HTML)

        assert names_of(search(bob, word)) == ["Oak"]

    @pytest.mark.parametrize("word", ["div", "class", "elm", "eacute", "ash", "lt"])
    def test_is_not_found_by_its_markup(self, bob: Caller, make_product: Make, word: str) -> None:
        make_product(name="Oak", description=self.HTML)

        assert names_of(search(bob, word)) == []

    def test_is_stored_as_it_is(self, bob: Caller, make_product: Make) -> None:
        product = make_product(description=self.HTML)

        assert body_of(bob.get(f"/products/{product['id']}"))["description"] == self.HTML

    def test_is_found_after_every_way_of_writing(self, alice: Caller, make_product: Make) -> None:
        product = make_product(name="Oak", sku="A")
        alice.patch(f"/products/{product['id']}", {"description": "<i>elm&shy;</i>"})
        row = {"price": "1.00", "category_id": product["category_id"]}
        alice.post("/products/bulk", {"items": [{**row, "sku": "B", "name": "Ash", "description": "<em>elm</em>"}]})

        found = [names_of(search(alice, word)) for word in ("elm", "em", "i", "shy")]

        assert found == [["Oak", "Ash"], [], [], []]

    def test_is_only_in_descriptions(self, bob: Caller, make_product: Make) -> None:
        make_product(name="<em>Oak</em>", tags=["caf&eacute;"])

        assert [names_of(search(bob, word)) for word in ("em", "eacute")] == [["<em>Oak</em>"]] * 2


class TestBrands:
    """A word of the name of its brand finds a product as its own words do."""

    @pytest.fixture(autouse=True)
    def _rows(self, make_product: Make, make_brand: Make) -> None:
        oakworks, cafe = make_brand(name="Oakworks Élan"), make_brand(name="Café-Werk 4711")
        make_product(name="Chair", brand_id=oakworks["id"])
        make_product(name="Table", brand_id=oakworks["id"], description="goes with a chair")
        make_product(name="Chair of oak", brand_id=cafe["id"])
        make_product(name="Oak chair")
        make_product(name="Secret", brand_id=oakworks["id"], status="draft")

    @pytest.mark.parametrize("place", [{"page": "1"}, {"cursor": ""}])
    @pytest.mark.parametrize(
        ("words", "found"),
        [
            ("oakworks", ["Chair", "Table"]),
            ("OAK", ["Chair", "Table", "Chair of oak", "Oak chair"]),
            ("oakworks chair", ["Chair", "Table"]),
            ("chair elan", ["Chair", "Table"]),
            ("elan oakw", ["Chair", "Table"]),
            ("werk", ["Chair of oak"]),
            ("café 47 oak", ["Chair of oak"]),
            ("afe", []),
            ("works", []),
            ("oakworks werk", []),
            ("oakworks sofa", []),
            ("oakworks%", ["Chair", "Table"]),
        ],
    )
    def test_are_found_by_the_beginnings_of_their_words(
        self, bob: Caller, place: dict[str, str], words: str, found: list[str]
    ) -> None:
        assert names_of(search(bob, words, **place)) == found

    def test_are_counted_in_facets_and_exported(self, alice: Caller, bob: Caller) -> None:
        exported = alice.get("/products/export?search=oakworks+chair").get_data(as_text=True)

        assert body_of(bob.get("/products/facets?search=oakworks+chair"))["total"] == 2
        assert [line.split(",")[4] for line in exported.splitlines()[1:]] == ["Chair", "Table"]

    def test_narrow_with_filters_and_by_what_one_may_see(self, alice: Caller, bob: Caller) -> None:
        assert names_of(search(alice, "oakworks", status="draft")) == ["Secret"]
        assert names_of(search(bob, "oakworks", status="draft")) == []

    def test_are_followed_when_they_are_renamed(self, alice: Caller, bob: Caller) -> None:
        (brand,) = body_of(alice.get("/brands?search=oakworks"))["items"]
        (product,) = body_of(alice.get("/products?search=oakworks+secret"))["items"]
        alice.patch(f"/brands/{brand['id']}", {"name": "Beechworks"})

        assert names_of(search(bob, "beechworks")) == ["Chair", "Table"]
        assert names_of(search(bob, "oakworks")) == []
        assert body_of(alice.get(f"/products/{product['id']}"))["version"] == product["version"]

    def test_count_like_labels(self, bob: Caller, make_product: Make, make_brand: Make) -> None:
        make_product(name="D", description="ash")
        make_product(name="B", brand_id=make_brand(name="Ash")["id"])
        make_product(name="Begins", brand_id=make_brand(name="Ashes")["id"])
        make_product(name="L", tags=["ash"])
        make_product(name="N ash")

        ranked = names_of(search(bob, "ash", sort_by="relevance", order="desc"))

        assert ranked == ["N ash", "L", "B", "Begins", "D"]


class TestRelevance:
    def ranked(self, caller: Caller, words: str, **query: Any) -> list[str]:
        """The names of what is found, the best first."""
        return names_of(search(caller, words, sort_by="relevance", order="desc", **query))

    def test_counts_the_name_more_than_the_labels_and_those_more_than_the_description(
        self, bob: Caller, make_product: Make
    ) -> None:
        make_product(name="D", description="oak " * 50)
        make_product(name="N oak")
        make_product(name="T", tags=["oak"])
        make_product(name="S", sku="OAK.1")

        assert self.ranked(bob, "oak") == ["N oak", "S", "T", "D"]

    def test_counts_whole_words_more_than_beginnings(self, bob: Caller, make_product: Make) -> None:
        for name in ("Carpet", "Car", "Cart"):
            make_product(name=name)

        assert self.ranked(bob, "car") == ["Car", "Cart", "Carpet"]

    def test_counts_every_word(self, bob: Caller, make_product: Make) -> None:
        make_product(name="Oak chair")
        make_product(name="Oak table", description="Goes with a chair")

        assert self.ranked(bob, "chair oak") == ["Oak chair", "Oak table"]

    def test_finds_the_whole_sku_first(self, bob: Caller, make_product: Make) -> None:
        for sku in ("HAMMOCK-1", "HAMMOCK-12", "HAMMOCK-100"):
            make_product(name=f"Product {sku.partition('-')[2]}-{sku}", sku=sku)
        make_product(name="Hammock", description="1 of a kind")

        assert self.ranked(bob, "hammock-1")[0] == "Product 1-HAMMOCK-1"

    def test_shows_the_newest_of_equals_first(self, bob: Caller, make_product: Make) -> None:
        made = [make_product(name=f"Oak {number}")["id"] for number in range(5)]

        pages = [body_of(search(bob, "oak", sort_by="relevance", order="desc", per_page=2, page=p)) for p in (1, 2, 3)]

        assert [item["id"] for page in pages for item in page["items"]] == made[::-1]
        assert pages[0]["meta"] == {"page": 1, "per_page": 2, "total": 5, "pages": 3}

    def test_can_be_turned_around(self, bob: Caller, make_product: Make) -> None:
        make_product(name="Oak")
        make_product(name="Ash", tags=["oak"])

        assert names_of(search(bob, "oak", sort_by="relevance", order="asc")) == ["Ash", "Oak"]

    @pytest.mark.parametrize("query", ["", "&page=1", "&search=oak&cursor=", "&cursor="])
    def test_is_told_of_numbered_pages_of_a_search_only(self, bob: Caller, query: str) -> None:
        assert faults_of(bob.get(f"/products?sort_by=relevance{query}")) == [("sort_by", "relevance_unknown")]

    def test_is_not_told_of_other_collections(self, bob: Caller) -> None:
        assert faults_of(bob.get("/categories?sort_by=relevance&search=a")) == [("sort_by", "not_a_choice")]


class TestTheIndex:
    """It follows every way in which products are written."""

    def test_forgets_what_a_change_removes(self, alice: Caller, make_product: Make) -> None:
        product = make_product(name="Oak chair", tags=["old"])
        alice.patch(f"/products/{product['id']}", {"name": "Ash chair", "tags": ["new"]})

        assert [len(names_of(search(alice, word))) for word in ("oak", "old", "ash", "new", "chair")] == [0, 0, 1, 1, 1]

    def test_knows_the_sku_that_is_made_of_the_id(self, alice: Caller, make_product: Make) -> None:
        product = make_product(name="Nameless")

        assert names_of(search(alice, product["sku"])) == ["Nameless"]

    def test_ends_with_the_product(self, root: Caller, make_product: Make) -> None:
        product = make_product(name="Oak")
        root.delete(f"/products/{product['id']}")

        assert names_of(search(root, "oak")) == []

    def test_follows_writes_of_many(self, app: Flask, bob: Caller, make_category: Make) -> None:
        row = {"price": Decimal(1), "currency": "USD", "category_id": make_category()["id"]}
        with app.app_context(), unit_of_work():
            upserts.upsert_products([{**row, "sku": f"B-{number}", "name": f"Bulk oak{number}"} for number in range(3)])
        with app.app_context(), unit_of_work():
            upserts.upsert_products([{**row, "sku": "B-1", "name": "Bulk ash1"}])

        assert names_of(search(bob, "bulk")) == ["Bulk oak0", "Bulk ash1", "Bulk oak2"]
        assert [names_of(search(bob, word)) for word in ("oak1", "ash1")] == [[], ["Bulk ash1"]]

    def test_takes_back_what_is_rolled_back(self, app: Flask, bob: Caller, make_product: Make) -> None:
        make_product(name="Oak", sku="A-1")
        with app.app_context():
            db.session.execute(update(Product).values(search_text="elm "))
            db.session.rollback()

        assert [names_of(search(bob, word)) for word in ("oak", "elm")] == [["Oak"], []]

    def test_forgets_rows_that_are_erased(self, app: Flask, bob: Caller, make_product: Make) -> None:
        product = make_product(name="Oak")
        with app.app_context(), unit_of_work():
            db.session.execute(text("DELETE FROM products"))
        again = make_product(name="Ash", category_id=product["category_id"])

        assert [names_of(search(bob, word)) for word in ("oak", again["sku"])] == [[], ["Ash"]]

    @pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
    def test_agrees_with_the_table(self, app: Flask, alice: Caller, make_product: Make) -> None:
        product = make_product(name="Oak")
        alice.patch(f"/products/{product['id']}", {"name": "Ash"})

        with app.app_context(), unit_of_work():
            db.session.execute(text("INSERT INTO products_search (products_search) VALUES ('integrity-check')"))


#: Words that begin one another, are queries to a database, or are spelled in several ways; and what stands between.
WORDS = ["oa", "oak", "oaks", "OAK", "o", "and", "near", "not", "or", "1", "10", "1e5", "é", "e", "ß", "ss", "椅", "子"]
MARKS = [" ", "-", "_", "*", ":", "&", "'", '"', ".", "\\"]
any_word = st.sampled_from(WORDS) | st.text(max_size=4)
any_text = st.lists(st.tuples(any_word, st.sampled_from(MARKS)), max_size=5).map(
    lambda pairs: "".join(word + mark for word, mark in pairs).replace("\0", "")
)
any_product = st.fixed_dictionaries(
    {"name": any_text, "tags": st.lists(any_text, max_size=2), "description": any_text, "brand": st.none() | any_text}
)


def fits(product: dict[str, Any], sought: str) -> bool:
    """What search promises, in Python: each word of the search begins a word of the product or of its brand's name."""
    description = plain_text(product["description"])
    there = words(" ".join([product["name"], product["sku"], *product["tags"], description, product["brand"] or ""]))
    wanted = words(sought)
    return bool(wanted) and all(any(word.startswith(beginning) for word in there) for beginning in wanted)


class TestAnySearch:
    @settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(any_product, max_size=6), st.lists(any_text, min_size=1, max_size=6))
    @example(
        [{"name": "𞤀𞤣 Ꭰꭰ", "tags": ["İ ı"], "description": "\ue000 \U000e0100 ๅ", "brand": "ﷺ 椅子"}],
        ["𞤀", "ꭰ", "ﷺ", "i", "ๅ", "子 ꭰ"],
    )
    def test_finds_what_python_finds(self, app: Flask, products: list[dict[str, Any]], searches: list[str]) -> None:
        rows = [{**product, "sku": f"S-{number}", "slug": f"s-{number}"} for number, product in enumerate(products)]
        stamps = {"created_at": clock.now(), "updated_at": clock.now(), "version": 1}
        other = {"price": Decimal(1), "currency": "USD", "category_id": 1, **stamps}
        with app.app_context():
            db.session.execute(insert(Category).values(id=1, name="c", slug="c", search_text="c", **stamps))
            for number, row in enumerate(rows, 1):
                if row["brand"] is not None:
                    # Two brands cannot have one name: a mark distinguishes them, which is no word.
                    named = {"name": f"{row['brand']}{'-' * number}", "slug": "b" * number}
                    db.session.add(Brand(id=number, **named))
                    row["brand_id"] = number
                db.session.flush()
                members = {name: value for name, value in row.items() if name != "brand"}
                db.session.execute(insert(Product).values({**members, **other, "search_text": search_text(**members)}))
            for sought in searches:
                criteria = Criteria(sort_by="sku", descending=False, per_page=100, search=sought)
                found = [product.sku for product in read_page(visible_to(EDITOR), LISTING, criteria).items]
                assert found == [row["sku"] for row in rows if fits(row, sought)], sought
            db.session.rollback()


class TestTypos:
    """Where the extension pg_trgm can be had."""

    @pytest.fixture
    def app(self, debian_app: Flask) -> Flask:
        """An application on an empty database that knows trigrams."""
        empty(debian_app)
        return debian_app

    @pytest.fixture(autouse=True)
    def _rows(self, make_product: Make) -> None:
        make_product(name="Garden hammock", sku="HAMMOCK-1", price="10.00")
        make_product(name="Oak table", sku="TAB-1", price="20.00")
        make_product(name="Hammock stand", tags=["garden"], price="30.00", status="draft")

    @pytest.mark.parametrize("typo", ["hamock", "hammok", "hammcok", "GARDN HAMOCK", "hämmock gardne"])
    def test_are_forgiven_where_nothing_is_right(self, bob: Caller, typo: str) -> None:
        answer = search(bob, typo)

        assert names_of(answer) == ["Garden hammock"]
        assert body_of(answer)["meta"]["total"] == 1

    def test_are_forgiven_in_short_words(self, bob: Caller) -> None:
        assert names_of(search(bob, "tabel")) == ["Oak table"]

    def test_are_not_looked_for_where_something_is_right(self, bob: Caller, make_product: Make) -> None:
        make_product(name="Hamock")

        assert names_of(search(bob, "hamock")) == ["Hamock"]

    def test_are_not_forgiven_beyond_recognition(self, bob: Caller) -> None:
        assert names_of(search(bob, "sofa")) == []
        assert names_of(search(bob, "hamock sofa")) == []
        assert names_of(search(bob, "%")) == []

    def test_show_the_most_alike_first(self, alice: Caller) -> None:
        answer = search(alice, "hamock stan garden", sort_by="relevance", order="desc")
        assert names_of(answer) == ["Hammock stand"]
        answer = search(alice, "hamock gardn", sort_by="relevance", order="desc")
        assert sorted(names_of(answer)) == ["Garden hammock", "Hammock stand"]

    def test_are_forgiven_within_the_filters_and_what_one_may_see(self, alice: Caller, bob: Caller) -> None:
        assert names_of(search(alice, "hamock", min_price="20.00")) == ["Hammock stand"]
        assert names_of(search(bob, "hamock", min_price="20.00")) == []

    def test_are_forgiven_in_facets(self, bob: Caller) -> None:
        assert body_of(bob.get("/products/facets?search=hamock"))["total"] == 1

    def test_are_forgiven_in_facets_to_each_value_as_in_its_list(self, alice: Caller, make_product: Make) -> None:
        make_product(name="Oak hamock", tags=["oak"])
        make_product(name="Oak hammock", tags=["oak"])

        facets = body_of(alice.get("/products/facets?search=hamock&tag=garden"))

        counts = {one["value"]: one["count"] for one in facets["tag"]}
        lists = {tag: names_of(search(alice, "hamock", tag=tag)) for tag in counts}
        assert lists == {"garden": ["Hammock stand"], "oak": ["Oak hamock"]}
        assert counts == {tag: len(names) for tag, names in lists.items()}
        assert facets["total"] == 1

    def test_are_forgiven_in_facets_that_still_list_what_is_selected(self, alice: Caller, make_category: Make) -> None:
        empty = make_category(name="Empty")["id"]

        facets = body_of(alice.get(f"/products/facets?search=hamock&category_id={empty}&tag=gone"))

        assert facets["total"] == 0
        assert [(one["id"], one["count"]) for one in facets["category"] if one["selected"]] == [(empty, 0)]
        assert [(one["value"], one["count"]) for one in facets["tag"] if one["selected"]] == [("gone", 0)]

    def test_are_not_forgiven_in_a_walk(self, bob: Caller) -> None:
        assert names_of(search(bob, "hamock", cursor="")) == []

    def test_are_compared_with_so_many_products_and_no_more(
        self, alice: Caller, bob: Caller, monkeypatch: pytest.MonkeyPatch, make_product: Make
    ) -> None:
        for number in range(4):
            make_product(name=f"Garden bench {number}")
        monkeypatch.setattr("app.features.products.listing.MAX_SIMILAR", 3)

        answer = search(bob, "gardn", per_page=2)
        pages = [names_of(search(bob, "gardn", per_page=2, page=page)) for page in (1, 2, 3)]

        assert body_of(answer)["meta"] == {"page": 1, "per_page": 2, "total": 3, "pages": 2, "total_is_exact": False}
        assert [len(page) for page in pages] == [2, 1, 0]
        assert body_of(bob.get("/products/facets?search=gardn"))["total"] == 3
        assert body_of(search(alice, "tabel"))["meta"]["total"] == 1

    def test_leave_the_schema_as_the_models_say(self, app: Flask) -> None:
        with app.app_context():
            check()

    def test_are_found_by_an_index(self, app: Flask, make_category: Make) -> None:
        row = {"price": Decimal(1), "currency": "USD", "category_id": make_category()["id"]}
        with app.app_context(), unit_of_work():
            upserts.insert_products([{**row, "sku": f"S-{number}", "name": f"Seat {number}"} for number in range(4000)])
            db.session.execute(text("ANALYZE products"))
            # As autovacuum does: what waits to be put into the index makes reading it dear.
            db.session.execute(text("SELECT gin_clean_pending_list('ix_products_search_trigrams')"))
            db.session.execute(text("SET LOCAL enable_seqscan = off"))
            found = select(Product.id).where(Product.deleted_at.is_(None), find_similar_words("hamock").condition)
            query = str(found.compile(db.engine, compile_kwargs={"literal_binds": True})).replace("%%", "%")
            steps = "\n".join(db.session.scalars(text(f"EXPLAIN {query}")))
            assert "Bitmap Index Scan on ix_products_search_trigrams" in steps


class TestTyposElsewhere:
    def test_are_not_forgiven_where_the_extension_is_not_permitted(self, debian_url: str) -> None:
        url = create_database(debian_url, "poor")
        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as administrator:
            administrator.execute("CREATE ROLE poor LOGIN")
            administrator.execute("GRANT ALL ON SCHEMA public TO poor")

        with migrated(url.replace("postgres@", "poor@")) as app, app.app_context():
            assert not can_compare()
            assert db.session.scalar(text("SELECT current_user")) == "poor"
            db.session.rollback()

    def test_find_nothing(self, bob: Caller, make_product: Make) -> None:
        make_product(name="Hammock")

        assert names_of(search(bob, "hamock", sort_by="relevance")) == []
