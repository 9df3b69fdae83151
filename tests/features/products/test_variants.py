"""Parents and variants, end to end."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from threading import Event
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import IntegrityError, OperationalError

from app.core.audit import AuditEvent
from app.core.errors import NotFound
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.bulk.locking import find_and_lock
from app.features.products import families, keys, variants
from app.features.products.models import PRODUCTS, Product, ProductKind
from app.features.stock.models import Hold
from app.security.identity import Identity
from app.security.permissions import Role
from tests.conftest import Caller, body_of, code_of, faults_of
from tests.live.wire import wait_for

Make = Callable[..., dict[str, Any]]

SIZES, COLOURS = ("S", "M", "L"), ("white", "red", "blue", "black")


@pytest.fixture
def make_shirt(alice: Caller, make_category: Make) -> Make:
    """Make a shirt with a variant for each of some options; a test mentions what matters."""
    home: list[int] = []

    def make(variants: list[dict[str, Any]] | None = None, **members: Any) -> dict[str, Any]:
        home.append(home[0] if home else make_category()["id"])
        default = {"name": "Linen shirt", "category_id": home[0], "options": ["size", "colour"]}
        stated = variants if variants is not None else [variant("M", "red", price="10.00")]
        body = {**default, **members} | ({"variants": stated} if stated else {})
        answer = alice.post("/products", body)
        assert answer.status_code == 201, answer.get_data(as_text=True)
        return body_of(answer)

    return make


def variant(size: str, colour: str, **members: Any) -> dict[str, Any]:
    """A variant of a shirt."""
    return {"options": {"size": size, "colour": colour}, "price": "10.00", **members}


def read(caller: Caller, product_id: int, **query: Any) -> dict[str, Any]:
    """A product as a caller reads it."""
    answer = caller.get(f"/products/{product_id}", query_string=query)
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return body_of(answer)


def variants_of(caller: Caller, product_id: int) -> list[dict[str, Any]]:
    """The variants of a product, in their order."""
    answer = caller.get(f"/products/{product_id}/variants", query_string={"per_page": 100})
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return list(body_of(answer)["items"])


def etag_of(caller: Caller, product_id: int) -> str:
    """The entity tag of a product."""
    return str(caller.get(f"/products/{product_id}").headers["ETag"])


def change(caller: Caller, product_id: int, **members: Any) -> Any:
    """PATCH a product."""
    return caller.patch(f"/products/{product_id}", members)


def move(caller: Caller, product_id: int, delta: int) -> Any:
    """Move the stock of a product."""
    reason = "receipt" if delta > 0 else "sale"
    return caller.post(f"/products/{product_id}/stock-movements", {"delta": delta, "reason": reason})


class TestCreate:
    def test_one_request_makes_a_parent_and_all_its_variants(self, alice: Caller, make_shirt: Make) -> None:
        made = [
            variant(size, colour, price=f"{10 + number}.00", stock=2)
            for number, (size, colour) in enumerate((size, colour) for size in SIZES for colour in COLOURS)
        ]

        shirt = make_shirt(made)

        assert shirt["kind"] == "parent"
        assert (shirt["price"], shirt["price_max"]) == ("10.00", "21.00")
        assert (shirt["stock"], shirt["variant_count"]) == (24, 12)
        children = variants_of(alice, shirt["id"])
        assert [child["options"] for child in children] == [one["options"] for one in made]
        assert [child["position"] for child in children] == list(range(12))
        assert {child["kind"] for child in children} == {"variant"}
        assert {child["parent_id"] for child in children} == {shirt["id"]}

    def test_a_variant_has_text_and_category_of_its_parent(self, alice: Caller, make_shirt: Make) -> None:
        shirt = make_shirt(description="Airy.", tags=["summer"])

        (child,) = variants_of(alice, shirt["id"])

        for member in ("name", "description", "tags", "category_id", "brand_id", "currency"):
            assert child[member] == shirt[member]

    def test_the_slug_of_a_variant_has_its_options(self, alice: Caller, make_shirt: Make) -> None:
        shirt = make_shirt()

        assert [child["slug"] for child in variants_of(alice, shirt["id"])] == ["linen-shirt-m-red"]

    def test_stock_of_a_variant_opens_its_ledger(self, alice: Caller, make_shirt: Make) -> None:
        shirt = make_shirt([variant("M", "red", stock=3)])

        (child,) = variants_of(alice, shirt["id"])

        movements = body_of(alice.get(f"/products/{child['id']}/stock-movements"))["items"]
        assert [(one["delta"], one["reason"]) for one in movements] == [(3, "receipt")]

    def test_several_variants_without_options_are_allowed(self, alice: Caller, make_shirt: Make) -> None:
        shirt = make_shirt([{"price": "1.00"}, {"price": "2.00"}], options=[])

        assert len(variants_of(alice, shirt["id"])) == 2

    @pytest.mark.parametrize(
        ("stated", "pointer", "code"),
        [
            ({"price": "1.00"}, "/price", "rolled_up"),
            ({"stock": 4}, "/stock", "rolled_up"),
            ({"options": {"size": "M"}, "price": "1.00"}, "/options", "not_a_variant"),
            ({"position": 1}, "/position", "not_a_variant"),
            ({"variants": [{"options": {"size": "M", "colour": "red"}}]}, "/variants/0/price", "required"),
            ({"variants": [variant("M", "red", price="1.005")]}, "/variants/0/price", "too_precise"),
            ({"variants": [{"options": {"size": "M"}, "price": "1.00"}]}, "/variants/0/options", "options_unfit"),
            ({"variants": [variant("M", "red", name="Mine")]}, "/variants/0/name", "unknown_field"),
            ({"variants": [variant("M", "red", id=4)]}, "/variants/0/price", "kept_as_it_is"),
            ({"variants": [{"id": 4_000_000}], "options": []}, "/variants/0/id", "variant_unknown"),
        ],
    )
    def test_refuses_what_a_parent_or_variant_cannot_have(
        self, alice: Caller, make_category: Make, stated: dict[str, Any], pointer: str, code: str
    ) -> None:
        body = {"name": "Shirt", "category_id": make_category()["id"], "options": ["size", "colour"], **stated}

        answer = alice.post("/products", body)

        assert answer.status_code == 422, answer.get_data(as_text=True)
        assert (pointer, code) in faults_of(answer)
        assert body_of(alice.get("/products"))["items"] == []

    def test_refuses_two_variants_with_equal_options(self, alice: Caller, make_category: Make) -> None:
        body = {"name": "Shirt", "category_id": make_category()["id"], "options": ["size", "colour"]}
        twice = [variant("M", "red"), {**variant("M", "red"), "options": {"colour": "red", "size": "M"}}]

        answer = alice.post("/products", {**body, "variants": twice})

        assert (answer.status_code, code_of(answer)) == (409, "options_taken")


class TestAdd:
    def test_adds_a_variant_after_the_others(self, alice: Caller, make_shirt: Make) -> None:
        shirt = make_shirt([variant("M", "red", price="10.00", stock=1)])

        answer = alice.post(f"/products/{shirt['id']}/variants", variant("L", "red", price="8.50", stock=2))

        assert answer.status_code == 201
        assert body_of(answer)["position"] == 1
        after = read(alice, shirt["id"])
        assert (after["price"], after["price_max"], after["stock"], after["variant_count"]) == ("8.50", "10.00", 3, 2)

    def test_equal_options_are_a_conflict(self, alice: Caller, make_shirt: Make) -> None:
        shirt = make_shirt()

        answer = alice.post(f"/products/{shirt['id']}/variants", variant("M", "red"))

        assert (answer.status_code, code_of(answer)) == (409, "options_taken")

    def test_the_options_of_a_deleted_variant_are_free(self, alice: Caller, root: Caller, make_shirt: Make) -> None:
        shirt = make_shirt()
        (child,) = variants_of(alice, shirt["id"])
        root.delete(f"/products/{child['id']}")

        assert alice.post(f"/products/{shirt['id']}/variants", variant("M", "red")).status_code == 201

    def test_a_product_without_options_has_no_variants(self, alice: Caller, make_product: Make) -> None:
        answer = alice.post(f"/products/{make_product()['id']}/variants", variant("M", "red"))

        assert (answer.status_code, code_of(answer)) == (409, "not_a_parent")

    def test_a_variant_has_no_variants(self, alice: Caller, make_shirt: Make) -> None:
        (child,) = variants_of(alice, make_shirt()["id"])

        answer = alice.post(f"/products/{child['id']}/variants", variant("L", "red"))

        assert (answer.status_code, code_of(answer)) == (409, "not_a_parent")

    def test_options_are_as_short_as_in_every_other_write(self, alice: Caller, make_shirt: Make) -> None:
        shirt = make_shirt()

        for size in ("x" * 101, "", " \n "):
            answer = alice.post(f"/products/{shirt['id']}/variants", variant(size, "red"))
            assert answer.status_code == 422, answer.get_data(as_text=True)

    def test_numbers_that_are_equal_are_equal_options(self, alice: Caller, make_shirt: Make) -> None:
        shirt = make_shirt([{"options": {"size": 1}, "price": "1.00"}], options=["size"])

        answer = alice.post(f"/products/{shirt['id']}/variants", {"options": {"size": 1.0}, "price": "1.00"})

        assert (answer.status_code, code_of(answer)) == (409, "options_taken")


class TestAdopt:
    def test_a_single_product_keeps_its_history(
        self, alice: Caller, root: Caller, make_product: Make, make_shirt: Make
    ) -> None:
        single = make_product(sku="OLD", price="7.00", stock=5)
        hold = body_of(alice.post(f"/products/{single['id']}/holds", {"quantity": 2}))
        shirt = make_shirt([variant("M", "red"), {"id": single["id"], "options": {"size": "S", "colour": "red"}}])

        child = read(alice, single["id"])

        assert (child["kind"], child["parent_id"], child["sku"]) == ("variant", shirt["id"], "OLD")
        assert (child["name"], child["price"], child["stock"]) == ("Linen shirt", "7.00", 5)
        assert body_of(alice.get(f"/holds/{hold['id']}"))["status"] == "live"
        movements = body_of(alice.get(f"/products/{single['id']}/stock-movements"))["items"]
        assert [(one["delta"], one["stock_after"]) for one in movements] == [(5, 5)]
        trail = body_of(root.get(f"/audit-events?resource=product/{single['id']}"))["items"]
        assert {one["action"] for one in trail} == {"product.created", "product.updated"}
        after = read(alice, shirt["id"])
        assert (after["stock"], after["price"], after["variant_count"]) == (5, "7.00", 2)
        assert alice.post(f"/holds/{hold['id']}/confirm").status_code == 200
        assert read(alice, shirt["id"])["stock"] == 3

    def test_refuses_another_currency(self, alice: Caller, make_product: Make, make_shirt: Make) -> None:
        single, shirt = make_product(currency="EUR"), make_shirt(currency="USD")

        answer = alice.post(f"/products/{shirt['id']}/variants", {"id": single["id"]})

        assert (answer.status_code, code_of(answer)) == (409, "currency_of_variant_differs")

    def test_refuses_a_parent_and_a_variant(self, alice: Caller, make_shirt: Make) -> None:
        shirt, other = make_shirt(), make_shirt()
        (child,) = variants_of(alice, other["id"])

        for product_id in (other["id"], child["id"], shirt["id"]):
            answer = alice.post(f"/products/{shirt['id']}/variants", {"id": product_id})
            assert (answer.status_code, code_of(answer)) == (409, "not_single")


class TestChange:
    def test_a_change_of_a_variant_shows_on_its_parent(self, alice: Caller, make_shirt: Make) -> None:
        shirt = make_shirt([variant("M", "red", price="10.00"), variant("L", "red", price="20.00")])
        first, _ = variants_of(alice, shirt["id"])
        before = etag_of(alice, shirt["id"])

        assert change(alice, first["id"], price="30.00").status_code == 200

        after = read(alice, shirt["id"])
        assert (after["price"], after["price_max"]) == ("20.00", "30.00")
        assert (after["version"], after["live"]) == (shirt["version"], shirt["live"] + 1)
        assert etag_of(alice, shirt["id"]) != before

    def test_a_change_of_a_parent_shows_on_its_variants(self, alice: Caller, make_shirt: Make) -> None:
        shirt = make_shirt()
        (before,) = variants_of(alice, shirt["id"])

        assert change(alice, shirt["id"], name="Cotton shirt", tags=["new"]).status_code == 200

        (after,) = variants_of(alice, shirt["id"])
        assert (after["name"], after["tags"]) == ("Cotton shirt", ["new"])
        assert (after["version"], after["live"]) == (before["version"], before["live"] + 1)

    def test_an_edit_of_a_variant_stays_current_when_its_parent_changes(self, alice: Caller, make_shirt: Make) -> None:
        shirt = make_shirt()
        (child,) = variants_of(alice, shirt["id"])
        tag = etag_of(alice, child["id"])
        change(alice, shirt["id"], name="Cotton shirt")

        answer = alice.patch(f"/products/{child['id']}", {"price": "11.00"}, headers={"If-Match": tag})

        assert answer.status_code == 200

    @pytest.mark.parametrize(
        ("members", "code"),
        [({"name": "Mine"}, "member_of_parent"), ({"tags": ["x"]}, "member_of_parent"),
         ({"currency": "EUR"}, "member_of_parent"), ({"description": ""}, "member_of_parent"),
         ({"options": {"size": "M"}}, "options_unfit"),
         ({"options": ["size"]}, "options_unfit")],
    )  # fmt: skip
    def test_refuses_what_a_variant_has_of_its_parent(
        self, alice: Caller, make_shirt: Make, members: dict[str, Any], code: str
    ) -> None:
        (child,) = variants_of(alice, make_shirt(currency="USD", description="Airy.", tags=["new"])["id"])

        answer = change(alice, child["id"], **members)

        assert (answer.status_code, code_of(answer)) == (422, code)
        assert faults_of(answer)[0][0] == f"/{next(iter(members))}"

    def test_names_all_that_a_variant_has_of_its_parent(self, alice: Caller, make_shirt: Make) -> None:
        (child,) = variants_of(alice, make_shirt()["id"])

        answer = change(alice, child["id"], tags=["x"], name="Mine", price="1.00")

        assert faults_of(answer) == [("/name", "member_of_parent"), ("/tags", "member_of_parent")]

    @pytest.mark.parametrize("members", [{"price": "1.00"}, {"track_stock": False}], ids=str)
    def test_refuses_what_a_parent_has_of_its_variants(
        self, alice: Caller, make_shirt: Make, members: dict[str, Any]
    ) -> None:
        answer = change(alice, make_shirt()["id"], **members)

        assert (answer.status_code, code_of(answer)) == (422, "rolled_up")

    def test_what_was_read_can_be_put_back(self, alice: Caller, make_shirt: Make) -> None:
        shirt = make_shirt(description="Airy.")
        (child,) = variants_of(alice, shirt["id"])

        for product_id in (shirt["id"], child["id"]):
            found = read(alice, product_id)
            writable = {
                name: found[name] for name in ("name", "description", "price", "category_id", "tags", "options")
            }
            answer = alice.put(f"/products/{product_id}", writable)
            assert answer.status_code == 200, answer.get_data(as_text=True)
            assert read(alice, product_id)["description"] == "Airy."

    def test_a_variant_is_replaced_by_its_key_without_the_currency_of_its_parent(
        self, alice: Caller, make_shirt: Make
    ) -> None:
        shirt = make_shirt([variant("M", "red", sku="LS-M")], currency="SAR")

        body = {"name": shirt["name"], "category_id": shirt["category_id"], "price": "12.00"}
        answer = alice.put("/products/by/sku/LS-M", body)

        assert answer.status_code == 200, answer.get_data(as_text=True)
        assert (body_of(answer)["currency"], body_of(answer)["price"]) == ("SAR", "12.00")

    def test_names_of_options_stay_while_variants_have_them(self, alice: Caller, make_shirt: Make) -> None:
        shirt = make_shirt()

        answer = change(alice, shirt["id"], options=["size"])

        assert (answer.status_code, code_of(answer)) == (409, "options_in_use")
        assert change(alice, shirt["id"], options=["colour", "size"]).status_code == 200

    def test_refuses_a_currency_in_which_a_variant_has_too_many_decimals(self, alice: Caller, make_shirt: Make) -> None:
        shirt = make_shirt([variant("M", "red", price="10.50")], currency="USD")

        answer = change(alice, shirt["id"], currency="JPY")

        assert (answer.status_code, code_of(answer)) == (422, "too_precise")


class TestStock:
    def test_movements_add_up_in_the_parent(self, alice: Caller, make_shirt: Make) -> None:
        shirt = make_shirt([variant("M", "red", stock=2), variant("L", "red", stock=3)])
        first, second = variants_of(alice, shirt["id"])

        assert move(alice, first["id"], -2).status_code == 201
        assert move(alice, second["id"], 4).status_code == 201

        assert read(alice, shirt["id"])["stock"] == 7

    def test_a_variant_that_is_not_active_does_not_count(self, alice: Caller, make_shirt: Make) -> None:
        shirt = make_shirt([variant("M", "red", stock=2), variant("L", "red", stock=3, status="draft", price="1.00")])
        _, draft = variants_of(alice, shirt["id"])
        before = etag_of(alice, shirt["id"])

        assert move(alice, draft["id"], 4).status_code == 201

        after = read(alice, shirt["id"])
        assert (after["stock"], after["price"], after["variant_count"]) == (2, "10.00", 1)
        assert etag_of(alice, shirt["id"]) != before
        assert change(alice, draft["id"], status="active").status_code == 200
        after = read(alice, shirt["id"])
        assert (after["stock"], after["price"], after["variant_count"]) == (9, "1.00", 2)

    def test_a_parent_is_in_stock_where_the_stock_of_a_variant_is_not_tracked(
        self, alice: Caller, make_shirt: Make
    ) -> None:
        shirt = make_shirt([variant("M", "red"), variant("L", "red", track_stock=False)])

        assert read(alice, shirt["id"])["track_stock"] is False

    def test_what_is_held_of_variants_is_not_available_of_their_parent(self, alice: Caller, make_shirt: Make) -> None:
        shirt = make_shirt([variant("M", "red", stock=2), variant("L", "red", stock=3)])
        for child in variants_of(alice, shirt["id"]):
            assert alice.post(f"/products/{child['id']}/holds", {"quantity": 2}).status_code == 201

        found = body_of(alice.get(f"/products/{shirt['id']}/availability"))

        assert (found["stock"], found["held"], found["available"]) == (5, 4, 1)

    def test_what_is_held_of_one_beyond_its_stock_is_not_held_of_another(self, alice: Caller, make_shirt: Make) -> None:
        shirt = make_shirt([variant("M", "red", stock=5, sku="A"), variant("L", "red", stock=10)])
        first, _ = variants_of(alice, shirt["id"])
        alice.post(f"/products/{first['id']}/holds", {"quantity": 5})
        alice.post("/products/bulk", {"items": [{"sku": "A", "stock": 0}]})

        found = body_of(alice.get(f"/products/{shirt['id']}/availability"))

        assert (found["stock"], found["held"], found["available"]) == (10, 5, 10)

    def test_a_parent_is_not_sold(self, alice: Caller, make_shirt: Make) -> None:
        shirt = make_shirt()

        held = alice.post(f"/products/{shirt['id']}/holds", {"quantity": 1})

        assert (held.status_code, code_of(held)) == (409, "not_sellable")
        assert code_of(move(alice, shirt["id"], 1)) == "not_sellable"


class TestSeveralAtOnce:
    """Variants that are made with their parent."""

    def send(self, alice: Caller, category_id: int, *variants: dict[str, Any]) -> Any:
        body = {"name": "Shirt", "category_id": category_id, "options": ["size", "colour"], "variants": variants}
        return alice.post("/products", body)

    def test_have_keys_made_of_their_ids_and_names_a_receipt_and_a_place_in_the_trail(
        self, app: Flask, alice: Caller, make_product: Make
    ) -> None:
        category_id = make_product(slug="shirt-m-red")["category_id"]

        answer = self.send(alice, category_id, variant("M", "red", stock=4), variant("L", "red", sku="A-1"))

        medium, large = variants_of(alice, body_of(answer)["id"])
        assert (medium["sku"], medium["slug"]) == (f"P-{medium['id']}", f"shirt-m-red-p-{medium['id']}")
        assert (large["sku"], large["slug"]) == ("A-1", "shirt-l-red")
        moved = body_of(alice.get(f"/products/{medium['id']}/stock-movements"))["items"]
        assert [(one["delta"], one["reason"], one["stock_after"]) for one in moved] == [(4, "receipt", 4)]
        with app.app_context(), unit_of_work(reading=True):
            is_of_it = AuditEvent.resource_type == "product", AuditEvent.resource_id == medium["id"]
            (event,) = db.session.scalars(select(AuditEvent).where(*is_of_it))
            assert (event.action, event.before) == ("product.created", None)
            assert event.after is not None
            shown = {name: event.after[name] for name in ("sku", "price", "options", "parent_id", "version")}
        assert shown == {name: medium[name] for name in shown}

    @pytest.mark.parametrize(
        ("variants", "code"),
        [
            ([variant("M", "red"), variant("L", "red", sku="taken")], "sku_taken"),
            ([variant("M", "red", sku="A-1"), variant("L", "red", sku="A-1")], "sku_taken"),
            ([variant("M", "red"), variant("M", "red")], "options_taken"),
            ([variant("M", "red", slug="red"), variant("L", "red", slug="red")], "slug_taken"),
            ([variant("M", "red", slug="former")], "slug_taken"),
        ],
    )
    def test_are_refused_where_one_has_a_key_of_another(
        self, alice: Caller, make_product: Make, variants: list[dict[str, Any]], code: str
    ) -> None:
        other = make_product(sku="taken", slug="former")
        change(alice, other["id"], slug="present")

        refused = self.send(alice, other["category_id"], *variants)

        assert (refused.status_code, code_of(refused)) == (409, code)
        assert body_of(alice.get("/products"))["meta"]["total"] == 1

    def test_get_another_sku_where_a_product_has_the_one_made_of_an_id(self, alice: Caller, make_product: Make) -> None:
        other = make_product(sku="A-1")
        taken = f"P-{other['id'] + 2}"
        change(alice, other["id"], sku=taken)

        answer = self.send(alice, other["category_id"], variant("M", "red"), variant("L", "red"))

        skus = [one["sku"] for one in variants_of(alice, body_of(answer)["id"])]
        assert len({taken, *skus}) == 3


class TestNoneActive:
    def test_shoppers_learn_no_price_of_a_draft(self, bob: Caller, make_shirt: Make) -> None:
        shirt = make_shirt([variant("M", "red", status="draft", price="7.77")])

        found = read(bob, shirt["id"])

        assert (found["price"], found["price_max"], found["variant_count"]) == ("0.00", "0.00", 0)


class TestDelete:
    def test_variants_go_and_come_with_their_parent(self, root: Caller, alice: Caller, make_shirt: Make) -> None:
        shirt = make_shirt([variant("M", "red", stock=1), variant("L", "red", stock=2)])
        gone, kept = variants_of(alice, shirt["id"])
        root.delete(f"/products/{gone['id']}")
        assert (read(alice, shirt["id"])["stock"], read(alice, shirt["id"])["variant_count"]) == (2, 1)

        assert root.delete(f"/products/{shirt['id']}").status_code == 204

        assert alice.get(f"/products/{kept['id']}").status_code == 404
        refused = root.post(f"/products/{kept['id']}/restore")
        assert (refused.status_code, code_of(refused)) == (409, "parent_deleted")
        assert root.post(f"/products/{shirt['id']}/restore").status_code == 200
        assert [child["id"] for child in variants_of(alice, shirt["id"])] == [kept["id"]]
        assert read(alice, shirt["id"])["stock"] == 2

    def test_a_variant_comes_back_only_while_its_product_has_its_options(
        self, root: Caller, alice: Caller, make_shirt: Make
    ) -> None:
        shirt = make_shirt()
        (child,) = variants_of(alice, shirt["id"])
        root.delete(f"/products/{child['id']}")
        change(alice, shirt["id"], options=["size"])

        refused = root.post(f"/products/{child['id']}/restore")

        assert (refused.status_code, code_of(refused)) == (409, "options_changed")
        change(alice, shirt["id"], options=["colour", "size"])
        assert root.post(f"/products/{child['id']}/restore").status_code == 200

    def test_a_variant_comes_back_only_where_there_is_room(
        self, root: Caller, alice: Caller, make_shirt: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shirt = make_shirt()
        (child,) = variants_of(alice, shirt["id"])
        root.delete(f"/products/{child['id']}")
        monkeypatch.setattr(families, "MAX_VARIANTS", 1)
        alice.post(f"/products/{shirt['id']}/variants", variant("L", "red"))

        refused = root.post(f"/products/{child['id']}/restore")

        assert (refused.status_code, code_of(refused)) == (409, "too_many_variants")

    def test_a_variant_does_not_come_back_with_more_decimals_than_the_currency_has_by_then(
        self, root: Caller, alice: Caller, make_shirt: Make
    ) -> None:
        shirt = make_shirt([variant("M", "red", price="10.55")], currency="EUR")
        (child,) = variants_of(alice, shirt["id"])
        root.delete(f"/products/{child['id']}")
        assert change(alice, shirt["id"], currency="JPY").status_code == 200

        answer = root.post(f"/products/{child['id']}/restore")

        assert (answer.status_code, code_of(answer)) == (409, "currency_of_variant_differs")

    def test_a_variant_whose_options_are_taken_does_not_come_back_to_a_product_of_another_category(
        self, root: Caller, alice: Caller, make_shirt: Make, make_category: Make
    ) -> None:
        shirt = make_shirt()
        (child,) = variants_of(alice, shirt["id"])
        root.delete(f"/products/{child['id']}")
        assert alice.post(f"/products/{shirt['id']}/variants", variant("M", "red")).status_code == 201
        assert change(alice, shirt["id"], category_id=make_category()["id"]).status_code == 200

        refused = root.post(f"/products/{child['id']}/restore")

        assert (refused.status_code, code_of(refused)) == (409, "options_taken")

    def test_a_variant_that_comes_back_has_what_its_parent_has_by_then(
        self, root: Caller, alice: Caller, make_shirt: Make
    ) -> None:
        shirt = make_shirt()
        (child,) = variants_of(alice, shirt["id"])
        root.delete(f"/products/{child['id']}")
        change(alice, shirt["id"], name="Cotton shirt")

        assert root.post(f"/products/{child['id']}/restore").status_code == 200

        after = read(alice, child["id"])
        assert (after["name"], after["version"]) == ("Cotton shirt", child["version"] + 2)
        assert read(alice, shirt["id"])["variant_count"] == 1

    def test_what_its_type_refuses_by_now_comes_back_as_it_was(
        self, root: Caller, alice: Caller, make_shirt: Make, make_type: Make, make_attribute: Make
    ) -> None:
        make_attribute(code="fabric")
        for code in ("size", "colour"):
            make_attribute(code=code)
        options = [{"code": code, "is_option": True} for code in ("size", "colour")]
        shirt_type = make_type(attributes=options)
        shirt = make_shirt([variant("M", "red", stock=1), variant("L", "red", stock=2)], type_id=shirt_type["id"])
        root.delete(f"/products/{shirt['id']}")
        listed = [options[0], {"code": "fabric", "required": True}]
        changed = alice.patch(f"/product-types/{shirt_type['id']}", {"attributes": listed})
        assert changed.status_code == 200, changed.get_data(as_text=True)

        answer = root.post(f"/products/{shirt['id']}/restore")

        assert answer.status_code == 200, answer.get_data(as_text=True)
        family = [body_of(answer), *variants_of(alice, shirt["id"])]
        assert [one["status"] for one in family] == 3 * ["active"]
        assert [one["missing"] for one in family] == 3 * [["fabric"]]
        assert (family[0]["stock"], family[0]["variant_count"]) == (3, 2)
        incomplete = body_of(alice.get("/products", query_string={"complete": "false"}))["items"]
        assert [one["id"] for one in incomplete] == [shirt["id"]]

    def test_restored_variants_get_other_slugs_where_theirs_are_taken_by_now(
        self, root: Caller, alice: Caller, make_shirt: Make
    ) -> None:
        shirt = make_shirt([variant("M", "red", slug="red"), variant("L", "red", slug="large-red", sku="A-1")])
        root.delete(f"/products/{shirt['id']}")
        make_shirt([], slug="large-red")

        assert root.post(f"/products/{shirt['id']}/restore").status_code == 200

        assert [one["slug"] for one in variants_of(alice, shirt["id"])] == ["red", "large-red-a-1"]

    def test_a_family_comes_back_where_another_request_takes_a_slug_at_the_same_moment(
        self, root: Caller, alice: Caller, make_shirt: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shirt = make_shirt([variant("M", "red", slug="red", sku="A-1", stock=2), variant("L", "red", slug="large")])
        root.delete(f"/products/{shirt['id']}")
        make_shirt([], slug="red")
        find = keys.free_slugs_for
        looked_up: list[dict[int, str]] = []

        def find_late(rows: Any) -> dict[int, str]:
            looked_up.append(find(rows) if looked_up else {row["id"]: row["slug"] for row in rows})
            return looked_up[-1]

        monkeypatch.setattr(keys, "free_slugs_for", find_late)

        answer = root.post(f"/products/{shirt['id']}/restore")

        assert (answer.status_code, body_of(answer)["version"], len(looked_up)) == (200, 3, 2)
        assert [one["slug"] for one in variants_of(alice, shirt["id"])] == ["red-a-1", "large"]
        events = body_of(root.get(f"/audit-events?resource=product/{shirt['id']}"))["items"]
        assert [event["action"] for event in events if event["action"] != "product.created"] == [
            "product.restored",
            "product.deleted",
        ]

    def test_a_parent_does_not_come_back_where_the_key_of_a_variant_is_taken(
        self, root: Caller, alice: Caller, make_shirt: Make
    ) -> None:
        shirt = make_shirt([variant("M", "red"), variant("L", "red", sku="A-1")])
        root.delete(f"/products/{shirt['id']}")
        make_shirt([], sku="A-1")

        refused = root.post(f"/products/{shirt['id']}/restore")

        assert (refused.status_code, code_of(refused)) == (409, "sku_taken")
        assert alice.get(f"/products/{shirt['id']}").status_code == 404


class TestWhoSeesThem:
    def test_shoppers_see_no_variant_of_a_draft(self, alice: Caller, bob: Caller, make_shirt: Make) -> None:
        shirt = make_shirt(status="draft")
        (child,) = variants_of(alice, shirt["id"])

        assert bob.get(f"/products/{child['id']}").status_code == 404
        assert body_of(bob.get("/products?kind=sellable"))["items"] == []
        change(alice, shirt["id"], status="active")
        assert bob.get(f"/products/{child['id']}").status_code == 200

    def test_shoppers_see_no_draft_among_the_variants(self, bob: Caller, make_shirt: Make) -> None:
        shirt = make_shirt([variant("M", "red", status="draft"), variant("L", "red")])

        assert [child["options"]["size"] for child in variants_of(bob, shirt["id"])] == ["L"]
        assert len(read(bob, shirt["id"], include="variants")["variants"]) == 1


class TestLists:
    def test_show_singles_and_parents_unless_the_kind_is_stated(
        self, alice: Caller, make_shirt: Make, make_product: Make
    ) -> None:
        shirt, single = make_shirt(), make_product()
        (child,) = variants_of(alice, shirt["id"])

        def ids(query: str) -> set[int]:
            return {one["id"] for one in body_of(alice.get(f"/products?{query}"))["items"]}

        assert ids("") == {shirt["id"], single["id"]}
        assert ids("kind=sellable") == {single["id"], child["id"]}
        assert ids("kind=variant") == {child["id"]}
        assert ids("kind=parent") == {shirt["id"]}
        assert ids("kind=parent,variant") == {shirt["id"], child["id"]}
        assert ids(f"id={child['id']}") == {child["id"]}
        assert ids(f"sku={child['sku']}") == {child["id"]}
        assert ids(f"parent_id={shirt['id']}") == {child["id"]}

    def test_one_variant_must_meet_all_filters(self, alice: Caller, make_shirt: Make) -> None:
        shirt = make_shirt([variant("M", "red", price="10.00", stock=0), variant("L", "red", price="50.00", stock=5)])
        cheap, dear = (child["id"] for child in variants_of(alice, shirt["id"]))

        def found(query: str) -> list[Any]:
            return [one["matching_variants"] for one in body_of(alice.get(f"/products?{query}"))["items"]]

        assert found("max_price=20") == [[cheap]]
        assert found("in_stock=true") == [[dear]]
        assert found("in_stock=false") == [[cheap]]
        assert found("max_price=20&in_stock=true") == []
        assert found("min_price=20&in_stock=true") == [[dear]]
        assert found("min_price=20&max_price=40") == []
        assert found("min_price=5") == [[cheap, dear]]

    def test_matching_variants_are_there_only_where_a_filter_asks(self, alice: Caller, make_shirt: Make) -> None:
        make_shirt()

        assert "matching_variants" not in body_of(alice.get("/products"))["items"][0]
        chosen = body_of(alice.get("/products?min_price=1&fields=id,matching_variants"))["items"][0]
        assert list(chosen) == ["id", "matching_variants"]
        assert list(body_of(alice.get("/products?fields=id,matching_variants"))["items"][0]) == ["id"]

    def test_a_parent_is_found_by_the_keys_of_its_variants(self, alice: Caller, make_shirt: Make) -> None:
        shirt = make_shirt([variant("M", "red", sku="LS-M-RED", gtin="4006381333931")])

        for words in ("LS-M-RED", "4006381333931", "linen red"):
            found = body_of(alice.get("/products", query_string={"search": words}))["items"]
            assert [one["id"] for one in found] == [shirt["id"]]

    def test_shoppers_do_not_find_a_parent_by_its_drafts(self, bob: Caller, make_shirt: Make) -> None:
        make_shirt([variant("M", "red", sku="SECRET-1", status="draft"), variant("L", "red")])

        assert body_of(bob.get("/products?search=secret"))["items"] == []

    def test_include_shows_the_variants_in_their_order(self, alice: Caller, make_shirt: Make) -> None:
        shirt = make_shirt([variant("M", "red"), variant("S", "red", position=0), variant("L", "red", position=0)])

        (item,) = body_of(alice.get("/products?include=variants&fields=id,variants.options"))["items"]

        assert item["id"] == shirt["id"]
        assert [one["options"]["size"] for one in item["variants"]] == ["M", "S", "L"]


class TestDepth:
    def test_two_levels_are_impossible_in_sql(self, app: Any, alice: Caller, make_shirt: Make) -> None:
        shirt = make_shirt()
        (child,) = variants_of(alice, shirt["id"])

        def write(product_id: int, **values: Any) -> None:
            with app.app_context(), unit_of_work():
                db.session.execute(update(PRODUCTS).where(PRODUCTS.c.id == product_id).values(values))

        for product_id, values in (
            (shirt["id"], {"kind": ProductKind.VARIANT, "parent_id": child["id"], "position": 0}),
            (shirt["id"], {"kind": ProductKind.SINGLE}),
            (child["id"], {"kind": ProductKind.PARENT}),
            (child["id"], {"kind": ProductKind.SINGLE}),
            (child["id"], {"parent_id": child["id"]}),
        ):
            with pytest.raises(IntegrityError):
                write(product_id, **values)

    def test_holds_of_a_parent_cannot_arise(self, app: Any, make_shirt: Make) -> None:
        make_shirt()

        with app.app_context():
            assert db.session.scalar(select(func.count()).select_from(Hold)) == 0


class TestLocks:
    @pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
    def test_a_parent_is_locked_with_a_variant_that_was_added_while_this_waited(
        self, app: Flask, alice: Caller, make_shirt: Make
    ) -> None:
        shirt = make_shirt()["id"]
        is_locked, is_over = Event(), Event()

        def lock() -> None:
            with app.app_context(), unit_of_work():
                families.lock_family(select(Product), Product.id == shirt, Product.parent_id == shirt)
                is_locked.set()
                is_over.wait(30)

        with ThreadPoolExecutor(1) as threads:
            with app.app_context(), unit_of_work():
                parent = families.lock_family(select(Product), Product.id == shirt, Product.parent_id == shirt)
                waiting = threads.submit(lock)
                wait_for(lambda: count_waiting(app) == 1)
                stated = {"options": {"size": "L", "colour": "red"}, "price": Decimal(1)}
                added = variants.add_variant(parent, stated, identity=Identity.of_user(role=Role.EDITOR)).id
            assert is_locked.wait(30)
            try:
                with pytest.raises(OperationalError):
                    lock_at_once(app, added)
            finally:
                is_over.set()
            waiting.result()

    @pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
    def test_a_product_that_becomes_a_variant_is_locked_before_its_parent(
        self, app: Flask, alice: Caller, make_shirt: Make, make_product: Make
    ) -> None:
        shirt, single = make_shirt()["id"], make_product(currency="USD")["id"]

        with ThreadPoolExecutor(1) as threads:
            with app.app_context(), unit_of_work():
                families.lock_rows(PRODUCTS.c.id, [single])
                answer = threads.submit(alice.post, f"/products/{shirt}/variants", {"id": single})
                wait_for(lambda: count_waiting(app) == 1)
                lock_at_once(app, shirt)
            assert answer.result().status_code == 201

    @pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
    def test_a_batch_locks_a_variant_that_was_added_while_it_waited_before_its_parent(
        self, app: Flask, make_shirt: Make, make_product: Make
    ) -> None:
        shirt, single = make_shirt([], sku="SHIRT")["id"], make_product(currency="USD")["id"]

        def lock_for_batch() -> list[int]:
            with app.app_context(), unit_of_work():
                return [*find_and_lock(["SHIRT"]).by_id]

        def lock_one_by_one() -> None:
            with app.app_context(), unit_of_work():
                families.lock_rows(PRODUCTS.c.id, [single])
                wait_for(lambda: count_waiting(app) == 1)
                families.lock_rows(PRODUCTS.c.id, [shirt])

        with ThreadPoolExecutor(2) as threads:
            with app.app_context(), unit_of_work():
                parent = families.lock_family(select(Product), Product.id == shirt, Product.parent_id == shirt)
                variants.add_variant(parent, {"id": single}, identity=Identity.of_user(role=Role.EDITOR))
                batch, other = threads.submit(lock_for_batch), threads.submit(lock_one_by_one)
                wait_for(lambda: count_waiting(app) == 2)
            other.result()
            assert batch.result() == [single, shirt]

    def test_without_a_product_leave_no_savepoint(self, app: Flask) -> None:
        with app.app_context(), unit_of_work():
            with pytest.raises(NotFound):
                families.lock_family(select(Product), Product.id == 9, Product.parent_id == 9)
            assert not db.session().in_nested_transaction()


def lock_at_once(app: Flask, product_id: int) -> None:
    """Lock a product, without waiting for others."""
    found = select(PRODUCTS.c.id).where(PRODUCTS.c.id == product_id)
    with app.app_context(), unit_of_work():
        db.session.execute(found.with_for_update(nowait=True, key_share=True))


def count_waiting(app: Flask) -> int:
    """How many transactions wait for a lock of another."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    with app.app_context(), db.engine.connect() as connection:
        return int(connection.scalar(waiting) or 0)
