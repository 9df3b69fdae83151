"""Holds and what they leave available, over HTTP."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from flask import Flask
from sqlalchemy import text, update

from app.core import clock
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.products.models import Product
from tests.conftest import Caller, body_of, code_of, faults_of, rows_of
from tests.features.stock.test_movements import assert_ledger_adds_up, move, movements, stock_of

Make = Callable[..., dict[str, Any]]


def hold(caller: Caller, product: dict[str, Any], quantity: int, **members: Any) -> Any:
    return caller.post(f"/products/{product['id']}/holds", {"quantity": quantity, **members})


def availability(caller: Caller, product: dict[str, Any]) -> tuple[int, int, int]:
    told = body_of(caller.get(f"/products/{product['id']}/availability"))
    assert told["product_id"] == product["id"]
    return told["stock"], told["held"], told["available"]


def later(seconds: float) -> Any:
    return time_machine.travel(clock.now() + timedelta(seconds=seconds), tick=False)


class TestHolding:
    def test_answers_with_the_hold(self, alice: Caller, make_product: Make) -> None:
        product = make_product(stock=5)

        with later(0):
            now = clock.now()
            answer = hold(alice, product, 2, reference="cart-7")

        made = body_of(answer)
        assert answer.status_code == 201
        assert answer.headers["Location"] == f"/api/v1/holds/{made['id']}"
        assert (made["product_id"], made["quantity"], made["status"]) == (product["id"], 2, "live")
        assert made["reference"] == "cart-7"
        assert clock.now().fromisoformat(made["expires_at"]) == now + timedelta(seconds=900)
        assert body_of(alice.get(f"/holds/{made['id']}")) == made

    def test_takes_from_what_is_available_and_not_from_the_stock(
        self, alice: Caller, bob: Caller, make_product: Make
    ) -> None:
        product = make_product(stock=5)

        hold(alice, product, 2)

        assert availability(bob, product) == (5, 2, 3)
        assert stock_of(bob, product) == 5

    def test_refuses_more_than_is_available(self, alice: Caller, make_product: Make) -> None:
        product = make_product(stock=5)
        hold(alice, product, 2)

        refused = hold(alice, product, 4)

        assert (refused.status_code, code_of(refused), body_of(refused)["available"]) == (409, "out_of_stock", 3)
        assert hold(alice, product, 3).status_code == 201
        assert availability(alice, product) == (5, 5, 0)

    @pytest.mark.parametrize("reason", ["sale", "correction"])
    def test_keeps_others_from_taking_it(self, alice: Caller, make_product: Make, reason: str) -> None:
        product = make_product(stock=5)
        hold(alice, product, 2)

        refused = move(alice, product, -4, reason)

        assert (code_of(refused), body_of(refused)["available"]) == ("out_of_stock", 3)
        assert body_of(move(alice, product, -3, reason))["stock_after"] == 2
        assert availability(alice, product) == (2, 2, 0)

    def test_of_one_product_leaves_another_alone(self, alice: Caller, make_product: Make) -> None:
        one, other = make_product(stock=5), make_product(stock=5)
        hold(alice, one, 5)

        assert availability(alice, other) == (5, 0, 5)
        assert move(alice, other, -5, "sale").status_code == 201

    @pytest.mark.parametrize(
        ("members", "place"),
        [
            ({"quantity": 0}, "/quantity"),
            ({"quantity": -1}, "/quantity"),
            ({"quantity": 1, "expires_in": 0}, "/expires_in"),
            ({"quantity": 1, "expires_in": 1801}, "/expires_in"),
            ({"quantity": 1, "reference": "x" * 129}, "/reference"),
            ({}, "/quantity"),
        ],
    )
    def test_refuses_bad_members(self, alice: Caller, make_product: Make, members: dict[str, Any], place: str) -> None:
        answer = alice.post(f"/products/{make_product(stock=5)['id']}/holds", members)

        assert [fault[0] for fault in faults_of(answer)] == [place]

    def test_is_audited(self, alice: Caller, root: Caller, make_product: Make) -> None:
        made = body_of(hold(alice, make_product(stock=5), 2))
        alice.post(f"/holds/{made['id']}/cancel")

        items = body_of(root.get(f"/audit-events?resource=hold/{made['id']}"))["items"]

        assert [event["action"] for event in items] == ["hold.updated", "hold.created"]
        assert items[0]["after"]["outcome"] == "cancelled"


class TestConfirming:
    def test_sells(self, alice: Caller, make_product: Make, app: Flask) -> None:
        product = make_product(stock=5)
        made = body_of(hold(alice, product, 2, reference="cart-7"))

        answer = alice.post(f"/holds/{made['id']}/confirm")

        assert (answer.status_code, body_of(answer)) == (200, made | {"status": "confirmed"})
        sale = movements(alice, product)[0]
        assert (sale["delta"], sale["reason"], sale["reference"]) == (-2, "sale", "cart-7")
        assert availability(alice, product) == (3, 0, 3)
        assert alice.get(f"/products/{product['id']}").headers["ETag"] == '"1.1"'
        assert_ledger_adds_up(app)

    def test_names_the_hold_when_there_is_no_reference(self, alice: Caller, make_product: Make) -> None:
        product = make_product(stock=5)
        made = body_of(hold(alice, product, 2))

        alice.post(f"/holds/{made['id']}/confirm")

        assert movements(alice, product)[0]["reference"] == f"hold {made['id']}"

    def test_sells_although_the_rest_is_held_by_others(self, alice: Caller, make_product: Make) -> None:
        product = make_product(stock=5)
        mine = body_of(hold(alice, product, 2))
        hold(alice, product, 3)

        assert alice.post(f"/holds/{mine['id']}/confirm").status_code == 200
        assert availability(alice, product) == (3, 3, 0)

    def test_is_refused_when_an_import_has_stated_less(self, alice: Caller, make_product: Make, app: Flask) -> None:
        product = make_product(stock=5)
        made = body_of(hold(alice, product, 3))
        with app.app_context(), unit_of_work():
            db.session.execute(update(Product).values(stock=2))

        refused = alice.post(f"/holds/{made['id']}/confirm")

        assert (code_of(refused), body_of(refused)["available"]) == ("out_of_stock", 0)
        assert availability(alice, product) == (2, 3, 0)
        assert body_of(alice.get(f"/holds/{made['id']}"))["status"] == "live"


class TestTheEndOfAHold:
    @pytest.mark.parametrize("again", ["confirm", "cancel"])
    @pytest.mark.parametrize("verb", ["confirm", "cancel"])
    def test_comes_once(self, alice: Caller, make_product: Make, app: Flask, verb: str, again: str) -> None:
        product = make_product(stock=5)
        made = body_of(hold(alice, product, 2))
        alice.post(f"/holds/{made['id']}/{verb}")
        tables = ("products", "stock_movements", "holds", "audit_events")
        before = [rows_of(app, table) for table in tables]

        refused = alice.post(f"/holds/{made['id']}/{again}")

        assert (refused.status_code, code_of(refused)) == (409, "hold_ended")
        assert body_of(refused)["hold_status"] == {"confirm": "confirmed", "cancel": "cancelled"}[verb]
        assert [rows_of(app, table) for table in tables] == before

    def test_by_cancelling_frees_it(self, alice: Caller, make_product: Make) -> None:
        product = make_product(stock=5)
        made = body_of(hold(alice, product, 2))

        answer = alice.post(f"/holds/{made['id']}/cancel")

        assert (answer.status_code, body_of(answer)["status"]) == (200, "cancelled")
        assert availability(alice, product) == (5, 0, 5)
        assert len(movements(alice, product)) == 1

    @pytest.mark.parametrize("verb", ["confirm", "cancel"])
    def test_comes_with_time(self, alice: Caller, make_product: Make, verb: str) -> None:
        product = make_product(stock=5)
        made = body_of(hold(alice, product, 5, expires_in=60))

        with later(59):
            assert body_of(alice.get(f"/holds/{made['id']}"))["status"] == "live"
            assert availability(alice, product) == (5, 5, 0)
            assert move(alice, product, -1, "sale").status_code == 409
        with later(61):
            assert body_of(alice.get(f"/holds/{made['id']}"))["status"] == "expired"
            assert availability(alice, product) == (5, 0, 5)
            refused = alice.post(f"/holds/{made['id']}/{verb}")
            assert (code_of(refused), body_of(refused)["hold_status"]) == ("hold_ended", "expired")
            assert hold(alice, product, 1).status_code == 201
            assert move(alice, product, -4, "sale").status_code == 201

    def test_is_at_the_very_moment(self, alice: Caller, make_product: Make) -> None:
        product = make_product(stock=5)
        with time_machine.travel(clock.now(), tick=False) as traveller:
            made = body_of(hold(alice, product, 5, expires_in=60))
            traveller.shift(60)

            assert body_of(alice.get(f"/holds/{made['id']}"))["status"] == "expired"
            assert availability(alice, product) == (5, 0, 5)

    def test_is_forgotten_after_a_month(self, alice: Caller, make_product: Make, app: Flask) -> None:
        product = make_product(stock=5)
        hold(alice, product, 1)
        alice.post(f"/holds/{body_of(hold(alice, product, 1))['id']}/confirm")
        run = app.test_cli_runner().invoke

        with later(29 * 24 * 3600):
            run(args=["prune"])
            assert len(rows_of(app, "holds")) == 2
        with later(31 * 24 * 3600):
            assert "2 holds" in run(args=["prune"]).output
        assert rows_of(app, "holds") == []
        assert_ledger_adds_up(app)


class TestAHoldOfAProductThatIsGone:
    def test_is_gone_too(self, alice: Caller, root: Caller, make_product: Make) -> None:
        product = make_product(stock=5)
        made = body_of(hold(alice, product, 2))
        root.delete(f"/products/{product['id']}")

        answers = [
            alice.get(f"/holds/{made['id']}"),
            alice.post(f"/holds/{made['id']}/confirm"),
            alice.post(f"/holds/{made['id']}/cancel"),
            alice.get(f"/products/{product['id']}/availability"),
            hold(alice, product, 1),
        ]

        assert [answer.status_code for answer in answers] == [404] * 5


class TestAvailability:
    def test_is_kept_by_nobody_and_has_no_version(
        self, bob: Caller, anonymous: Caller, make_product: Make, app_with: Callable[..., Flask]
    ) -> None:
        path = f"/products/{make_product(stock=5)['id']}/availability"
        public = anonymous.on(app_with(catalog_public_read=True, public_cache_max_age=60))

        for answer in (bob.get(path), public.get(path)):
            assert answer.status_code == 200
            assert answer.headers["Cache-Control"] == "no-store"
            assert "ETag" not in answer.headers

    def test_is_for_whoever_reads_the_catalogue(self, anonymous: Caller, bob: Caller, make_product: Make) -> None:
        path = f"/products/{make_product(stock=5)['id']}/availability"

        assert (anonymous.get(path).status_code, bob.get(path).status_code) == (401, 200)

    def test_of_a_draft_is_hidden(self, bob: Caller, alice: Caller, make_product: Make) -> None:
        path = f"/products/{make_product(stock=5, status='draft')['id']}/availability"

        assert (bob.get(path).status_code, alice.get(path).status_code) == (404, 200)


class TestLiveHolds:
    def test_are_found_by_their_index(self, app: Flask) -> None:
        with app.app_context(), unit_of_work():
            statement = (
                "SELECT sum(quantity) FROM holds WHERE product_id = 1 AND outcome IS NULL AND expires_at > '2026-01-01'"
            )
            if db.engine.dialect.name == "sqlite":
                plan = db.session.execute(text(f"EXPLAIN QUERY PLAN {statement}")).all()
            else:
                db.session.execute(text("SET LOCAL enable_seqscan = off"))
                plan = db.session.execute(text(f"EXPLAIN {statement}")).all()

        assert "ix_holds_product_id_expires_at" in str(plan)
