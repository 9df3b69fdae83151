"""Parents and variants in batches: in any order, beside what is there, and refused one by one."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select

from app.core.query_stats import QueryStats, current_stats
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.bulk import locking
from app.features.products import values
from tests.conftest import Caller, body_of, code_of, faults_of, rows_of

Make = Callable[..., dict[str, Any]]
Item = dict[str, Any]


@pytest.fixture
def shirt(make_category: Make) -> Callable[..., Item]:
    """An item that makes a parent; a test mentions what matters."""
    category = make_category()

    def shirt(sku: str = "SHIRT", **members: Any) -> Item:
        default = {"name": "Linen shirt", "category_id": category["id"], "options": ["size", "colour"]}
        return {"sku": sku, **default, **members}

    return shirt


Shirt = Callable[..., Item]


def variant(sku: str, size: str = "M", colour: str = "red", **members: Any) -> Item:
    """An item that makes a variant of the shirt."""
    own = {"sku": sku, "parent_sku": "SHIRT", "price": "10.00", "options": {"size": size, "colour": colour}}
    return {**own, **members}


def save(caller: Caller, *items: Item, **options: Any) -> list[str]:
    """What became of each item of a batch that is taken; of one that failed, the code and the pointer of its fault."""
    answer = caller.post("/products/bulk", {"items": items, "mode": "partial", **options})
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return [_outcome(item) for item in body_of(answer)["items"]]


def _outcome(item: dict[str, Any]) -> str:
    if item["problem"] is None:
        return str(item["status"])
    fault = item["problem"]["errors"][0]
    return f"{fault['code']} {fault['pointer'].removeprefix('/items/')}"


def by_sku(caller: Caller, sku: str) -> dict[str, Any]:
    (found,) = body_of(caller.get(f"/products?sku={sku}"))["items"]
    return dict(found)


def counters(caller: Caller, *skus: str) -> list[tuple[int, int, str]]:
    return [(one["version"], one["live"], one["updated_at"]) for one in (by_sku(caller, sku) for sku in skus)]


class TestABatchOfAFamily:
    def test_makes_and_changes_the_tags_that_a_parent_is_found_by(self, alice: Caller, shirt: Shirt) -> None:
        def found_by(tag: str) -> list[str]:
            return [one["sku"] for one in body_of(alice.get(f"/products?tag={tag}"))["items"]]

        save(alice, shirt(tags=["linen"]), variant("M"))
        assert found_by("linen") == ["SHIRT"]
        save(alice, {"sku": "SHIRT", "tags": ["cotton"]})
        assert (found_by("linen"), found_by("cotton")) == ([], ["SHIRT"])

    @pytest.mark.parametrize("seed", range(4))
    def test_makes_a_parent_and_its_variants_in_any_order(self, alice: Caller, shirt: Shirt, seed: int) -> None:
        items = [shirt(tags=["linen"]), variant("M", "M", price="12.00", stock=2), variant("L", "L", stock=3)]
        random.Random(seed).shuffle(items)

        assert save(alice, *items) == ["created"] * 3

        parent, medium = by_sku(alice, "SHIRT"), by_sku(alice, "M")
        assert (parent["kind"], parent["options"]) == ("parent", ["size", "colour"])
        assert (parent["price"], parent["price_max"], parent["stock"]) == ("10.00", "12.00", 5)
        assert (medium["kind"], medium["parent_id"], medium["stock"]) == ("variant", parent["id"], 2)
        assert (medium["name"], medium["tags"]) == ("Linen shirt", ["linen"])
        positions = [item["sku"] for item in items if "parent_sku" in item]
        assert [by_sku(alice, sku)["position"] for sku in positions] == [0, 1]

    def test_sent_again_changes_nothing(self, app: Flask, alice: Caller, shirt: Shirt) -> None:
        items = [variant("M", stock=2, name="Linen shirt"), shirt(), variant("L", "L", status="draft")]
        save(alice, *items)
        tables = ("products", "audit_events", "stock_movements")
        before = [rows_of(app, table) for table in tables]

        assert save(alice, *items) == ["unchanged"] * 3

        assert [rows_of(app, table) for table in tables] == before

    def test_adds_variants_to_a_parent_that_is_there(self, alice: Caller, shirt: Shirt) -> None:
        save(alice, shirt(), variant("M"))

        assert save(alice, variant("L", "L", price="8.00", stock=4)) == ["created"]

        assert by_sku(alice, "L")["position"] == 1
        assert (by_sku(alice, "SHIRT")["price"], by_sku(alice, "SHIRT")["stock"]) == ("8.00", 4)

    def test_changes_variants_and_shows_it_on_their_parent(self, alice: Caller, shirt: Shirt) -> None:
        save(alice, shirt(), variant("M"), variant("L", "L"))
        before = by_sku(alice, "SHIRT")

        assert save(alice, {"sku": "M", "price": "7.00"}, {"sku": "L", "stock": 9}) == ["updated"] * 2

        after = by_sku(alice, "SHIRT")
        assert (after["price"], after["stock"]) == ("7.00", 9)
        assert (after["version"], after["live"]) == (before["version"], before["live"] + 1)

    def test_a_change_of_a_parent_shows_on_its_variants(self, alice: Caller, shirt: Shirt) -> None:
        save(alice, shirt(), variant("M"), variant("L", "L"))
        (version, live, _), before = counters(alice, "L")[0], by_sku(alice, "M")

        items = [{"sku": "M", "price": "7.00", "name": "Cotton shirt"}, {"sku": "SHIRT", "name": "Cotton shirt"}]
        assert save(alice, *items) == ["updated"] * 2

        assert {by_sku(alice, sku)["name"] for sku in ("SHIRT", "M", "L")} == {"Cotton shirt"}
        assert counters(alice, "L")[0][:2] == (version, live + 1)
        assert counters(alice, "M")[0][:2] == (before["version"] + 1, before["live"] + 1)

    def test_hides_variants_with_their_parent(self, alice: Caller, bob: Caller, shirt: Shirt) -> None:
        save(alice, shirt(), variant("M"))
        child = by_sku(alice, "M")

        save(alice, {"sku": "SHIRT", "status": "draft"})

        assert bob.get(f"/products/{child['id']}").status_code == 404

    def test_makes_a_single_product_a_variant_which_keeps_its_history(
        self, alice: Caller, shirt: Shirt, make_product: Make
    ) -> None:
        single = make_product(sku="OLD", stock=5, price="9.00", currency="USD")
        items = [{"sku": "OLD", "parent_sku": "SHIRT", "options": {"size": "S", "colour": "red"}}, shirt()]

        assert save(alice, *items) == ["updated", "created"]

        child = by_sku(alice, "OLD")
        assert (child["id"], child["kind"], child["stock"], child["price"]) == (single["id"], "variant", 5, "9.00")
        assert (child["name"], child["version"]) == ("Linen shirt", single["version"] + 1)
        assert by_sku(alice, "SHIRT")["stock"] == 5
        movements = body_of(alice.get(f"/products/{single['id']}/stock-movements"))["items"]
        assert [(one["delta"], one["stock_after"]) for one in movements] == [(5, 5)]

    def test_an_item_without_a_parent_leaves_a_variant_where_it_is(self, alice: Caller, shirt: Shirt) -> None:
        save(alice, shirt(), variant("M"))

        assert save(alice, {"sku": "M", "parent_sku": None, "weight_g": 200}) == ["updated"]

        assert by_sku(alice, "M")["parent_id"] == by_sku(alice, "SHIRT")["id"]

    def test_is_told_in_the_feed_and_the_trail_as_single_writes_are(
        self, alice: Caller, bob: Caller, root: Caller, shirt: Shirt
    ) -> None:
        save(alice, shirt(), variant("M", stock=2))
        cursor = body_of(bob.get("/events?from=now"))["meta"]["next_cursor"]

        save(alice, {"sku": "M", "stock": 1})
        save(alice, {"sku": "SHIRT", "name": "Cotton shirt"})

        parent, child = by_sku(alice, "SHIRT"), by_sku(alice, "M")
        events = body_of(bob.get(f"/events?cursor={cursor}"))["items"]
        assert [(event["type"], event["resource_id"]) for event in events] == [
            ("stock.moved", child["id"]),
            ("stock.moved", parent["id"]),
            ("product.updated", parent["id"]),
            ("product.updated", child["id"]),
        ]
        trail = body_of(root.get(f"/audit-events?resource=product/{child['id']}&action=product.updated"))["items"]
        assert [one["after"] for one in trail] == [{"stock": 1}]

    def test_a_dry_run_tells_the_same_and_changes_nothing(self, app: Flask, alice: Caller, shirt: Shirt) -> None:
        items = [variant("M"), variant("X", "M"), shirt()]
        before = [rows_of(app, table) for table in ("products", "audit_events")]

        dry = save(alice, *items, dry_run=True)

        assert [rows_of(app, table) for table in ("products", "audit_events")] == before
        assert dry == save(alice, *items) == ["created", "options_taken 1/options", "created"]

    def test_an_atomic_batch_is_refused_whole(self, app: Flask, alice: Caller, shirt: Shirt) -> None:
        answer = alice.post("/products/bulk", {"items": [shirt(), variant("M"), variant("L", "L", parent_sku="NONE")]})

        assert (code_of(answer), faults_of(answer)) == (
            "batch_refused",
            [("/items/2/parent_sku", "parent_sku_unknown")],
        )
        assert rows_of(app, "products") == []

    def test_a_variant_is_found_by_its_values(
        self, app: Flask, alice: Caller, shirt: Shirt, make_attribute: Make
    ) -> None:
        made = [make_attribute(code=code, type="text", filterable=True) for code in ("size", "fabric")]
        own = {"attributes": {"fabric": "linen"}, "tags": ["airy"]}
        save(alice, shirt(**own), variant("M"), variant("L", "L", status="draft"))
        assert [one["sku"] for one in body_of(alice.get("/products?tag=airy"))["items"]] == ["SHIRT"]

        save(alice, {"sku": "SHIRT", "attributes": {"fabric": "cotton"}, "tags": ["new"]})

        assert body_of(alice.get("/products?tag=airy"))["items"] == []
        assert [one["sku"] for one in body_of(alice.get("/products?tag=new"))["items"]] == ["SHIRT"]

        parent, medium, large = (by_sku(alice, sku)["id"] for sku in ("SHIRT", "M", "L"))
        with app.app_context(), unit_of_work(reading=True):
            table = values.TABLE.c
            found = select(table.product_id, table.listed_id, table.attribute_id, table.text)
            rows = sorted(tuple(row) for row in db.session.execute(found.where(table.attribute_id.is_not(None))))
        size, fabric = (one["id"] for one in made)
        assert rows == sorted(
            (
                *((medium, parent, size, "M"), (medium, parent, fabric, "cotton")),
                *((large, None, size, "L"), (large, None, fabric, "cotton")),
            ),
            key=lambda row: (row[0], row[2]),
        )


#: What is there, what comes, and what becomes of it: S is a single product, P a parent, V its variant.
OWN: Sequence[tuple[Item, str]] = [
    ({"sku": "V", "name": "Mine"}, "member_of_parent 0/name"),
    ({"sku": "V", "tags": ["x"]}, "member_of_parent 0/tags"),
    ({"sku": "V", "currency": "EUR"}, "member_of_parent 0/currency"),
    ({"sku": "V", "name": "Linen shirt", "currency": "USD", "tags": []}, "unchanged"),
    ({"sku": "V", "parent_sku": "Q"}, "parent_differs 0/parent_sku"),
    ({"sku": "V", "parent_sku": "SHIRT"}, "unchanged"),
    ({"sku": "V", "options": {"size": "M"}}, "options_unfit 0/options"),
    ({"sku": "V", "options": ["size"]}, "options_unfit 0/options"),
    ({"sku": "V", "options": None}, "updated"),
    ({"sku": "V", "price": "1.001"}, "too_precise 0/price"),
    ({"sku": "SHIRT", "price": "10.00", "stock": 2, "track_stock": True}, "unchanged"),
    ({"sku": "SHIRT", "price": "11.00"}, "rolled_up 0/price"),
    ({"sku": "SHIRT", "stock": 1}, "rolled_up 0/stock"),
    ({"sku": "SHIRT", "track_stock": False}, "rolled_up 0/track_stock"),
    ({"sku": "SHIRT", "options": ["size"]}, "options_in_use 0/options"),
    ({"sku": "SHIRT", "options": {"size": "M"}}, "options_unfit 0/options"),
    ({"sku": "SHIRT", "options": ["colour", "size"]}, "updated"),
    ({"sku": "SHIRT", "position": 1}, "not_a_variant 0/position"),
    ({"sku": "SHIRT", "parent_sku": "Q"}, "not_single 0/parent_sku"),
    ({"sku": "S", "options": ["size"]}, "not_a_parent 0/options"),
    ({"sku": "S", "options": {"size": "M"}}, "not_a_variant 0/options"),
    ({"sku": "S", "position": 3}, "not_a_variant 0/position"),
    ({"sku": "S", "parent_sku": None, "position": None, "options": None}, "unchanged"),
    ({"sku": "E", "parent_sku": "SHIRT"}, "currency_of_variant_differs 0/parent_sku"),
    ({"sku": "S", "parent_sku": "S"}, "not_a_parent 0/parent_sku"),
    (variant("N", "L", parent_sku="NONE"), "parent_sku_unknown 0/parent_sku"),
    (variant("N", "L", parent_sku="S"), "not_a_parent 0/parent_sku"),
    (variant("N", "L", parent_sku="V"), "not_a_parent 0/parent_sku"),
    (variant("N", "M"), "options_taken 0/options"),
    (variant("N", "L", options=None), "created"),
    ({"sku": "N", "parent_sku": "SHIRT"}, "product_incomplete 0/price"),
    ({"sku": "N", "options": ["size"]}, "product_incomplete 0/name"),
    ({"sku": "N", "parent_sku": "SHIRT", "price": "1.00", "options": ["size"]}, "options_unfit 0/options"),
]


class TestAnItemOfAFamily:
    @pytest.mark.parametrize(("item", "became"), OWN, ids=lambda one: str(one) if isinstance(one, dict) else "")
    def test_is_refused_by_itself(
        self, alice: Caller, shirt: Shirt, make_product: Make, item: Item, became: str
    ) -> None:
        make_product(sku="S", currency="USD")
        make_product(sku="E", currency="EUR")
        members = {"currency": "USD"}
        assert save(alice, shirt(**members), variant("V", stock=2), shirt("Q", **members)) == ["created"] * 3

        assert save(alice, item) == [became]

    def test_is_refused_with_the_parent_that_it_would_have(self, alice: Caller, shirt: Shirt) -> None:
        items = [variant("M"), shirt(category_id=None) | {"compare_at_price": "1.001"}, variant("L", "L")]
        items[1].pop("category_id")

        became = save(alice, *items)

        assert became == [
            "parent_sku_unknown 0/parent_sku",
            "product_incomplete 1/category_id",
            "parent_sku_unknown 2/parent_sku",
        ]

    def test_is_no_variant_of_a_product_that_the_batch_makes_single(self, alice: Caller, shirt: Shirt) -> None:
        single = {**shirt(), "price": "1.00", "options": None}

        assert save(alice, variant("M"), single) == ["not_a_parent 0/parent_sku", "created"]

    def test_of_two_with_equal_options_the_first_has_them(self, alice: Caller, shirt: Shirt) -> None:
        assert save(alice, variant("A"), shirt(), variant("B"), variant("C", "L")) == [
            *("created", "created", "options_taken 2/options", "created")
        ]

    def test_may_state_what_its_parent_comes_to(self, alice: Caller, shirt: Shirt) -> None:
        items = [shirt(price="8.00", stock=3, track_stock=True), variant("M", stock=3), variant("L", "L", price="8.00")]

        assert save(alice, *items) == ["created"] * 3
        assert save(alice, {**items[0], "price": "10.00"}, {"sku": "L", "price": "11.00"}) == ["unchanged", "updated"]

    def test_a_refused_variant_keeps_its_parent_from_a_currency_that_does_not_fit_it(
        self, alice: Caller, shirt: Shirt
    ) -> None:
        save(alice, shirt(currency="USD"), variant("M", price="10.50"))
        yen = {"sku": "SHIRT", "currency": "JPY"}

        assert save(alice, yen, {"sku": "M", "price": "1050", "name": "Other"}) == [
            *("too_precise 0/currency", "member_of_parent 1/name")
        ]
        assert save(alice, yen, {"sku": "M", "price": "1050"}) == ["updated"] * 2
        assert (by_sku(alice, "M")["price"], by_sku(alice, "SHIRT")["price"]) == ("1050", "1050")

    def test_is_one_too_many_after_the_most_that_a_product_has(self, alice: Caller, shirt: Shirt) -> None:
        items = [variant(f"V{number}", options=None) for number in range(252)]

        became = save(alice, shirt(), *items)

        assert became.count("created") == 251
        assert became[-2:] == ["too_many_variants 251/parent_sku", "too_many_variants 252/parent_sku"]


class TestAnItemOfAType:
    @pytest.fixture
    def typed(self, make_attribute: Make, make_type: Make) -> int:
        """A type that needs a width, and whose option is the size."""
        make_attribute(code="width_cm", type="integer", filterable=True)
        choices = [{"code": code, "label": code} for code in "SML"]
        make_attribute(code="size", type="choice", choices=choices, filterable=True)
        listed = [{"code": "width_cm", "required": True}, {"code": "size", "is_option": True}]
        return int(make_type(attributes=listed)["id"])

    def test_is_checked_by_it(self, alice: Caller, shirt: Shirt, typed: int) -> None:
        parent = shirt(type_id=typed, options=["size"])
        items = [
            variant("A", options={"size": "M"}, attributes={"width_cm": 4}),
            variant("B", options={"size": "XXL"}, attributes={"width_cm": 4}),
            variant("C", options={"size": "S"}, attributes={"width_cm": "x"}),
            variant("D", options={"size": "L"}),
            variant("E", options={"size": "L"}, status="draft"),
            variant("F", options={}, attributes={"width_cm": 4, "depth": 1}),
        ]

        assert save(alice, parent, *items) == [
            *("created", "created", "attribute_invalid 2/options/size", "attribute_invalid 3/attributes/width_cm"),
            *("attribute_missing 4/attributes/width_cm", "created", "attribute_unknown 6/attributes/depth"),
        ]
        assert (by_sku(alice, "E")["missing"], by_sku(alice, "SHIRT")["missing"]) == (["width_cm"], [])

    def test_a_parent_takes_no_type_that_its_variants_do_not_fit(self, alice: Caller, shirt: Shirt, typed: int) -> None:
        save(alice, shirt(options=["size"]), variant("A", options={"size": "M"}))
        change = {"sku": "SHIRT", "type_id": typed}

        assert save(alice, change) == ["attribute_missing 0/attributes/width_cm"]
        assert save(alice, {"sku": "A", "attributes": {"width_cm": 4}}, change) == ["updated"] * 2
        assert by_sku(alice, "A")["type_id"] == typed


class TestAVariantThatComesMeanwhile:
    def test_is_locked_before_its_parent_and_follows_it(
        self, alice: Caller, shirt: Shirt, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        save(alice, shirt(), variant("M"))
        child, orders = by_sku(alice, "M")["id"], list[list[int]]()
        lock = locking._lock

        def lock_before_it_came(condition: Any) -> dict[int, Any]:
            locked = lock(condition)
            orders.append(list(locked))
            return locked if len(orders) > 1 else {one: row for one, row in locked.items() if one != child}

        monkeypatch.setattr(locking, "_lock", lock_before_it_came)

        assert save(alice, {"sku": "SHIRT", "name": "Cotton shirt"}) == ["updated"]

        assert orders == [[child, by_sku(alice, "SHIRT")["id"]]] * 2
        assert by_sku(alice, "M")["name"] == "Cotton shirt"


class TestManyFamilies:
    def test_cost_as_much_as_a_few(self, alice: Caller, shirt: Shirt) -> None:
        def family(number: int) -> list[Item]:
            own = {"parent_sku": f"P{number}"}
            sizes = [variant(f"V{number}-{size}", size, **own) for size in ("S", "M", "L")]
            return [*sizes, shirt(f"P{number}", attributes={"fabric": "linen"})]

        def cost_of(items: list[Item]) -> int:
            token = current_stats.set(counted := QueryStats())
            try:
                assert set(save(alice, *items)) <= {"created", "updated"}
            finally:
                current_stats.reset(token)
            return counted.statements

        few, many = family(0), [item for number in range(1, 201) for item in family(number)]
        created = [cost_of(few), cost_of(many)]
        changed = [
            cost_of([{**item, **({"name": "New"} if "name" in item else {"price": "9.00"})} for item in items])
            for items in (few, many)
        ]

        assert created[0] == created[1] <= 25
        assert changed[0] == changed[1] <= 25

    def test_stand_behind_those_that_state_a_place(self, alice: Caller, shirt: Shirt) -> None:
        save(alice, shirt(), variant("A", "S"), variant("B", "M", position=7), variant("C", "L"))

        save(alice, variant("D", "XL"))

        assert [by_sku(alice, sku)["position"] for sku in "ABCD"] == [8, 7, 9, 10]
