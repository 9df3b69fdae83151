"""Facets over HTTP: what a list shows, counted in every way, and alike on both databases."""

from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from flask import Flask

from app.core.money import MIN_AMOUNT, max_amount, minor_unit
from app.core.transactions import unit_of_work
from app.features.products import bulk
from app.features.products.facets import EDGES, MAX_VALUES, price_band
from tests.conftest import Caller, body_of, faults_of

Make = Callable[..., dict[str, Any]]


def facets_of(caller: Caller, query: str = "") -> dict[str, Any]:
    """The facets of a list."""
    answer = caller.get(f"/products/facets?{query}")
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return body_of(answer)


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
            "category": [
                {"id": shop["chairs"], "name": "Chairs", "count": 3},
                {"id": shop["tables"], "name": "Tables", "count": 2},
            ],
            "tag": [
                {"value": "new", "count": 2},
                {"value": "oak", "count": 2},
                {"value": "ash", "count": 1},
            ],
            "price": [],
            "stock": {"in_stock": 3, "out_of_stock": 2},
            "status": {"draft": 1, "active": 3, "archived": 1},
        }

    @pytest.mark.usefixtures("shop")
    def test_are_of_prices_where_these_are_of_one_currency(self, alice: Caller) -> None:
        assert facets_of(alice, "currency=USD")["price"] == [
            {"min_price": "0.00", "max_price": "0.99", "count": 1},
            {"min_price": "10.00", "max_price": "19.99", "count": 1},
            {"min_price": "20.00", "max_price": "49.99", "count": 1},
            {"min_price": "5000000000.00", "max_price": "9999999999.99", "count": 1},
        ]

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

        assert facets_of(alice, f"currency={currency}")["price"] == [
            {"min_price": least, "max_price": most, "count": 1} for least, most in bands
        ]

    def test_are_of_active_products_for_plain_users(self, bob: Caller, shop: dict[str, int]) -> None:
        facets = facets_of(bob)

        assert facets["total"] == 3
        assert facets["category"] == [
            {"id": shop["chairs"], "name": "Chairs", "count": 2},
            {"id": shop["tables"], "name": "Tables", "count": 1},
        ]
        assert facets["status"] == {"draft": 0, "active": 3, "archived": 0}

    def test_are_all_there_where_there_is_nothing(self, bob: Caller) -> None:
        assert facets_of(bob) == {
            "total": 0,
            "category": [],
            "tag": [],
            "price": [],
            "stock": {"in_stock": 0, "out_of_stock": 0},
            "status": {"draft": 0, "active": 0, "archived": 0},
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
            "currency=SAR",
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
        listed = body_of(caller.get(f"/products?per_page=100&{query}"))

        facets = facets_of(caller, query)

        assert facets["total"] == listed["meta"]["total"]
        by_category = {one["id"]: one["count"] for one in facets["category"]}
        assert by_category == counted(item["category_id"] for item in listed["items"])
        assert {one["value"]: one["count"] for one in facets["tag"]} == counted(
            tag for item in listed["items"] for tag in item["tags"]
        )
        assert facets["stock"]["in_stock"] == sum(item["stock"] > 0 for item in listed["items"])
        assert sum(facets["stock"].values()) == sum(facets["status"].values()) == facets["total"]
        assert sum(band["count"] for band in facets["price"]) == ("currency" in query and facets["total"])

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
        for name, count in facets["status"].items():
            assert total(f"status={name}") == count


def counted(values: Any) -> dict[Any, int]:
    """How often each value is there."""
    counts: dict[Any, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return counts


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
            bulk.insert_products([{**rows[0], "tags": tags}, {**rows[1], "tags": ["t54"]}, {**rows[2], "tags": ["椅"]}])

    def test_tags_are_told_with_ties_by_code_point(self, bob: Caller) -> None:
        told = facets_of(bob)["tag"]

        assert [one["value"] for one in told] == ["t54", "椅", "Z", *(f"t{number:02}" for number in range(47))]
        assert len(told) == MAX_VALUES

    def test_categories_are_told_with_ties_by_id(self, app: Flask, alice: Caller, make_category: Make) -> None:
        made = [make_category()["id"] for _ in range(52)]
        row = {"name": "n", "price": Decimal(1), "currency": "USD"}
        with app.app_context(), unit_of_work():
            bulk.insert_products([{**row, "sku": f"C-{made_id}", "category_id": made_id} for made_id in reversed(made)])

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
