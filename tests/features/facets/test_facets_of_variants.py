"""Facets and lists of products with variants and attributes, held against a model that counts in Python."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from random import Random
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import Caller, body_of

Make = Callable[..., dict[str, Any]]
Row = dict[str, Any]
Filters = dict[str, Any]

STATUSES = ("draft", "active", "archived")
COLOURS, ACCENTS = ("red", "blue", "green"), ("gold", "jade")
BANDS = (("0.00", "0.99"), ("1.00", "1.99"), ("2.00", "4.99"), ("5.00", "9.99"), ("10.00", "19.99"), ("20.00", "49.99"))
ANY_KIND = frozenset({"single", "parent", "variant"})
KINDS = {
    "parent,single": {"single", "parent"},
    "sellable": {"single", "variant"},
    "variant": {"variant"},
    "parent,variant": {"parent", "variant"},
    "parent,single,variant": ANY_KIND,
}
LABELS = {"material": "Material", "width": "Width", "washable": "Washable", "colour": "Colour", "accents": "Accents"}
RANGED = ("width",)


@dataclass
class Shop:
    """The rows of a catalogue, and what lists and facets of them show."""

    rows: list[Row]

    def listed(self, filters: Filters, *, shows_all: bool) -> list[Row]:
        """The rows that a list shows."""
        kinds = KINDS[filters.get("kind", "parent,single")]
        visible = (row for row in self.rows if row["kind"] in kinds and (shows_all or self._is_active(row)))
        met = [row for row in visible if _meets_row(row, filters)]
        return [row for row in met if not _of_sold(filters) or self.matching(row, filters)]

    def matching(self, row: Row, filters: Filters) -> list[Row]:
        """The rows that are sold for a listed one, and meet the filters."""
        sold = [row]
        if row["kind"] == "parent":
            sold = [each for each in self.rows if each["parent_id"] == row["id"] and each["status"] == "active"]
        return [each for each in sold if _meets_sold(each, filters)]

    def facets(self, filters: Filters, *, shows_all: bool) -> dict[str, Any]:
        """The counts of every facet, by value."""

        def without(*own: str) -> tuple[list[Row], Filters]:
            others = {name: value for name, value in filters.items() if name not in own}
            return self.listed(others, shows_all=shows_all), others

        def by_row(own: str, values: Callable[[Row], list[Any]]) -> Counter[Any]:
            return Counter(value for row in without(own)[0] for value in values(row))

        def by_sold(values: Callable[[Row], list[Any]], *own: str) -> Counter[Any]:
            rows, others = without(*own)
            return Counter(
                value
                for row in rows
                for value in {value for sold in self.matching(row, others) for value in values(sold)}
            )

        return {
            "total": len(without()[0]),
            "category": by_row("category_id", lambda row: [row["category_id"]]),
            "tag": by_row("tag", lambda row: row["tags"]),
            "status": by_row("status", lambda row: [row["status"]]),
            "stock": by_sold(lambda sold: [_is_in_stock(sold)], "in_stock"),
            "price": by_sold(_band_of, "min_price", "max_price"),
            "attributes": {code: by_sold(_values_of(code), f"attr.{code}") for code in LABELS},
        }

    def _is_active(self, row: Row) -> bool:
        parent = next((each for each in self.rows if each["id"] == row["parent_id"]), row)
        return bool(row["status"] == parent["status"] == "active")


def _values_of(code: str) -> Callable[[Row], list[Any]]:
    return lambda sold: list(sold["values"].get(code, []))


def _is_in_stock(row: Row) -> bool:
    return row["stock"] > 0 or not row["track_stock"]


def _band_of(row: Row) -> list[str]:
    return [low for low, high in BANDS if Decimal(low) <= Decimal(row["price"]) <= Decimal(high)]


def _of_sold(filters: Filters) -> bool:
    return any(name.startswith("attr.") or name in {"min_price", "max_price", "in_stock"} for name in filters)


def _meets_row(row: Row, filters: Filters) -> bool:
    return all(
        [
            row["category_id"] in filters.get("category_id", [row["category_id"]]),
            "tag" not in filters or not set(row["tags"]).isdisjoint(filters["tag"]),
            row["status"] in filters.get("status", STATUSES),
        ]
    )


def _meets_sold(row: Row, filters: Filters) -> bool:
    met = [
        Decimal(row["price"]) >= Decimal(filters.get("min_price", 0)),
        Decimal(row["price"]) <= Decimal(filters.get("max_price", 1000)),
        _is_in_stock(row) == filters.get("in_stock", _is_in_stock(row)),
    ]
    for name, wanted in filters.items():
        if name.startswith("attr."):
            met.append(any(_has(row["values"].get(name.removeprefix("attr."), []), one) for one in wanted))
    return all(met)


def _has(values: list[Any], wanted: Any) -> bool:
    if isinstance(wanted, tuple):
        low, high = wanted
        return any((low is None or one >= low) and (high is None or one <= high) for one in values)
    return wanted in values


@pytest.fixture
def categories(make_category: Make) -> list[int]:
    """Two categories."""
    return [make_category()["id"] for _ in range(2)]


@pytest.fixture
def shop(alice: Caller, make_attribute: Make, make_type: Make, categories: list[int]) -> Shop:
    """Products of any kind with values of attributes of most types, always the same."""
    kinds = {"material": "text", "width": "decimal", "washable": "boolean", "colour": "choice", "accents": "choices"}
    choices = {"colour": COLOURS, "accents": ACCENTS}
    for code, kind in kinds.items():
        of = {"choices": [{"code": each, "label": each.upper()} for each in choices[code]]} if code in choices else {}
        make_attribute(code=code, type=kind, label=LABELS[code], filterable=True, **of)
    listed = [{"code": code, "is_option": code == "colour"} for code in kinds]
    thing = make_type(attributes=listed)["id"]
    random = Random(11)

    def values() -> Row:
        possible: Row = {
            "material": random.choice(["oak", "ash"]),
            "width": random.choice([4, 4.5, 9]),
            "washable": random.random() < 0.5,
            "accents": random.sample(ACCENTS, random.randint(1, 2)),
        }
        return {code: possible[code] for code in random.sample(list(possible), random.randint(0, 3))}

    def sold() -> Row:
        tracked = random.random() < 0.8
        return {
            "price": random.choice(["0.50", "1.50", "6.00", "15.00", "30.00"]),
            "stock": random.choice([0, 3]) if tracked else 0,
            "track_stock": tracked,
            "status": random.choice(["active", "active", "active", *STATUSES]),
            "attributes": values(),
        }

    for number in range(14):
        body: Row = {"name": f"Thing {number}", "category_id": random.choice(categories), "type_id": thing}
        body["tags"] = random.sample(["new", "oak"], random.randint(0, 2))
        if number % 2:
            body |= sold()
            body["attributes"] |= {"colour": random.choice(COLOURS)} if random.random() < 0.5 else {}
        else:
            chosen = random.sample(COLOURS, random.randint(0, 3))
            variants = [{**sold(), "options": {"colour": colour}} for colour in chosen]
            body |= {"options": ["colour"], "variants": variants, "attributes": values()}
            body["status"] = random.choice(["active", "active", "draft"])
            variants or body.pop("variants")
        answer = alice.post("/products", body)
        assert answer.status_code == 201, answer.get_data(as_text=True)
    return Shop(list(_rows_of(alice)))


def _rows_of(caller: Caller) -> Iterator[Row]:
    rows = body_of(caller.get("/products?kind=single,parent,variant&per_page=100"))["items"]
    by_id = {row["id"]: row for row in rows}
    for row in rows:
        parent = by_id.get(row["parent_id"], {"attributes": {}})
        options = row["options"] if row["kind"] == "variant" else {}
        stated = {**parent["attributes"], **row["attributes"], **options} if row["kind"] != "parent" else {}
        yield {**row, "values": {code: _as_list(value) for code, value in stated.items()}}


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _some(*values: Any) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=2, unique=True)


SELECTIONS = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.sampled_from(sorted(KINDS)),
        "category_id": _some(0, 1),
        "tag": _some("new", "oak", "gone"),
        "status": _some(*STATUSES),
        "min_price": st.sampled_from(["1.00", "6.00"]),
        "max_price": st.sampled_from(["1.50", "19.99"]),
        "in_stock": st.booleans(),
        "attr.material": _some("oak", "ash", "elm"),
        "attr.width": _some(4, 4.5, (4, 4.5), (None, 4), (5, None)),
        "attr.washable": _some(True, False),
        "attr.colour": _some(*COLOURS),
        "attr.accents": _some(*ACCENTS),
    },
)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_text, value))
    if isinstance(value, tuple):
        return "..".join("" if one is None else str(one) for one in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _counted(facets: dict[str, Any], filters: Filters) -> dict[str, Any]:
    """The counts of an answer as the model has them; those of values that are selected at 0 are left out."""

    def counts(values: list[Row], name: str = "value") -> Counter[Any]:
        return Counter({one[name]: one["count"] for one in values if one["count"]})

    return {
        "total": facets["total"],
        "category": counts(facets["category"], "id"),
        "tag": counts(facets["tag"]),
        "status": counts(facets["status"]),
        "stock": counts(facets["stock"]),
        "price": counts(facets["price"], "min_price"),
        "attributes": {
            one["code"]: Counter({each["value"]: each["count"] for each in one["values"] if each["count"]})
            if one["code"] not in RANGED
            else (one["min"], one["max"])
            for one in facets["attributes"]
        },
    }


def _expected(counts: dict[str, Any], filters: Filters) -> dict[str, Any]:
    """The counts of the model, with values as they are written and numbers as the ends of a range."""
    attributes: dict[str, Any] = {}
    for code, values in counts["attributes"].items():
        if code in RANGED:
            shown: Any = (min(values), max(values)) if values else (None, None)
        else:
            shown = Counter({_text(value): count for value, count in values.items()})
        if values or f"attr.{code}" in filters:
            attributes[code] = shown
    return {**counts, "attributes": attributes}


class TestAnySelection:
    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(chosen=SELECTIONS)
    def test_is_listed_and_counted_as_python_does(
        self, alice: Caller, bob: Caller, shop: Shop, categories: list[int], chosen: Filters
    ) -> None:
        filters = {**chosen}
        if "category_id" in filters:
            filters["category_id"] = [categories[one] for one in filters["category_id"]]
        query = urlencode({name: _text(value) for name, value in filters.items()})
        for caller, shows_all in ((alice, True), (bob, False)):
            facets = body_of(caller.get(f"/products/facets?currency=USD&{query}"))
            listed = body_of(caller.get(f"/products?per_page=100&{query}"))["items"]
            rows = shop.listed(filters, shows_all=shows_all)

            assert {one["id"] for one in listed} == {row["id"] for row in rows}, query
            assert _counted(facets, filters) == _expected(shop.facets(filters, shows_all=shows_all), filters), query
            parents = {row["id"]: row for row in rows if row["kind"] == "parent"} if _of_sold(filters) else {}
            matching = {one["id"]: one["matching_variants"] for one in listed if "matching_variants" in one}
            assert matching.keys() == parents.keys(), query
            for parent_id, ids in matching.items():
                assert set(ids) == {one["id"] for one in shop.matching(parents[parent_id], filters)}, query


class TestAttributes:
    def test_are_shown_with_labels_and_what_is_selected(self, bob: Caller, alice: Caller, shop: Shop) -> None:
        chosen = "attr.colour=red,green&attr.width=..100&category_id=1"
        shown = body_of(bob.get(f"/products/facets?{chosen}"))["attributes"]

        by_code = {one["code"]: one for one in shown}
        assert [one["code"] for one in shown[:2]] == ["colour", "width"]
        assert {one["value"]: one["selected"] for one in by_code["colour"]["values"]} == {"red": True, "green": True}
        assert {one["label"] for one in by_code["colour"]["values"]} == {"RED", "GREEN"}
        assert by_code["width"] == {
            "code": "width",
            "label": "Width",
            "unit": None,
            "type": "decimal",
            "values": [],
            "min": None,
            "max": None,
        }

    def test_are_as_many_as_there_is_room_for(
        self, bob: Caller, make_attribute: Make, make_product: Make, make_type: Make
    ) -> None:
        codes = [f"a{number:02}" for number in range(22)]
        for code in codes:
            make_attribute(code=code, type="integer" if code == "a21" else "text", filterable=True)
        for number in range(52):
            make_product(attributes={"a20": f"t{number:02}", "a21": number, **({codes[0]: "x"} if number else {})})
        make_product(attributes=dict.fromkeys(codes[:20], "x") | {"a20": "t51"})

        shown = body_of(bob.get("/products/facets"))["attributes"]
        chosen = body_of(bob.get("/products/facets?attr.a19=x,y&attr.a20=t50"))["attributes"]

        # The commonest values first, and of those that are as common by code.
        assert [one["code"] for one in shown] == ["a00", "a21", "a20", *codes[1:18]]
        assert [one["value"] for one in shown[2]["values"]] == ["t51", *(f"t{number:02}" for number in range(49))]
        assert (shown[1]["min"], shown[1]["max"]) == (0, 51)
        assert [one["code"] for one in chosen[:2]] == ["a20", "a19"]
        assert [(one["value"], one["count"], one["selected"]) for one in chosen[1]["values"]] == [
            ("x", 0, True),
            ("y", 0, True),
        ]
        assert [one["value"] for one in chosen[0]["values"] if one["selected"]] == ["t50"]

    def test_are_no_longer_shown_when_products_are_not_filtered_by_them(
        self, alice: Caller, make_attribute: Make, make_product: Make
    ) -> None:
        make_attribute(code="material", filterable=True)
        make_product(attributes={"material": "oak"})
        assert [one["code"] for one in body_of(alice.get("/products/facets"))["attributes"]] == ["material"]

        alice.patch("/attributes/by/code/material", {"filterable": False})

        assert body_of(alice.get("/products/facets"))["attributes"] == []
