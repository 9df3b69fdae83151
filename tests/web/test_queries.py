"""How many statements each request costs, as Server-Timing tells; a number that grows is noticed here."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tests.conftest import PASSWORD, Caller, body_of

Make = Callable[..., dict[str, Any]]
MakeFamily = Callable[[int], TestResponse]
StatementsOf = Callable[[Callable[[Flask], TestResponse]], int]

#: Whoever reads on SQLite begins nothing; whoever writes says BEGIN IMMEDIATE, and that is a statement of ours. On
#: PostgreSQL the driver begins by itself.
BEGIN = {"sqlite": 1, "postgresql": 0}
#: The trace in the audit trail, the count of the catalogue's changes, and the change: PostgreSQL does all at once.
EVENT = {"sqlite": 3, "postgresql": 1}
#: The first movement of a new product's stock: PostgreSQL inserts it along with the product.
RECEIPT = {"sqlite": 1, "postgresql": 0}
#: The question whether there is the category that a product is filed under: PostgreSQL's reference answers it.
CATEGORY = {"sqlite": 1, "postgresql": 0}


def cost(answer: TestResponse) -> int:
    """The number of statements of a request that succeeded."""
    assert answer.status_code < 400, answer.get_data(as_text=True)
    told = re.search(r'desc="(\d+) queries"', answer.headers["Server-Timing"])
    assert told is not None
    return int(told[1])


@pytest.fixture
def branded(make_product: Make, make_brand: Make) -> None:
    """Products of a brand whose name has a word of their own, and of another."""
    for name in ("Product maker", "Another"):
        make_product(brand_id=make_brand(name=name)["id"])


class TestReading:
    """One statement tells who asks."""

    def test_a_product_costs_one_more(self, bob: Caller, make_product: Make) -> None:
        assert cost(bob.get(f"/products/{make_product()['id']}")) == 2

    def test_what_is_not_modified_costs_one_more(self, bob: Caller, make_product: Make) -> None:
        assert cost(bob.get(f"/products/{make_product()['id']}", headers={"If-None-Match": '"1"'})) == 2

    @pytest.mark.parametrize("query", ["", "?page=1", "?category_id=1&tag=y"])
    def test_a_page_and_its_total_cost_one_more(self, bob: Caller, make_product: Make, query: str) -> None:
        for _ in range(5):
            make_product()

        assert cost(bob.get(f"/products{query}")) == 2

    @pytest.mark.parametrize(
        "path", ["/products", "/products?cursor=", "/products/{id}", "/products/facets", "/categories"]
    )
    def test_what_was_answered_before_costs_no_more(self, bob: Caller, make_product: Make, path: str) -> None:
        path = path.format(**make_product())
        bob.get(path)

        assert cost(bob.get(path)) == 1
        assert cost(bob.get(path, headers={"If-None-Match": "*"})) == 1

    @pytest.mark.parametrize(
        "path", ["/products", "/products?cursor=", "/products/{id}", "/categories/{category_id}/products"]
    )
    def test_what_is_included_costs_one_more_however_many_rows(
        self, bob: Caller, make_product: Make, make_category: Make, path: str
    ) -> None:
        product = make_product()
        path = path.format(**product)
        sign = "&" if "?" in path else "?"
        costs = [cost(bob.get(path))]
        costs.append(cost(bob.get(f"{path}{sign}include=category,links")))
        for _ in range(20):
            make_product(category_id=make_category(parent_id=product["category_id"])["id"])

        # In another order, so that it is not answered from the cache.
        again = bob.get(f"{path}{sign}include=links,category")

        assert costs[1] == cost(again) == costs[0] + 1

    def test_twenty_ids_with_their_categories_and_brands_cost_three_more(
        self, bob: Caller, make_product: Make, make_category: Make, make_brand: Make
    ) -> None:
        ids = [make_product(category_id=make_category()["id"], brand_id=make_brand()["id"])["id"] for _ in range(20)]

        answer = bob.get(f"/products?id={','.join(map(str, ids))}&include=category,brand,links")

        for name in ("category", "brand"):
            assert len({item[name]["id"] for item in body_of(answer)["items"]}) == 20
        assert cost(answer) == 4

    def test_links_cost_no_more(self, bob: Caller, make_product: Make) -> None:
        path = f"/products/{make_product()['id']}"

        assert [cost(bob.get(path)), cost(bob.get(f"{path}?include=links"))] == [2, 2]

    @pytest.mark.parametrize("query", ["search=product", "search=pro%201&sort_by=relevance", "search=p&cursor="])
    @pytest.mark.usefixtures("branded")
    def test_a_search_costs_the_question_which_brands_have_its_words(
        self, bob: Caller, backend: str, query: str
    ) -> None:
        assert cost(bob.get(f"/products?{query}")) == {"sqlite": 3, "postgresql": 4}[backend]

    def test_a_search_that_finds_nothing_costs_the_question_whether_typos_can_be_forgiven(
        self, bob: Caller, backend: str
    ) -> None:
        assert cost(bob.get("/products?search=nothing")) == {"sqlite": 3, "postgresql": 4}[backend]

    @pytest.mark.parametrize(
        ("query", "statements"), [("", 3), ("search=product&min_price=1&tag=x", 4), ("category_id=1", 3)]
    )
    def test_facets_cost_one_more_and_one_for_the_attributes(
        self, bob: Caller, make_product: Make, query: str, statements: int
    ) -> None:
        for number in range(5):
            make_product(tags=[f"t{number}", "x"])

        assert cost(bob.get(f"/products/facets?{query}")) == statements

    def test_a_page_beyond_the_end_costs_a_count_as_well(self, bob: Caller, make_product: Make) -> None:
        make_product()

        assert cost(bob.get("/products?page=9")) == 3

    def test_a_page_of_a_walk_costs_the_rows(self, bob: Caller, make_product: Make) -> None:
        for _ in range(5):
            make_product()
        first = bob.get("/products?cursor=&per_page=2")
        second = bob.get(body_of(first)["links"]["next"].removeprefix("/api/v1"))

        assert (cost(first), cost(second)) == (2, 2)

    def test_categories_cost_the_same(self, bob: Caller, make_category: Make) -> None:
        category = make_category(parent_id=make_category()["id"])

        paths = [f"/categories/{category['id']}", "/categories", "/categories?cursor="]
        assert [cost(bob.get(path)) for path in paths] == [2, 2, 2]

    def test_ones_own_account_costs_one_more(self, bob: Caller) -> None:
        assert cost(bob.get("/users/me")) == 2

    def test_the_public_catalogue_asks_its_version_instead_of_who_they_are(
        self, anonymous: Caller, app_with: Callable[..., Flask], make_product: Make
    ) -> None:
        public = anonymous.on(app_with(catalog_public_read=True))

        path = f"/products/{make_product()['id']}"
        assert [cost(public.get(path)) for _ in range(2)] == [2, 1]

    @pytest.mark.parametrize(("path", "statements"), [("//livez", 0), ("//health", 0), ("//readyz", 0)])
    def test_health_costs_next_to_nothing(self, anonymous: Caller, path: str, statements: int) -> None:
        assert cost(anonymous.get(path)) == statements


class TestWriting:
    def test_a_product_with_a_sku(self, alice: Caller, make_category: Make, backend: str) -> None:
        product = {"name": "Oak", "price": "1.00", "category_id": make_category()["id"], "sku": "A-1"}

        # Who, the row, and that it was done.
        assert cost(alice.post("/products", product)) == 2 + EVENT[backend] + CATEGORY[backend] + BEGIN[backend]

    def test_a_product_without_a_sku(self, alice: Caller, make_category: Make, backend: str) -> None:
        product = {"name": "Oak", "price": "1.00", "category_id": make_category()["id"]}

        # As above, and the id that its name is made of; the row between a savepoint and its release.
        assert cost(alice.post("/products", product)) == 5 + EVENT[backend] + CATEGORY[backend] + BEGIN[backend]

    @pytest.mark.parametrize("tags", ['"1"', "*"])
    def test_a_change_of_a_product(self, alice: Caller, make_product: Make, backend: str, tags: str) -> None:
        product = make_product()

        # Who, the row, its change, and that it was done.
        answer = alice.patch(f"/products/{product['id']}", {"price": "2.00"}, if_match=tags)
        assert cost(answer) == 3 + EVENT[backend] + BEGIN[backend]

    def test_no_change_of_a_product(self, alice: Caller, make_product: Make, backend: str) -> None:
        assert cost(alice.patch(f"/products/{make_product()['id']}", {})) == 2 + BEGIN[backend]

    def test_a_replacement_of_a_product(self, alice: Caller, make_product: Make, backend: str) -> None:
        product = make_product()
        whole = {"name": "Oak", "price": "1.00", "category_id": product["category_id"]}

        # Who, the row, the change, and that it was done. The category is the same.
        assert cost(alice.put(f"/products/{product['id']}", whole)) == 3 + EVENT[backend] + BEGIN[backend]

    def test_a_move_of_a_product(self, alice: Caller, make_product: Make, make_category: Make, backend: str) -> None:
        product, category = make_product(), make_category()

        answer = alice.patch(f"/products/{product['id']}", {"category_id": category["id"]})
        assert cost(answer) == 3 + EVENT[backend] + CATEGORY[backend] + BEGIN[backend]

    def test_the_end_of_a_product(self, root: Caller, make_product: Make, backend: str) -> None:
        # And what it is found by.
        assert cost(root.delete(f"/products/{make_product()['id']}")) == 4 + EVENT[backend] + BEGIN[backend]

    def test_a_category(self, alice: Caller, backend: str) -> None:
        # Who, the slugs like it, the row between a savepoint and its release, and that it was done.
        assert cost(alice.post("/categories", {"name": "Chairs"})) == 5 + EVENT[backend] + BEGIN[backend]

    def test_a_move_of_a_category_however_deep(self, alice: Caller, make_category: Make, backend: str) -> None:
        top = make_category()
        below = top
        for _ in range(5):
            below = make_category(parent_id=below["id"])
        moved = make_category()

        # Who, the row, on PostgreSQL the lock, the ancestors in one, the change, and that it was done.
        lock = {"sqlite": 0, "postgresql": 1}[backend]
        answer = alice.patch(f"/categories/{moved['id']}", {"parent_id": below["id"]})
        assert cost(answer) == 4 + EVENT[backend] + lock + BEGIN[backend]

    def test_the_end_of_a_category(self, root: Caller, make_category: Make, backend: str) -> None:
        # Who, the row, whether it is in use, its former slugs, the row's end, and that it was done.
        assert cost(root.delete(f"/categories/{make_category()['id']}")) == 5 + EVENT[backend] + BEGIN[backend]


class TestFamilies:
    @pytest.fixture
    def make_shirt(self, alice: Caller, make_category: Make, make_type: Make, make_attribute: Make) -> MakeFamily:
        """Make a shirt with so many variants, of a type that has their option."""
        for code in ("size", "fabric"):
            make_attribute(code=code)
        type_id = make_type(attributes=[{"code": "size", "is_option": True}, {"code": "fabric"}])["id"]
        shirt = {"name": "Shirt", "category_id": make_category()["id"], "type_id": type_id, "options": ["size"]}

        def make(count: int) -> TestResponse:
            sizes = [
                {"options": {"size": f"{number} of {count}"}, "price": "1.00", "stock": 2} for number in range(count)
            ]
            return alice.post("/products", {**shirt, "attributes": {"fabric": "linen"}, "variants": sizes})

        return make

    def test_a_parent_costs_the_same_however_many_variants_come_with_it(self, make_shirt: MakeFamily) -> None:
        assert cost(make_shirt(3)) == cost(make_shirt(30))

    @pytest.mark.parametrize(
        "change", [{"name": "Blouse"}, {"attributes": {"fabric": "silk"}}, {"status": "draft"}, {"tags": ["new"]}]
    )
    def test_a_change_of_a_parent_costs_the_same_however_many_variants_follow(
        self, alice: Caller, make_shirt: MakeFamily, change: dict[str, Any]
    ) -> None:
        few, many = (body_of(make_shirt(count))["id"] for count in (3, 30))

        assert cost(alice.patch(f"/products/{few}", change)) == cost(alice.patch(f"/products/{many}", change))

    def test_the_end_and_the_return_of_a_parent_cost_the_same_however_many_variants_go_with_it(
        self, root: Caller, make_shirt: MakeFamily
    ) -> None:
        few, many = (f"/products/{body_of(make_shirt(count))['id']}" for count in (3, 30))

        assert cost(root.delete(few)) == cost(root.delete(many))
        assert cost(root.post(f"{few}/restore")) == cost(root.post(f"{many}/restore"))


class TestStock:
    @pytest.fixture
    def product(self, make_product: Make) -> str:
        """A product of which some are held and some were sold."""
        return f"/products/{make_product(stock=9)['id']}"

    def test_a_product_that_begins_with_some(self, alice: Caller, make_category: Make, backend: str) -> None:
        product = {"name": "Oak", "price": "1.00", "category_id": make_category()["id"], "sku": "A-1", "stock": 9}

        # Who, the row, that it was done, and the first receipt.
        assert (
            cost(alice.post("/products", product))
            == 2 + EVENT[backend] + RECEIPT[backend] + CATEGORY[backend] + BEGIN[backend]
        )

    @pytest.mark.parametrize("sale", [{"delta": -1, "reason": "sale"}, {"delta": 1, "reason": "return"}])
    def test_a_movement(self, alice: Caller, product: str, backend: str, sale: dict[str, Any]) -> None:
        # Who, the product's turn, its stock, the movement, and that it was done.
        assert cost(alice.post(f"{product}/stock-movements", sale)) == 4 + EVENT[backend] + BEGIN[backend]

    def test_a_page_of_movements_costs_the_product_and_the_rows(self, alice: Caller, product: str) -> None:
        path = f"{product}/stock-movements"
        *_, movement = [body_of(alice.post(path, {"delta": -1, "reason": "sale"})) for _ in range(3)]

        paths = [path, f"{path}?cursor=", f"{path}/{movement['id']}"]
        assert [cost(alice.get(each)) for each in paths] == [3, 3, 3]

    def test_the_availability_costs_one_more(self, bob: Caller, alice: Caller, product: str) -> None:
        for _ in range(3):
            alice.post(f"{product}/holds", {"quantity": 1})

        assert cost(bob.get(f"{product}/availability")) == 2

    def test_a_hold_and_its_end(self, alice: Caller, product: str, backend: str) -> None:
        held = alice.post(f"{product}/holds", {"quantity": 1})
        other = alice.post(f"{product}/holds", {"quantity": 1})
        path, other_path = (f"/holds/{body_of(answer)['id']}" for answer in (held, other))

        # Who, the product's turn, what is available, the hold, and that it was done.
        assert cost(held) == cost(other) == 5 + BEGIN[backend]
        assert cost(alice.get(path)) == 2
        # Who, the hold with its product's turn, its end, and that it was done.
        assert cost(alice.post(f"{other_path}/cancel")) == 4 + BEGIN[backend]
        # As above, and the stock and the movement.
        assert cost(alice.post(f"{path}/confirm")) == 5 + EVENT[backend] + BEGIN[backend]


class TestSessions:
    """Below /auth no answer has the number; the access log does."""

    LOGIN = {"email": "bob@example.com", "password": PASSWORD}

    @pytest.mark.usefixtures("bob")
    def test_a_login(self, anonymous: Caller, backend: str, statements_of: StatementsOf) -> None:
        # The two counters of failures and the user; in a second transaction both are counted up, the user read again,
        # both taken back, the session, its network, its token, and the trail.
        cost = statements_of(lambda app: anonymous.on(app).post("/auth/login", self.LOGIN))
        assert cost == 3 + 9 + 2 * BEGIN[backend]

    @pytest.mark.usefixtures("bob")
    def test_a_refresh(self, anonymous: Caller, backend: str, statements_of: StatementsOf) -> None:
        pair = body_of(anonymous.post("/auth/login", self.LOGIN))
        bearer = {"Authorization": f"Bearer {pair['refresh_token']}"}

        # The exchange, the session, the user, the session's life, its network, the next token.
        cost = statements_of(lambda app: anonymous.on(app).post("/auth/refresh", headers=bearer))
        assert cost == 6 + BEGIN[backend]

    def test_a_logout(self, bob: Caller, backend: str, statements_of: StatementsOf) -> None:
        assert statements_of(lambda app: bob.on(app).post("/auth/logout")) == 4 + BEGIN[backend]

    def test_a_registration(self, anonymous: Caller, backend: str, statements_of: StatementsOf) -> None:
        dave = {"email": "dave@example.com", "username": "dave", "password": PASSWORD}

        assert statements_of(lambda app: anonymous.on(app).post("/auth/register", dave)) == 2 + BEGIN[backend]
