"""Lists of products over HTTP: pages, walks, sorting, filters and search."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import time_machine
from flask import Flask
from werkzeug.test import TestResponse

from tests.conftest import Caller, body_of, code_of, faults_of

Make = Callable[..., dict[str, Any]]


def names_of(answer: TestResponse) -> list[str]:
    """The names of the listed products, in their order."""
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return [item["name"] for item in body_of(answer)["items"]]


def ids_of(answer: TestResponse) -> list[int]:
    """The ids of the listed products, in their order."""
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return [item["id"] for item in body_of(answer)["items"]]


def query_of(link: str) -> dict[str, str]:
    """The parameters of a link."""
    return {name: values[0] for name, values in parse_qs(urlsplit(link).query, keep_blank_values=True).items()}


def walk(caller: Caller, **query: Any) -> Iterator[dict[str, Any]]:
    """Every page of a walk, by its own links."""
    path = f"/products?{urlencode({'cursor': '', **query})}"
    while path:
        answer = caller.get(path)
        assert answer.status_code == 200, answer.get_data(as_text=True)
        page = body_of(answer)
        yield page
        path = (page["links"]["next"] or "").removeprefix("/api/v1")


class TestNumberedPages:
    def test_says_where_it_is(self, bob: Caller, make_product: Make) -> None:
        for _ in range(5):
            make_product()

        page = body_of(bob.get("/products?page=2&per_page=2"))

        assert page["meta"] == {"page": 2, "per_page": 2, "total": 5, "pages": 3}

    def test_leads_to_its_neighbours_and_ends(self, bob: Caller, make_product: Make) -> None:
        for _ in range(5):
            make_product()

        links = body_of(bob.get("/products?page=2&per_page=2"))["links"]

        assert {name: query_of(link) for name, link in links.items()} == {
            "self": {"page": "2", "per_page": "2"},
            "first": {"page": "1", "per_page": "2"},
            "prev": {"page": "1", "per_page": "2"},
            "next": {"page": "3", "per_page": "2"},
            "last": {"page": "3", "per_page": "2"},
        }

    def test_shows_every_product_once(self, bob: Caller, make_product: Make) -> None:
        made = [make_product()["id"] for _ in range(5)]

        pages = [ids_of(bob.get(f"/products?page={page}&per_page=2&sort_by=id&order=asc")) for page in (1, 2, 3)]

        assert pages == [made[:2], made[2:4], made[4:]]

    def test_leads_nowhere_from_the_only_page(self, bob: Caller, make_product: Make) -> None:
        make_product()

        links = body_of(bob.get("/products"))["links"]

        assert (links["prev"], links["next"]) == (None, None)

    def test_is_the_first_of_twenty_by_default(self, bob: Caller) -> None:
        assert body_of(bob.get("/products"))["meta"] == {"page": 1, "per_page": 20, "total": 0, "pages": 0}

    def test_is_empty_beyond_the_end(self, bob: Caller, make_product: Make) -> None:
        make_product()

        page = body_of(bob.get("/products?page=9&per_page=2"))

        assert page["items"] == []
        assert page["meta"] == {"page": 9, "per_page": 2, "total": 1, "pages": 1}
        assert page["links"]["next"] is None
        assert query_of(page["links"]["prev"])["page"] == "1"

    def test_is_empty_far_beyond_the_end(self, bob: Caller) -> None:
        assert ids_of(bob.get(f"/products?page={2**31 - 1}&per_page=100")) == []

    @pytest.mark.parametrize(
        ("query", "parameter", "code"),
        [
            ("page=0", "page", "too_small"),
            ("page=-1", "page", "too_small"),
            (f"page={2**31}", "page", "too_large"),
            (f"page={'9' * 40}", "page", "invalid"),
            ("page=1.0", "page", "invalid"),
            ("page=", "page", "invalid"),
            ("page=%2B1", "page", "invalid"),
            ("page=1_0", "page", "invalid"),
            ("page=%EF%BC%91", "page", "invalid"),
            ("per_page=0", "per_page", "too_small"),
            ("per_page=101", "per_page", "too_large"),
            ("per_page=ten", "per_page", "invalid"),
            ("order=up", "order", "not_a_choice"),
            ("sort_by=description", "sort_by", "not_a_choice"),
            ("sort_by=price%20desc", "sort_by", "not_a_choice"),
            ("surprise=1", "surprise", "unknown_parameter"),
            ("Page=1", "Page", "unknown_parameter"),
            ("page=1&page=1", "page", "repeated"),
            ("page=1&cursor=", "cursor", "page_and_cursor"),
        ],
    )
    def test_refuses_what_is_no_page(self, bob: Caller, query: str, parameter: str, code: str) -> None:
        assert faults_of(bob.get(f"/products?{query}")) == [(parameter, code)]

    def test_takes_the_widest_page(self, bob: Caller) -> None:
        assert body_of(bob.get("/products?per_page=100"))["meta"]["per_page"] == 100


class TestLinks:
    QUERY = "min_price=1.5&search=oak%20%26%20ash&tag=caf%C3%A9&sort_by=price&order=asc&fields=id,name&per_page=1"

    @pytest.fixture(autouse=True)
    def _rows(self, make_product: Make) -> None:
        for _ in range(3):
            make_product(name="Oak & ash chair", tags=["café"])

    @pytest.mark.parametrize("place", ["page=2", "cursor="])
    def test_keep_the_whole_query(self, bob: Caller, place: str) -> None:
        page = body_of(bob.get(f"/products?{self.QUERY}&{place}"))

        for link in filter(None, page["links"].values()):
            query = query_of(link)
            del query["page" if "page" in query else "cursor"]
            assert query == {
                "min_price": "1.5",
                "search": "oak & ash",
                "tag": "café",
                "sort_by": "price",
                "order": "asc",
                "fields": "id,name",
                "per_page": "1",
            }

    @pytest.mark.parametrize("place", ["page=2", "cursor="])
    def test_are_relative_to_the_origin(self, bob: Caller, place: str) -> None:
        answer = bob.get(f"/products?{self.QUERY}&{place}", headers={"Host": "evil.example"})

        assert all(link.startswith("/api/v1/products?") for link in body_of(answer)["links"].values() if link)
        assert "evil.example" not in answer.headers["Link"]

    def test_can_be_followed(self, bob: Caller) -> None:
        first = body_of(bob.get(f"/products?{self.QUERY}"))

        second = bob.get(first["links"]["next"].removeprefix("/api/v1"))

        assert body_of(second)["meta"]["page"] == 2
        assert ids_of(second) == [first["items"][0]["id"] + 1]

    @pytest.mark.parametrize(
        ("place", "names"), [("page=2", ["first", "prev", "next", "last"]), ("cursor=", ["first", "next"])]
    )
    def test_are_repeated_in_the_header(self, bob: Caller, place: str, names: list[str]) -> None:
        answer = bob.get(f"/products?{self.QUERY}&{place}")

        links = body_of(answer)["links"]
        assert answer.headers["Link"] == ", ".join(f'<{links[name]}>; rel="{name}"' for name in names)


SORTS = ["created_at", "updated_at", "name", "price", "stock", "sku", "id"]
MOMENT = datetime(2026, 5, 17, 12, 30, tzinfo=UTC)


class TestSorting:
    @pytest.fixture
    def rows(self, make_category: Make, make_product: Make, alice: Caller) -> list[dict[str, Any]]:
        """Products with ties in whatever can tie."""
        prices = ["10.00", "9.00", "100.00", "9.00", "10.00", "0.50"]
        names = ["b", "B", "b", "Ä", "a", "b"]
        made = [
            make_product(name=name, price=price, stock=number % 2, sku=f"S{-number % 4}{number}")
            for number, (name, price) in enumerate(zip(names, prices, strict=True))
        ]
        alice.patch(f"/products/{made[0]['id']}", {"description": "Changed last"})
        return [body_of(alice.get(f"/products/{product['id']}")) for product in made]

    @pytest.mark.parametrize("order", ["asc", "desc"])
    @pytest.mark.parametrize("sort_by", SORTS)
    def test_ends_in_the_id_in_the_same_direction(
        self, bob: Caller, rows: list[dict[str, Any]], sort_by: str, order: str
    ) -> None:
        answer = bob.get(f"/products?sort_by={sort_by}&order={order}")

        def place(row: dict[str, Any]) -> tuple[Any, int]:
            return float(row["price"]) if sort_by == "price" else row[sort_by], row["id"]

        assert ids_of(answer) == [row["id"] for row in sorted(rows, key=place, reverse=order == "desc")]

    @pytest.mark.parametrize("order", ["asc", "desc"])
    @pytest.mark.parametrize("sort_by", ["created_at", "updated_at"])
    def test_breaks_ties_of_one_moment(self, alice: Caller, make_product: Make, sort_by: str, order: str) -> None:
        with time_machine.travel(datetime.now(UTC), tick=False):
            made = [make_product()["id"] for _ in range(3)]

            answer = alice.get(f"/products?sort_by={sort_by}&order={order}")

        assert ids_of(answer) == sorted(made, reverse=order == "desc")

    def test_shows_the_newest_first_by_default(self, bob: Caller, make_product: Make) -> None:
        made = [make_product()["id"] for _ in range(3)]

        assert ids_of(bob.get("/products")) == made[::-1]


class TestFilters:
    @pytest.fixture
    def shop(self, make_category: Make, make_product: Make) -> dict[str, Any]:
        """Four products in two categories."""
        chairs, tables = make_category(name="Chairs"), make_category(name="Tables", slug="tables")
        make_product(name="oak", price="10.00", category_id=chairs["id"], stock=1, tags=["oak", "new"], sku="C-1")
        make_product(name="ash", price="20.00", category_id=chairs["id"], currency="SAR", tags=["ash"])
        make_product(name="elm", price="30.00", category_id=tables["id"], status="archived", stock=5)
        make_product(name="fir", price="40.00", category_id=tables["id"], status="draft", tags=["new%"])
        return {"chairs": chairs["id"], "tables": tables["id"]}

    @pytest.mark.parametrize(
        ("query", "names"),
        [
            ("", ["oak", "ash", "elm", "fir"]),
            ("category_id={chairs}", ["oak", "ash"]),
            ("category_id=9223372036854775807", []),
            ("min_price=20", ["ash", "elm", "fir"]),
            ("min_price=20.01", ["elm", "fir"]),
            ("min_price=20.0001", ["elm", "fir"]),
            ("min_price=0", ["oak", "ash", "elm", "fir"]),
            ("max_price=0", []),
            ("max_price=20.00", ["oak", "ash"]),
            ("max_price=19.99", ["oak"]),
            ("min_price=20&max_price=30.0", ["ash", "elm"]),
            ("min_price=30&max_price=20", []),
            ("in_stock=true", ["oak", "elm"]),
            ("in_stock=false", ["ash", "fir"]),
            ("status=active", ["oak", "ash"]),
            ("status=draft", ["fir"]),
            ("status=archived", ["elm"]),
            ("currency=SAR", ["ash"]),
            ("currency=EUR", []),
            ("sku=C-1", ["oak"]),
            ("sku=c-1", []),
            ("tag=new", ["oak"]),
            ("tag=new%25", ["fir"]),
            ("tag=NEW", []),
            ("tag=ne", []),
            ("category_id={chairs}&in_stock=false", ["ash"]),
            ("category_id={tables}&status=draft&min_price=35", ["fir"]),
            ("category_id={chairs}&tag=new&search=oak", ["oak"]),
            ("currency=USD&in_stock=true&max_price=10", ["oak"]),
        ],
    )
    @pytest.mark.parametrize("place", ["page=1", "cursor="])
    def test_narrow_the_list(
        self, alice: Caller, shop: dict[str, Any], place: str, query: str, names: list[str]
    ) -> None:
        answer = alice.get(f"/products?sort_by=id&order=asc&{place}&{query.format(**shop)}")

        assert names_of(answer) == names

    def test_narrow_the_count(self, alice: Caller, shop: dict[str, Any]) -> None:
        assert body_of(alice.get(f"/products?category_id={shop['chairs']}&per_page=1"))["meta"]["total"] == 2

    @pytest.mark.parametrize(
        ("query", "parameter", "code"),
        [
            ("category_id=0", "category_id", "too_small"),
            ("category_id=x", "category_id", "invalid"),
            ("category_id=9223372036854775808", "category_id", "too_large"),
            ("min_price=-1", "min_price", "invalid"),
            ("min_price=1.00001", "min_price", "too_precise"),
            ("max_price=1e3", "max_price", "invalid"),
            ("max_price=10000000000", "max_price", "invalid"),
            ("in_stock=1", "in_stock", "invalid"),
            ("in_stock=True", "in_stock", "invalid"),
            ("status=gone", "status", "not_a_choice"),
            ("currency=usd", "currency", "not_a_choice"),
            ("sku=%20", "sku", "malformed"),
            ("tag=", "tag", "too_short"),
            ("tag=a%00b", "tag", "malformed"),
            ("search=", "search", "too_short"),
            ("search=a%00b", "search", "malformed"),
            ("search=" + "x" * 201, "search", "too_long"),
            ("price=1", "price", "unknown_parameter"),
        ],
        ids=lambda value: value[:30],
    )
    def test_refuses_what_is_no_value(self, bob: Caller, query: str, parameter: str, code: str) -> None:
        assert faults_of(bob.get(f"/products?{query}")) == [(parameter, code)]

    def test_names_every_fault_at_once(self, bob: Caller) -> None:
        answer = bob.get("/products?page=0&in_stock=maybe&surprise=1")

        assert sorted(faults_of(answer)) == [
            ("in_stock", "invalid"),
            ("page", "too_small"),
            ("surprise", "unknown_parameter"),
        ]


class TestVisibility:
    @pytest.fixture(autouse=True)
    def _rows(self, make_product: Make) -> None:
        for status in ("active", "draft", "archived"):
            make_product(name=status, status=status)

    @pytest.mark.parametrize("place", ["page=1", "cursor="])
    def test_shows_plain_users_active_products_only(self, bob: Caller, place: str) -> None:
        assert names_of(bob.get(f"/products?{place}")) == ["active"]

    def test_counts_for_plain_users_what_they_see(self, bob: Caller) -> None:
        assert body_of(bob.get("/products"))["meta"]["total"] == 1

    def test_shows_editors_everything(self, alice: Caller) -> None:
        assert sorted(names_of(alice.get("/products"))) == ["active", "archived", "draft"]

    @pytest.mark.parametrize("status", ["draft", "archived"])
    def test_is_empty_for_plain_users_who_ask_for_the_rest(self, bob: Caller, status: str) -> None:
        assert names_of(bob.get(f"/products?status={status}")) == []

    def test_is_empty_for_plain_users_who_search_for_the_rest(self, bob: Caller) -> None:
        assert names_of(bob.get("/products?search=draft")) == []

    def test_may_be_kept_privately_and_must_be_asked_for_again(self, bob: Caller) -> None:
        answer = bob.get("/products")

        assert answer.headers["Cache-Control"] == "private, no-cache"
        assert answer.headers["Vary"] == "Authorization, X-API-Key"


class TestFields:
    def test_narrow_the_items(self, bob: Caller, make_product: Make) -> None:
        product = make_product()

        page = body_of(bob.get("/products?fields=name,id"))

        assert page["items"] == [{"id": product["id"], "name": product["name"]}]

    def test_can_leave_out_what_is_sorted_by(self, bob: Caller, make_product: Make) -> None:
        make_product(name="b", price="2.00")
        make_product(name="a", price="1.00")

        pages = list(walk(bob, fields="name", sort_by="price", order="asc", per_page=1))

        assert [page["items"] for page in pages] == [[{"name": "a"}], [{"name": "b"}]]

    def test_may_be_repeated(self, bob: Caller, make_product: Make) -> None:
        make_product(name="a")

        assert body_of(bob.get("/products?fields=name,name"))["items"] == [{"name": "a"}]

    @pytest.mark.parametrize("fields", ["search_text", "deleted_at", "id,colour", "name.x"])
    def test_refuses_a_member_that_is_not_there(self, bob: Caller, fields: str) -> None:
        assert faults_of(bob.get(f"/products?fields={fields}")) == [("fields", "unknown_member")]

    @pytest.mark.parametrize(
        ("fields", "code"),
        [("", "too_short"), ("id,", "malformed"), ("id, name", "malformed"), ("a" * 501, "too_long")],
    )
    def test_refuses_what_is_no_list_of_members(self, bob: Caller, fields: str, code: str) -> None:
        assert faults_of(bob.get("/products", query_string={"fields": fields})) == [("fields", code)]


class TestWalk:
    def test_says_how_to_go_on(self, bob: Caller, make_product: Make) -> None:
        for _ in range(3):
            make_product()

        page = body_of(bob.get("/products?cursor=&per_page=2"))

        assert set(page["meta"]) == {"per_page", "has_more", "next_cursor"}
        assert (page["meta"]["per_page"], page["meta"]["has_more"]) == (2, True)
        assert set(page["links"]) == {"self", "first", "next"}
        assert query_of(page["links"]["next"]) == {"cursor": page["meta"]["next_cursor"], "per_page": "2"}
        assert query_of(page["links"]["first"]) == {"cursor": "", "per_page": "2"}

    def test_says_that_it_is_over(self, bob: Caller, make_product: Make) -> None:
        for _ in range(2):
            make_product()

        page = body_of(bob.get("/products?cursor=&per_page=2"))

        assert page["meta"] == {"per_page": 2, "has_more": False, "next_cursor": None}
        assert page["links"]["next"] is None

    def test_is_over_at_once_where_there_is_nothing(self, bob: Caller) -> None:
        page = body_of(bob.get("/products?cursor="))

        assert page["items"] == []
        assert page["meta"] == {"per_page": 20, "has_more": False, "next_cursor": None}

    @pytest.mark.parametrize("order", ["asc", "desc"])
    @pytest.mark.parametrize("sort_by", SORTS)
    def test_visits_what_the_pages_show(self, bob: Caller, make_product: Make, sort_by: str, order: str) -> None:
        for number in range(7):
            make_product(name=f"Name {number % 2}", price=f"{number % 3 + 1}.00", stock=number % 2)
        whole = ids_of(bob.get(f"/products?sort_by={sort_by}&order={order}"))

        visited = [item["id"] for page in walk(bob, sort_by=sort_by, order=order, per_page=3) for item in page["items"]]

        assert visited == whole

    def test_goes_on_when_the_row_it_stood_on_is_deleted(self, root: Caller, make_product: Make) -> None:
        made = [make_product()["id"] for _ in range(5)]
        pages = walk(root, sort_by="id", order="asc", per_page=2)

        seen = [item["id"] for item in next(pages)["items"]]
        root.delete(f"/products/{made[1]}")
        seen += [item["id"] for page in pages for item in page["items"]]

        assert seen == made

    def test_skips_and_repeats_nothing_when_rows_come_before_it(self, bob: Caller, make_product: Make) -> None:
        made = [make_product(price=f"{number}.00")["id"] for number in range(1, 6)]
        pages = walk(bob, sort_by="price", order="asc", per_page=2)

        seen = [item["id"] for item in next(pages)["items"]]
        make_product(price="0.50")
        seen += [item["id"] for page in pages for item in page["items"]]

        assert seen == made

    def test_can_change_its_stride(self, bob: Caller, make_product: Make) -> None:
        made = [make_product()["id"] for _ in range(6)]
        first = body_of(bob.get("/products?cursor=&per_page=1&sort_by=id&order=asc"))

        rest = bob.get(f"/products?cursor={first['meta']['next_cursor']}&per_page=100&sort_by=id&order=asc")

        assert ids_of(rest) == made[1:]

    def test_can_change_its_members(self, bob: Caller, make_product: Make) -> None:
        for name in "abc":
            make_product(name=name)
        first = body_of(bob.get("/products?cursor=&per_page=1&sort_by=name&order=asc"))

        rest = bob.get(f"/products?cursor={first['meta']['next_cursor']}&sort_by=name&order=asc&fields=name")

        assert body_of(rest)["items"] == [{"name": "b"}, {"name": "c"}]

    @pytest.mark.parametrize(
        "query",
        ["sort_by=name", "order=asc", "min_price=1.00", "status=active", "in_stock=true", "search=product"],
    )
    def test_refuses_the_cursor_of_another_query(self, bob: Caller, make_product: Make, query: str) -> None:
        for _ in range(2):
            make_product(stock=1)
        cursor = body_of(bob.get("/products?cursor=&per_page=1"))["meta"]["next_cursor"]

        answer = bob.get(f"/products?cursor={cursor}&per_page=1&{query}")

        assert code_of(answer) == "cursor_invalid"
        assert faults_of(answer) == [("cursor", "cursor_invalid")]

    def test_refuses_the_cursor_of_another_collection(self, bob: Caller, make_category: Make) -> None:
        for _ in range(2):
            make_category()
        cursor = body_of(bob.get("/categories?cursor=&per_page=1&sort_by=name&order=asc"))["meta"]["next_cursor"]

        answer = bob.get(f"/products?cursor={cursor}&per_page=1&sort_by=name&order=asc")

        assert faults_of(answer) == [("cursor", "cursor_invalid")]

    @pytest.mark.parametrize(
        ("cursor", "code"),
        [("x", "cursor_invalid"), ("WzFd.x", "cursor_invalid"), ("é", "malformed"), ("x" * 1001, "too_long")],
        ids=["word", "unsigned", "letters", "long"],
    )
    def test_refuses_what_is_no_cursor(self, bob: Caller, cursor: str, code: str) -> None:
        answer = bob.get("/products", query_string={"cursor": cursor})

        assert faults_of(answer) == [("cursor", code)]

    def test_refuses_a_cursor_that_was_changed(self, bob: Caller, make_product: Make) -> None:
        for _ in range(2):
            make_product()
        cursor = body_of(bob.get("/products?cursor=&per_page=1"))["meta"]["next_cursor"]

        answer = bob.get(f"/products?cursor={'A' if cursor[0] != 'A' else 'B'}{cursor[1:]}&per_page=1")

        assert faults_of(answer) == [("cursor", "cursor_invalid")]

    def test_refuses_a_cursor_of_another_secret(
        self, bob: Caller, make_product: Make, app_with: Callable[..., Flask]
    ) -> None:
        for _ in range(2):
            make_product()
        cursor = body_of(bob.on(app_with(secret_key="t" * 32)).get("/products?cursor=&per_page=1"))["meta"][
            "next_cursor"
        ]

        answer = bob.get(f"/products?cursor={cursor}&per_page=1")

        assert faults_of(answer) == [("cursor", "cursor_invalid")]

    def test_goes_on_after_the_longest_name(self, bob: Caller, make_product: Make) -> None:
        # Characters beyond the basic plane, no two alike: what a cursor can compress least.
        name = "".join(chr(0x20000 + number * 211 % 42_000) for number in range(200))
        for _ in range(3):
            make_product(name=name)

        visited = [item["id"] for page in walk(bob, sort_by="name", per_page=1) for item in page["items"]]

        assert len(visited) == 3
