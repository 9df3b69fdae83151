"""Facets over HTTP: what a list shows, counted in every way, and alike on both databases."""

from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from flask import Flask

from app.core.money import MAX_AMOUNT, MIN_AMOUNT
from app.core.transactions import unit_of_work
from app.features.products import bulk
from app.features.products.facets import BANDS, MAX_VALUES
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
            "price": [
                {"min_price": "0.01", "max_price": "0.99", "count": 1},
                {"min_price": "10.00", "max_price": "19.99", "count": 2},
                {"min_price": "20.00", "max_price": "49.99", "count": 1},
                {"min_price": "5000000000.00", "max_price": "9999999999.99", "count": 1},
            ],
            "stock": {"in_stock": 3, "out_of_stock": 2},
            "status": {"draft": 1, "active": 3, "archived": 1},
        }

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
        assert sum(band["count"] for band in facets["price"]) == facets["total"]

    def test_are_what_their_own_filters_find(self, alice: Caller, shop: dict[str, int]) -> None:
        facets = facets_of(alice)

        def total(query: str) -> int:
            found: int = body_of(alice.get(f"/products?{query}"))["meta"]["total"]
            return found

        for one in facets["category"]:
            assert total(f"category_id={one['id']}") == one["count"]
        for one in facets["tag"]:
            assert total(f"tag={one['value']}") == one["count"]
        for one in facets["price"]:
            assert total(f"min_price={one['min_price']}&max_price={one['max_price']}") == one["count"]
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
    def test_hold_every_amount_once(self) -> None:
        assert BANDS[0][0] == MIN_AMOUNT
        assert BANDS[-1][1] == MAX_AMOUNT
        assert all(most + MIN_AMOUNT == least for (_, most), (least, _) in pairwise(BANDS))

    def test_begin_at_one_two_and_five(self) -> None:
        assert [str(least) for least, _ in BANDS[1:8]] == ["1", "2", "5", "1E+1", "2E+1", "5E+1", "1E+2"]


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
