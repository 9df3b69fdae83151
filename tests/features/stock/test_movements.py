"""Movements of stock and their ledger, over HTTP."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text

from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.bulk import upserts
from app.features.categories.service import create_category
from app.security.permissions import Role
from tests.conftest import Caller, body_of, code_of, faults_of, rows_of

Make = Callable[..., dict[str, Any]]

MAX_STOCK = 2**53


def move(caller: Caller, product: dict[str, Any], delta: int, reason: str, **members: Any) -> Any:
    return caller.post(f"/products/{product['id']}/stock-movements", {"delta": delta, "reason": reason, **members})


def movements(caller: Caller, product: dict[str, Any], query: str = "") -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = body_of(caller.get(f"/products/{product['id']}/stock-movements{query}"))["items"]
    return items


def stock_of(caller: Caller, product: dict[str, Any]) -> int:
    stock: int = body_of(caller.get(f"/products/{product['id']}"))["stock"]
    return stock


def assert_ledger_adds_up(app: Flask) -> None:
    """Of every product but parents, the movements add up to the stock, each to the next, and the last one knows it."""
    sold = text("SELECT id, stock FROM products WHERE kind <> 'parent'")
    with app.app_context(), unit_of_work(reading=True):
        stocks = {row.id: row.stock for row in db.session.execute(sold)}
        rows = db.session.execute(text("SELECT product_id, delta, stock_after FROM stock_movements ORDER BY id")).all()
    sums = dict.fromkeys(stocks, 0)
    for product_id, delta, stock_after in rows:
        sums[product_id] += delta
        assert sums[product_id] == stock_after
    assert sums == stocks


class TestMoving:
    def test_answers_with_the_movement(self, alice: Caller, make_product: Make) -> None:
        product = make_product(stock=5)

        answer = move(alice, product, -2, "sale", reference="order-1")

        movement = body_of(answer)
        assert answer.status_code == 201
        assert movement | {"id": 0, "created_at": ""} == {
            "id": 0,
            "product_id": product["id"],
            "delta": -2,
            "reason": "sale",
            "reference": "order-1",
            "stock_after": 3,
            "created_at": "",
            "actor_id": alice.user_id,
        }
        assert body_of(alice.get(answer.headers["Location"].removeprefix("/api/v1"))) == movement

    def test_changes_the_stock_and_the_second_part_of_the_etag(self, alice: Caller, make_product: Make) -> None:
        product = make_product(stock=5)

        move(alice, product, 7, "receipt")

        answer = alice.get(f"/products/{product['id']}")
        assert (body_of(answer)["stock"], answer.headers["ETag"]) == (12, '"1.1"')
        assert (body_of(answer)["version"], body_of(answer)["live"]) == (1, 1)
        assert body_of(answer)["updated_at"] > product["updated_at"]

    def test_is_seen_by_who_reads_on_condition(self, alice: Caller, make_product: Make) -> None:
        path = f"/products/{make_product(stock=5)['id']}"
        held = alice.get(path).headers["ETag"]
        assert alice.get(path, headers={"If-None-Match": held}).status_code == 304

        alice.post(f"{path}/stock-movements", {"delta": -1, "reason": "sale"})

        assert body_of(alice.get(path, headers={"If-None-Match": held}))["stock"] == 4

    def test_leaves_an_edit_that_was_begun_before_it(self, alice: Caller, make_product: Make) -> None:
        path = f"/products/{make_product(stock=5)['id']}"
        held = alice.get(path).headers["ETag"]
        alice.post(f"{path}/stock-movements", {"delta": -1, "reason": "sale"})

        edited = alice.patch(path, {"name": "New"}, if_match=held)

        assert (edited.status_code, edited.headers["ETag"]) == (200, '"2.1"')
        assert (body_of(edited)["name"], body_of(edited)["stock"]) == ("New", 4)
        assert alice.patch(path, {"name": "Newer"}, if_match=held).status_code == 412

    @pytest.mark.parametrize(("delta", "reason"), [(1, "receipt"), (1, "return"), (-1, "sale"), (1, "correction")])
    def test_takes_each_reason_with_its_sign(
        self, alice: Caller, make_product: Make, delta: int, reason: str, app: Flask
    ) -> None:
        product = make_product(stock=5)

        assert body_of(move(alice, product, delta, reason))["stock_after"] == 5 + delta
        assert_ledger_adds_up(app)

    @pytest.mark.parametrize(
        ("delta", "reason"),
        [(-1, "receipt"), (-1, "return"), (1, "sale"), (0, "sale"), (0, "receipt"), (0, "return"), (0, "correction")],
    )
    def test_refuses_a_reason_with_another_sign(
        self, alice: Caller, make_product: Make, delta: int, reason: str
    ) -> None:
        assert faults_of(move(alice, make_product(stock=5), delta, reason)) == [("/delta", "delta_unfit")]

    @pytest.mark.parametrize("delta", [2**53 + 1, -(2**53) - 1, 1.5, "1", True, None])
    def test_refuses_what_is_no_delta(self, alice: Caller, make_product: Make, delta: Any) -> None:
        [(place, _)] = faults_of(move(alice, make_product(), delta, "correction"))
        assert place == "/delta"

    def test_takes_all_and_not_one_more(self, alice: Caller, make_product: Make, app: Flask) -> None:
        product = make_product(stock=5)

        refused = move(alice, product, -6, "sale")
        sold = move(alice, product, -5, "sale")

        assert (refused.status_code, code_of(refused), body_of(refused)["available"]) == (409, "out_of_stock", 5)
        assert body_of(sold)["stock_after"] == 0
        assert body_of(move(alice, product, -1, "correction"))["available"] == 0
        assert_ledger_adds_up(app)

    def test_refuses_more_than_a_product_can_have(self, alice: Caller, make_product: Make, app: Flask) -> None:
        product = make_product(stock=MAX_STOCK)

        answer = move(alice, product, 1, "receipt")

        assert (answer.status_code, code_of(answer)) == (409, "stock_too_large")
        assert stock_of(alice, product) == MAX_STOCK
        assert_ledger_adds_up(app)

    def test_happens_only_at_the_stock_that_is_expected(self, alice: Caller, make_product: Make, app: Flask) -> None:
        product = make_product(stock=5)

        refused = move(alice, product, 1, "receipt", expected_stock=4)
        moved = move(alice, product, 1, "receipt", expected_stock=5)

        assert (refused.status_code, code_of(refused), body_of(refused)["stock"]) == (409, "stock_changed", 5)
        assert body_of(moved)["stock_after"] == 6
        assert_ledger_adds_up(app)

    def test_that_is_refused_leaves_no_trace(self, alice: Caller, make_product: Make, app: Flask) -> None:
        product = make_product(stock=5)
        tables = ("products", "stock_movements", "audit_events")
        before = [rows_of(app, table) for table in tables]

        move(alice, product, -6, "sale")
        move(alice, product, -1, "sale", expected_stock=4)

        assert [rows_of(app, table) for table in tables] == before

    def test_is_audited(self, alice: Caller, root: Caller, make_product: Make) -> None:
        movement = body_of(move(alice, make_product(stock=5), -2, "sale"))

        [event] = body_of(root.get("/audit-events?action=stock_movement.created"))["items"]

        assert (event["actor_id"], event["resource_id"]) == (alice.user_id, movement["id"])
        assert (event["after"]["delta"], event["after"]["stock_after"]) == (-2, 3)

    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_of_a_product_that_is_not_there_is_not_found(
        self, alice: Caller, root: Caller, make_product: Make, method: str
    ) -> None:
        gone = make_product(stock=5)
        root.delete(f"/products/{gone['id']}")

        for product_id in (gone["id"], 2**40):
            path = f"/products/{product_id}/stock-movements"
            json = {"delta": 1, "reason": "receipt"} if method == "POST" else None
            assert alice.call(method, path, json=json).status_code == 404

    def test_looks_for_the_product_before_the_body_is_judged(self, alice: Caller, make_product: Make) -> None:
        for path in (f"/products/{2**40}/stock-movements", f"/products/{2**40}/holds"):
            assert alice.post(path, {"delta": "x"}).status_code == 404
            assert alice.post(path.replace(str(2**40), str(make_product()["id"])), {"delta": "x"}).status_code == 422

    def test_stays_out_of_put_and_patch(self, alice: Caller, make_product: Make) -> None:
        product = make_product(stock=5)

        [(place, _)] = faults_of(alice.patch(f"/products/{product['id']}", {"stock": 6}))
        assert place == "/stock"

    def test_is_for_editors(self, bob: Caller, make_product: Make) -> None:
        product = make_product(stock=5)

        assert move(bob, product, -1, "sale").status_code == 403
        assert bob.get(f"/products/{product['id']}/stock-movements").status_code == 403

    def test_of_a_draft_is_hidden_from_a_key_that_cannot_write_products(
        self, app: Flask, sign_in: Callable[..., Caller], make_product: Make
    ) -> None:
        owner = sign_in("eve", Role.EDITOR)
        key = body_of(owner.post("/api-keys", {"name": "Till", "scopes": ["stock:read", "stock:write"]}))["key"]
        path = f"/products/{make_product(stock=5, status='draft')['id']}/stock-movements"

        answer = Caller(app).post(path, {"delta": -1, "reason": "sale"}, headers={"X-API-Key": key})

        assert answer.status_code == 404


class TestListing:
    def test_shows_the_newest_first(self, alice: Caller, make_product: Make) -> None:
        product = make_product(stock=5)
        make_product(stock=3)
        move(alice, product, -2, "sale")
        move(alice, product, 1, "return")

        assert [(m["reason"], m["stock_after"]) for m in movements(alice, product)] == [
            ("return", 4),
            ("sale", 3),
            ("receipt", 5),
        ]
        assert [m["stock_after"] for m in movements(alice, product, "?sort_by=created_at&order=asc")] == [5, 3, 4]

    def test_filters_by_reason(self, alice: Caller, make_product: Make) -> None:
        product = make_product(stock=5)
        move(alice, product, -2, "sale")

        assert [m["delta"] for m in movements(alice, product, "?reason=sale")] == [-2]
        assert [m["delta"] for m in movements(alice, product, "?reason=sale,return")] == [-2]
        assert len(movements(alice, product, "?reason=sale&reason=receipt")) > 1

    def test_walks(self, alice: Caller, make_product: Make) -> None:
        product = make_product(stock=5)
        for _ in range(4):
            move(alice, product, -1, "sale")

        found, link = [], f"/products/{product['id']}/stock-movements?cursor=&per_page=2"
        while link:
            page = body_of(alice.get(link))
            found += [item["stock_after"] for item in page["items"]]
            link = (page["links"]["next"] or "").removeprefix("/api/v1")

        assert found == [1, 2, 3, 4, 5]

    def test_does_not_find_the_movement_of_another_product(self, alice: Caller, make_product: Make) -> None:
        one, other = make_product(stock=5), make_product(stock=5)
        [movement] = movements(alice, one)

        assert alice.get(f"/products/{one['id']}/stock-movements/{movement['id']}").status_code == 200
        assert alice.get(f"/products/{other['id']}/stock-movements/{movement['id']}").status_code == 404


class TestAStockThatIsNotTracked:
    def test_takes_no_movements(self, alice: Caller, make_product: Make) -> None:
        product = make_product(track_stock=False)

        answer = move(alice, product, 5, "receipt")

        assert (answer.status_code, code_of(answer)) == (409, "stock_not_tracked")
        assert movements(alice, product) == []

    def test_can_be_held_and_sold_without_counting(self, alice: Caller, make_product: Make) -> None:
        product = make_product(track_stock=False)
        path = f"/products/{product['id']}"

        held = alice.post(f"{path}/holds", {"quantity": 1000})

        assert held.status_code == 201
        told = body_of(alice.get(f"{path}/availability"))
        assert (told["track_stock"], told["stock"], told["held"], told["available"]) == (False, 0, 1000, None)
        assert alice.post(f"/holds/{body_of(held)['id']}/confirm").status_code == 200
        assert (movements(alice, product), alice.get(path).headers["ETag"]) == ([], '"1.0"')

    def test_is_held_up_to_what_a_product_can_have(self, alice: Caller, make_product: Make) -> None:
        path = f"/products/{make_product(track_stock=False)['id']}/holds"

        assert alice.post(path, {"quantity": MAX_STOCK}).status_code == 201
        refused = alice.post(path, {"quantity": 1})
        assert (code_of(refused), body_of(refused)["available"]) == ("out_of_stock", 0)

    def test_can_begin_with_some_as_an_exported_file_may_say(
        self, alice: Caller, make_product: Make, app: Flask
    ) -> None:
        product = make_product(track_stock=False, stock=5)

        assert [movement["delta"] for movement in movements(alice, product)] == [5]
        assert_ledger_adds_up(app)

    def test_does_not_move_in_batches(self, alice: Caller, make_product: Make) -> None:
        product = make_product(sku="A", stock=5)
        alice.patch(f"/products/{product['id']}", {"track_stock": False})
        items = [{"sku": "A", "stock": 5, "name": "Same stock"}, {"sku": "A", "stock": 6}]

        results = [body_of(alice.post("/products/bulk", {"mode": "partial", "items": [item]})) for item in items]

        (same,), (other,) = (result["items"] for result in results)
        assert (same["status"], other["status"]) == ("updated", "failed")
        assert [fault["code"] for fault in other["problem"]["errors"]] == ["stock_not_tracked"]
        assert (
            body_of(alice.post("/products/bulk", {"items": [{"sku": "A", "stock": 6, "track_stock": True}]}))["meta"][
                "updated"
            ]
            == 1
        )

    def test_moves_again_once_it_is_tracked(self, alice: Caller, make_product: Make, app: Flask) -> None:
        product = make_product(stock=5)
        path = f"/products/{product['id']}"
        alice.patch(path, {"track_stock": False})
        alice.patch(path, {"track_stock": True})

        assert body_of(move(alice, product, -5, "sale"))["stock_after"] == 0
        assert_ledger_adds_up(app)


class TestTheLedgerOf:
    def test_a_new_product_begins_with_a_receipt(self, alice: Caller, make_product: Make) -> None:
        [receipt] = movements(alice, make_product(stock=5))

        assert (receipt["delta"], receipt["reason"], receipt["stock_after"]) == (5, "receipt", 5)
        assert receipt["actor_id"] == alice.user_id

    def test_a_new_product_with_nothing_in_stock_is_empty(self, alice: Caller, make_product: Make) -> None:
        assert movements(alice, make_product()) == []

    @pytest.fixture
    def upsert(self, app: Flask) -> Callable[..., None]:
        with app.app_context(), unit_of_work():
            category_id = create_category(name="Chairs").id
        default = {"name": "Chair", "price": Decimal("9.90"), "currency": "USD", "category_id": category_id}

        def upsert(*rows: dict[str, Any]) -> None:
            with app.app_context(), unit_of_work():
                upserts.upsert_products([{**default, **row} for row in rows])

        return upsert

    def test_many_products_adds_up(self, app: Flask, upsert: Callable[..., None]) -> None:
        upsert(*({"sku": f"S{number}", "stock": number % 3} for number in range(300)))
        upsert(*({"sku": f"S{number}", "stock": number % 4, "name": "Stool"} for number in range(100, 400)))

        assert_ledger_adds_up(app)
        with app.app_context(), unit_of_work(reading=True):
            told = text("SELECT reason, count(*), min(delta), max(delta) FROM stock_movements GROUP BY 1 ORDER BY 1")
            found = [tuple(row) for row in db.session.execute(told)]
        corrected = [n % 4 - n % 3 for n in range(100, 300) if n % 4 != n % 3]
        received = [n % 3 for n in range(300) if n % 3] + [n % 4 for n in range(300, 400) if n % 4]
        assert found == [
            ("correction", len(corrected), min(corrected), max(corrected)),
            ("receipt", len(received), min(received), max(received)),
        ]

    def test_what_an_upsert_leaves_as_it_is_gets_no_movement(self, app: Flask, upsert: Callable[..., None]) -> None:
        upsert({"sku": "A", "stock": 5})
        upsert({"sku": "A", "stock": 5})
        upsert({"sku": "A", "name": "Stool"})

        assert len(rows_of(app, "stock_movements")) == 1

    def test_an_upsert_after_a_sale_counts_from_there(
        self, app: Flask, upsert: Callable[..., None], alice: Caller
    ) -> None:
        upsert({"sku": "A", "stock": 5})
        [product] = body_of(alice.get("/products"))["items"]
        move(alice, product, -2, "sale")
        upsert({"sku": "A", "stock": 1})

        assert [m["delta"] for m in movements(alice, product)] == [-2, -2, 5]
        assert_ledger_adds_up(app)
