"""The server against a model of the catalogue in memory, over random sequences of requests (hypothesis)."""

from collections.abc import Callable, Iterable
from decimal import Decimal
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
SIZES = st.sampled_from(["S", "M", "L"])
#: A variant may have no options.
VARIANTS = st.fixed_dictionaries(
    {"price": PRICES, "stock": st.integers(0, 3), "status": STATUSES},
    optional={"options": st.fixed_dictionaries({"size": SIZES})},
)
FILTERS = st.fixed_dictionaries(
    {}, optional={"min_price": PRICES, "max_price": PRICES, "in_stock": st.sampled_from(["true", "false"])}
)
#: What of a variant is its parent's.
INHERITED = ("name", "description", "tags", "category_id", "brand_id", "type_id", "currency")
PICKS = st.integers(0, 5)


class Catalogue(RuleBasedStateMachine):
    """Categories and products as dictionaries by id; what the server answers must follow from them.

    Products of any kind are among each other: what a rule does to one it does to its family as well.
    """

    def __init__(self, app: Flask, sign_in: Callable[..., Caller]) -> None:
        super().__init__()
        empty(app)
        self.root = sign_in("root", Role.ADMIN)
        self.bob = sign_in("bob")
        self.categories: dict[int, dict[str, Any]] = {}
        self.products: dict[int, dict[str, Any]] = {}
        self.deleted: dict[int, dict[str, Any]] = {}
        #: The variants that were deleted with their parent, and come back with it.
        self.taken_along: set[int] = set()
        self.cursor = body_of(self.root.get("/events?from=now"))["meta"]["next_cursor"]
        #: Of each step; those of one have no order but that of each resource.
        self.changes: list[list[tuple[str, int, int, int | None]]] = [[]]

    def pick(self, rows: dict[int, Any], number: int) -> int:
        return sorted(rows)[number % len(rows)]

    def note(self, type_: str, row: dict[str, Any]) -> None:
        self.changes[-1].append((type_, row["id"], row["version"], row.get("live")))

    def sku_is_taken(self, sku: str, by_other_than: int = 0) -> bool:
        return any(row["sku"] == sku for row in self.products.values() if row["id"] != by_other_than)

    def of_kind(self, *kinds: str) -> dict[int, dict[str, Any]]:
        return {one: row for one, row in self.products.items() if row["kind"] in kinds}

    def variants_of(self, parent_id: int) -> list[dict[str, Any]]:
        found = [row for row in self.products.values() if row["parent_id"] == parent_id]
        return sorted(found, key=lambda row: (row["position"], row["id"]))

    def options_are_taken(self, parent_id: int, options: Any) -> bool:
        return bool(options) and any(row["options"] == options for row in self.variants_of(parent_id))

    def change(self, product_id: int, type_: str | None = None, **members: Any) -> None:
        """Change a product in the model; the feed will say so if there is a type."""
        self.products[product_id] = self.products[product_id] | members
        if type_ is not None:
            self.note(type_, self.products[product_id])

    def roll_up(self, parent_id: int, type_: str = "product.updated") -> None:
        """Bring a parent in the model to what its variants say."""
        variants = self.variants_of(parent_id)
        active = [row for row in variants if row["status"] == "active"]
        prices = [row["price"] for row in active] or ["0.00"]
        totals = {"price": min(prices, key=Decimal), "price_max": max(prices, key=Decimal)}
        totals |= {"stock": sum(row["stock"] for row in active), "variant_count": len(active)}
        self.change(parent_id, type_, **totals, live=self.products[parent_id]["live"] + 1)

    def move(self, product_id: int, delta: int) -> None:
        """Move the stock of a product in the model, and of its parent."""
        row = self.products[product_id]
        self.change(product_id, "stock.moved", stock=row["stock"] + delta, live=row["live"] + 1)
        if row["parent_id"] is not None:
            self.roll_up(row["parent_id"], "stock.moved")

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
        foreign, refusal = {"parent": ("price", "rolled_up"), "variant": ("name", "member_of_parent")}.get(
            before["kind"], ("", "")
        )
        if changed.get(foreign, before.get(foreign)) != before.get(foreign):
            assert (answer.status_code, code_of(answer)) == (422, refusal)
            return
        if "sku" in changed and self.sku_is_taken(changed["sku"], before["id"]):
            assert (answer.status_code, code_of(answer)) == (409, "sku_taken")
            return
        differing = {name: value for name, value in changed.items() if before[name] != value}
        if differing:
            self.change(before["id"], "product.updated", **differing, version=before["version"] + 1)
            self.pass_through(before["id"], differing)
        self.expect(answer, self.products[before["id"]])
        self.expect_now(self.family_of(before))

    def pass_through(self, product_id: int, differing: dict[str, Any]) -> None:
        """What a change of a product does to its family, in the model."""
        row = self.products[product_id]
        if row["kind"] == "variant":
            self.roll_up(row["parent_id"])
        if row["kind"] == "parent" and differing.keys() & {"name", "status"}:
            for one in sorted(variant["id"] for variant in self.variants_of(product_id)):
                self.change(one, "product.updated", name=row["name"], live=self.products[one]["live"] + 1)
        if row["kind"] == "parent" and "status" in differing and self.variants_of(product_id):
            self.roll_up(product_id)

    def family_of(self, row: dict[str, Any]) -> list[int]:
        """The ids of a product, of its parent and of its variants, as far as they are there."""
        members = {row["id"], row["parent_id"], *(variant["id"] for variant in self.variants_of(row["id"]))}
        return [one for one in members if one in self.products]

    @precondition(lambda self: self.products)
    @rule(number=PICKS, delta=st.sampled_from([-2, -1, 1, 2]), expected=st.none() | st.integers(0, 3))
    def move_stock(self, number: int, delta: int, expected: int | None) -> None:
        before = self.products[self.pick(self.products, number)]
        path = f"/products/{before['id']}/stock-movements"
        content = {"delta": delta, "reason": "correction"} | ({} if expected is None else {"expected_stock": expected})
        answer = self.root.post(path, content)
        if before["kind"] == "parent":
            assert (answer.status_code, code_of(answer)) == (409, "not_sellable")
            return
        if expected not in {None, before["stock"]}:
            assert (answer.status_code, code_of(answer)) == (409, "stock_changed")
        elif before["stock"] + delta < 0:
            assert (answer.status_code, body_of(answer)["available"]) == (409, before["stock"])
        else:
            assert answer.status_code == 201
            self.move(before["id"], delta)
            self.expect_now(self.family_of(before))
        ledger = body_of(self.root.get(f"{path}?per_page=100"))["items"]
        assert sum(movement["delta"] for movement in ledger) == self.products[before["id"]]["stock"]

    @precondition(lambda self: self.products)
    @rule(number=PICKS, quantity=st.integers(1, 2), verb=st.sampled_from(["confirm", "cancel"]))
    def hold_and_end(self, number: int, quantity: int, verb: str) -> None:
        before = self.products[self.pick(self.products, number)]
        answer = self.root.post(f"/products/{before['id']}/holds", {"quantity": quantity})
        if before["kind"] == "parent":
            assert (answer.status_code, code_of(answer)) == (409, "not_sellable")
            return
        if before["stock"] < quantity:
            assert (answer.status_code, body_of(answer)["available"]) == (409, before["stock"])
            return
        assert answer.status_code == 201
        assert self.root.post(f"/holds/{body_of(answer)['id']}/{verb}").status_code == 200
        if verb == "confirm":
            self.move(before["id"], -quantity)
        self.expect_now(self.family_of(before))

    @precondition(lambda self: self.products)
    @rule(number=PICKS)
    def delete_product(self, number: int) -> None:
        product_id = self.pick(self.products, number)
        parent_id = self.products[product_id]["parent_id"]
        along = sorted(row["id"] for row in self.variants_of(product_id))
        assert self.root.delete(f"/products/{product_id}").status_code == 204
        self.taken_along.update(along)
        for one in (*along, product_id):
            row = self.products.pop(one)
            self.deleted[one] = {**row, "version": row["version"] + 1}
            self.note("product.deleted", self.deleted[one])
        if parent_id is not None:
            self.roll_up(parent_id)
            self.expect_now([parent_id])

    @precondition(lambda self: self.deleted)
    @rule(number=PICKS)
    def restore_product(self, number: int) -> None:
        product_id = self.pick(self.deleted, number)
        answer = self.root.post(f"/products/{product_id}/restore")
        row = self.deleted[product_id]
        along = [each for each in self.deleted.values() if each["parent_id"] == product_id]
        restored = [product_id, *sorted(each["id"] for each in along if each["id"] in self.taken_along)]
        if refusals := self.refusals_of_restoring(row, restored):
            assert answer.status_code == 409
            assert code_of(answer) in refusals
            return
        assert answer.status_code == 200, answer.get_data(as_text=True)
        for one in restored:
            self.put_back(one)
        if row["kind"] == "variant" or len(restored) > 1:
            self.roll_up(row["parent_id"] or product_id)
        self.expect(answer, self.products[product_id])
        self.expect_now(self.family_of(self.products[product_id]))

    def refusals_of_restoring(self, row: dict[str, Any], restored: list[int]) -> set[str]:
        """The codes with which a product cannot come back."""
        if row["parent_id"] in self.deleted:
            return {"parent_deleted"}
        found = {"sku_taken"} if any(self.sku_is_taken(self.deleted[one]["sku"]) for one in restored) else set()
        if row["parent_id"] is not None and self.options_are_taken(row["parent_id"], row["options"]):
            found.add("options_taken")
        return found

    def put_back(self, product_id: int) -> None:
        """Restore a product in the model, with what its parent has by now."""
        row = self.deleted.pop(product_id)
        self.taken_along.discard(product_id)
        parent = self.products.get(row["parent_id"])
        members = {name: parent[name] for name in INHERITED} if parent else {}
        if row["slug"] in (slugs := {other["slug"] for other in self.products.values()}):
            # Another product has it by now, so that this one gets a new one.
            members["slug"] = body_of(self.root.get(f"/products/{product_id}"))["slug"]
            assert members["slug"] not in slugs
        self.products[product_id] = row
        self.change(product_id, "product.restored", **members, version=row["version"] + 1)

    @precondition(lambda self: self.categories)
    @rule(name=NAMES, status=STATUSES, variants=st.lists(VARIANTS, min_size=1, max_size=3), number=PICKS)
    def create_parent(self, name: str, status: str, variants: list[dict[str, Any]], number: int) -> None:
        content = {"name": name, "status": status, "category_id": self.pick(self.categories, number)}
        answer = self.root.post("/products", content | {"options": ["size"], "variants": variants})
        sizes = [variant["options"]["size"] for variant in variants if "options" in variant]
        if len(sizes) > len(set(sizes)):
            assert (answer.status_code, code_of(answer)) == (409, "options_taken")
            return
        assert answer.status_code == 201, answer.get_data(as_text=True)
        parent = body_of(answer)
        found = body_of(self.root.get(f"/products/{parent['id']}/variants?per_page=100"))["items"]
        self.products |= {row["id"]: row for row in (parent, *found)}
        assert parent == parent | content | {"kind": "parent", "version": 1}
        for place, (row, variant) in enumerate(zip(found, variants, strict=True)):
            assert row == row | {"options": {}} | variant | {"position": place, "version": 1}
            assert {name: row[name] for name in INHERITED} == {name: parent[name] for name in INHERITED}
        self.note("product.created", {**parent, "live": 0})
        for row in found:
            self.note("product.created", row)
        self.change(parent["id"], live=0)
        self.roll_up(parent["id"])
        self.expect(self.root.get(f"/products/{parent['id']}"), self.products[parent["id"]])

    @precondition(lambda self: self.of_kind("parent"))
    @rule(number=PICKS, variant=VARIANTS)
    def add_variant(self, number: int, variant: dict[str, Any]) -> None:
        parent_id = self.pick(self.of_kind("parent"), number)
        answer = self.root.post(f"/products/{parent_id}/variants", variant)
        if self.options_are_taken(parent_id, variant.get("options")):
            assert (answer.status_code, code_of(answer)) == (409, "options_taken")
            return
        assert answer.status_code == 201, answer.get_data(as_text=True)
        row, parent = body_of(answer), self.products[parent_id]
        assert row == row | {"options": {}} | variant | {name: parent[name] for name in INHERITED} | {"version": 1}
        self.products[row["id"]] = row
        self.note("product.created", row)
        self.roll_up(parent_id)
        self.expect_now([parent_id])

    @precondition(lambda self: self.of_kind("parent") and self.of_kind("single"))
    @rule(number=PICKS, single=PICKS, size=st.none() | SIZES)
    def adopt(self, number: int, single: int, size: str | None) -> None:
        parent_id, single_id = self.pick(self.of_kind("parent"), number), self.pick(self.of_kind("single"), single)
        options = {} if size is None else {"size": size}
        answer = self.root.post(f"/products/{parent_id}/variants", {"id": single_id, "options": options})
        if self.options_are_taken(parent_id, options):
            assert (answer.status_code, code_of(answer)) == (409, "options_taken")
            return
        assert answer.status_code == 201, answer.get_data(as_text=True)
        parent, row = self.products[parent_id], self.products[single_id]
        place = max((variant["position"] for variant in self.variants_of(parent_id)), default=-1) + 1
        family = {"kind": "variant", "parent_id": parent_id, "options": options, "position": place}
        inherited = {name: parent[name] for name in INHERITED}
        self.change(single_id, "product.updated", **inherited, **family, version=row["version"] + 1)
        self.roll_up(parent_id)
        self.expect_now([single_id, parent_id])

    def expect_now(self, product_ids: Iterable[int]) -> None:
        """Read products again, and compare them with the model but for when they changed."""
        ids = sorted(set(product_ids))
        answer = self.root.get("/products", query_string={"id": ids, "sort_by": "id", "order": "asc", "per_page": 100})
        rows = body_of(answer)["items"]
        assert rows == [
            {**self.products[one], "updated_at": row["updated_at"]} for one, row in zip(ids, rows, strict=True)
        ]
        self.products |= {row["id"]: row for row in rows}

    def expect(self, answer: TestResponse, expected: dict[str, Any]) -> dict[str, Any]:
        """The row as the server tells it now, if it is the expected one but for when it changed."""
        assert answer.status_code == 200, answer.get_data(as_text=True)
        row = body_of(answer)
        assert row == {**expected, "updated_at": row["updated_at"]}
        return row

    @invariant()
    def lists_what_there_is(self) -> None:
        kinds = "single,parent,variant"
        everything = body_of(self.root.get(f"/products?kind={kinds}&sort_by=id&order=asc&per_page=100"))
        assert everything["items"] == [self.products[one] for one in sorted(self.products)]
        seen = body_of(self.bob.get("/products?sort_by=price&order=desc&per_page=100&fields=id"))["items"]
        active = [row for row in self.of_kind("single", "parent").values() if row["status"] == "active"]
        active.sort(key=lambda row: (float(row["price"]), row["id"]), reverse=True)
        assert [row["id"] for row in seen] == [row["id"] for row in active]

    @invariant()
    def begins_another_step(self) -> None:
        self.changes.append([])

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
        listed = self.of_kind("single", "parent").values()
        below = [row for row in listed if category_id in self.ancestors(row["category_id"])]
        assert {item["id"] for item in items} == {row["id"] for row in below}

    @precondition(lambda self: self.products)
    @rule(filters=FILTERS, kind=st.sampled_from([None, "sellable", "variant"]))
    def list_what_a_shopper_can_buy(self, filters: dict[str, str], kind: str | None) -> None:
        query = {**filters, **({"kind": kind} if kind else {}), "sort_by": "id", "order": "asc", "per_page": "100"}
        items = body_of(self.bob.get("/products", query_string=query))["items"]
        kinds = {None: ("single", "parent"), "sellable": ("single", "variant"), "variant": ("variant",)}[kind]
        seen = [row for row in self.of_kind(*kinds).values() if self.is_seen(row)]
        expected = {row["id"]: self.matching(row, filters) for row in sorted(seen, key=lambda row: int(row["id"]))}
        found = {one: ids for one, ids in expected.items() if not filters or ids}
        assert [item["id"] for item in items] == [*found]
        for item in items:
            is_parent = item["kind"] == "parent" and filters
            assert item.get("matching_variants") == (found[item["id"]] if is_parent else None)
        counts = body_of(self.bob.get("/products/facets", query_string={**filters, **({"kind": kind} if kind else {})}))
        for each in counts["stock"]:
            wanted = {**filters, "in_stock": str(each["value"]).lower()}
            assert each["count"] == sum(bool(self.matching(row, wanted)) for row in seen)

    def is_seen(self, row: dict[str, Any]) -> bool:
        """Whether shoppers see a product: it is active, and so is its parent."""
        parent = self.products.get(row["parent_id"])
        return row["status"] == "active" and (parent is None or parent["status"] == "active")

    def matching(self, row: dict[str, Any], filters: dict[str, str]) -> list[int]:
        """The ids of those that are sold and meet the filters: the product itself, or active variants of a parent."""
        variants = [one for one in self.variants_of(row["id"]) if one["status"] == "active"]
        return [one["id"] for one in (variants if row["kind"] == "parent" else [row]) if meets(one, filters)]

    def teardown(self) -> None:
        page = body_of(self.root.get(f"/events?cursor={self.cursor}&per_page=1000"))
        told = [tuple(event[name] for name in ("type", "resource_id", "version", "live")) for event in page["items"]]
        for step in self.changes:
            now, told = told[: len(step)], told[len(step) :]
            assert sorted(now, key=in_order) == sorted((self.as_told(*change) for change in step), key=in_order)
        assert told == []

    def as_told(self, type_: str, row_id: int, *counters: int | None) -> tuple[object, ...]:
        """A change as the feed tells it to somebody who sees everything that is there."""
        kind = "category" if type_.startswith("category") else "product"
        there = row_id in {"product": self.products, "category": self.categories}[kind]
        is_told = there or type_.endswith(".deleted")
        return (type_, row_id, *counters) if is_told else (f"{kind}.hidden", row_id, None, None)


def in_order(told: tuple[Any, ...]) -> tuple[Any, ...]:
    """What sorts changes by their resource, each resource's as they came."""
    type_, row_id, version, live = told
    return row_id, version or 0, live or 0, type_


def meets(row: dict[str, Any], filters: dict[str, str]) -> bool:
    """Whether a product that is sold meets all filters."""
    price = Decimal(row["price"])
    return (
        price >= Decimal(filters.get("min_price", 0))
        and price <= Decimal(filters.get("max_price", price))
        and filters.get("in_stock") in {None, str(row["stock"] > 0).lower()}
    )


def test_the_server_agrees_with_a_model(app: Flask, sign_in: Callable[..., Caller]) -> None:
    run_state_machine_as_test(
        lambda: Catalogue(app, sign_in),  # type: ignore[arg-type] # any maker of one will do
        settings=settings(
            max_examples=12, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
