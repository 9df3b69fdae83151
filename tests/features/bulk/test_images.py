"""Pictures that items of batches state, and those of single products that become variants."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.conftest import Caller, body_of, faults_of, rows_of
from tests.features.conftest import Shop, sha256_of

Item = dict[str, Any]
Save = Callable[..., Sequence[str]]


@pytest.fixture
def save(shop: Shop) -> Save:
    """Send items, each with what a new product needs; what became of each."""
    category = body_of(shop.alice.post("/categories", {"name": "Things"}))["id"]

    def save(*items: Item, **options: Any) -> Sequence[str]:
        answer = shop.alice.post("/products/bulk", {"items": [whole(item) for item in items], **options})
        assert answer.status_code == 200, answer.get_data(as_text=True)
        return [item["status"] for item in body_of(answer)["items"]]

    def whole(item: Item) -> Item:
        if "parent_sku" in item:
            return item
        price = {} if "options" in item else {"price": "10.00"}
        return {"name": "Thing", "category_id": category, **price, **item}

    return save


def parent(sku: str, *images: str) -> Item:
    return {"sku": sku, "options": ["size"], "images": [*images]}


def variant(sku: str, size: str, *images: str) -> Item:
    return {"sku": sku, "parent_sku": "P", "price": "10.00", "options": {"size": size}, "images": [*images]}


class TestImagesOfItems:
    def test_are_fetched_and_named_again_change_nothing(self, shop: Shop, save: Save) -> None:
        items = [{"sku": "A", "images": [shop.url(1), shop.upload(2)["sha256"]]}, {"sku": "B", "images": []}]

        assert save(*items) == ["created"] * 2
        shop.work()
        before = rows_of(shop.app, "products")

        assert save(*items) == ["unchanged"] * 2
        assert shop.shown("A") == [sha256_of(1), sha256_of(2)]
        assert rows_of(shop.app, "products") == before

    def test_raise_the_version_of_a_product_once(self, shop: Shop, save: Save) -> None:
        save({"sku": "A"}, {"sku": "B"})
        shop.upload(1)
        shop.work()

        assert (
            save({"sku": "A", "images": [sha256_of(1)], "name": "New"}, {"sku": "B", "images": [sha256_of(1)]})
            == ["updated"] * 2
        )

        assert [shop.product(sku)["version"] for sku in "AB"] == [2, 2]
        assert [shop.product(sku)["image"]["width"] for sku in "AB"] == [2, 2]

    def test_are_in_the_feed_and_the_trail(self, shop: Shop, save: Save, root: Caller) -> None:
        save({"sku": "A"})
        cursor = body_of(shop.alice.get("/events?from=now"))["meta"]["next_cursor"]
        product = shop.product("A")

        save({"sku": "A", "images": [shop.url(1)]})

        events = body_of(shop.alice.get(f"/events?cursor={cursor}"))["items"]
        assert sorted(event["type"] for event in events) == ["media.created", "product.updated"]
        trail = body_of(root.get(f"/audit-events?resource=product/{product['id']}"))["items"]
        assert [entry["after"]["media"][0]["alt"] for entry in trail if "media" in (entry["after"] or {})] == [""]

    def test_of_a_dry_run_leave_nothing(self, shop: Shop, save: Save) -> None:
        assert save({"sku": "A", "images": [shop.url(1)]}, dry_run=True) == ["created"]

        assert [rows_of(shop.app, table) for table in ("products", "media_assets", "jobs")] == [[], [], []]

    def test_are_refused_at_their_places(self, shop: Shop, save: Save) -> None:
        save({"sku": "A"})
        items = [{"sku": "A", "images": [shop.url(1), "0" * 64]}, {"sku": "A2", "images": ["http://10.0.0.1/"]}]

        answer = shop.alice.post("/products/bulk", {"items": items[:1]})
        other = shop.alice.post("/products/bulk", {"items": items[1:]})

        assert faults_of(answer) == [("/items/0/images/1", "media_unknown")]
        assert faults_of(other) == [("/items/0/images/0", "url_not_allowed")]
        assert rows_of(shop.app, "media_assets") == []

    def test_need_a_permission_where_they_are_fetched(self, shop: Shop, save: Save) -> None:
        save({"sku": "A"})
        key = body_of(shop.alice.post("/api-keys", {"name": "erp", "scopes": ["products:write"]}))["key"]

        answer = Caller(shop.app).post(
            "/products/bulk", {"items": [{"sku": "A", "images": [shop.url(1)]}]}, headers={"X-API-Key": key}
        )

        assert faults_of(answer) == [("/items/0/images/0", "media_unknown")]


class TestVariants:
    def test_that_are_new_show_the_picture_of_their_product(self, shop: Shop, save: Save) -> None:
        shop.upload(1)
        shop.work()
        save(parent("P", sha256_of(1)))

        save(variant("S", "S"))

        assert shop.product("S")["image"] == shop.product("P")["image"]
        assert shop.product("S")["image"]["width"] == 2

    def test_bring_their_pictures_when_they_join(self, shop: Shop, save: Save) -> None:
        for number in (1, 2):
            shop.upload(number)
        shop.work()
        save(
            parent("P", sha256_of(1)),
            {"sku": "S", "images": [sha256_of(2)]},
            {"sku": "M"},
        )

        assert save({"sku": "S", "parent_sku": "P"}, {"sku": "M", "parent_sku": "P"}) == ["updated"] * 2

        small, medium, product = (shop.product(sku) for sku in ("S", "M", "P"))
        assert shop.media_of("P") == [(sha256_of(1), "", []), (sha256_of(2), "", [small["id"]])]
        assert small["image"]["media_id"] != medium["image"]["media_id"] == product["image"]["media_id"]

    def test_that_join_may_state_more(self, shop: Shop, save: Save) -> None:
        save({"sku": "S", "images": [shop.url(1)]})
        made = parent("P")

        joined = {"sku": "S", "parent_sku": "P", "images": [shop.url(2), shop.url(1)]}
        assert save(made, joined) == ["created", "updated"]
        assert save(joined) == ["unchanged"]

        small = shop.product("S")["id"]
        assert shop.media_of("P") == [(shop.url(1), "", [small]), (shop.url(2), "", [small])]
