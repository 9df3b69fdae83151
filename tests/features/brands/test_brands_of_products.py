"""The brand of a product."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Caller, body_of, code_of, faults_of

Make = Callable[..., dict[str, Any]]
UNKNOWN = 2**40


@pytest.fixture
def brand(make_brand: Make) -> dict[str, Any]:
    """A brand."""
    return make_brand(name="Oakworks")


class TestWriting:
    def test_states_changes_and_empties_it(self, alice: Caller, make_product: Make, make_brand: Make) -> None:
        first, second = make_brand(), make_brand()
        product = make_product(brand_id=first["id"])
        path = f"/products/{product['id']}"
        members = {name: product[name] for name in ("name", "price", "category_id")}

        patched = body_of(alice.patch(path, {"brand_id": second["id"]}))
        replaced = body_of(alice.put(path, members))

        assert (product["brand_id"], patched["brand_id"], replaced["brand_id"]) == (first["id"], second["id"], None)

    @pytest.mark.parametrize("method", ["create", "patch", "put", "put by key"])
    def test_refuses_one_that_is_not_there(self, alice: Caller, make_product: Make, method: str) -> None:
        product = make_product(sku="A-1")
        members = {"name": "Chair", "price": "1.00", "category_id": product["category_id"], "brand_id": UNKNOWN}
        send = {
            "create": lambda: alice.post("/products", members),
            "patch": lambda: alice.patch(f"/products/{product['id']}", {"brand_id": UNKNOWN}),
            "put": lambda: alice.put(f"/products/{product['id']}", members),
            "put by key": lambda: alice.put("/products/by/sku/A-2", members, if_match=None),
        }

        assert faults_of(send[method]()) == [("/brand_id", "brand_unknown")]

    def test_of_many_keeps_what_an_item_does_not_state(
        self, alice: Caller, make_product: Make, brand: dict[str, Any]
    ) -> None:
        product = make_product(brand_id=brand["id"])
        path = f"/products/{product['id']}"

        alice.post("/products/bulk", {"items": [{"sku": product["sku"], "name": "Another"}]})
        kept = body_of(alice.get(path))["brand_id"]
        alice.post("/products/bulk", {"items": [{"sku": product["sku"], "brand_id": None}]})

        assert (kept, body_of(alice.get(path))["brand_id"]) == (brand["id"], None)

    def test_of_many_refuses_one_that_is_not_there(self, alice: Caller, make_product: Make) -> None:
        sku = make_product()["sku"]

        answer = alice.post("/products/bulk", {"items": [{"sku": sku, "brand_id": UNKNOWN}]})

        assert faults_of(answer) == [("/items/0/brand_id", "brand_unknown")]

    def test_is_in_the_audit_trail(
        self, alice: Caller, root: Caller, make_product: Make, brand: dict[str, Any]
    ) -> None:
        product = make_product()
        alice.patch(f"/products/{product['id']}", {"brand_id": brand["id"]})

        (event,) = body_of(root.get("/audit-events?action=product.updated"))["items"]

        assert (event["before"], event["after"]["brand_id"]) == (event["before"] | {"brand_id": None}, brand["id"])


class TestReading:
    def test_filters_by_one_brand_or_by_several(
        self, bob: Caller, make_product: Make, make_brand: Make, brand: dict[str, Any]
    ) -> None:
        other = make_brand()
        for name, brand_id in (("a", brand["id"]), ("b", other["id"]), ("c", None), ("d", brand["id"])):
            make_product(name=name, brand_id=brand_id)

        def found(query: str) -> list[str]:
            return [item["name"] for item in body_of(bob.get(f"/products?{query}&sort_by=name&order=asc"))["items"]]

        assert found(f"brand_id={brand['id']}") == ["a", "d"]
        assert found(f"brand_id={brand['id']},{other['id']}") == ["a", "b", "d"]
        assert found(f"brand_id={UNKNOWN}") == []
        assert body_of(bob.get(f"/products/facets?brand_id={other['id']}"))["total"] == 1

    def test_embeds_it(self, bob: Caller, make_product: Make, brand: dict[str, Any]) -> None:
        product, plain = make_product(brand_id=brand["id"]), make_product()

        assert body_of(bob.get(f"/products/{product['id']}?include=brand"))["brand"] == brand
        items = body_of(bob.get("/products?sort_by=id&order=asc&include=brand&fields=id,brand.name"))["items"]
        assert items == [{"id": product["id"], "brand": {"name": "Oakworks"}}, {"id": plain["id"], "brand": None}]

    def test_links_to_it(self, bob: Caller, make_product: Make, brand: dict[str, Any]) -> None:
        product, plain = make_product(brand_id=brand["id"]), make_product()

        links = [body_of(bob.get(f"/products/{one['id']}?include=links"))["links"] for one in (product, plain)]

        assert body_of(bob.get(links[0]["brand"].removeprefix("/api/v1"))) == brand
        assert "brand" not in links[1]

    def test_sees_a_renamed_brand_at_once(
        self, alice: Caller, bob: Caller, make_product: Make, brand: dict[str, Any]
    ) -> None:
        path = f"/products/{make_product(brand_id=brand['id'])['id']}?include=brand"
        before = bob.get(path)
        alice.patch(f"/brands/{brand['id']}", {"name": "Oak Works"})

        after = bob.get(path, headers={"If-None-Match": before.headers["ETag"]})

        assert (after.status_code, body_of(after)["brand"]["name"]) == (200, "Oak Works")


def test_a_restored_product_still_has_its_brand(root: Caller, make_product: Make, brand: dict[str, Any]) -> None:
    product = make_product(brand_id=brand["id"])
    root.delete(f"/products/{product['id']}")
    assert code_of(root.delete(f"/brands/{brand['id']}")) == "brand_in_use"

    restored = body_of(root.post(f"/products/{product['id']}/restore"))

    assert restored["brand_id"] == brand["id"]
