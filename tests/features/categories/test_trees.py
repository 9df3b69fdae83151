"""The tree as a whole, and what is filed below its branches."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Caller, body_of, code_of, faults_of
from tests.web.test_queries import cost

Make = Callable[..., dict[str, Any]]


def names(branches: list[dict[str, Any]]) -> list[Any]:
    """A tree as nested lists of names."""
    return [[branch["name"], *names(branch["children"])] for branch in branches]


class TestTheTree:
    def test_nests_every_category_below_its_parent_by_name(self, bob: Caller, make_category: Make) -> None:
        home = make_category(name="Home")
        make_category(name="Beds", parent_id=home["id"])
        # Older than its parent, and moved below it.
        tables = make_category(name="Tables", parent_id=make_category(name="Attic", parent_id=home["id"])["id"])
        make_category(name="Desks", parent_id=tables["id"])
        make_category(name="Garden")

        answer = body_of(bob.get("/categories?tree=true"))

        assert names(answer["items"]) == [["Garden"], ["Home", ["Attic", ["Tables", ["Desks"]]], ["Beds"]]]
        assert answer["meta"] == {"total": 6}
        assert answer["links"]["self"] == "/api/v1/categories?tree=true"

    def test_has_the_members_of_the_flat_list(self, bob: Caller, make_category: Make) -> None:
        category = make_category()

        [root] = body_of(bob.get("/categories?tree=true"))["items"]

        assert root == {**category, "children": []}

    def test_costs_one_statement_however_deep(self, bob: Caller, make_category: Make) -> None:
        parent = None
        for _ in range(20):
            parent = make_category(parent_id=parent)["id"]

        # The other tells who asks.
        assert cost(bob.get("/categories?tree=true")) == 2

    def test_of_nothing_is_empty(self, bob: Caller) -> None:
        assert body_of(bob.get("/categories?tree=true"))["items"] == []

    @pytest.mark.parametrize("other", ["page=1", "cursor=", "sort_by=id", "search=x", "fields=id", "per_page=5"])
    def test_stands_alone(self, bob: Caller, other: str) -> None:
        answer = bob.get(f"/categories?tree=true&{other}")

        assert faults_of(answer) == [("tree", "tree_stands_alone")]

    def test_false_is_a_list(self, bob: Caller, make_category: Make) -> None:
        make_category()

        answer = body_of(bob.get("/categories?tree=false&per_page=5"))

        assert answer["meta"]["per_page"] == 5
        assert "children" not in answer["items"][0]


class TestProductsOfACategory:
    @pytest.fixture
    def home(self, make_category: Make, make_product: Make) -> dict[str, Any]:
        """A category with three levels below it and a product on each; and one elsewhere."""
        home = make_category(name="Home")
        below = home
        for name in ("Upper", "Middle", "Lower"):
            make_product(name=f"In {below['name']}", category_id=below["id"])
            below = make_category(name=name, parent_id=below["id"])
        make_product(name=f"In {below['name']}", category_id=below["id"])
        make_product(name="Elsewhere", category_id=make_category(name="Garden")["id"])
        return home

    def test_takes_the_descendants_along(self, bob: Caller, home: dict[str, Any]) -> None:
        answer = body_of(bob.get(f"/categories/{home['id']}/products?sort_by=name&order=asc"))

        assert [item["name"] for item in answer["items"]] == ["In Home", "In Lower", "In Middle", "In Upper"]
        assert answer["meta"]["total"] == 4

    def test_can_be_walked(self, bob: Caller, home: dict[str, Any]) -> None:
        path, seen = f"/categories/{home['id']}/products?cursor=&per_page=3", []
        while path:
            page = body_of(bob.get(path))
            seen += [item["name"] for item in page["items"]]
            path = (page["links"]["next"] or "").removeprefix("/api/v1")

        assert sorted(seen) == ["In Home", "In Lower", "In Middle", "In Upper"]

    def test_can_be_filtered(self, bob: Caller, home: dict[str, Any]) -> None:
        answer = body_of(bob.get(f"/categories/{home['id']}/products?search=middle&fields=name"))

        assert answer["items"] == [{"name": "In Middle"}]

    def test_follows_a_move(self, alice: Caller, home: dict[str, Any], make_category: Make) -> None:
        upper = body_of(alice.get("/categories?search=upper"))["items"][0]
        alice.patch(f"/categories/{upper['id']}", {"parent_id": make_category(name="Away")["id"]})

        answer = body_of(alice.get(f"/categories/{home['id']}/products"))

        assert [item["name"] for item in answer["items"]] == ["In Home"]

    def test_hides_drafts_from_plain_users(
        self, alice: Caller, bob: Caller, home: dict[str, Any], make_product: Make
    ) -> None:
        make_product(name="Draft", category_id=home["id"], status="draft")

        path = f"/categories/{home['id']}/products"
        assert body_of(alice.get(path))["meta"]["total"] == 5
        assert body_of(bob.get(path))["meta"]["total"] == 4

    def test_of_no_category_is_404(self, bob: Caller) -> None:
        assert code_of(bob.get("/categories/999999/products")) == "not_found"

    def test_costs_what_a_list_does_and_two_of_the_tree(self, bob: Caller, home: dict[str, Any]) -> None:
        assert cost(bob.get(f"/categories/{home['id']}/products")) == 4
