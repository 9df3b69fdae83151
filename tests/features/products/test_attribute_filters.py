"""Filters by attributes, over HTTP: what each finds, what is refused, and what one row must meet together."""

import csv
import io
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from flask import Flask

from app.extensions import cache
from tests.conftest import Caller, body_of, faults_of

Make = Callable[..., dict[str, Any]]


@pytest.fixture
def attributes(make_attribute: Make) -> None:
    """An attribute of each type, by which products are filtered, and one by which they are not."""
    for code, kind in (("material", "text"), ("drawers", "integer"), ("width_cm", "decimal"), ("washable", "boolean")):
        make_attribute(code=code, type=kind, filterable=True)
    make_attribute(code="made_on", type="date", filterable=True)
    make_attribute(code="colour", type="choice", filterable=True)
    make_attribute(code="accents", type="choices", filterable=True)
    make_attribute(code="care")


@pytest.fixture
def shop(alice: Caller, attributes: None, make_product: Make, make_type: Make) -> None:
    """Four products: three that are sold by themselves, of which one is of a type, and one with variants."""
    sofa = make_type(attributes=[{"code": "accents"}, {"code": "colour"}])
    oak = {"material": "oak", "width_cm": 40, "washable": False, "drawers": 3, "made_on": "2026-01-31"}
    make_product(name="Oak desk", attributes={**oak, "colour": "red", "care": "dry"}, price="50.00", stock=1)
    make_product(name="Ash desk", attributes={"material": "ash, white", "width_cm": 60.5, "colour": "blue"}, stock=0)
    make_product(name="Sofa", attributes={"accents": ["red", "blue"]}, type_id=sofa["id"], price="900.00", stock=5)
    variants = [
        {"options": {"colour": "red"}, "price": "100.00", "stock": 0, "attributes": {"width_cm": 80}},
        {"options": {"colour": "blue"}, "price": "200.00", "stock": 2, "attributes": {"width_cm": 90}},
        {"options": {"colour": "green"}, "price": "1.00", "stock": 9, "attributes": {"material": "elm"}},
    ]
    variants[2]["status"] = "draft"
    parent = {"attributes": {"material": "oak"}, "options": ["colour"], "variants": variants}
    home = make_product(name="Plain")["category_id"]
    assert alice.post("/products", {"name": "Chair", "category_id": home, **parent}).status_code == 201


def names_of(caller: Caller, query: str, path: str = "/products") -> list[str]:
    """The names of the products that a list shows, by id."""
    answer = caller.get(f"{path}?sort_by=id&order=asc&{query}")
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return [item["name"] for item in body_of(answer)["items"]]


FOUND = [
    ("attr.material=oak", ["Oak desk", "Chair"]),
    (r"attr.material=ash\, white,oak", ["Oak desk", "Ash desk", "Chair"]),
    (r"attr.material=oak&attr.material=ash\, white", ["Oak desk", "Ash desk", "Chair"]),
    ("attr.material=elm", []),
    ("attr.material=", []),
    (r"attr.material=a\.\.b", []),
    ("attr.drawers=3", ["Oak desk"]),
    ("attr.drawers=3,4", ["Oak desk"]),
    ("attr.width_cm=40.0", ["Oak desk"]),
    ("attr.width_cm=4e1", ["Oak desk"]),
    ("attr.width_cm=40..60", ["Oak desk"]),
    ("attr.width_cm=40..60.5", ["Oak desk", "Ash desk"]),
    ("attr.width_cm=..60,90", ["Oak desk", "Chair"]),
    ("attr.width_cm=80..", ["Chair"]),
    ("attr.width_cm=60..40", []),
    ("attr.width_cm=-1..1&attr.width_cm=2..3", []),
    ("attr.made_on=2026-01-31", ["Oak desk"]),
    ("attr.made_on=2026-01-01..2026-01-31", ["Oak desk"]),
    ("attr.made_on=2026-02-01..", []),
    ("attr.washable=false", ["Oak desk"]),
    ("attr.washable=true", []),
    ("attr.colour=red", ["Oak desk", "Chair"]),
    ("attr.colour=red,blue", ["Oak desk", "Ash desk", "Chair"]),
    ("attr.accents=blue", ["Sofa"]),
    ("attr.accents=red,blue", ["Sofa"]),
    # One row meets all: the red chair is 80 cm wide, and sold out.
    ("attr.colour=red&attr.width_cm=90", []),
    ("attr.colour=red&attr.width_cm=..80&attr.material=oak", ["Oak desk", "Chair"]),
    ("attr.colour=red&in_stock=true", ["Oak desk"]),
    ("attr.colour=red&in_stock=false", ["Chair"]),
    ("attr.colour=red,blue&min_price=150&in_stock=true", ["Chair"]),
    ("attr.colour=red&min_price=150", []),
    ("attr.colour=red&kind=single", ["Oak desk"]),
    ("attr.colour=red&kind=parent", ["Chair"]),
    ("attr.colour=red,blue&kind=variant", ["Chair", "Chair"]),
    ("attr.colour=red&kind=sellable&max_price=60", ["Oak desk"]),
    ("attr.colour=blue&kind=variant,parent", ["Chair", "Chair"]),
    ("attr.material=elm&kind=variant&status=draft", ["Chair"]),
    ("attr.colour=red&search=chair", ["Chair"]),
]


class TestAFilter:
    @pytest.mark.parametrize(("query", "names"), FOUND, ids=[query for query, _ in FOUND])
    @pytest.mark.usefixtures("shop")
    def test_finds_the_same_everywhere(self, alice: Caller, query: str, names: list[str]) -> None:
        exported = alice.get(f"/products/export?{'' if 'kind=' in query else 'kind=single,parent&'}{query}")

        rows = csv.DictReader(io.StringIO(exported.get_data(as_text=True), newline=""))
        assert names_of(alice, f"cursor=&{query}") == names
        assert names_of(alice, query) == names
        # A row of a variant leaves out what it has of its parent.
        exported_names = [row["name"] or "Chair" for row in rows]
        assert exported_names == names
        assert body_of(alice.get(f"/products/facets?{query}"))["total"] == len(names)

    @pytest.mark.usefixtures("shop")
    def test_narrows_the_lists_of_a_category_and_of_a_parent(self, alice: Caller) -> None:
        chair = body_of(alice.get("/products?attr.colour=red&kind=parent"))["items"][0]

        assert names_of(alice, "attr.colour=red", f"/categories/{chair['category_id']}/products")[-1:] == ["Chair"]
        variants = body_of(alice.get(f"/products/{chair['id']}/variants?attr.width_cm=85..95"))["items"]
        assert [one["options"] for one in variants] == [{"colour": "blue"}]

    @pytest.mark.usefixtures("shop")
    def test_names_the_variants_that_meet_it_with_the_price_and_the_stock(self, bob: Caller) -> None:
        chair = body_of(bob.get("/products?kind=parent&include=variants"))["items"][0]
        red, blue = (one["id"] for one in chair["variants"])

        def matching(query: str) -> Any:
            found = body_of(bob.get(f"/products?kind=parent,single&{query}"))["items"]
            return {item["name"]: item.get("matching_variants") for item in found}

        assert matching("attr.colour=red,blue") == {"Oak desk": None, "Ash desk": None, "Chair": [red, blue]}
        assert matching("attr.width_cm=85..") == {"Chair": [blue]}
        assert matching("attr.material=oak&max_price=150") == {"Oak desk": None, "Chair": [red]}

    @pytest.mark.usefixtures("shop")
    def test_is_repeated_by_links_and_bound_to_the_cursor(self, alice: Caller) -> None:
        material = r"attr.material=oak&attr.material=" + quote(r"ash\, white")
        first = body_of(alice.get(f"/products?per_page=1&cursor=&{material}"))

        pairs = parse_qsl(urlsplit(first["links"]["next"]).query)
        assert [text for name, text in pairs if name == "attr.material"] == ["oak", r"ash\, white"]
        second = body_of(alice.get(first["links"]["next"].removeprefix("/api/v1")))
        assert second["items"][0]["id"] != first["items"][0]["id"]
        other = f"/products?per_page=1&cursor={first['meta']['next_cursor']}&attr.material=oak"
        assert faults_of(alice.get(other)) == [("cursor", "cursor_invalid")]

    @pytest.mark.parametrize("path", ["/products", "/products/facets", "/products/export"])
    @pytest.mark.parametrize(
        ("query", "faults"),
        [
            ("attr.size=M", [("attr.size", "attribute_unknown")]),
            ("attr.Size=M", [("attr.Size", "unknown_parameter")]),
            ("attr.=M", [("attr.", "unknown_parameter")]),
            ("attr=M", [("attr", "unknown_parameter")]),
            ("attr=M&attr.colour=red", [("attr", "unknown_parameter")]),
            ("attr.care=dry", [("attr.care", "attribute_not_filterable")]),
            ("attr.material=a..c", [("attr.material", "range_unfit")]),
            ("attr.colour=blue..red", [("attr.colour", "range_unfit")]),
            ("attr.washable=false..true", [("attr.washable", "range_unfit")]),
            ("attr.width_cm=..", [("attr.width_cm", "range_unfit")]),
            ("attr.colour=green", [("attr.colour", "attribute_invalid")]),
            ("attr.accents=red,green", [("attr.accents", "attribute_invalid")]),
            ("attr.width_cm=abc", [("attr.width_cm", "attribute_invalid")]),
            ("attr.width_cm=%2B40", [("attr.width_cm", "attribute_invalid")]),
            ("attr.width_cm=+40", [("attr.width_cm", "attribute_invalid")]),
            ("attr.width_cm=040", [("attr.width_cm", "attribute_invalid")]),
            ("attr.width_cm=1e999", [("attr.width_cm", "attribute_invalid")]),
            ("attr.width_cm=1..x", [("attr.width_cm", "attribute_invalid")]),
            ("attr.width_cm=1...5", [("attr.width_cm", "attribute_invalid")]),
            ("attr.width_cm=", [("attr.width_cm", "attribute_invalid")]),
            ("attr.drawers=1.5", [("attr.drawers", "attribute_invalid")]),
            ("attr.drawers=true", [("attr.drawers", "attribute_invalid")]),
            ("attr.washable=yes", [("attr.washable", "attribute_invalid")]),
            ("attr.washable=1", [("attr.washable", "attribute_invalid")]),
            ("attr.made_on=2026-02-30", [("attr.made_on", "attribute_invalid")]),
            ("attr.made_on=2026..2027", [("attr.made_on", "attribute_invalid")]),
            ("attr.material=%00", [("attr.material", "malformed")]),
            (f"attr.material={'x' * 201}", [("attr.material", "too_long")]),
            (f"attr.width_cm={','.join(map(str, range(101)))}", [("attr.width_cm", "too_many")]),
            ("&".join(f"attr.a{number}=1" for number in range(7)), [("attr", "too_many")]),
            (
                "attr.size=M&attr.colour=green&attr.drawers=1..",
                [("attr.colour", "attribute_invalid"), ("attr.size", "attribute_unknown")],
            ),
        ],
        ids=lambda value: value[:40] if isinstance(value, str) else "",
    )
    @pytest.mark.usefixtures("attributes")
    def test_that_means_nothing_is_refused(
        self, alice: Caller, path: str, query: str, faults: list[tuple[str, str]]
    ) -> None:
        assert faults_of(alice.get(f"{path}?{query}")) == faults

    @pytest.mark.usefixtures("shop")
    def test_has_six_parameters_of_a_hundred_values_at_most(self, alice: Caller, make_attribute: Make) -> None:
        for number in range(5):
            make_attribute(code=f"number_{number}", type="integer", filterable=True)
        several = "&".join(f"attr.number_{number}={number}" for number in range(5))
        many = ",".join(f"{number}..{number + 1}" for number in range(100))

        assert names_of(alice, f"attr.width_cm={many}") == ["Oak desk", "Ash desk", "Chair"]
        assert names_of(alice, f"attr.width_cm={many}&{several}") == []

    @pytest.mark.usefixtures("shop")
    def test_is_understood_anew_when_its_attribute_changes(self, app: Flask, alice: Caller) -> None:
        assert faults_of(alice.get("/products?attr.colour=green")) == [("attr.colour", "attribute_invalid")]
        choices = [{"code": code, "label": code} for code in ("red", "green")]

        alice.patch("/attributes/by/code/colour", {"choices": choices})

        assert names_of(alice, "attr.colour=green") == []
        assert faults_of(alice.get("/products?attr.colour=blue")) == [("attr.colour", "attribute_invalid")]

    @pytest.mark.usefixtures("shop")
    def test_is_answered_from_the_cache_until_a_product_gets_another_value(self, app: Flask, alice: Caller) -> None:
        with app.app_context():
            cache.clear()
        assert names_of(alice, "attr.material=oak") == ["Oak desk", "Chair"]
        ash = body_of(alice.get("/products?search=ash"))["items"][0]["id"]

        alice.patch(f"/products/{ash}", {"attributes": {"material": "oak"}})
        assert names_of(alice, "attr.material=oak") == ["Oak desk", "Ash desk", "Chair"]

        red = body_of(alice.get("/products?kind=variant&attr.colour=red"))["items"][0]["id"]
        alice.patch(f"/products/{red}", {"status": "archived"})
        assert names_of(alice, "attr.colour=red") == ["Oak desk"]


class TestWhatTheTypeSays:
    def test_tells_complete_products_from_others(self, alice: Caller, make_attribute: Make, make_type: Make) -> None:
        make_attribute(code="width_cm", type="integer")
        chair = make_type(attributes=[{"code": "width_cm", "required": True}])["id"]
        home = {"category_id": body_of(alice.post("/categories", {"name": "Chairs"}))["id"], "price": "1.00"}
        for name, members in {
            "Whole": {"type_id": chair, "attributes": {"width_cm": 4}},
            "Part": {"type_id": chair, "status": "draft"},
            "Free": {},
        }.items():
            assert alice.post("/products", {"name": name, **home, **members}).status_code == 201

        assert names_of(alice, "complete=false") == ["Part"]
        assert names_of(alice, "complete=true") == ["Whole", "Free"]
        assert names_of(alice, f"type_id={chair}") == ["Whole", "Part"]
        assert names_of(alice, f"type_id={chair}&complete=true") == ["Whole"]
        assert names_of(alice, f"type_id={chair},{chair + 1}&cursor=") == ["Whole", "Part"]
        assert body_of(alice.get(f"/products/facets?type_id={chair}&complete=false"))["total"] == 1


class TestTags:
    def test_are_found_of_a_parent_that_has_no_active_variant(self, alice: Caller, make_product: Make) -> None:
        home = make_product(name="Single", tags=["new"])["category_id"]
        draft = [{"price": "1.00", "status": "draft"}]
        body = {"name": "Parent", "category_id": home, "options": [], "tags": ["new", "oak"]}
        assert alice.post("/products", {**body, "variants": draft}).status_code == 201

        assert names_of(alice, "tag=new") == ["Single", "Parent"]
        assert names_of(alice, "tag=oak&kind=variant") == ["Parent"]
        assert body_of(alice.get("/products/facets?tag=oak"))["total"] == 1
