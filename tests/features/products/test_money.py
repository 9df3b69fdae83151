"""Amounts over HTTP: with the decimals of their currency, one by one and many at once, and nowhere rounded."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select, update

from app.core.audit import AuditEvent
from app.core.money import CURRENCIES, decimals_of, max_amount
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.products.models import Product
from tests.conftest import Caller, body_of, code_of, faults_of

Make = Callable[..., dict[str, Any]]

#: A currency of each kind: none, two and three decimals.
KINDS = ["JPY", "EUR", "KWD"]
EVERY = sorted(CURRENCIES)


def exact(currency: str) -> list[str]:
    """Amounts as the currency writes them: none, the least, the most, and one between."""
    end = "." + "0" * decimals_of(currency) if decimals_of(currency) else ""
    least = f"0{end[:-1]}1" if end else "1"
    return [f"0{end}", least, str(max_amount(currency)), f"1980{end}"]


def finer(amount: str) -> str:
    """The amount with one decimal more."""
    return f"{amount}0" if "." in amount else f"{amount}.0"


@pytest.fixture
def price_of(alice: Caller, make_product: Make) -> Callable[[str], dict[str, Any]]:
    """The members of a product's money, however it is read."""

    def price_of(path: str) -> dict[str, Any]:
        product = body_of(alice.get(path))
        return {name: product[name] for name in ("price", "compare_at_price", "currency")}

    return price_of


@pytest.fixture
def product_of(make_product: Make) -> Callable[..., dict[str, Any]]:
    """A product of a currency."""
    return lambda currency, **members: make_product(currency=currency, **{"price": "12", **members})


class TestEveryCurrency:
    """In requests that have many at once, so that all are tried."""

    def test_comes_back_with_its_decimals_and_is_refused_with_one_more(
        self, alice: Caller, make_category: Make
    ) -> None:
        home = make_category()["id"]
        items = [
            {"sku": f"{code}-{number}", "name": code, "price": amount, "currency": code, "category_id": home}
            for code in EVERY
            for number, amount in enumerate(exact(code))
        ]
        too_fine = [item | {"sku": f"{item['sku']}-x", "price": finer(item["price"])} for item in items]

        made = body_of(alice.post("/products/bulk", {"items": items}))
        refused = body_of(alice.post("/products/bulk", {"items": too_fine, "mode": "partial"}))

        assert made["meta"]["created"] == refused["meta"]["failed"] == len(items)
        for item, told in zip(items, refused["items"], strict=True):
            (fault,) = told["problem"]["errors"]
            assert (fault["code"], fault["pointer"]) == ("too_precise", f"/items/{told['index']}/price"), item
        found: dict[str, str] = {}
        for page in range(1, 10):
            listed = body_of(alice.get(f"/products?per_page=100&page={page}&fields=sku,price"))["items"]
            found |= {one["sku"]: one["price"] for one in listed}
        assert found == {item["sku"]: item["price"] for item in items}

    @pytest.mark.parametrize("currency", EVERY)
    def test_is_exact_product_by_product(self, alice: Caller, make_category: Make, currency: str) -> None:
        product = {"name": "Oak", "currency": currency, "category_id": make_category()["id"]}
        (*_, amount) = exact(currency)

        answer = alice.post("/products", product | {"price": amount.partition(".")[0], "compare_at_price": amount})

        assert (body_of(answer)["price"], body_of(answer)["compare_at_price"]) == (amount, amount)
        refused = alice.post("/products", product | {"price": finer(amount), "compare_at_price": finer(amount)})
        assert faults_of(refused) == [("/price", "too_precise"), ("/compare_at_price", "too_precise")]


@pytest.mark.parametrize("currency", KINDS)
class TestAnAmount:
    def test_is_written_alike_wherever_it_is(
        self, alice: Caller, root: Caller, product_of: Make, app: Flask, currency: str
    ) -> None:
        cursor = body_of(alice.get("/events?from=now"))["meta"]["next_cursor"]
        text = {"JPY": "12", "EUR": "12.00", "KWD": "12.000"}[currency]
        made = product_of(currency)
        where = f"/products/{made['id']}"

        put = {**{name: made[name] for name in ("name", "category_id", "currency")}, "price": "13"}
        changed = body_of(alice.put(where, put))
        back = body_of(alice.patch(where, {"price": "12"}))

        (event,) = body_of(alice.get(f"/events?cursor={cursor}"))["items"][-1:]
        trail = body_of(root.get("/audit-events"))["items"]
        trail = [one for one in trail if (one["resource_type"], one["resource_id"]) == ("product", made["id"])]
        assert [made["price"], back["price"], body_of(alice.get(where))["price"]] == [text] * 3
        assert changed["price"] == text.replace("12", "13")
        assert body_of(alice.get("/products"))["items"][0]["price"] == text
        assert body_of(alice.get("/products?fields=price"))["items"] == [{"price": text}]
        assert body_of(alice.get("/products?fields=price&cursor=&sort_by=price"))["items"] == [{"price": text}]
        assert event["data"]["price"] == text
        assert [(one["before"] or {}).get("price") for one in trail] == [changed["price"], text, None]
        assert [one["after"]["price"] for one in trail] == [text, changed["price"], text]

    def test_of_a_crossed_out_price_may_be_any_or_none(self, alice: Caller, product_of: Make, currency: str) -> None:
        zero = exact(currency)[0]
        product = product_of(currency, compare_at_price="0")
        where = f"/products/{product['id']}"

        assert product["compare_at_price"] == zero
        assert body_of(alice.patch(where, {"compare_at_price": None}))["compare_at_price"] is None
        assert body_of(alice.patch(where, {"compare_at_price": "99"}))["compare_at_price"] == zero.replace("0", "99", 1)


class TestAChange:
    def test_of_the_price_is_measured_by_the_currency_that_stays(self, alice: Caller, product_of: Make) -> None:
        where = f"/products/{product_of('JPY')['id']}"

        assert faults_of(alice.patch(where, {"price": "12.0"})) == [("/price", "too_precise")]
        assert body_of(alice.patch(where, {"price": "12.5", "currency": "EUR"}))["price"] == "12.50"

    def test_of_the_currency_needs_prices_that_fit(self, alice: Caller, product_of: Make) -> None:
        product = product_of("KWD", price="1.250", compare_at_price="1.255")
        where = f"/products/{product['id']}"

        assert faults_of(alice.patch(where, {"currency": "EUR"})) == [("/compare_at_price", "too_precise")]
        assert faults_of(alice.patch(where, {"currency": "JPY"})) == [
            ("/price", "too_precise"),
            ("/compare_at_price", "too_precise"),
        ]
        changed = body_of(alice.patch(where, {"currency": "EUR", "compare_at_price": None}))
        assert (changed["price"], changed["currency"], changed["version"]) == ("1.25", "EUR", 2)

    def test_that_replaces_all_is_measured_by_the_currency_that_it_states(
        self, alice: Caller, product_of: Make
    ) -> None:
        product = product_of("KWD", price="1.255")
        body = {"name": "Oak", "category_id": product["category_id"], "price": "1.255"}

        assert faults_of(alice.put(f"/products/{product['id']}", body)) == [("/price", "too_precise")]

    def test_comes_after_what_is_wrong_with_the_body_and_before_the_catalogue(
        self, alice: Caller, product_of: Make
    ) -> None:
        product = product_of("JPY", sku="A")
        body = {"name": "Oak", "sku": "A", "currency": "JPY", "price": "1.5", "category_id": product["category_id"]}

        assert faults_of(alice.post("/products", body | {"name": ""})) == [("/name", "too_short")]
        assert code_of(alice.post("/products", body)) == "too_precise"


class TestABatch:
    def test_measures_an_item_by_its_own_currency_or_that_of_its_product(
        self, alice: Caller, make_category: Make, product_of: Make
    ) -> None:
        home = product_of("JPY", sku="YEN", compare_at_price="15")["category_id"]
        product_of("KWD", sku="DINAR", price="1.250")
        new = {"name": "Oak", "category_id": home}
        items = [
            {"sku": "YEN", "price": "12.5"},
            {"sku": "DINAR", "price": "1.255"},
            {"sku": "NEW", "price": "1.255", **new},
            {"sku": "NEW-DINAR", "price": "1.255", "currency": "KWD", **new},
        ]

        answer = body_of(alice.post("/products/bulk", {"items": items, "mode": "partial"}))

        told = [(item["problem"] or item).get("code", item["status"]) for item in answer["items"]]
        assert told == ["too_precise", "updated", "too_precise", "created"]
        refused = alice.post("/products/bulk", {"items": [{"sku": "DINAR", "currency": "EUR"}]})
        assert (code_of(refused), faults_of(refused)) == ("batch_refused", [("/items/0/price", "too_precise")])

    @pytest.mark.parametrize("dry_run", [True, False])
    def test_that_is_atomic_is_refused_as_a_whole(self, alice: Caller, product_of: Make, dry_run: bool) -> None:
        product = product_of("JPY", sku="YEN")
        items = [{"sku": "YEN", "name": "Changed"}, {"sku": "NEW", "name": "n", "price": "1.5", "currency": "JPY"}]
        items = [item | {"category_id": product["category_id"]} for item in items]

        answer = alice.post("/products/bulk", {"items": items, "dry_run": dry_run})

        assert faults_of(answer) == [("/items/1/price", "too_precise")]
        assert body_of(alice.get(f"/products/{product['id']}")) == product


class TestAPriceThatWasStoredBefore:
    """100.50 JPY could be stored once. It keeps its value until a price is written."""

    @pytest.fixture
    def old(self, app: Flask, product_of: Make) -> dict[str, Any]:
        product = product_of("JPY", sku="OLD")
        with app.app_context(), unit_of_work():
            db.session.execute(update(Product).values(price=Decimal("100.50")))
        return product

    def test_is_shown_as_it_is(self, alice: Caller, old: dict[str, Any]) -> None:
        assert body_of(alice.get(f"/products/{old['id']}"))["price"] == "100.5"

    def test_stays_while_something_else_is_written(self, alice: Caller, old: dict[str, Any]) -> None:
        renamed = body_of(alice.patch(f"/products/{old['id']}", {"name": "New", "currency": "JPY"}))
        batch = alice.post("/products/bulk", {"items": [{"sku": "OLD", "name": "Newer", "currency": "JPY"}]})

        assert (renamed["name"], renamed["price"]) == ("New", "100.5")
        assert body_of(batch)["meta"]["updated"] == 1

    def test_is_changed_only_exactly(self, alice: Caller, old: dict[str, Any]) -> None:
        where = f"/products/{old['id']}"

        assert body_of(alice.patch(where, {"price": "100.5"})) == body_of(alice.get(where))
        assert faults_of(alice.patch(where, {"price": "100.6"})) == [("/price", "too_precise")]
        assert body_of(alice.patch(where, {"price": "101"}))["price"] == "101"


class TestAuditOfAChangeOfCurrency:
    def test_has_each_amount_in_its_own(self, app: Flask, alice: Caller, product_of: Make) -> None:
        product = product_of("EUR", price="12.00")

        alice.patch(f"/products/{product['id']}", {"price": "1900", "currency": "JPY"})

        with app.app_context(), unit_of_work(reading=True):
            event = db.session.scalars(select(AuditEvent).order_by(AuditEvent.id.desc())).first()
            assert event is not None
            assert (event.before, event.after) == (
                {"price": "12.00", "currency": "EUR"} | _times(event.before),
                {"price": "1900", "currency": "JPY"} | _times(event.after),
            )


def _times(members: dict[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (members or {}).items() if name in {"updated_at", "version"}}
