"""POST /products/bulk: created and updated by sku, item by item."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import update

from app.core import clock
from app.core.errors import Malformed
from app.extensions import db
from app.features.bulk import locking
from app.features.bulk.schemas import ProductUpsertSchema
from app.features.products.models import Product
from app.web.body import parse_json
from tests.conftest import Caller, body_of, code_of, faults_of, rows_of
from tests.references import let_stock_refer_to_users
from tests.web.test_hostile_inputs import VALUES, Raw
from tests.web.test_queries import cost

Make = Callable[..., dict[str, Any]]
Item = dict[str, Any]


@pytest.fixture
def chair(make_category: Make) -> Callable[..., Item]:
    """An item that makes a product; a test mentions what matters."""
    category = make_category()

    def chair(sku: str, **members: Any) -> Item:
        return {"sku": sku, "name": "Chair", "price": "10.00", "category_id": category["id"], **members}

    return chair


Chair = Callable[..., Item]


def save(caller: Caller, *items: Any, **options: Any) -> dict[str, Any]:
    """What became of the items of a batch that was taken."""
    answer = caller.post("/products/bulk", {"items": list(items), **options})
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return body_of(answer)


def told(batch: dict[str, Any]) -> list[str]:
    """What became of each item; of one that failed, the code."""
    return [item["problem"]["code"] if item["problem"] else item["status"] for item in batch["items"]]


def by_sku(caller: Caller, sku: str) -> dict[str, Any]:
    (found,) = body_of(caller.get(f"/products?sku={sku}"))["items"]
    return dict(found)


def readable(values: Iterable[Any]) -> Iterator[Any]:
    """Those of the values that are JSON to us: the others refuse the whole body."""
    for value in values:
        with suppress(ValueError, UnicodeError, Malformed):
            parse_json(json.dumps(value, ensure_ascii=False, allow_nan=False).encode())
            if not isinstance(value, Raw):
                yield value


class TestABatch:
    def test_creates_what_is_not_there(self, alice: Caller, chair: Chair) -> None:
        batch = save(alice, chair("A", stock=3, tags=["oak"]), chair("B"))

        a, b = by_sku(alice, "A"), by_sku(alice, "B")
        assert batch == {
            "items": [
                {"index": 0, "sku": "A", "status": "created", "id": a["id"], "problem": None},
                {"index": 1, "sku": "B", "status": "created", "id": b["id"], "problem": None},
            ],
            "meta": {"total": 2, "created": 2, "updated": 0, "unchanged": 0, "failed": 0},
        }
        assert (a["stock"], a["tags"], a["currency"], a["status"], a["version"]) == (3, ["oak"], "USD", "active", 1)

    def test_updates_what_is_there_by_what_its_items_state(
        self, alice: Caller, chair: Chair, make_product: Make
    ) -> None:
        before = make_product(sku="A", currency="EUR", stock=7, tags=["oak"], attributes={"width": 45}, description="x")

        batch = save(alice, {"sku": "A", "price": "12.00", "attributes": {"height": 90}})

        after = by_sku(alice, "A")
        assert told(batch) == ["updated"]
        assert batch["items"][0]["id"] == before["id"]
        changed = {"price": "12.00", "attributes": {"height": 90}, "version": 2, "updated_at": after["updated_at"]}
        assert after == before | changed

    def test_is_in_the_audit_trail_product_by_product(
        self, alice: Caller, root: Caller, chair: Chair, make_product: Make
    ) -> None:
        before = make_product(sku="A", stock=7)
        save(alice, {"sku": "A", "name": "Stool", "stock": 5}, chair("B"))

        [updated] = body_of(root.get(f"/audit-events?resource=product/{before['id']}&action=product.updated"))["items"]
        [created] = body_of(root.get(f"/audit-events?resource=product/{by_sku(alice, 'B')['id']}"))["items"]
        assert (updated["actor_id"], created["action"]) == (alice.user_id, "product.created")
        assert updated["before"] == {"name": before["name"], "stock": 7}
        assert updated["after"] == {"name": "Stool", "stock": 5}
        assert (created["before"], created["after"]) == (None, created["after"] | chair("B"))

    def test_that_moves_stock_alone_leaves_the_version(self, alice: Caller, bob: Caller, make_product: Make) -> None:
        before = make_product(sku="A", stock=7)
        cursor = body_of(bob.get("/events?from=now"))["meta"]["next_cursor"]

        save(alice, {"sku": "A", "name": before["name"], "stock": 5})
        save(alice, {"sku": "A", "name": "Stool", "stock": 4})

        events = body_of(bob.get(f"/events?cursor={cursor}"))["items"]
        told_of = [(event["type"], event["version"], event["live"]) for event in events]
        assert told_of == [("stock.moved", 1, 1), ("product.updated", 2, 2)]
        assert alice.get(f"/products/{before['id']}").headers["ETag"] == '"2.2"'

    def test_leaves_alone_what_is_the_same(self, alice: Caller, make_product: Make) -> None:
        before = make_product(sku="A")

        batch = save(alice, {"sku": "A", "name": before["name"], "price": before["price"]})

        assert told(batch) == ["unchanged"]
        assert by_sku(alice, "A") == before

    def test_counts_what_became_of_the_items(self, alice: Caller, chair: Chair) -> None:
        save(alice, chair("A"), chair("B"))

        batch = save(alice, chair("A"), chair("B", name="Stool"), chair("C"), {"sku": "D"}, mode="partial")

        assert batch["meta"] == {"total": 4, "created": 1, "updated": 1, "unchanged": 1, "failed": 1}

    def test_does_not_meet_what_was_deleted(
        self, alice: Caller, root: Caller, chair: Chair, make_product: Make
    ) -> None:
        deleted = make_product(sku="A")
        root.delete(f"/products/{deleted['id']}")

        assert told(save(root, chair("A"))) == ["created"]

    def test_meets_drafts(self, alice: Caller, make_product: Make) -> None:
        make_product(sku="A", status="draft")

        assert told(save(alice, {"sku": "A", "status": "active"})) == ["updated"]

    def test_gives_a_new_product_the_default_currency(
        self, alice: Caller, chair: Chair, app_with: Callable[..., Flask]
    ) -> None:
        save(alice.on(app_with(default_currency="SAR")), chair("A"))

        assert by_sku(alice, "A")["currency"] == "SAR"

    def test_is_sent_again_with_its_key(self, alice: Caller, chair: Chair) -> None:
        batch = {"items": [chair("A")]}
        answers = [alice.post("/products/bulk", batch, headers={"Idempotency-Key": "k"}) for _ in range(2)]

        assert answers[0].data == answers[1].data
        assert answers[1].headers["Idempotency-Replayed"] == "true"

    def test_is_for_those_who_write_products(self, bob: Caller, chair: Chair) -> None:
        assert code_of(bob.post("/products/bulk", {"items": [chair("A")]})) == "permission_denied"


class TestAtomically:
    def test_one_bad_item_refuses_all_and_changes_nothing(self, app: Flask, alice: Caller, chair: Chair) -> None:
        save(alice, chair("A"))
        before = [rows_of(app, table) for table in ("products", "audit_events")]
        items = [chair("A", name="Stool"), chair("B"), chair("C"), chair("D", price="1.001")]

        answer = alice.post("/products/bulk", {"items": items})

        assert code_of(answer) == "batch_refused"
        assert faults_of(answer) == [("/items/3/price", "too_precise")]
        assert [rows_of(app, table) for table in ("products", "audit_events")] == before

    def test_every_fault_is_told_at_its_place(self, alice: Caller, chair: Chair, make_product: Make) -> None:
        make_product(sku="OLD")
        items = [
            chair("A"),
            {"sku": "OLD", "price": "x"},
            chair("B", colour="red"),
            {"sku": "NEW", "name": "x"},
            chair("A"),
            chair("C", category_id=999_999),
            {"sku": "OLDER", "category_id": 999_999},
            7,
            {},
            chair("D", tags=["a", ""], attributes={"a": None}),
        ]

        answer = alice.post("/products/bulk", {"items": items})

        assert faults_of(answer) == [
            ("/items/1/price", "invalid"),
            ("/items/2/colour", "unknown_field"),
            ("/items/3/price", "product_incomplete"),
            ("/items/3/category_id", "product_incomplete"),
            ("/items/4/sku", "duplicate_sku"),
            ("/items/5/category_id", "category_unknown"),
            ("/items/6/category_id", "category_unknown"),
            ("/items/7", "not_an_object"),
            ("/items/8/sku", "required"),
            ("/items/9/tags/1", "too_short"),
            ("/items/9/attributes/a", "not_a_scalar"),
        ]


class TestPartially:
    def test_good_items_are_written_and_bad_ones_told(self, alice: Caller, chair: Chair, make_product: Make) -> None:
        make_product(sku="OLD")
        items = [
            chair("A"),
            {"sku": "OLD", "name": "Stool"},
            chair("B", price="x"),
            chair("A", name="Other"),
            chair("C", category_id=999_999),
            {"sku": "NEW"},
            None,
        ]

        batch = save(alice, *items, mode="partial")

        assert told(batch) == [
            *("created", "updated", "invalid", "duplicate_sku", "category_unknown", "product_incomplete", "invalid")
        ]
        assert [item["sku"] for item in batch["items"]] == ["A", "OLD", "B", "A", "C", "NEW", None]
        assert [item["id"] is None for item in batch["items"]] == [False, False, True, True, True, True, True]
        assert (by_sku(alice, "A")["name"], by_sku(alice, "OLD")["name"]) == ("Chair", "Stool")
        assert body_of(alice.get("/products"))["meta"]["total"] == 2

    def test_an_unknown_reference_of_any_member_fails_its_item(
        self, alice: Caller, chair: Chair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        let_stock_refer_to_users(monkeypatch)
        items = [chair("A"), chair("B", stock=999_999), chair("C", stock=alice.user_id)]

        batch = save(alice, *items, mode="partial")

        assert told(batch) == ["created", "supplier_unknown", "created"]
        assert batch["items"][1]["problem"]["errors"][0]["pointer"] == "/items/1/stock"

    def test_a_problem_says_where(self, alice: Caller, chair: Chair) -> None:
        batch = save(alice, chair("A"), chair("B", price="x"), mode="partial")

        problem = batch["items"][1]["problem"]
        assert problem["detail"]
        assert [(fault["pointer"], fault["code"]) for fault in problem["errors"]] == [("/items/1/price", "invalid")]

    def test_the_sku_of_a_bad_item_is_spent(self, alice: Caller, chair: Chair) -> None:
        batch = save(alice, chair("A", price="x"), chair("A"), mode="partial")

        assert told(batch) == ["invalid", "duplicate_sku"]

    def test_a_sku_that_is_none_is_not_echoed(self, alice: Caller, chair: Chair) -> None:
        batch = save(alice, chair("<script> "), chair("x" * 65), mode="partial")

        assert [item["sku"] for item in batch["items"]] == [None, None]

    def test_nothing_but_bad_items_is_an_answer_too(self, app: Flask, alice: Caller) -> None:
        assert save(alice, {}, {}, mode="partial")["meta"]["failed"] == 2
        assert rows_of(app, "products") == []

    @pytest.mark.parametrize("member", ProductUpsertSchema().fields)
    def test_whatever_an_item_states_is_answered(self, alice: Caller, chair: Chair, member: str) -> None:
        items = [chair(f"S{number}") | {member: value} for number, value in enumerate(readable(VALUES.values()))]

        batch = save(alice, *items, mode="partial")

        assert len(items) > 50
        assert batch["meta"]["failed"] > 10
        assert all(item["problem"] is None or item["problem"]["errors"] for item in batch["items"])

    def test_a_thousand_bad_items_get_a_bounded_answer(self, alice: Caller) -> None:
        item = {f"member_{number}": 1 for number in range(50)}

        answer = alice.post("/products/bulk", {"items": [item] * 1000, "mode": "partial"})

        assert answer.status_code == 200
        told = [len(item["problem"]["errors"]) for item in body_of(answer)["items"]]
        assert told == [10] * 10 + [1] * 990

    def test_a_bad_item_is_named_however_many_there_are(self, alice: Caller) -> None:
        items = [{"sku": f"S{number}", "price": 1, "surprise": 1} for number in range(1000)]

        answer = body_of(alice.post("/products/bulk", {"items": items, "mode": "partial"}))

        assert [item["sku"] for item in answer["items"]] == [item["sku"] for item in items]
        faults = answer["items"][999]["problem"]["errors"]
        assert [(fault["pointer"], fault["code"]) for fault in faults] == [("/items/999/price", "invalid")]


class TestADryRun:
    def test_tells_the_same_and_changes_nothing(self, app: Flask, alice: Caller, chair: Chair) -> None:
        save(alice, chair("A"), chair("B"))
        items = [chair("A"), chair("B", name="Stool"), chair("C"), {"sku": "D"}]
        before = [rows_of(app, table) for table in ("products", "audit_events")]

        dry = save(alice, *items, mode="partial", dry_run=True)
        after = [rows_of(app, table) for table in ("products", "audit_events")]
        wet = save(alice, *items, mode="partial")

        assert after == before
        assert told(dry) == told(wet) == ["unchanged", "updated", "created", "product_incomplete"]
        assert dry["meta"] == wet["meta"]
        # A product that was not made has no id.
        assert [item["id"] for item in dry["items"]] == [wet["items"][0]["id"], wet["items"][1]["id"], None, None]

    def test_refuses_the_same(self, alice: Caller, chair: Chair) -> None:
        answer = alice.post("/products/bulk", {"items": [chair("A"), {"sku": "B"}], "dry_run": True})

        assert faults_of(answer)[0] == ("/items/1/name", "product_incomplete")


class TestManyItems:
    def test_cost_as_much_as_a_few(self, alice: Caller, chair: Chair) -> None:
        def cost_of(items: Sequence[Item]) -> int:
            return cost(alice.post("/products/bulk", {"items": list(items)}))

        few, many = [chair("A"), chair("B")], [chair(f"S{number}") for number in range(1000)]
        for items in (few, many):
            save(alice, *items[::2])
        changed = [[item | {"name": "Stool"} for item in items] for items in (few, many)]

        costs = [cost_of(items) for items in changed]

        assert costs[0] == costs[1] <= 14

    def test_may_take_more_bytes_than_other_bodies(self, alice: Caller, chair: Chair) -> None:
        items = [chair(f"S{number}", description="x" * 1500) for number in range(1000)]

        assert save(alice, *items)["meta"]["created"] == 1000

    @pytest.mark.parametrize(("number", "code"), [(0, "too_few"), (1001, "too_many")])
    def test_are_a_thousand_at_most(self, alice: Caller, number: int, code: str) -> None:
        assert faults_of(alice.post("/products/bulk", {"items": [{}] * number})) == [("/items", code)]


class TestAProductThatIsDeletedMeanwhile:
    def test_is_missed_and_not_half_made(
        self, alice: Caller, make_product: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_product(sku="A")
        look = locking.find_living

        def look_too_early(skus: Any) -> Any:
            living = look(skus)
            db.session.execute(update(Product).values(deleted_at=clock.now()))
            return living

        monkeypatch.setattr(locking, "find_living", look_too_early)

        assert told(save(alice, {"sku": "A", "name": "Stool"}, mode="partial")) == ["product_incomplete"]
