"""The products of a type, and which of them it would refuse since it was changed."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Caller, body_of, code_of, faults_of

Make = Callable[..., dict[str, Any]]


@pytest.fixture
def kind(make_attribute: Make, make_type: Make) -> int:
    """A type that lists a width, a colour to differ by, and a note."""
    make_attribute(code="width", type="integer")
    make_attribute(code="colour", type="choice")
    make_attribute(code="note")
    listed = [{"code": "width"}, {"code": "colour", "is_option": True}, {"code": "note"}]
    return int(make_type(attributes=listed)["id"])


@pytest.fixture
def shop(alice: Caller, kind: int, make_product: Make) -> None:
    """Products of the type, and one of none."""
    home = {"category_id": make_product(name="Free")["category_id"], "type_id": kind}
    red: dict[str, Any] = {"options": {"colour": "red"}, "price": "1.00"}
    made: list[dict[str, Any]] = [
        {"name": "Wide", "price": "1.00", "attributes": {"width": 4}},
        {"name": "Noted", "price": "1.00", "attributes": {"note": "new"}},
        {"name": "Draft", "price": "1.00", "status": "draft"},
        {"name": "Family", "options": ["colour"], "attributes": {"width": 4}, "variants": [red]},
        {
            "name": "Pair",
            "options": ["colour"],
            "variants": [
                {**red, "attributes": {"width": 4}},
                {**red, "options": {"colour": "blue"}, "attributes": {"note": "old"}},
            ],
        },
    ]
    for body in made:
        assert isinstance(body, dict)
        assert alice.post("/products", {**body, **home}).status_code == 201


def names_of(caller: Caller, kind: int, query: str) -> list[str]:
    """The names of the products that the list shows."""
    answer = caller.get(f"/product-types/{kind}/products?sort_by=id&order=asc&{query}")
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return [item["name"] for item in body_of(answer)["items"]]


ALL = ["Wide", "Noted", "Draft", "Family", "Pair"]


@pytest.mark.usefixtures("shop")
class TestTheProductsOfAType:
    @pytest.mark.parametrize(
        ("listed", "refused"),
        [
            (["width", "colour!", "note"], []),
            # Required, an active product needs it: a variant may have it of its parent.
            (["width*", "colour!", "note"], ["Noted", "Pair"]),
            # The type lists it no more: a product that has it is refused, a draft as well.
            (["width", "colour!"], ["Noted", "Pair"]),
            (["colour!", "note"], ["Wide", "Family", "Pair"]),
            # No longer an option.
            (["width", "colour", "note"], ["Family", "Pair"]),
            ([], ["Wide", "Noted", "Family", "Pair"]),
        ],
        ids=" ".join,
    )
    def test_are_told_from_those_that_it_would_refuse(
        self, alice: Caller, kind: int, listed: list[str], refused: list[str]
    ) -> None:
        attributes = [{"code": code.strip("*!"), "required": "*" in code, "is_option": "!" in code} for code in listed]
        assert alice.patch(f"/product-types/{kind}", {"attributes": attributes}).status_code == 200

        assert names_of(alice, kind, "valid=false") == refused
        assert names_of(alice, kind, "valid=true&cursor=") == [name for name in ALL if name not in refused]
        assert names_of(alice, kind, "") == ALL

    def test_are_what_a_write_would_be_refused_for(self, alice: Caller, kind: int) -> None:
        needed = [{"code": code, "required": True} for code in ("width", "note")]
        listed = [*needed, {"code": "colour", "is_option": True}]
        assert alice.patch(f"/product-types/{kind}", {"attributes": listed}).status_code == 200
        rows = body_of(alice.get(f"/product-types/{kind}/products?kind=single,parent,variant&per_page=100"))["items"]
        refused = {
            row["id"]
            for row in body_of(alice.get(f"/product-types/{kind}/products?kind=single,variant&valid=false"))["items"]
        }

        for row in rows:
            if row["kind"] != "parent":
                answer = alice.patch(f"/products/{row['id']}", {"attributes": row["attributes"], "status": "archived"})
                again = alice.patch(f"/products/{row['id']}", {"status": row["status"]})
                assert answer.status_code == 200, answer.get_data(as_text=True)
                assert (again.status_code == 422) == (row["id"] in refused), row

    def test_follow_a_change_of_a_choice(self, alice: Caller, kind: int) -> None:
        assert names_of(alice, kind, "valid=false") == []

        alice.patch("/attributes/by/code/colour", {"choices": [{"code": "red", "label": "Red"}]})

        assert names_of(alice, kind, "valid=false") == ["Pair"]
        assert names_of(alice, kind, "kind=variant&valid=false") == ["Pair"]

    def test_are_the_active_ones_for_shoppers(self, bob: Caller, kind: int) -> None:
        assert names_of(bob, kind, "") == [name for name in ALL if name != "Draft"]

    def test_are_not_found_of_a_type_that_is_not_there(self, bob: Caller) -> None:
        assert code_of(bob.get("/product-types/999999/products")) == "not_found"

    def test_have_a_cursor_that_is_bound_to_what_is_valid(self, alice: Caller, kind: int) -> None:
        first = body_of(alice.get(f"/product-types/{kind}/products?per_page=1&cursor=&valid=true"))

        assert names_of(alice, kind, "valid=true&per_page=1") == ["Wide"]
        cursor = first["meta"]["next_cursor"]
        following = f"/product-types/{kind}/products?per_page=1&cursor={cursor}"
        assert alice.get(f"{following}&valid=true").status_code == 200
        assert faults_of(alice.get(f"{following}&valid=false")) == [("cursor", "cursor_invalid")]
        assert "valid=true" in first["links"]["next"]
