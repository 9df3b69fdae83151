"""Products over HTTP, end to end."""

from collections.abc import Callable
from typing import Any

from tests.conftest import Caller

Make = Callable[..., dict[str, Any]]


class TestCreateProduct:
    def test_answers_201_with_location_and_etag(self, alice: Caller, make_category: Make) -> None:
        category = make_category()

        answer = alice.post("/products", {"name": "Oak chair", "price": "19.9", "category_id": category["id"]})

        assert answer.status_code == 201
        assert answer.json is not None
        assert answer.headers["Location"] == f"/api/v1/products/{answer.json['id']}"
        assert answer.headers["ETag"] == '"1"'
        assert answer.json["price"] == "19.90"
        assert answer.json["sku"] == f"P-{answer.json['id']}"

    def test_refuses_a_price_below_a_hundredth(self, alice: Caller, make_category: Make) -> None:
        answer = alice.post("/products", {"name": "Oak chair", "price": "0.00", "category_id": make_category()["id"]})

        assert answer.status_code == 422
        assert answer.json is not None
        assert answer.json["errors"][0]["pointer"] == "/price"


class TestListProducts:
    def test_walks_every_page_once(self, bob: Caller, make_product: Make) -> None:
        ids = [make_product(price=f"{number % 3 + 1}.00")["id"] for number in range(7)]
        seen, path = [], "/products?cursor=&per_page=3&sort_by=price&order=asc"

        while path:
            answer = bob.get(path)
            assert answer.status_code == 200, answer.get_data(as_text=True)
            assert answer.json is not None
            seen += [item["id"] for item in answer.json["items"]]
            path = (answer.json["links"]["next"] or "").removeprefix("/api/v1")

        assert sorted(seen) == sorted(ids)
        assert len(seen) == len(ids)


class TestUpdateProduct:
    def test_merges_attributes(self, alice: Caller, make_product: Make) -> None:
        product = make_product(attributes={"colour": "red", "width_cm": 4})

        answer = alice.patch(f"/products/{product['id']}", {"attributes": {"colour": None, "depth_cm": 2.5}})

        assert answer.status_code == 200
        assert answer.json is not None
        assert answer.json["attributes"] == {"width_cm": 4, "depth_cm": 2.5}

    def test_refuses_a_stale_version(self, alice: Caller, make_product: Make) -> None:
        product = make_product()
        alice.patch(f"/products/{product['id']}", {"name": "First"}, if_match='"1"')

        answer = alice.patch(f"/products/{product['id']}", {"name": "Second"}, if_match='"1"')

        assert answer.status_code == 412


class TestDeleteProduct:
    def test_frees_the_sku(self, root: Caller, make_product: Make) -> None:
        product = make_product(sku="A-1")

        answer = root.delete(f"/products/{product['id']}", if_match='"1"')

        assert answer.status_code == 204
        assert make_product(sku="A-1")["id"] != product["id"]
        assert root.delete(f"/products/{product['id']}", if_match='"1"').status_code == 404
