"""The server against a model of the catalogue in memory, over random sequences of requests (hypothesis)."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from werkzeug.test import TestResponse

from app.security.permissions import Role
from tests.conftest import Caller, body_of, code_of, empty

pytestmark = pytest.mark.timeout(300)

#: Few enough that they meet.
NAMES = st.sampled_from(["Chair", "Table", "Café lamp", "Étagère"])
SKUS = st.sampled_from(["A-1", "B-2", "C-3"])
PRICES = st.sampled_from(["0.01", "9.90", "10.00", "9999999999.99"])
STATUSES = st.sampled_from(["draft", "active", "archived"])
PICKS = st.integers(0, 5)


class Catalogue(RuleBasedStateMachine):
    """Categories and products as dictionaries by id; what the server answers must follow from them."""

    def __init__(self, app: Flask, sign_in: Callable[..., Caller]) -> None:
        super().__init__()
        empty(app)
        self.root = sign_in("root", Role.ADMIN)
        self.bob = sign_in("bob")
        self.categories: dict[int, dict[str, Any]] = {}
        self.products: dict[int, dict[str, Any]] = {}
        self.deleted: dict[int, dict[str, Any]] = {}
        self.cursor = body_of(self.root.get("/events?from=now"))["meta"]["next_cursor"]
        self.changes: list[tuple[str, int, int, int | None]] = []

    def pick(self, rows: dict[int, Any], number: int) -> int:
        return sorted(rows)[number % len(rows)]

    def note(self, type_: str, row: dict[str, Any]) -> None:
        self.changes.append((type_, row["id"], row["version"], row.get("live")))

    def sku_is_taken(self, sku: str, by_other_than: int = 0) -> bool:
        return any(row["sku"] == sku for row in self.products.values() if row["id"] != by_other_than)

    def ancestors(self, category_id: int | None) -> set[int]:
        found = set()
        while category_id is not None:
            found.add(category_id)
            category_id = self.categories[category_id]["parent_id"]
        return found

    @rule(name=NAMES, parent=st.none() | PICKS)
    def create_category(self, name: str, parent: int | None) -> None:
        parent_id = self.pick(self.categories, parent) if parent is not None and self.categories else None
        answer = self.root.post("/categories", {"name": name, "parent_id": parent_id})
        assert answer.status_code == 201, answer.get_data(as_text=True)
        self.categories[body_of(answer)["id"]] = body_of(answer)
        self.note("category.created", body_of(answer))

    @precondition(lambda self: self.categories)
    @rule(number=PICKS, parent=st.none() | PICKS)
    def move_category(self, number: int, parent: int | None) -> None:
        category_id = self.pick(self.categories, number)
        parent_id = self.pick(self.categories, parent) if parent is not None else None
        before = self.categories[category_id]
        answer = self.root.patch(f"/categories/{category_id}", {"parent_id": parent_id})
        if category_id in self.ancestors(parent_id):
            assert (answer.status_code, code_of(answer)) == (409, "category_cycle")
            return
        moved = parent_id != before["parent_id"]
        expected = {**before, "parent_id": parent_id, "version": before["version"] + moved}
        self.categories[category_id] = self.expect(answer, expected)
        if moved:
            self.note("category.updated", expected)

    @precondition(lambda self: self.categories)
    @rule(number=PICKS)
    def delete_category(self, number: int) -> None:
        category_id = self.pick(self.categories, number)
        answer = self.root.delete(f"/categories/{category_id}")
        filed = [*self.products.values(), *self.deleted.values()]
        in_use = any(row["category_id"] == category_id for row in filed)
        if in_use or any(row["parent_id"] == category_id for row in self.categories.values()):
            assert (answer.status_code, code_of(answer)) == (409, "category_in_use")
            return
        assert answer.status_code == 204
        self.note("category.deleted", self.categories.pop(category_id))

    @precondition(lambda self: self.categories)
    @rule(name=NAMES, sku=st.none() | SKUS, price=PRICES, status=STATUSES, stock=st.integers(0, 3), number=PICKS)
    def create_product(self, *, number: int, sku: str | None, **members: Any) -> None:
        content = {**members, "category_id": self.pick(self.categories, number)}
        answer = self.root.post("/products", content | ({"sku": sku} if sku else {}))
        if sku and self.sku_is_taken(sku):
            assert (answer.status_code, code_of(answer)) == (409, "sku_taken")
            return
        assert answer.status_code == 201, answer.get_data(as_text=True)
        product = body_of(answer)
        assert product == product | content | {"version": 1}
        self.products[product["id"]] = product
        self.note("product.created", product)

    @precondition(lambda self: self.products)
    @rule(
        number=PICKS,
        changed=st.fixed_dictionaries({}, optional={"name": NAMES, "sku": SKUS, "price": PRICES, "status": STATUSES}),
        stale=st.booleans(),
        live=st.sampled_from(["", ".0", ".1"]),
    )
    def update_product(self, number: int, changed: dict[str, Any], stale: bool, live: str) -> None:
        before = self.products[self.pick(self.products, number)]
        # Whatever was sold since it was read.
        tag = f'"{before["version"] + stale}{live}"'
        answer = self.root.patch(f"/products/{before['id']}", changed, if_match=tag)
        if stale:
            assert answer.status_code == 412
            return
        if "sku" in changed and self.sku_is_taken(changed["sku"], before["id"]):
            assert (answer.status_code, code_of(answer)) == (409, "sku_taken")
            return
        differs = any(before[name] != value for name, value in changed.items())
        expected = {**before, **changed, "version": before["version"] + differs}
        self.products[before["id"]] = self.expect(answer, expected)
        if differs:
            self.note("product.updated", expected)

    @precondition(lambda self: self.products)
    @rule(number=PICKS, delta=st.sampled_from([-2, -1, 1, 2]), expected=st.none() | st.integers(0, 3))
    def move_stock(self, number: int, delta: int, expected: int | None) -> None:
        before = self.products[self.pick(self.products, number)]
        path = f"/products/{before['id']}/stock-movements"
        content = {"delta": delta, "reason": "correction"} | ({} if expected is None else {"expected_stock": expected})
        answer = self.root.post(path, content)
        if expected not in {None, before["stock"]}:
            assert (answer.status_code, code_of(answer)) == (409, "stock_changed")
        elif before["stock"] + delta < 0:
            assert (answer.status_code, body_of(answer)["available"]) == (409, before["stock"])
        else:
            after = {"stock": before["stock"] + delta, "live": before["live"] + 1}
            self.products[before["id"]] = self.expect(self.root.get(f"/products/{before['id']}"), before | after)
            self.note("stock.moved", self.products[before["id"]])
        ledger = body_of(self.root.get(f"{path}?per_page=100"))["items"]
        assert sum(movement["delta"] for movement in ledger) == self.products[before["id"]]["stock"]

    @precondition(lambda self: self.products)
    @rule(number=PICKS)
    def delete_product(self, number: int) -> None:
        product_id = self.pick(self.products, number)
        assert self.root.delete(f"/products/{product_id}").status_code == 204
        self.deleted[product_id] = self.products.pop(product_id)
        self.deleted[product_id]["version"] += 1
        self.note("product.deleted", self.deleted[product_id])

    @precondition(lambda self: self.deleted)
    @rule(number=PICKS)
    def restore_product(self, number: int) -> None:
        product_id = self.pick(self.deleted, number)
        answer = self.root.post(f"/products/{product_id}/restore")
        if self.sku_is_taken(self.deleted[product_id]["sku"]):
            assert (answer.status_code, code_of(answer)) == (409, "sku_taken")
            return
        row = self.deleted[product_id]
        expected = {**row, "version": row["version"] + 1}
        if row["slug"] in (slugs := {other["slug"] for other in self.products.values()}):
            # Another product has it by now, so that this one gets a new one.
            expected["slug"] = body_of(answer).get("slug")
            assert expected["slug"] not in slugs
        self.products[product_id] = self.expect(answer, expected)
        del self.deleted[product_id]
        self.note("product.restored", self.products[product_id])

    def expect(self, answer: TestResponse, expected: dict[str, Any]) -> dict[str, Any]:
        """The row as the server tells it now, if it is the expected one but for when it changed."""
        assert answer.status_code == 200, answer.get_data(as_text=True)
        row = body_of(answer)
        assert row == {**expected, "updated_at": row["updated_at"]}
        return row

    @invariant()
    def lists_what_there_is(self) -> None:
        everything = body_of(self.root.get("/products?sort_by=id&order=asc&per_page=100"))
        assert everything["items"] == [self.products[one] for one in sorted(self.products)]
        seen = body_of(self.bob.get("/products?sort_by=price&order=desc&per_page=100&fields=id"))["items"]
        active = [row for row in self.products.values() if row["status"] == "active"]
        active.sort(key=lambda row: (float(row["price"]), row["id"]), reverse=True)
        assert [row["id"] for row in seen] == [row["id"] for row in active]

    @invariant()
    def has_the_tree_that_there_is(self) -> None:
        tree = body_of(self.bob.get("/categories?tree=true"))["items"]
        found: dict[int, int | None] = {}
        while tree:
            branch = tree.pop()
            found[branch["id"]] = branch["parent_id"]
            assert all(child["parent_id"] == branch["id"] for child in branch["children"])
            tree += branch["children"]
        assert found == {one: row["parent_id"] for one, row in self.categories.items()}

    @precondition(lambda self: self.categories)
    @rule(number=PICKS)
    def list_a_branch(self, number: int) -> None:
        category_id = self.pick(self.categories, number)
        items = body_of(self.root.get(f"/categories/{category_id}/products?per_page=100&fields=id"))["items"]
        below = [row for row in self.products.values() if category_id in self.ancestors(row["category_id"])]
        assert {item["id"] for item in items} == {row["id"] for row in below}

    def teardown(self) -> None:
        page = body_of(self.root.get(f"/events?cursor={self.cursor}&per_page=1000"))
        told = [tuple(event[name] for name in ("type", "resource_id", "version", "live")) for event in page["items"]]
        assert told == [self.as_told(*change) for change in self.changes]

    def as_told(self, type_: str, row_id: int, *counters: int | None) -> tuple[object, ...]:
        """A change as the feed tells it to somebody who sees everything that is there."""
        kind = "category" if type_.startswith("category") else "product"
        there = row_id in {"product": self.products, "category": self.categories}[kind]
        is_told = there or type_.endswith(".deleted")
        return (type_, row_id, *counters) if is_told else (f"{kind}.hidden", row_id, None, None)


def test_the_server_agrees_with_a_model(app: Flask, sign_in: Callable[..., Caller]) -> None:
    run_state_machine_as_test(
        lambda: Catalogue(app, sign_in),  # type: ignore[arg-type] # any maker of one will do
        settings=settings(
            max_examples=12, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
