"""What `include` embeds in rows, what `fields` chooses of it, and the links of a row."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from app.features.brands.routes import INCLUDES as BRAND_INCLUDES
from app.features.categories.models import Category
from app.features.categories.routes import INCLUDES as CATEGORY_INCLUDES
from app.features.products.routes import INCLUDES as PRODUCT_INCLUDES
from app.features.users.schemas import UserSchema
from app.security.permissions import Permission
from app.web.contract import Blueprint, ContractMissing, requires, returns
from app.web.includes import Include
from tests.conftest import Caller, body_of, faults_of

Make = Callable[..., dict[str, Any]]


@pytest.fixture
def category(make_category: Make) -> dict[str, Any]:
    """A category below another."""
    return make_category(name="Chairs", parent_id=make_category(name="Furniture")["id"])


@pytest.fixture
def product(make_product: Make, category: dict[str, Any]) -> dict[str, Any]:
    """A product in it."""
    return make_product(name="Oak chair", category_id=category["id"])


@pytest.fixture
def brand(make_brand: Make) -> dict[str, Any]:
    """A brand."""
    return make_brand(name="Oakworks")


@pytest.fixture
def branded(make_product: Make, category: dict[str, Any], brand: dict[str, Any]) -> dict[str, Any]:
    """A product of the brand in the category."""
    return make_product(name="Ash chair", category_id=category["id"], brand_id=brand["id"])


@pytest.fixture
def reader(root: Caller, app: Flask) -> Callable[..., Caller]:
    """Somebody with an API key of these scopes."""

    def make(*scopes: str) -> Caller:
        key = body_of(root.post("/api-keys", {"name": "a key", "scopes": list(scopes)}))["key"]

        class Holder(Caller):
            def call(self, method: str, path: str, *, headers: Any = None, **options: Any) -> Any:
                return super().call(method, path, headers={"X-API-Key": key, **(headers or {})}, **options)

        return Holder(app)

    return make


class TestInclude:
    def test_embeds_the_row_that_is_referred_to(
        self, bob: Caller, product: dict[str, Any], category: dict[str, Any]
    ) -> None:
        answer = bob.get(f"/products/{product['id']}?include=category")

        assert body_of(answer) == {**product, "category": category}

    @pytest.mark.parametrize("place", ["page=1", "cursor="])
    def test_embeds_it_in_each_item_of_a_list(
        self, bob: Caller, make_product: Make, product: dict[str, Any], category: dict[str, Any], place: str
    ) -> None:
        other = make_product(name="Lamp")

        items = body_of(bob.get(f"/products?include=category&sort_by=id&order=asc&{place}"))["items"]

        assert items[0] == {**product, "category": category}
        assert items[1]["category"]["id"] == other["category_id"] != category["id"]

    def test_embeds_it_in_what_a_search_finds(self, bob: Caller, product: dict[str, Any]) -> None:
        (item,) = body_of(bob.get("/products?search=oak&include=category"))["items"]

        assert item["category"]["id"] == product["category_id"]

    def test_embeds_it_in_the_products_of_a_branch(self, bob: Caller, product: dict[str, Any]) -> None:
        path = f"/categories/{product['category_id']}/products?include=category"

        assert body_of(bob.get(path))["items"][0]["category"]["id"] == product["category_id"]

    def test_embeds_null_where_nothing_is_referred_to(self, bob: Caller, category: dict[str, Any]) -> None:
        items = body_of(bob.get("/categories?include=parent&sort_by=id&order=asc"))["items"]

        assert [item["parent"] and item["parent"]["name"] for item in items] == [None, "Furniture"]

    def test_embeds_null_where_the_caller_may_not_read_it(
        self, reader: Callable[..., Caller], product: dict[str, Any]
    ) -> None:
        some, all_ = reader("products:read"), reader("products:read", "categories:read")

        for path in (f"/products/{product['id']}?include=category", "/products?include=category"):
            shown = body_of(some.get(path))
            assert shown.get("items", [shown])[0]["category"] is None
            shown = body_of(all_.get(path))
            assert shown.get("items", [shown])[0]["category"]["id"] == product["category_id"]

    @pytest.mark.parametrize("path", ["/products", "/products/{id}", "/products?cursor="])
    @pytest.mark.parametrize("names", ["colour", "category,colour", "", "category,", "CATEGORY", "search_text"])
    def test_refuses_what_it_does_not_know(self, bob: Caller, product: dict[str, Any], path: str, names: str) -> None:
        path = path.format(**product)

        answer = bob.get(f"{path}{'&' if '?' in path else '?'}include={names}")

        assert faults_of(answer) == [("include", "unknown_include")]

    @pytest.mark.parametrize("path", ["/users/me", "/products/facets", "/products/export"])
    def test_is_unknown_where_nothing_can_be_included(self, root: Caller, path: str) -> None:
        assert faults_of(root.get(f"{path}?include=category")) == [("include", "unknown_parameter")]

    def test_takes_several_names_in_either_spelling(self, bob: Caller, product: dict[str, Any]) -> None:
        path = f"/products/{product['id']}"

        listed, repeated = bob.get(f"{path}?include=category,links"), bob.get(f"{path}?include=links&include=category")

        assert body_of(listed) == body_of(repeated)
        assert {"category", "links"} <= body_of(listed).keys()

    def test_is_repeated_by_links(self, bob: Caller, make_product: Make, product: dict[str, Any]) -> None:
        make_product()
        following = body_of(bob.get("/products?include=category&per_page=1"))["links"]["next"]

        assert body_of(bob.get(following.removeprefix("/api/v1")))["items"][0]["category"]

    def test_is_not_declared_where_no_cache_may_store_the_response(self) -> None:
        declared = returns(UserSchema, includes={"category": Include("category_id", Category)})
        view = requires(Permission.USERS_READ)(declared(lambda: None))

        with pytest.raises(ContractMissing, match="caches may not store"):
            Blueprint("new", __name__, about="New.").get("/new")(view)


class TestETag:
    def test_of_a_read_is_one_of_its_whole_content(
        self, alice: Caller, bob: Caller, product: dict[str, Any], category: dict[str, Any]
    ) -> None:
        path = f"/products/{product['id']}?include=category"
        tag = bob.get(path).headers["ETag"]
        assert bob.get(path, headers={"If-None-Match": tag}).status_code == 304

        alice.patch(f"/categories/{category['id']}", {"name": "Seats"})

        answer = bob.get(path, headers={"If-None-Match": tag})
        assert (answer.status_code, body_of(answer)["category"]["name"]) == (200, "Seats")
        assert bob.get(f"/products/{product['id']}").headers["ETag"] == '"1.0"'

    def test_of_a_read_is_one_of_its_content_without_a_cache(
        self, bob: Caller, product: dict[str, Any], app_with: Callable[..., Flask]
    ) -> None:
        uncached = bob.on(app_with(answer_cache_bytes=0))
        path = f"/products/{product['id']}?include=category"

        tag = uncached.get(path).headers["ETag"]

        assert tag == bob.get(path).headers["ETag"] != '"1.0"'
        assert uncached.get(path, headers={"If-None-Match": tag}).status_code == 304

    def test_of_a_read_with_something_included_fits_no_write(self, alice: Caller, product: dict[str, Any]) -> None:
        tag = alice.get(f"/products/{product['id']}?include=category").headers["ETag"]

        assert alice.patch(f"/products/{product['id']}", {"name": "x"}, if_match=tag).status_code == 412

    def test_of_a_list_changes_with_what_is_included(
        self, alice: Caller, bob: Caller, product: dict[str, Any], category: dict[str, Any]
    ) -> None:
        tag = bob.get("/products?include=category").headers["ETag"]

        alice.patch(f"/categories/{category['id']}", {"name": "Seats"})

        assert bob.get("/products?include=category", headers={"If-None-Match": tag}).status_code == 200


class TestFields:
    @pytest.mark.parametrize("place", ["page=1", "cursor=", "search=oak"])
    def test_reach_into_what_is_included(self, bob: Caller, product: dict[str, Any], place: str) -> None:
        query = "include=category&fields=category.slug,id,category.name,name"

        (item,) = body_of(bob.get(f"/products?{query}&{place}"))["items"]

        assert item == {"category": {"slug": "chairs", "name": "Chairs"}, "id": product["id"], "name": "Oak chair"}
        assert list(item) == ["category", "id", "name"]
        assert list(item["category"]) == ["slug", "name"]

    @pytest.mark.parametrize("fields", ["category", "category,category.name", "category.name,category"])
    def test_take_the_whole_of_what_is_named_without_a_dot(
        self, bob: Caller, product: dict[str, Any], category: dict[str, Any], fields: str
    ) -> None:
        assert body_of(bob.get(f"/products?include=category&fields={fields}"))["items"] == [{"category": category}]

    def test_leave_out_what_they_do_not_name(self, bob: Caller, product: dict[str, Any]) -> None:
        answer = bob.get("/products?include=category&fields=name")

        assert body_of(answer)["items"] == [{"name": "Oak chair"}]

    def test_choose_links(self, bob: Caller, product: dict[str, Any]) -> None:
        answer = bob.get("/products?include=links&fields=links.self")

        assert body_of(answer)["items"] == [{"links": {"self": f"/api/v1/products/{product['id']}"}}]

    @pytest.mark.parametrize(
        ("query", "code"),
        [
            ("fields=category.name", "not_included"),
            ("fields=id,category", "not_included"),
            ("fields=links.self&include=category", "not_included"),
            ("fields=category.colour&include=category", "unknown_member"),
            ("fields=category.search_text&include=category", "unknown_member"),
            ("fields=name.first&include=category", "unknown_member"),
            ("fields=links.colour&include=links", "unknown_member"),
            ("fields=category.&include=category", "malformed"),
            ("fields=.name&include=category", "malformed"),
            ("fields=category.parent.name&include=category", "malformed"),
        ],
    )
    def test_refuse_what_is_not_there(self, bob: Caller, query: str, code: str) -> None:
        assert faults_of(bob.get(f"/products?{query}")) == [("fields", code)]

    @pytest.mark.parametrize("path", ["/products/{id}?fields=id", "/products/{id}?include=category&fields=id"])
    def test_are_for_lists(self, bob: Caller, product: dict[str, Any], path: str) -> None:
        assert faults_of(bob.get(path.format(**product))) == [("fields", "unknown_parameter")]


class TestLinks:
    def test_of_a_product_are_what_an_administrator_may_do_with_it(self, root: Caller, product: dict[str, Any]) -> None:
        path = f"/api/v1/products/{product['id']}"

        links = body_of(root.get(f"/products/{product['id']}?include=links"))["links"]

        assert links == {
            "self": path,
            "category": f"/api/v1/categories/{product['category_id']}",
            "media": f"{path}/media",
            "availability": f"{path}/availability",
            "stock_movements": f"{path}/stock-movements",
            "holds": f"{path}/holds",
            "edit": path,
            "delete": path,
        }

    def test_leave_out_what_the_caller_lacks_the_permission_for(
        self, alice: Caller, bob: Caller, reader: Callable[..., Caller], product: dict[str, Any]
    ) -> None:
        path = f"/products/{product['id']}?include=links"
        readable = {"self", "category", "media", "availability"}

        assert body_of(bob.get(path))["links"].keys() == readable
        assert body_of(alice.get(path))["links"].keys() == readable | {"stock_movements", "holds", "edit"}
        assert body_of(reader("products:read").get(path))["links"].keys() == {"self", "media", "availability"}

    def test_of_a_public_catalogue_are_what_anybody_may_read(
        self, anonymous: Caller, app_with: Callable[..., Flask], product: dict[str, Any]
    ) -> None:
        public = anonymous.on(app_with(catalog_public_read=True))

        links = body_of(public.get(f"/products/{product['id']}?include=links"))["links"]

        assert links.keys() == {"self", "category", "media", "availability"}

    def test_of_a_root_category_lead_to_no_parent(self, root: Caller, category: dict[str, Any]) -> None:
        parent = body_of(root.get(f"/categories/{category['parent_id']}?include=links"))["links"]
        child = body_of(root.get(f"/categories/{category['id']}?include=links"))["links"]

        assert parent.keys() == {"self", "products", "edit", "delete"}
        assert child["parent"] == parent["self"]

    def test_of_items_are_the_same_as_of_each(self, bob: Caller, product: dict[str, Any]) -> None:
        (item,) = body_of(bob.get("/products?include=links"))["items"]

        assert item == body_of(bob.get(f"/products/{product['id']}?include=links"))

    def test_can_be_followed(
        self, root: Caller, branded: dict[str, Any], category: dict[str, Any], brand: dict[str, Any]
    ) -> None:
        for path in (f"/products/{branded['id']}", f"/categories/{category['id']}", f"/brands/{brand['id']}"):
            links = body_of(root.get(f"{path}?include=links"))["links"]
            for name in links.keys() - {"holds"}:
                assert root.get(links[name].removeprefix("/api/v1")).status_code == 200, links[name]
            assert links["edit"] == links["self"] == f"/api/v1{path}"

    def test_are_all_described(
        self, root: Caller, branded: dict[str, Any], category: dict[str, Any], brand: dict[str, Any]
    ) -> None:
        of_product = body_of(root.get(f"/products/{branded['id']}?include=links"))["links"]
        of_category = body_of(root.get(f"/categories/{category['id']}?include=links"))["links"]
        of_brand = body_of(root.get(f"/brands/{brand['id']}?include=links"))["links"]

        # Of a family, and of a type.
        others = {"type", "parent", "variants"}
        assert list(of_product) == [name for name in PRODUCT_INCLUDES["links"].members if name not in others]
        assert list(of_category) == list(CATEGORY_INCLUDES["links"].members)
        assert list(of_brand) == list(BRAND_INCLUDES["links"].members)
