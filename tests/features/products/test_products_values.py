"""Filters of products with several values, by branch of the tree and by time: in lists, facets and exports."""

import csv
import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from flask import Flask

from app.core.fastsql.prepared import Compiled
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.products.models import PRODUCTS
from tests.conftest import Caller, body_of, faults_of

Make = Callable[..., dict[str, Any]]
MOMENT = datetime(2026, 5, 17, 12, 30, tzinfo=UTC)


@pytest.fixture
def shop(make_category: Make, make_product: Make) -> dict[str, Any]:
    """Six products, of which two are below furniture, in categories of three levels."""
    furniture = make_category(name="Furniture")["id"]
    chairs = make_category(name="Chairs", parent_id=furniture)["id"]
    stools = make_category(name="Stools", parent_id=chairs)["id"]
    lamps = make_category(name="Lamps")["id"]
    kinds: dict[str, dict[str, Any]] = {
        "oak": {"category_id": chairs, "tags": ["oak", "new"], "sku": "A-1", "external_id": "erp,1"},
        "ash": {
            "category_id": stools,
            "tags": ["ash, white"],
            "sku": "A-2",
            "currency": "SAR",
            "external_id": "e\\2",
        },
        "elm": {"category_id": lamps, "tags": ["back\\slash"], "sku": "A-3", "status": "draft"},
        "fir": {"category_id": lamps, "sku": "A-4", "status": "archived", "currency": "EUR"},
        "yew": {"category_id": furniture, "tags": ["new", "ash"], "sku": "A-5"},
    }
    ids = {name: make_product(name=name, **members)["id"] for name, members in kinds.items()}
    return {"furniture": furniture, "chairs": chairs, "stools": stools, "lamps": lamps, **ids}


def names_of(caller: Caller, query: str) -> list[str]:
    """The names of the products that a list shows, by id."""
    answer = caller.get(f"/products?sort_by=id&order=asc&{query}")
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return [item["name"] for item in body_of(answer)["items"]]


#: What each query finds, in the order of the ids.
FOUND = [
    ("tag=oak,ash", ["oak", "yew"]),
    ("tag=oak&tag=ash", ["oak", "yew"]),
    ("tag=new,new&tag=new", ["oak", "yew"]),
    (r"tag=ash\, white,oak", ["oak", "ash"]),
    (r"tag=ash\, white", ["ash"]),
    (r"tag=back\\slash", ["elm"]),
    (r"tag=back\slash&tag=oak", ["oak", "elm"]),
    ("tag=none,nothing", []),
    ("sku=A-1,A-3,A-9", ["oak", "elm"]),
    ("status=draft,archived", ["elm", "fir"]),
    ("status=active,draft", ["oak", "ash", "elm", "yew"]),
    ("status=archived,active,draft", ["oak", "ash", "elm", "fir", "yew"]),
    ("currency=SAR,EUR", ["ash", "fir"]),
    ("category_id={stools},{lamps}", ["ash", "elm", "fir"]),
    ("category_id={stools}&tag=oak,ash", []),
    ("id={oak},{yew}", ["oak", "yew"]),
    ("id={oak}", ["oak"]),
    ("id=9223372036854775807,{fir}", ["fir"]),
    (r"external_id=erp\,1", ["oak"]),
    (r"external_id=erp\,1,e\\2", ["oak", "ash"]),
    ("below={furniture}", ["oak", "ash", "yew"]),
    ("below={stools}", ["ash"]),
    ("below={stools},{lamps}", ["ash", "elm", "fir"]),
    ("below={furniture},{chairs},{stools}", ["oak", "ash", "yew"]),
    ("below=9223372036854775807", []),
    ("below={chairs}&tag=oak,ash&status=active,draft&currency=USD,EUR", ["oak"]),
    ("search=o&tag=oak,ash&below={furniture},{lamps}", ["oak"]),
]


class TestSeveralValues:
    @pytest.mark.parametrize(("query", "names"), FOUND)
    @pytest.mark.parametrize("place", ["page=1", "cursor=", "page=1&fields=name"])
    def test_find_what_has_any_of_them(
        self, alice: Caller, shop: dict[str, Any], place: str, query: str, names: list[str]
    ) -> None:
        assert names_of(alice, f"{place}&{query.format(**shop)}") == names

    @pytest.mark.parametrize(("query", "names"), FOUND)
    def test_find_the_same_in_an_export(
        self, alice: Caller, shop: dict[str, Any], query: str, names: list[str]
    ) -> None:
        answer = alice.get(f"/products/export?{query.format(**shop)}")

        rows = csv.DictReader(io.StringIO(answer.get_data(as_text=True), newline=""))
        assert [row["name"] for row in rows] == names

    @pytest.mark.parametrize(("query", "names"), FOUND)
    def test_are_counted_in_facets(self, alice: Caller, shop: dict[str, Any], query: str, names: list[str]) -> None:
        assert body_of(alice.get(f"/products/facets?{query.format(**shop)}"))["total"] == len(names)

    def test_of_the_status_show_plain_users_what_they_may_see(self, bob: Caller, shop: dict[str, Any]) -> None:
        assert names_of(bob, "status=draft,archived,active") == ["oak", "ash", "yew"]

    def test_narrow_the_branch_that_a_path_names(self, alice: Caller, shop: dict[str, Any]) -> None:
        path = "/categories/{furniture}/products?below={stools},{lamps}".format(**shop)

        assert [item["name"] for item in body_of(alice.get(path))["items"]] == ["ash"]

    @pytest.mark.parametrize(
        ("query", "parameter", "code"),
        [
            ("tag=oak,", "tag", "too_short"),
            ("tag=oak&tag=", "tag", "too_short"),
            ("tag=oak,%00", "tag", "malformed"),
            ("category_id=1,x", "category_id", "invalid"),
            ("category_id=1&category_id=0", "category_id", "too_small"),
            ("below=1,01", "below", "invalid"),
            ("status=active,gone", "status", "not_a_choice"),
            ("currency=USD,usd", "currency", "not_a_choice"),
            ("id=" + ",".join(map(str, range(1, 102))), "id", "too_many"),
            ("&".join(f"tag=t{number}" for number in range(101)), "tag", "too_many"),
            ("min_price=1,2", "min_price", "invalid"),
            ("min_price=1&min_price=1", "min_price", "repeated"),
            ("in_stock=true&in_stock=true", "in_stock", "repeated"),
            ("search=a&search=b", "search", "repeated"),
            ("updated_since=2026-01-01", "updated_since", "invalid"),
        ],
        ids=lambda value: value[:30],
    )
    def test_are_refused_where_one_is_wrong(self, bob: Caller, query: str, parameter: str, code: str) -> None:
        assert faults_of(bob.get(f"/products?{query}")) == [(parameter, code)]

    def test_are_a_hundred_at_most_each_counted_once(self, bob: Caller, shop: dict[str, Any]) -> None:
        query = ",".join(map(str, range(1, 101)))

        assert bob.get(f"/products?id={query},{query}&id={query}").status_code == 200

    @pytest.mark.parametrize("place", ["page=1", "cursor="])
    def test_are_repeated_by_links(self, bob: Caller, shop: dict[str, Any], place: str) -> None:
        tags = [("tag", "new,ash"), ("tag", r"ash\, white")]

        page = body_of(bob.get(f"/products?per_page=1&tag=new,ash&tag={quote(tags[1][1])}&{place}"))

        links = [link for link in page["links"].values() if link]
        assert len(links) >= 3
        for link in links:
            assert [(name, value) for name, value in parse_qsl(urlsplit(link).query) if name == "tag"] == tags
        following = body_of(bob.get(page["links"]["next"].removeprefix("/api/v1")))
        assert {page["items"][0]["name"], following["items"][0]["name"]} <= {"oak", "ash", "yew"}
        assert page["items"] != following["items"]

    def test_are_the_same_query_in_any_order_and_spelling(self, bob: Caller, shop: dict[str, Any]) -> None:
        first = body_of(bob.get("/products?cursor=&per_page=1&tag=new,ash&sort_by=id&order=asc"))
        cursor = first["meta"]["next_cursor"]

        rest = bob.get(f"/products?cursor={cursor}&tag=ash&tag=new,ash&sort_by=id&order=asc")

        assert [item["name"] for item in body_of(rest)["items"]] == ["yew"]
        other = bob.get(f"/products?cursor={cursor}&tag=ash&sort_by=id&order=asc")
        assert faults_of(other) == [("cursor", "cursor_invalid")]

    @pytest.mark.parametrize("name", ["tag", "id", "sku", "below", "currency"])
    def test_have_the_same_sql_however_many_they_are(
        self, alice: Caller, shop: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch, app: Flask
    ) -> None:
        if not app.config["FAST_SQL"]:
            return
        compiled: list[str] = []
        compile_statement = Compiled.__init__

        def note(self: Compiled, *arguments: Any) -> None:
            compile_statement(self, *arguments)
            compiled.append(self.sql)

        some = {"id": "789", "below": "789"}.get(name, ["a", "b", "c"]) if name != "currency" else ["USD", "EUR", "SAR"]
        alice.get(f"/products?fields=name,stock&{name}={some[0]},{some[1]}")
        monkeypatch.setattr(Compiled, "__init__", note)

        for number in (2, 3):
            assert alice.get(f"/products?fields=name,stock&{name}={','.join(some[-number:])}").status_code == 200

        assert compiled == []


class TestSince:
    @pytest.fixture
    def days(self, app: Flask, make_product: Make) -> None:
        """Products of three days, the oldest of which was changed on the last."""
        ids = [make_product(name=f"day {day}")["id"] for day in range(3)]
        with app.app_context(), unit_of_work():
            for day, product_id in enumerate(ids):
                changed = {"created_at": MOMENT + timedelta(days=day), "updated_at": MOMENT + timedelta(days=day or 2)}
                db.session.execute(PRODUCTS.update().where(PRODUCTS.c.id == product_id).values(changed))

    @pytest.mark.parametrize(
        ("query", "names"),
        [
            ("created_since=2026-05-18T12:30:00Z", ["day 1", "day 2"]),
            ("created_since=2026-05-18T12:30:00.000001Z", ["day 2"]),
            ("created_since=2026-05-18T14:30:00%2B02:00", ["day 1", "day 2"]),
            ("created_since=2026-05-20T00:00:00Z", []),
            ("updated_since=2026-05-19T12:30:00Z", ["day 0", "day 2"]),
            ("updated_since=2026-05-18T00:00:00Z&created_since=2026-05-18T00:00:00Z", ["day 1", "day 2"]),
        ],
    )
    @pytest.mark.usefixtures("days")
    def test_includes_the_moment_itself(self, alice: Caller, query: str, names: list[str]) -> None:
        assert names_of(alice, query) == names
        assert names_of(alice, f"{query}&cursor=") == names
        assert body_of(alice.get(f"/products/facets?{query}"))["total"] == len(names)
