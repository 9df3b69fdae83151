"""The names of changes: which of them a change has, by whatever way it comes, and which filters fit them."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update

from app.core.changelog import announced_models
from app.core.feed import ChangeEvent
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.events.names import all_filters, all_names, matches
from app.features.products.models import Product
from tests.conftest import Caller, body_of
from tests.features.events.reading import now_cursor

Make = Callable[..., dict[str, Any]]
#: A change of a product by an editor or an administrator: the members that it has, what is done, and the names.
Do = Callable[[Caller, Mapping[str, Any]], Any]


def types_since(caller: Caller, cursor: str) -> list[list[str]]:
    """The names of each change after a cursor."""
    items = body_of(caller.get(f"/events?cursor={cursor}&per_page=1000"))["items"]
    assert all(item["type"] == item["types"][0] for item in items)
    return [item["types"] for item in items]


def patch(**members: Any) -> Do:
    return lambda root, product: root.patch(f"/products/{product['id']}", members)


def put(**members: Any) -> Do:
    def replace(root: Caller, product: Mapping[str, Any]) -> Any:
        kept = ("name", "price", "currency", "category_id", "status", "low_stock_at", "track_stock")
        return root.put(f"/products/{product['id']}", {name: product[name] for name in kept} | members)

    return replace


def bulk(**members: Any) -> Do:
    return lambda root, product: root.post("/products/bulk", {"items": [{"sku": product["sku"], **members}]})


def move(delta: int) -> Do:
    def movement(root: Caller, product: Mapping[str, Any]) -> Any:
        reason = "receipt" if delta > 0 else "sale"
        return root.post(f"/products/{product['id']}/stock-movements", {"delta": delta, "reason": reason})

    return movement


def sell_hold(quantity: int) -> Do:
    def confirm(root: Caller, product: Mapping[str, Any]) -> Any:
        hold = body_of(root.post(f"/products/{product['id']}/holds", {"quantity": quantity, "expires_in": 60}))
        return root.post(f"/holds/{hold['id']}/confirm")

    return confirm


def delete(root: Caller, product: Mapping[str, Any]) -> Any:
    return root.delete(f"/products/{product['id']}")


UPDATED = "product.updated"
CHANGES: list[tuple[dict[str, Any], Do, list[str]]] = [
    ({}, patch(name="Stool"), [UPDATED]),
    ({}, put(name="Stool"), [UPDATED]),
    ({}, bulk(name="Stool"), [UPDATED]),
    ({"status": "draft"}, patch(status="active"), [UPDATED, "product.published"]),
    ({"status": "archived"}, bulk(status="active"), [UPDATED, "product.published"]),
    ({"status": "draft"}, patch(status="archived"), [UPDATED]),
    ({}, patch(status="archived"), [UPDATED, "product.hidden"]),
    ({}, put(status="draft"), [UPDATED, "product.hidden"]),
    ({}, bulk(status="draft"), [UPDATED, "product.hidden"]),
    ({}, delete, ["product.deleted", "product.hidden"]),
    ({"status": "draft"}, delete, ["product.deleted"]),
    ({"price": "10.00"}, patch(price="12.00"), [UPDATED, "price.changed"]),
    ({"price": "10.00"}, put(price="12.00"), [UPDATED, "price.changed"]),
    ({"price": "10.00"}, bulk(price="12.00"), [UPDATED, "price.changed"]),
    ({}, patch(compare_at_price="99.00"), [UPDATED, "price.changed"]),
    ({"compare_at_price": "99.00"}, bulk(compare_at_price=None), [UPDATED, "price.changed"]),
    ({"currency": "USD"}, patch(currency="EUR"), [UPDATED, "price.changed"]),
    ({"status": "draft"}, patch(status="active", price="1.00"), [UPDATED, "product.published", "price.changed"]),
    ({"stock": 9}, move(-1), ["stock.moved"]),
    ({"stock": 9}, move(2), ["stock.moved"]),
    ({"stock": 9}, sell_hold(1), ["stock.moved"]),
    ({"stock": 9}, bulk(stock=7), ["stock.moved"]),
    ({"stock": 9}, bulk(stock=7, name="Stool"), [UPDATED, "stock.moved"]),
    ({"stock": 9}, bulk(stock=7, price="3.00"), [UPDATED, "price.changed", "stock.moved"]),
    ({"stock": 9, "low_stock_at": 5}, move(-3), ["stock.moved"]),
    ({"stock": 9, "low_stock_at": 5}, move(-4), ["stock.moved", "stock.low"]),
    ({"stock": 9, "low_stock_at": 5}, sell_hold(4), ["stock.moved", "stock.low"]),
    ({"stock": 9, "low_stock_at": 5}, bulk(stock=5), ["stock.moved", "stock.low"]),
    ({"stock": 5, "low_stock_at": 5}, move(-1), ["stock.moved"]),
    ({"stock": 4, "low_stock_at": 5}, move(9), ["stock.moved"]),
    ({"stock": 9, "low_stock_at": 0}, move(-9), ["stock.moved", "stock.low", "stock.out"]),
    ({"stock": 9, "low_stock_at": None}, move(-9), ["stock.moved", "stock.out"]),
    ({"stock": 9, "low_stock_at": 5}, bulk(stock=0), ["stock.moved", "stock.low", "stock.out"]),
    ({"stock": 9}, sell_hold(9), ["stock.moved", "stock.out"]),
    ({"stock": 0}, move(1), ["stock.moved", "stock.back"]),
    ({"stock": 0, "low_stock_at": 5}, move(1), ["stock.moved", "stock.back"]),
    ({"stock": 0}, bulk(stock=3), ["stock.moved", "stock.back"]),
    ({"stock": 9}, patch(low_stock_at=9), [UPDATED, "stock.low"]),
    ({"stock": 9}, bulk(low_stock_at=10), [UPDATED, "stock.low"]),
    ({"stock": 9}, put(low_stock_at=8), [UPDATED]),
    ({"stock": 9, "low_stock_at": 10}, patch(low_stock_at=None), [UPDATED]),
    ({"stock": 0, "low_stock_at": 1}, patch(track_stock=False), [UPDATED, "stock.back"]),
    ({"stock": 0, "track_stock": False}, put(track_stock=True), [UPDATED, "stock.out"]),
    (
        {"stock": 0, "track_stock": False, "low_stock_at": 1},
        patch(track_stock=True),
        [UPDATED, "stock.low", "stock.out"],
    ),
    ({"stock": 5, "track_stock": False, "low_stock_at": 5}, bulk(track_stock=True), [UPDATED, "stock.low"]),
    ({"track_stock": False, "low_stock_at": 5}, sell_hold(1), []),
]


IDS = [f"{number}: {'+'.join(names) or 'nothing'}" for number, (_, _, names) in enumerate(CHANGES)]


class TestProducts:
    @pytest.mark.parametrize(("members", "change", "names"), CHANGES, ids=IDS)
    def test_have_every_name_that_fits(
        self, root: Caller, make_product: Make, members: dict[str, Any], change: Do, names: list[str]
    ) -> None:
        product = make_product(**members)
        cursor = now_cursor(root)

        assert change(root, product).status_code < 300

        assert types_since(root, cursor) == ([names] if names else [])

    @pytest.mark.parametrize(
        ("members", "names"),
        [
            ({}, ["product.created", "product.published"]),
            ({"stock": 1, "low_stock_at": 5}, ["product.created", "product.published"]),
            ({"status": "draft"}, ["product.created"]),
            ({"status": "archived"}, ["product.created"]),
        ],
    )
    @pytest.mark.parametrize("way", ["one", "batch", "without a sku"])
    def test_that_are_new_are_published_if_shoppers_see_them(
        self, alice: Caller, make_category: Make, way: str, members: dict[str, Any], names: list[str]
    ) -> None:
        new = {"sku": "NEW", "name": "New", "price": "1.00", "category_id": make_category()["id"], **members}
        cursor = now_cursor(alice)

        if way == "batch":
            alice.post("/products/bulk", {"items": [new]})
        else:
            alice.post("/products", new if way == "one" else _without_sku(new))

        assert types_since(alice, cursor) == [names]

    def test_that_the_mapper_inserts_have_the_same_names(
        self, alice: Caller, make_category: Make, app_with: Callable[..., Flask]
    ) -> None:
        new = {"name": "New", "price": "1.00", "category_id": make_category()["id"]}
        cursor = now_cursor(alice)

        assert alice.on(app_with(fast_sql=False)).post("/products", new).status_code == 201

        assert types_since(alice, cursor) == [["product.created", "product.published"]]

    @pytest.mark.parametrize(("status", "names"), [("active", ["product.published"]), ("draft", [])])
    def test_that_are_back_are_published_if_shoppers_see_them(
        self, root: Caller, make_product: Make, status: str, names: list[str]
    ) -> None:
        product = make_product(status=status)
        delete(root, product)
        cursor = now_cursor(root)

        root.post(f"/products/{product['id']}/restore")

        assert types_since(root, cursor) == [["product.restored", *names]]

    def test_of_which_nothing_changed_have_no_event(self, root: Caller, make_product: Make) -> None:
        product = make_product(stock=3, low_stock_at=5, price="10.00")
        cursor = now_cursor(root)

        bulk(stock=3, price="10.0", low_stock_at=5, status="active")(root, product)
        patch(price="10.00", track_stock=True)(root, product)

        assert types_since(root, cursor) == []


def _without_sku(new: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in new.items() if name != "sku"}


class TestOtherResources:
    @pytest.mark.parametrize(("path", "kind"), [("/categories", "category"), ("/brands", "brand")])
    def test_have_one_name(self, root: Caller, path: str, kind: str) -> None:
        cursor = now_cursor(root)

        made = body_of(root.post(path, {"name": "Oak"}))
        root.patch(f"{path}/{made['id']}", {"name": "Elm"})
        root.delete(f"{path}/{made['id']}")
        # Without its row, what it was before is hidden.
        types = types_since(root, cursor)

        assert types == [[f"{kind}.hidden"], [f"{kind}.hidden"], [f"{kind}.deleted"]]

    def test_that_are_there_show_what_became_of_them(self, root: Caller) -> None:
        cursor = now_cursor(root)

        made = body_of(root.post("/brands", {"name": "Oak"}))
        root.patch(f"/brands/{made['id']}", {"name": "Elm"})

        assert types_since(root, cursor) == [["brand.created"], ["brand.updated"]]


class TestHidden:
    def test_rows_show_none_of_their_names(self, root: Caller, bob: Caller, make_product: Make) -> None:
        product = make_product(status="draft", stock=9, low_stock_at=5)
        cursor = now_cursor(root)
        for change in (patch(price="1.00"), move(-9), bulk(stock=2, price="3.00"), patch(name="Stool")):
            change(root, product)

        assert types_since(bob, cursor) == [["product.hidden"]] * 4
        assert types_since(root, cursor)[1] == ["stock.moved", "stock.low", "stock.out"]

    def test_rows_show_none_of_what_they_were_before(self, root: Caller, bob: Caller, make_product: Make) -> None:
        product = make_product(stock=9)
        cursor = now_cursor(root)
        patch(price="1.00")(root, product)
        delete(root, product)

        assert types_since(bob, cursor) == [["product.hidden"], ["product.deleted", "product.hidden"]]


class TestRowsOfTheReleaseBefore:
    def test_have_their_type_for_their_only_name(self, app: Flask, root: Caller, make_product: Make) -> None:
        cursor = now_cursor(root)
        product = make_product()
        events = types_since(root, cursor)
        with app.app_context(), unit_of_work():
            db.session.execute(update(ChangeEvent).values(names=None))

        assert events[-1] == ["product.created", "product.published"]
        assert types_since(root, cursor)[-1] == ["product.created"]
        assert product["low_stock_at"] is None


class TestFilters:
    @pytest.mark.parametrize(
        ("filters", "names", "fits"),
        [
            (["product.updated"], ["product.updated"], True),
            (["product.updated"], ["product.updated", "price.changed"], True),
            (["price.changed"], ["product.updated", "price.changed"], True),
            (["price.*"], ["product.updated", "price.changed"], True),
            (["*.deleted"], ["product.deleted", "product.hidden"], True),
            (["*.hidden"], ["product.deleted", "product.hidden"], True),
            (["*"], ["stock.moved"], True),
            (["stock.low", "brand.*"], ["brand.created"], True),
            (["product.updated"], ["category.updated"], False),
            (["product.*"], ["price.changed"], False),
            (["*.updated"], ["product.created"], False),
            ([], ["product.created"], False),
        ],
    )
    def test_fit_any_name_of_a_change(self, filters: list[str], names: list[str], fits: bool) -> None:
        assert matches(filters, names) is fits

    @given(st.sampled_from(sorted(all_filters())))
    def test_that_are_known_fit_a_name(self, filter_: str) -> None:
        assert any(matches([filter_], [name]) for name in all_names())

    def test_are_names_and_patterns_of_names(self) -> None:
        assert {"*", "product.*", "*.deleted", "price.changed", "price.*", "stock.low"} <= all_filters()
        assert not {"*.*", "product", "product.moved", "user.*", "*.low_stock", ""} & all_filters()


class TestNames:
    def test_belong_to_one_kind_of_row(self) -> None:
        names = [name for model in announced_models() for name in model.event_names()]

        assert len(names) == len(set(names))

    def test_are_all_those_that_products_have(self) -> None:
        seen = {name for *_, names in CHANGES for name in names} | {"product.created", "product.restored"}

        assert seen == set(Product.event_names())
