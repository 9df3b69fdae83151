"""Facets over HTTP: what a list shows and what else it could show, counted alike on both databases."""

from bisect import bisect
from collections import Counter
from collections.abc import Callable, Collection
from decimal import Decimal
from itertools import pairwise
from random import Random
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from flask import Flask

from app.core.money import MIN_AMOUNT, amount_text, max_amount, minor_unit
from app.core.transactions import unit_of_work
from app.features.bulk import upserts
from app.features.facets.counting import MAX_VALUES
from app.features.facets.service import EDGES, FACETS, price_band
from app.features.products.models import ProductStatus
from tests.conftest import Caller, body_of, faults_of

Make = Callable[..., dict[str, Any]]


def facets_of(caller: Caller, query: str = "") -> dict[str, Any]:
    """The facets of a list."""
    answer = caller.get(f"/products/facets?{query}")
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return body_of(answer)


def counts_of(values: list[dict[str, Any]]) -> dict[Any, int]:
    """The counts of a facet, by name or value."""
    return {one["name"] if "name" in one else one["value"]: one["count"] for one in values}


def selected(values: list[dict[str, Any]]) -> list[Any]:
    """The selected values of a facet, by name or value."""
    return [one["name"] if "name" in one else one["value"] for one in values if one["selected"]]


def unselected(*values: dict[str, Any]) -> list[dict[str, Any]]:
    """Values of a facet of which none is selected."""
    return [{**one, "selected": False} for one in values]


@pytest.fixture
def shop(make_category: Make, make_product: Make) -> dict[str, int]:
    """Five products in two categories."""
    chairs, tables = make_category(name="Chairs")["id"], make_category(name="Tables")["id"]
    make_product(name="Oak chair", price="10.00", category_id=chairs, stock=1, tags=["oak", "new"], sku="C-1")
    make_product(name="Ash chair", price="19.99", category_id=chairs, currency="SAR", tags=["ash", "new"])
    make_product(name="Oak table", price="20.00", category_id=tables, stock=3, tags=["oak"])
    make_product(name="Elm table", price="9999999999.99", category_id=tables, status="archived", stock=5)
    make_product(name="Fir chair", price="0.01", category_id=chairs, status="draft")
    return {"chairs": chairs, "tables": tables}


class TestCounts:
    def test_are_of_everything_that_one_may_see(self, alice: Caller, shop: dict[str, int]) -> None:
        assert facets_of(alice) == {
            "total": 5,
            "category": unselected(
                {"id": shop["chairs"], "name": "Chairs", "count": 3},
                {"id": shop["tables"], "name": "Tables", "count": 2},
            ),
            "brand": [],
            "tag": unselected({"value": "new", "count": 2}, {"value": "oak", "count": 2}, {"value": "ash", "count": 1}),
            "price": [],
            "stock": unselected({"value": True, "count": 3}, {"value": False, "count": 2}),
            "status": unselected(
                {"value": "draft", "count": 1}, {"value": "active", "count": 3}, {"value": "archived", "count": 1}
            ),
            "attributes": [],
        }

    @pytest.mark.usefixtures("shop")
    def test_are_of_prices_where_these_are_of_one_currency(self, alice: Caller) -> None:
        assert facets_of(alice, "currency=USD")["price"] == unselected(
            {"min_price": "0.00", "max_price": "0.99", "count": 1},
            {"min_price": "10.00", "max_price": "19.99", "count": 1},
            {"min_price": "20.00", "max_price": "49.99", "count": 1},
            {"min_price": "5000000000.00", "max_price": "9999999999.99", "count": 1},
        )

    @pytest.mark.usefixtures("shop")
    def test_are_of_no_prices_where_these_are_of_several_currencies(self, alice: Caller) -> None:
        assert facets_of(alice, "currency=USD,SAR&min_price=10&max_price=19.99")["price"] == []

    @pytest.mark.parametrize(
        ("currency", "bands"),
        [
            ("JPY", [("0", "0"), ("10", "19"), ("5000000000", "9999999999")]),
            ("KWD", [("0.000", "0.999"), ("10.000", "19.999"), ("5000000000.000", "9999999999.999")]),
        ],
    )
    def test_have_the_decimals_of_the_currency(
        self, alice: Caller, make_product: Make, currency: str, bands: list[tuple[str, str]]
    ) -> None:
        for price in ("0", "19", "9999999999"):
            make_product(price=price, currency=currency)

        assert facets_of(alice, f"currency={currency}")["price"] == unselected(
            *({"min_price": least, "max_price": most, "count": 1} for least, most in bands)
        )

    def test_are_of_active_products_for_plain_users(self, bob: Caller, shop: dict[str, int]) -> None:
        facets = facets_of(bob)

        assert facets["total"] == 3
        assert facets["category"] == unselected(
            {"id": shop["chairs"], "name": "Chairs", "count": 2},
            {"id": shop["tables"], "name": "Tables", "count": 1},
        )
        assert counts_of(facets["status"]) == {"draft": 0, "active": 3, "archived": 0}

    @pytest.mark.usefixtures("shop")
    def test_of_drafts_stay_hidden_from_plain_users_who_select_them(self, bob: Caller) -> None:
        facets = facets_of(bob, "status=draft,archived")

        assert (facets["total"], facets["category"], facets["tag"]) == (0, [], [])
        assert counts_of(facets["status"]) == {"draft": 0, "active": 3, "archived": 0}
        assert selected(facets["status"]) == ["draft", "archived"]

    def test_are_all_there_where_there_is_nothing(self, bob: Caller) -> None:
        assert facets_of(bob) == {
            "total": 0,
            "category": [],
            "brand": [],
            "tag": [],
            "price": [],
            "stock": unselected({"value": True, "count": 0}, {"value": False, "count": 0}),
            "status": unselected(
                {"value": "draft", "count": 0}, {"value": "active", "count": 0}, {"value": "archived", "count": 0}
            ),
            "attributes": [],
        }

    def test_leave_out_what_is_deleted(self, root: Caller, make_product: Make) -> None:
        root.delete(f"/products/{make_product(tags=['oak'])['id']}")

        assert facets_of(root)["total"] == 0
        assert facets_of(root)["tag"] == []

    @pytest.mark.parametrize(
        "query",
        [
            "category_id={chairs}",
            "min_price=10",
            "max_price=19.99",
            "min_price=10&max_price=20",
            "in_stock=true",
            "in_stock=false",
            "status=active",
            "status=draft",
            "status=draft,archived&in_stock=true",
            "currency=SAR",
            "currency=USD&min_price=10&max_price=19.99",
            "category_id={tables}&tag=new&in_stock=true",
            "below={chairs}&tag=oak",
            "sku=C-1",
            "tag=oak",
            "search=oak",
            "search=cha%20o&tag=new",
            "search=%25",
            "category_id=9223372036854775807",
        ],
    )
    @pytest.mark.parametrize("cast", ["alice", "bob"])
    def test_narrow_as_the_list_does(
        self, request: pytest.FixtureRequest, shop: dict[str, int], cast: str, query: str
    ) -> None:
        caller: Caller = request.getfixturevalue(cast)
        query = query.format(**shop)
        facets = facets_of(caller, query)

        def listed(facet: str | None = None) -> list[dict[str, Any]]:
            items: list[dict[str, Any]] = body_of(caller.get(f"/products?per_page=100&{without(facet, query)}"))[
                "items"
            ]
            return items

        assert facets["total"] == len(listed())
        assert found(facets["category"], "id") == Counter(item["category_id"] for item in listed("category"))
        assert found(facets["tag"], "value") == Counter(tag for item in listed("tag") for tag in item["tags"])
        assert found(facets["stock"], "value") == Counter(item["stock"] > 0 for item in listed("stock"))
        assert found(facets["status"], "value") == Counter(item["status"] for item in listed("status"))
        assert sum(band["count"] for band in facets["price"]) == ("currency" in query and len(listed("price")))

    def test_are_what_their_own_filters_find(self, alice: Caller, shop: dict[str, int]) -> None:
        facets = facets_of(alice)

        def total(query: str) -> int:
            found: int = body_of(alice.get(f"/products?{query}"))["meta"]["total"]
            return found

        for one in facets["category"]:
            assert total(f"category_id={one['id']}") == one["count"]
        for one in facets["tag"]:
            assert total(f"tag={one['value']}") == one["count"]
        for one in facets_of(alice, "currency=USD")["price"]:
            assert total(f"currency=USD&min_price={one['min_price']}&max_price={one['max_price']}") == one["count"]
        for one in facets["status"]:
            assert total(f"status={one['value']}") == one["count"]


def without(facet: str | None, query: str) -> str:
    """A query without the filters of a facet."""
    own = {name for one in FACETS if one.name == facet for name in one.filters}
    return urlencode([(name, value) for name, value in parse_qsl(query) if name not in own])


def found(values: list[dict[str, Any]], name: str) -> dict[Any, int]:
    """The counts of a facet but the zeros."""
    return {one[name]: one["count"] for one in values if one["count"]}


class TestAShopper:
    """Who chooses from what the facets show."""

    @pytest.fixture
    def shelves(self, make_category: Make, make_product: Make) -> dict[str, int]:
        """Chairs and tables, each of oak and of ash, and a lamp."""
        ids = {name: make_category(name=name)["id"] for name in ("Chairs", "Tables", "Lamps")}
        for name, tags, price, stock in [
            ("Chairs", ["oak", "new"], "15.00", 3),
            ("Chairs", ["oak"], "25.00", 1),
            ("Chairs", ["ash"], "15.00", 0),
            ("Tables", ["oak"], "60.00", 0),
            ("Tables", ["ash", "new"], "70.00", 2),
            ("Lamps", ["steel"], "15.00", 5),
        ]:
            make_product(category_id=ids[name], tags=tags, price=price, stock=stock)
        return ids

    def test_still_sees_the_other_categories_after_choosing_one(self, bob: Caller, shelves: dict[str, int]) -> None:
        facets = facets_of(bob, f"category_id={shelves['Chairs']}")

        assert facets["total"] == 3
        assert counts_of(facets["category"]) == {"Chairs": 3, "Tables": 2, "Lamps": 1}
        assert selected(facets["category"]) == ["Chairs"]
        assert counts_of(facets["tag"]) == {"oak": 2, "ash": 1, "new": 1}
        assert counts_of(facets["stock"]) == {True: 2, False: 1}

    def test_narrows_each_facet_by_the_choices_in_the_others(self, bob: Caller, shelves: dict[str, int]) -> None:
        facets = facets_of(bob, f"category_id={shelves['Chairs']}&tag=oak&in_stock=true&currency=USD")

        assert facets["total"] == 2
        assert counts_of(facets["category"]) == {"Chairs": 2}
        assert counts_of(facets["tag"]) == {"oak": 2, "new": 1}
        assert counts_of(facets["stock"]) == {True: 2, False: 0}
        assert [(band["min_price"], band["count"]) for band in facets["price"]] == [("10.00", 1), ("20.00", 1)]

    def test_chooses_a_category_a_brand_and_a_tag_and_still_sees_the_alternatives(
        self, bob: Caller, make_brand: Make, make_product: Make, shelves: dict[str, int]
    ) -> None:
        oakworks, ashworks = (make_brand(name=name)["id"] for name in ("Oakworks", "Ashworks"))
        for name, brand, tags in [
            ("Chairs", oakworks, ["oak"]),
            ("Chairs", ashworks, ["oak"]),
            ("Chairs", oakworks, ["new"]),
            ("Tables", oakworks, ["oak"]),
        ]:
            make_product(category_id=shelves[name], brand_id=brand, tags=tags)

        facets = facets_of(bob, f"category_id={shelves['Chairs']}&brand_id={oakworks}&tag=oak")

        assert facets["total"] == 1
        assert counts_of(facets["category"]) == {"Chairs": 1, "Tables": 1}
        assert counts_of(facets["brand"]) == {"Oakworks": 1, "Ashworks": 1}
        assert counts_of(facets["tag"]) == {"oak": 1, "new": 1}
        chosen = [selected(facets[name]) for name in ("category", "brand", "tag")]
        assert chosen == [["Chairs"], ["Oakworks"], ["oak"]]

    def test_who_may_not_read_categories_learns_no_names(
        self, app: Flask, alice: Caller, shelves: dict[str, int]
    ) -> None:
        key = body_of(alice.post("/api-keys", {"name": "Price display", "scopes": ["products:read"]}))["key"]

        path = f"/products/facets?category_id={shelves['Chairs']}"
        facets = body_of(Caller(app).get(path, headers={"X-API-Key": key}))

        assert (facets["total"], facets["category"], facets["brand"]) == (3, [], [])
        assert counts_of(facets["tag"]) == {"oak": 2, "ash": 1, "new": 1}

    def test_widens_the_choice_by_as_many_as_the_facet_said(self, bob: Caller, shelves: dict[str, int]) -> None:
        one = facets_of(bob, f"category_id={shelves['Chairs']}&tag=oak")
        both = facets_of(bob, f"category_id={shelves['Chairs']},{shelves['Tables']}&tag=oak")

        assert counts_of(one["category"]) == {"Chairs": 2, "Tables": 1}
        assert both["total"] == 3
        assert both["category"] == [{**value, "selected": True} for value in one["category"]]
        assert counts_of(both["tag"]) == {"oak": 3, "ash": 2, "new": 2}

    def test_finds_what_a_facet_promised_of_another_choice(self, bob: Caller, shelves: dict[str, int]) -> None:
        promised = counts_of(facets_of(bob, f"category_id={shelves['Chairs']}&tag=oak&in_stock=true")["tag"])

        for tag, count in promised.items():
            assert facets_of(bob, f"category_id={shelves['Chairs']}&tag={tag}&in_stock=true")["total"] == count
        assert promised == {"oak": 2, "new": 1}

    def test_can_still_take_back_what_finds_nothing(self, bob: Caller, shelves: dict[str, int]) -> None:
        facets = facets_of(bob, f"category_id={shelves['Lamps']}&tag=oak,gone&in_stock=false")

        assert facets["total"] == 0
        assert facets["category"] == [
            {"id": shelves["Tables"], "name": "Tables", "count": 1, "selected": False},
            {"id": shelves["Lamps"], "name": "Lamps", "count": 0, "selected": True},
        ]
        assert facets["tag"] == [
            {"value": "gone", "count": 0, "selected": True},
            {"value": "oak", "count": 0, "selected": True},
        ]
        assert selected(facets["stock"]) == [False]

    def test_in_a_branch_sees_the_categories_of_the_branch(
        self, bob: Caller, make_category: Make, make_product: Make, shelves: dict[str, int]
    ) -> None:
        stools = make_category(name="Stools", parent_id=shelves["Chairs"])["id"]
        make_product(category_id=stools, tags=["oak"])

        branch = facets_of(bob, f"below={shelves['Chairs']}")
        chosen = facets_of(bob, f"below={shelves['Chairs']}&category_id={stools}")

        assert counts_of(branch["category"]) == counts_of(chosen["category"]) == {"Chairs": 3, "Stools": 1}
        assert (selected(branch["category"]), selected(chosen["category"])) == ([], ["Stools"])

    @pytest.mark.usefixtures("shelves")
    def test_still_sees_the_other_prices_after_choosing_a_band(self, bob: Caller) -> None:
        facets = facets_of(bob, "currency=USD&min_price=10&max_price=19.99")

        assert facets["total"] == 3
        assert facets["price"] == [
            {"min_price": "10.00", "max_price": "19.99", "count": 3, "selected": True},
            {"min_price": "20.00", "max_price": "49.99", "count": 1, "selected": False},
            {"min_price": "50.00", "max_price": "99.99", "count": 2, "selected": False},
        ]
        assert counts_of(facets["category"]) == {"Chairs": 2, "Lamps": 1}

    @pytest.mark.usefixtures("shelves")
    @pytest.mark.parametrize(
        ("query", "bands"),
        [
            ("min_price=20", {"10.00": False, "20.00": True, "50.00": True}),
            ("max_price=49.99", {"10.00": True, "20.00": True, "50.00": False}),
            ("max_price=49.98", {"10.00": True, "20.00": False, "50.00": False}),
            ("min_price=5&max_price=19.99", {"5.00": True, "10.00": True, "20.00": False, "50.00": False}),
            ("min_price=6&max_price=7", {"10.00": False, "20.00": False, "50.00": False}),
        ],
    )
    def test_sees_which_bands_a_range_holds_whole(self, bob: Caller, query: str, bands: dict[str, bool]) -> None:
        prices = facets_of(bob, f"currency=USD&{query}")["price"]

        assert {band["min_price"]: band["selected"] for band in prices} == bands

    @pytest.mark.usefixtures("shelves")
    def test_sees_no_category_that_is_not_there(self, bob: Caller) -> None:
        facets = facets_of(bob, "category_id=9223372036854775807")

        assert (facets["total"], selected(facets["category"])) == (0, [])
        assert counts_of(facets["category"]) == {"Chairs": 3, "Tables": 2, "Lamps": 1}


NAMES = ("oak chair", "ash chair", "oak table")
TAGS = ("oak", "ash", "new", "sale", "größe, l")
CURRENCIES = ("USD", "USD", "USD", "JPY", "KWD")


class Shop:
    """Random products, and what Python counts of them."""

    def __init__(
        self, seed: int, categories: dict[int, str], parents: dict[int, int | None], brands: dict[int, str]
    ) -> None:
        self.random = Random(seed)
        self.categories, self.parents, self.brands = categories, parents, brands
        self.products = [self._product(number) for number in range(80)]

    def _product(self, number: int) -> dict[str, Any]:
        tracked = self.random.random() < 0.8
        return {
            "sku": f"S-{number}",
            "name": self.random.choice(NAMES),
            "price": Decimal(self.random.choice((0, 1, 3, 10, 15, 19, 20, 99, 100, 9_999_999_999))),
            "currency": self.random.choice(CURRENCIES),
            "category_id": self.random.choice(list(self.categories)[1:]),
            "brand_id": self.random.choice([None, *list(self.brands)[1:]]),
            "tags": self.random.sample(TAGS, self.random.randint(0, 3)),
            "status": self.random.choice((*ProductStatus, "active", "active")),
            "track_stock": tracked,
            "stock": self.random.choice((0, 0, 7)) if tracked else 0,
        }

    def selection(self) -> dict[str, Any]:
        """Some filters."""

        def some(values: Collection[Any]) -> list[Any]:
            return self.random.sample(list(values), self.random.randint(1, 2))

        possible: dict[str, Callable[[], Any]] = {
            "category_id": lambda: some(self.categories),
            "brand_id": lambda: some(self.brands),
            "below": lambda: some(self.categories),
            "tag": lambda: some([*TAGS, "gone"]),
            "min_price": lambda: Decimal(self.random.choice((0, 1, 10, 20))),
            "max_price": lambda: Decimal(self.random.choice(("0.99", "19", "19.99", "99.99"))),
            "in_stock": lambda: self.random.random() < 0.5,
            "status": lambda: some(list(ProductStatus)),
            "currency": lambda: self.random.choice((["USD"], ["USD"], ["JPY"], ["KWD", "USD"])),
            "search": lambda: self.random.choice(("oak", "cha oa", "oakw", "steelworks chair", "sofa")),
        }
        names = self.random.sample(list(possible), self.random.randint(0, 5))
        return {name: possible[name]() for name in names}

    def expected(self, chosen: dict[str, Any], *, shows_all: bool) -> dict[str, Any]:
        """The facets as Python counts them."""

        def found(*own: str) -> list[dict[str, Any]]:
            others = {name: value for name, value in chosen.items() if name not in own}
            visible = (one for one in self.products if shows_all or one["status"] == "active")
            return [one for one in visible if all(self._meets(one, name, value) for name, value in others.items())]

        def marked(values: Collection[Any], counts: Counter[Any], name: str) -> list[tuple[Any, int, bool]]:
            stated = chosen.get(name, [])
            stated = stated if isinstance(stated, list) else [stated]
            return [(value, counts[value], value in stated) for value in values]

        by_category = Counter(one["category_id"] for one in found("category_id"))
        by_brand = Counter(one["brand_id"] for one in found("brand_id") if one["brand_id"])
        by_tag = Counter(tag for one in found("tag") for tag in one["tags"])
        by_stock = Counter(self._is_in_stock(one) for one in found("in_stock"))
        by_status = Counter(str(one["status"]) for one in found("status"))
        categories = marked({*by_category, *chosen.get("category_id", [])}, by_category, "category_id")
        brands = marked({*by_brand, *chosen.get("brand_id", [])}, by_brand, "brand_id")
        tags = marked({*by_tag, *chosen.get("tag", [])}, by_tag, "tag")
        return {
            "total": len(found()),
            "category": named(categories, self.categories),
            "brand": named(brands, self.brands),
            "tag": plain(sorted(tags, key=lambda one: (-one[1], one[0]))),
            "price": self._prices(chosen, Counter(bisect(EDGES, one["price"]) for one in found(*PRICES))),
            "stock": plain(marked((True, False), by_stock, "in_stock")),
            "status": plain(marked([str(one) for one in ProductStatus], by_status, "status")),
            "attributes": [],
        }

    def _prices(self, chosen: dict[str, Any], counts: Counter[int]) -> list[dict[str, Any]]:
        if len(chosen.get("currency", [])) != 1:
            return []
        (currency,) = chosen["currency"]
        bands = []
        for number in range(len(EDGES) + 1):
            low, high = price_band(number, currency)
            is_chosen = chosen.get("min_price", low) <= low and high <= chosen.get("max_price", high)
            is_chosen = is_chosen and not chosen.keys().isdisjoint(PRICES)
            if counts[number] or (is_chosen and chosen.keys() >= PRICES):
                text = {"min_price": amount_text(low, currency), "max_price": amount_text(high, currency)}
                bands.append({**text, "count": counts[number], "selected": is_chosen})
        return bands

    def _meets(self, product: dict[str, Any], name: str, value: Any) -> bool:
        if name in ("min_price", "max_price"):
            return bool(product["price"] >= value if name == "min_price" else product["price"] <= value)
        brand = self.brands.get(product["brand_id"], "").lower()
        words = " ".join([product["name"], *product["tags"], brand]).split()
        meets: dict[str, Callable[[], bool]] = {
            "tag": lambda: not set(product["tags"]).isdisjoint(value),
            "in_stock": lambda: self._is_in_stock(product) == value,
            "below": lambda: not self._lineage(product["category_id"]).isdisjoint(value),
            "search": lambda: all(any(word.startswith(sought) for word in words) for sought in value.split()),
        }
        return meets[name]() if name in meets else product[name] in value

    def _lineage(self, category_id: int | None) -> set[int]:
        return {category_id, *self._lineage(self.parents[category_id])} if category_id is not None else set()

    @staticmethod
    def _is_in_stock(product: dict[str, Any]) -> bool:
        return product["stock"] > 0 or not product["track_stock"]


PRICES = {"min_price", "max_price"}


def plain(values: list[tuple[Any, int, bool]]) -> list[dict[str, Any]]:
    """Values as an answer has them."""
    return [{"value": value, "count": count, "selected": is_chosen} for value, count, is_chosen in values]


def named(values: list[tuple[Any, int, bool]], names: dict[int, str]) -> list[dict[str, Any]]:
    """Rows by id and name as an answer has them, the commonest first."""
    return [
        {"id": value, "name": names[value], "count": count, "selected": is_chosen}
        for value, count, is_chosen in sorted(values, key=lambda one: (-one[1], one[0]))
    ]


def query_of(chosen: dict[str, Any]) -> str:
    """A selection as a query."""
    return urlencode({name: text_of(value) for name, value in chosen.items()})


def text_of(value: Any) -> str:
    """A value of a filter, or several."""
    if isinstance(value, list):
        return ",".join(str(one).replace(",", "\\,") for one in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


class TestAnySelection:
    @pytest.mark.parametrize("seed", range(4))
    def test_is_counted_as_python_counts(
        self, alice: Caller, bob: Caller, make_category: Make, make_brand: Make, seed: int
    ) -> None:
        app = alice.app
        brands = {make_brand(name=name)["id"]: name for name in ("Unused", "Oakworks", "Steelworks")}
        empty = make_category(name="Empty")["id"]
        furniture = make_category(name="Furniture")["id"]
        chairs = make_category(name="Chairs", parent_id=furniture)["id"]
        lamps = make_category(name="Lamps")["id"]
        names = {empty: "Empty", furniture: "Furniture", chairs: "Chairs", lamps: "Lamps"}
        shop = Shop(seed, names, {empty: None, furniture: None, chairs: furniture, lamps: None}, brands)
        with app.app_context(), unit_of_work():
            upserts.insert_products(shop.products)

        for _ in range(40):
            chosen = shop.selection()
            for caller, shows_all in ((alice, True), (bob, False)):
                query = query_of(chosen)
                assert facets_of(caller, query) == shop.expected(chosen, shows_all=shows_all), query


class TestMost:
    @pytest.fixture(autouse=True)
    def _rows(self, app: Flask, make_category: Make) -> None:
        home = make_category()["id"]
        tags = [f"t{number:02}" for number in range(55)] + ["Z", "é", "椅", "\U0001f600", "ｚ"]
        rows = [
            {"sku": f"S-{number}", "name": "n", "price": Decimal(1), "currency": "USD", "category_id": home}
            for number in range(3)
        ]
        with app.app_context(), unit_of_work():
            upserts.insert_products(
                [{**rows[0], "tags": tags}, {**rows[1], "tags": ["t54"]}, {**rows[2], "tags": ["椅"]}]
            )

    def test_tags_are_told_with_ties_by_code_point(self, bob: Caller) -> None:
        told = facets_of(bob)["tag"]

        assert [one["value"] for one in told] == ["t54", "椅", "Z", *(f"t{number:02}" for number in range(47))]
        assert len(told) == MAX_VALUES

    def test_tags_are_told_with_the_selected_ones_beside(self, bob: Caller) -> None:
        told = facets_of(bob, "tag=t50,gone")["tag"]

        commonest = ["t54", "椅", "Z", *(f"t{number:02}" for number in range(47))]
        assert list(counts_of(told)) == [*commonest, "t50", "gone"]
        assert [(one["value"], one["count"]) for one in told if one["selected"]] == [("t50", 1), ("gone", 0)]

    def test_categories_are_told_with_the_selected_ones_beside(
        self, app: Flask, alice: Caller, make_category: Make
    ) -> None:
        made = [make_category()["id"] for _ in range(52)]
        row = {"name": "n", "price": Decimal(1), "currency": "USD"}
        with app.app_context(), unit_of_work():
            upserts.insert_products([{**row, "sku": f"C-{made_id}", "category_id": made_id} for made_id in made])

        told = facets_of(alice, f"category_id={made[51]}")["category"]

        assert [one["id"] for one in told[1:]] == [*made[:49], made[51]]
        assert [(one["id"], one["count"]) for one in told if one["selected"]] == [(made[51], 1)]

    def test_categories_are_told_with_ties_by_id(self, app: Flask, alice: Caller, make_category: Make) -> None:
        made = [make_category()["id"] for _ in range(52)]
        row = {"name": "n", "price": Decimal(1), "currency": "USD"}
        with app.app_context(), unit_of_work():
            upserts.insert_products(
                [{**row, "sku": f"C-{made_id}", "category_id": made_id} for made_id in reversed(made)]
            )

        told = [one["id"] for one in facets_of(alice)["category"]]

        assert told[1:] == made[:49]


class TestBands:
    @pytest.mark.parametrize("currency", ["JPY", "EUR", "KWD"])
    def test_hold_every_amount_once(self, currency: str) -> None:
        bands = [price_band(number, currency) for number in range(len(EDGES) + 1)]

        assert bands[0][0] == MIN_AMOUNT
        assert bands[-1][1] == max_amount(currency)
        assert all(most + minor_unit(currency) == least for (_, most), (least, _) in pairwise(bands))

    def test_begin_at_one_two_and_five(self) -> None:
        assert [int(price_band(number, "EUR")[0]) for number in range(8)] == [0, 1, 2, 5, 10, 20, 50, 100]


class TestTheRoute:
    @pytest.mark.parametrize("query", ["page=1", "per_page=5", "cursor=", "sort_by=name", "order=asc", "fields=id"])
    def test_takes_the_filters_of_the_list_and_nothing_else(self, bob: Caller, query: str) -> None:
        parameter = query.partition("=")[0]
        assert faults_of(bob.get(f"/products/facets?{query}")) == [(parameter, "unknown_parameter")]

    @pytest.mark.parametrize(
        ("query", "parameter"), [("search=", "search"), ("min_price=x", "min_price"), ("status=gone", "status")]
    )
    def test_refuses_what_the_list_refuses(self, bob: Caller, query: str, parameter: str) -> None:
        assert [where for where, _ in faults_of(bob.get(f"/products/facets?{query}"))] == [parameter]

    def test_needs_credentials(self, anonymous: Caller) -> None:
        assert anonymous.get("/products/facets").status_code == 401

    def test_may_be_kept_as_a_list_may(self, bob: Caller) -> None:
        answer = bob.get("/products/facets")

        assert answer.headers["Cache-Control"] == "private, no-cache"
        assert answer.headers["Vary"] == "Authorization, X-API-Key"

    def test_is_public_where_the_catalogue_is(
        self, anonymous: Caller, app_with: Callable[..., Flask], shop: dict[str, int]
    ) -> None:
        answer = anonymous.on(app_with(catalog_public_read=True)).get("/products/facets")

        assert body_of(answer)["total"] == 3
        assert answer.headers["Cache-Control"].startswith("public")
