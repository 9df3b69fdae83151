"""Products over HTTP, end to end: create, read, replace, merge and delete."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from tests.conftest import Caller, body_of, code_of, faults_of, rows_of

Make = Callable[..., dict[str, Any]]
AppWith = Callable[..., Flask]


@pytest.fixture
def oak_chair(make_category: Make) -> dict[str, Any]:
    """The least that a product can be made of."""
    return {"name": "Oak chair", "price": "129.00", "category_id": make_category()["id"]}


#: What a product has that is of no type and is sold by itself.
SINGLE: dict[str, Any] = {
    "kind": "single",
    "parent_id": None,
    "options": None,
    "position": None,
    "price_max": None,
    "image": None,
    "variant_count": None,
    "type_id": None,
    "missing": [],
}


class TestCreateProduct:
    def test_answers_201_with_location_and_etag(self, alice: Caller, oak_chair: dict[str, Any]) -> None:
        answer = alice.post("/products", oak_chair)

        assert answer.status_code == 201
        assert answer.headers["Location"] == f"/api/v1/products/{body_of(answer)['id']}"
        assert answer.headers["ETag"] == '"1.0"'

    def test_is_found_at_its_location(self, alice: Caller, oak_chair: dict[str, Any]) -> None:
        answer = alice.post("/products", oak_chair)

        found = alice.get(answer.headers["Location"].removeprefix("/api/v1"))

        assert body_of(found) == body_of(answer)
        assert found.headers["ETag"] == answer.headers["ETag"]

    def test_fills_in_what_is_not_given(self, alice: Caller, oak_chair: dict[str, Any]) -> None:
        product = body_of(alice.post("/products", oak_chair))

        assert product == oak_chair | {
            "id": product["id"],
            "sku": f"P-{product['id']}",
            "slug": "oak-chair",
            "gtin": None,
            "mpn": None,
            "weight_g": None,
            "track_stock": True,
            "low_stock_at": None,
            "description": "",
            "compare_at_price": None,
            "brand_id": None,
            "currency": "USD",
            "stock": 0,
            "status": "active",
            "tags": [],
            "attributes": {},
            "external_id": None,
            **SINGLE,
            "created_at": product["created_at"],
            "updated_at": product["created_at"],
            "version": 1,
            "live": 0,
        }

    def test_keeps_everything_that_is_given(self, alice: Caller, oak_chair: dict[str, Any]) -> None:
        given = oak_chair | {
            "sku": "CHAIR-042/b+c.d_e",
            "description": "A chair\nof solid oak — hübsch 🪑.",
            "currency": "SAR",
            "stock": 12,
            "status": "draft",
            "tags": ["garden", "oak"],
            "attributes": {"width_cm": 45.5, "legs": 4, "colour": "natural", "foldable": False},
            "external_id": "erp-7781",
        }

        product = body_of(alice.post("/products", given))

        assert {name: product[name] for name in given} == given

    def test_says_times_in_utc_with_z(self, alice: Caller, oak_chair: dict[str, Any]) -> None:
        product = body_of(alice.post("/products", oak_chair))

        assert product["created_at"].endswith("Z")

    def test_takes_the_currency_of_the_setting(
        self, alice: Caller, oak_chair: dict[str, Any], app_with: AppWith
    ) -> None:
        product = body_of(alice.on(app_with(default_currency="SAR")).post("/products", oak_chair))

        assert product["currency"] == "SAR"

    def test_makes_another_sku_where_its_own_was_chosen_before(self, make_product: Make) -> None:
        earlier = make_product()
        chosen = make_product(sku=f"P-{earlier['id'] + 2}")

        product = make_product()

        assert product["sku"].startswith(f"{chosen['sku']}-")
        assert product["version"] == 1

    def test_finds_a_product_by_the_sku_that_was_made(self, alice: Caller, make_product: Make) -> None:
        product = make_product()
        make_product(name="Another")

        found = body_of(alice.get(f"/products?search={product['sku']}&sort_by=id&order=asc"))["items"]

        assert found[0] == product

    def test_refuses_a_sku_that_a_living_product_has(
        self, app: Flask, alice: Caller, make_product: Make, oak_chair: dict[str, Any]
    ) -> None:
        make_product(sku="A-1")
        before = rows_of(app, "products")

        answer = alice.post("/products", oak_chair | {"sku": "A-1"})

        assert answer.status_code == 409
        assert code_of(answer) == "sku_taken"
        assert rows_of(app, "products") == before

    def test_does_not_tell_who_has_the_sku(self, alice: Caller, make_product: Make, oak_chair: dict[str, Any]) -> None:
        make_product(sku="A-1", name="Secret draft", status="draft")

        answer = alice.post("/products", oak_chair | {"sku": "A-1"})

        assert set(body_of(answer)) == {"type", "title", "status", "detail", "instance", "code", "request_id"}
        assert "Secret draft" not in answer.get_data(as_text=True)

    def test_takes_the_sku_of_a_deleted_product(self, root: Caller, make_product: Make) -> None:
        first = make_product(sku="A-1")
        root.delete(f"/products/{first['id']}")

        second = make_product(sku="A-1")

        assert second["id"] > first["id"]

    def test_tells_upper_from_lower_case_in_a_sku(self, make_product: Make) -> None:
        make_product(sku="a-1")

        assert make_product(sku="A-1")["sku"] == "A-1"

    @pytest.mark.parametrize("category_id", [2**40, 2**63 - 1])
    def test_refuses_an_unknown_category(self, alice: Caller, oak_chair: dict[str, Any], category_id: int) -> None:
        answer = alice.post("/products", oak_chair | {"category_id": category_id})

        assert code_of(answer) == "category_unknown"
        assert faults_of(answer) == [("/category_id", "category_unknown")]

    def test_names_every_missing_member_at_once(self, alice: Caller) -> None:
        answer = alice.post("/products", {})

        assert sorted(faults_of(answer)) == [
            ("/category_id", "required"),
            ("/name", "required"),
            ("/price", "required"),
        ]

    @pytest.mark.parametrize(
        "name", ["id", "created_at", "updated_at", "version", "deleted_at", "search_text", "colour"]
    )
    def test_refuses_a_member_that_is_not_the_clients(
        self, alice: Caller, oak_chair: dict[str, Any], name: str
    ) -> None:
        answer = alice.post("/products", {**oak_chair, name: 1})

        assert faults_of(answer) == [(f"/{name}", "unknown_field")]

    @pytest.mark.parametrize("body", ["[]", '"product"', "1", "null", "[{}]"])
    def test_refuses_what_is_not_an_object(self, alice: Caller, body: str) -> None:
        answer = alice.call("POST", "/products", data=body, headers={"Content-Type": "application/json"})

        assert faults_of(answer) == [("", "not_an_object")]

    def test_refuses_people_without_credentials(self, anonymous: Caller, oak_chair: dict[str, Any]) -> None:
        answer = anonymous.post("/products", oak_chair)

        assert answer.status_code == 401
        assert code_of(answer) == "credentials_missing"

    def test_refuses_plain_users(self, bob: Caller, oak_chair: dict[str, Any]) -> None:
        answer = bob.post("/products", oak_chair)

        assert answer.status_code == 403
        assert code_of(answer) == "permission_denied"
        assert body_of(answer)["permission"] == "products:write"


class TestPrice:
    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            ("0", "0.00"),
            ("0.00", "0.00"),
            ("0.01", "0.01"),
            ("0.1", "0.10"),
            ("5", "5.00"),
            ("19.9", "19.90"),
            ("0.29", "0.29"),  # times 100 this is 28.999... as a float
            ("1234567890.12", "1234567890.12"),
            ("9999999999.99", "9999999999.99"),
        ],
    )
    def test_is_kept_to_the_hundredth(self, alice: Caller, oak_chair: dict[str, Any], given: str, kept: str) -> None:
        created = body_of(alice.post("/products", oak_chair | {"price": given}))

        read = body_of(alice.get(f"/products/{created['id']}"))

        assert (created["price"], read["price"]) == (kept, kept)

    @pytest.mark.parametrize(
        "price",
        [
            *("-1", "-0", "+1", "10000000000", "10000000000.12345", "1e3", "1e-5", "1_000", "1,5"),
            *("01", "00", "01.00001", "1.", ".5", " 1", "1 ", "1\n", "１", "١", "NaN", "Infinity", "", "one"),
            *(19.9, 5, True, ["1"], {"amount": "1"}),
        ],
        ids=repr,
    )
    def test_refuses_what_is_not_an_exact_amount(self, alice: Caller, oak_chair: dict[str, Any], price: Any) -> None:
        answer = alice.post("/products", oak_chair | {"price": price})

        assert faults_of(answer) == [("/price", "invalid")]

    @pytest.mark.parametrize(
        "price", ["0.001", "1.000", "1.234", "1.2345", "1.00000", "9999999999.999", "0." + "1" * 99]
    )
    def test_refuses_more_decimals_than_there_are(self, alice: Caller, oak_chair: dict[str, Any], price: str) -> None:
        answer = alice.post("/products", oak_chair | {"price": price})

        assert faults_of(answer) == [("/price", "too_precise")]

    def test_refuses_null(self, alice: Caller, oak_chair: dict[str, Any]) -> None:
        answer = alice.post("/products", oak_chair | {"price": None})

        assert faults_of(answer) == [("/price", "null")]

    @pytest.mark.parametrize("currency", ["usd", "US", "XXX", "DOLLAR", "", 840, None])
    def test_refuses_what_is_not_a_currency(self, alice: Caller, oak_chair: dict[str, Any], currency: Any) -> None:
        answer = alice.post("/products", oak_chair | {"currency": currency})

        assert faults_of(answer) == [("/currency", "null" if currency is None else "not_a_choice")]


class TestTexts:
    @pytest.mark.parametrize(
        ("member", "value"),
        [
            ("name", "x"),
            ("name", "🪑" * 200),
            ("name", "  Oak  "),
            ("description", ""),
            ("description", "line\n\tline\r\n" * 800),
            ("description", "é" * 10_000),
            ("sku", "x" * 64),
            *(("sku", sku) for sku in ("-1", "é", "١", "Ø 12 [M&S] #4", "a b", "(x)", "'", "a/b//c/", "..", "%2F")),
            ("external_id", "x" * 128),
            ("external_id", None),
        ],
        ids=lambda value: str(value)[:12],
    )
    def test_are_kept_as_they_came(
        self, alice: Caller, oak_chair: dict[str, Any], member: str, value: str | None
    ) -> None:
        product = body_of(alice.post("/products", {**oak_chair, member: value}))

        assert body_of(alice.get(f"/products/{product['id']}"))[member] == value

    @pytest.mark.parametrize(
        ("member", "value", "code"),
        [
            ("name", "", "too_short"),
            ("name", "x" * 201, "too_long"),
            ("name", "   ", "malformed"),
            ("name", "\u00a0\u2003", "malformed"),
            ("name", "two\nlines", "malformed"),
            ("name", "line feed at the end\n", "malformed"),
            ("name", "nul\x00", "malformed"),
            ("name", 5, "invalid"),
            ("name", None, "null"),
            ("description", "x" * 10_001, "too_long"),
            ("description", "nul\x00", "malformed"),
            ("description", None, "null"),
            ("sku", "", "too_short"),
            ("sku", "x" * 65, "too_long"),
            *(
                ("sku", sku, "malformed")
                for sku in (
                    " ",
                    " A",
                    "A ",
                    "\u00a0A",
                    "A-1\n",
                    "A\tB",
                    "A\u200bB",
                    "A\u00a0B",
                    "\u202eA",
                    "A\U000e0041",
                )
            ),
            *(("slug", slug, "malformed") for slug in ("Oak", "oak chair", "-oak", "oak-", "oak--chair", "é")),
            ("slug", None, "null"),
            ("gtin", "4006381333931 ", "malformed"),
            ("gtin", "4006381333930", "check_digit"),
            ("gtin", "36000291453", "malformed"),
            ("gtin", "036000291453", "check_digit"),
            ("gtin", "1234567", "too_short"),
            ("gtin", 4006381333931, "invalid"),
            ("mpn", "", "too_short"),
            ("mpn", "x" * 71, "too_long"),
            ("weight_g", -1, "too_small"),
            ("weight_g", 10**9 + 1, "too_large"),
            ("weight_g", 1.5, "invalid"),
            ("low_stock_at", -1, "too_small"),
            ("low_stock_at", 2**53 + 1, "too_large"),
            ("low_stock_at", "5", "invalid"),
            ("track_stock", "true", "invalid"),
            ("track_stock", None, "null"),
            ("sku", None, "null"),
            ("external_id", "", "too_short"),
            ("external_id", "x" * 129, "too_long"),
            ("external_id", "nul\x00", "malformed"),
            ("status", "deleted", "not_a_choice"),
            ("status", "ACTIVE", "not_a_choice"),
            ("status", None, "null"),
        ],
        ids=lambda value: repr(value)[:16],
    )
    def test_refuses_what_is_out_of_form(
        self, alice: Caller, oak_chair: dict[str, Any], member: str, value: Any, code: str
    ) -> None:
        answer = alice.post("/products", {**oak_chair, member: value})

        assert faults_of(answer) == [(f"/{member}", code)]


class TestNumbers:
    @pytest.mark.parametrize("stock", [0, 1, 2**31, 2**53])
    def test_keeps_the_first_stock(self, make_product: Make, alice: Caller, stock: int) -> None:
        product = make_product(stock=stock)

        assert body_of(alice.get(f"/products/{product['id']}"))["stock"] == stock

    @pytest.mark.parametrize(
        ("stock", "code"),
        [
            (-1, "too_small"),
            (2**53 + 1, "too_large"),
            (1.5, "invalid"),
            ("5", "invalid"),
            (True, "invalid"),
            (None, "null"),
        ],
    )
    def test_refuses_a_stock_out_of_bounds(
        self, alice: Caller, oak_chair: dict[str, Any], stock: Any, code: str
    ) -> None:
        answer = alice.post("/products", oak_chair | {"stock": stock})

        assert faults_of(answer) == [("/stock", code)]

    @pytest.mark.parametrize(
        ("category_id", "code"),
        [(0, "too_small"), (-1, "too_small"), ("1", "invalid"), (1.5, "invalid"), (None, "null")],
    )
    def test_refuses_a_category_that_is_no_id(
        self, alice: Caller, oak_chair: dict[str, Any], category_id: Any, code: str
    ) -> None:
        answer = alice.post("/products", oak_chair | {"category_id": category_id})

        assert faults_of(answer) == [("/category_id", code)]


class TestTags:
    def test_keep_their_order_and_case(self, make_product: Make) -> None:
        assert make_product(tags=["oak", "Garden", "garden", "café"])["tags"] == ["oak", "Garden", "garden", "café"]

    def test_may_be_fifty(self, make_product: Make) -> None:
        tags = [f"tag {number}" for number in range(50)]

        assert make_product(tags=tags)["tags"] == tags

    @pytest.mark.parametrize(
        ("tags", "where", "code"),
        [
            (["oak", "oak"], "/tags", "repeated"),
            ([f"tag {number}" for number in range(51)], "/tags", "too_many"),
            ("oak", "/tags", "invalid"),
            (None, "/tags", "null"),
            (["oak", ""], "/tags/1", "too_short"),
            (["x" * 51], "/tags/0", "too_long"),
            ([5], "/tags/0", "invalid"),
            ([None], "/tags/0", "null"),
        ],
        ids=["repeated", "51", "text", "null", "empty", "long", "number", "null-inside"],
    )
    def test_refuses_what_is_no_set_of_tags(
        self, alice: Caller, oak_chair: dict[str, Any], tags: Any, where: str, code: str
    ) -> None:
        answer = alice.post("/products", oak_chair | {"tags": tags})

        assert faults_of(answer) == [(where, code)]


class TestAttributes:
    def test_keep_their_types(self, alice: Caller, make_product: Make) -> None:
        attributes = {
            "text": "1",
            "whole": 1,
            "broken": 1.5,
            "yes": True,
            "no": False,
            "most": 2**53,
            "least": -(2**53),
        }

        product = make_product(attributes=attributes)
        read = body_of(alice.get(f"/products/{product['id']}"))["attributes"]

        assert read == attributes
        assert {name: type(value) for name, value in read.items()} == {
            name: type(value) for name, value in attributes.items()
        }

    def test_may_be_a_hundred(self, make_product: Make) -> None:
        attributes = {f"a{number}": number for number in range(100)}

        assert make_product(attributes=attributes)["attributes"] == attributes

    @pytest.mark.parametrize(
        ("attributes", "where", "code"),
        [
            ({"size": {"cm": 4}}, "/attributes/size", "not_a_scalar"),
            ({"size": [4]}, "/attributes/size", "not_a_scalar"),
            ({"size": None}, "/attributes/size", "not_a_scalar"),
            ({"size": 2**53 + 1}, "/attributes/size", "not_a_scalar"),
            ({"size": 1e300}, "/attributes/size", "not_a_scalar"),
            ({"size": "x" * 1001}, "/attributes/size", "not_a_scalar"),
            ({"size": "nul\x00"}, "/attributes/size", "not_a_scalar"),
            ({"a/b~c": 1}, "/attributes/a~1b~0c", "name_malformed"),
            ({"": 1}, "/attributes/", "name_malformed"),
            ({"x" * 65: 1}, f"/attributes/{'x' * 65}", "name_malformed"),
            ({f"a{number}": 1 for number in range(101)}, "/attributes", "too_many"),
            ([], "/attributes", "invalid"),
            (None, "/attributes", "null"),
        ],
        ids=[
            "object",
            "list",
            "null",
            "whole",
            "broken",
            "long",
            "nul",
            "pointer",
            "nameless",
            "name",
            "101",
            "[]",
            "none",
        ],
    )
    def test_refuses_what_is_not_a_named_scalar(
        self, alice: Caller, oak_chair: dict[str, Any], attributes: Any, where: str, code: str
    ) -> None:
        answer = alice.post("/products", oak_chair | {"attributes": attributes})

        assert faults_of(answer) == [(where, code)]


class TestReadProduct:
    def test_answers_with_the_etag_of_the_version(self, bob: Caller, alice: Caller, make_product: Make) -> None:
        product = make_product()
        alice.patch(f"/products/{product['id']}", {"name": "Beech chair"})

        answer = bob.get(f"/products/{product['id']}")

        assert answer.status_code == 200
        assert answer.headers["ETag"] == '"2.0"'
        assert body_of(answer)["version"] == 2

    def test_may_be_kept_privately_and_must_be_asked_for_again(self, bob: Caller, make_product: Make) -> None:
        answer = bob.get(f"/products/{make_product()['id']}")

        assert answer.headers["Cache-Control"] == "private, no-cache"
        assert answer.headers["Vary"] == "Authorization, X-API-Key"

    @pytest.mark.parametrize(
        "product_id", ["9223372036854775807", "9223372036854775808", "0", "-1", "01", "abc", "1.0", "１"]
    )
    def test_is_404_for_what_never_was(self, bob: Caller, product_id: str) -> None:
        answer = bob.get(f"/products/{product_id}")

        assert answer.status_code == 404
        assert code_of(answer) == "not_found"

    def test_is_404_for_what_was_deleted(self, root: Caller, make_product: Make) -> None:
        product = make_product()
        root.delete(f"/products/{product['id']}")

        answer = root.get(f"/products/{product['id']}")

        assert answer.status_code == 404

    @pytest.mark.parametrize("status", ["draft", "archived"])
    def test_hides_what_is_not_active_from_plain_users(self, bob: Caller, make_product: Make, status: str) -> None:
        product = make_product(status=status)

        answer = bob.get(f"/products/{product['id']}")

        assert answer.status_code == 404
        assert code_of(answer) == "not_found"

    @pytest.mark.parametrize("status", ["draft", "archived"])
    def test_shows_what_is_not_active_to_editors(self, alice: Caller, make_product: Make, status: str) -> None:
        product = make_product(status=status)

        assert body_of(alice.get(f"/products/{product['id']}"))["status"] == status

    def test_refuses_a_query(self, bob: Caller, make_product: Make) -> None:
        answer = bob.get(f"/products/{make_product()['id']}?fields=id")

        assert faults_of(answer) == [("fields", "unknown_parameter")]

    def test_answers_head_without_a_body(self, bob: Caller, make_product: Make) -> None:
        product = make_product()

        answer = bob.call("HEAD", f"/products/{product['id']}")

        assert answer.status_code == 200
        assert answer.headers["ETag"] == '"1.0"'
        assert answer.data == b""


class TestIfNoneMatch:
    @pytest.mark.parametrize("tags", ['"1.0"', 'W/"1.0"', "*", '"7", "1.0"', '"7" , W/"1.0",', ', "1.0"'])
    def test_is_304_for_who_holds_the_version(self, bob: Caller, make_product: Make, tags: str) -> None:
        answer = bob.get(f"/products/{make_product()['id']}", headers={"If-None-Match": tags})

        assert answer.status_code == 304
        assert answer.data == b""

    def test_repeats_what_a_cache_must_know(self, bob: Caller, make_product: Make) -> None:
        answer = bob.get(f"/products/{make_product()['id']}", headers={"If-None-Match": '"1.0"'})

        assert answer.headers["ETag"] == '"1.0"'
        assert answer.headers["Cache-Control"] == "private, no-cache"
        assert answer.headers["Vary"] == "Authorization, X-API-Key"

    @pytest.mark.parametrize("tags", ['"2.0"', '"1"', '"1.1"', '"11"', "1", '"1', "nonsense", '"2", "3"', '"2"; "1"'])
    def test_is_200_for_everybody_else(self, bob: Caller, make_product: Make, tags: str) -> None:
        answer = bob.get(f"/products/{make_product()['id']}", headers={"If-None-Match": tags})

        assert answer.status_code == 200
        assert answer.data != b""

    def test_is_200_after_a_change(self, alice: Caller, make_product: Make) -> None:
        product = make_product()
        alice.patch(f"/products/{product['id']}", {"name": "Beech chair"})

        answer = alice.get(f"/products/{product['id']}", headers={"If-None-Match": '"1.0"'})

        assert answer.status_code == 200

    def test_does_not_help_who_may_not_see(self, bob: Caller, make_product: Make) -> None:
        product = make_product(status="draft")

        answer = bob.get(f"/products/{product['id']}", headers={"If-None-Match": '"1.0"'})

        assert answer.status_code == 404


class TestReplaceProduct:
    def test_sets_defaults_where_nothing_is_given(
        self, alice: Caller, make_product: Make, make_brand: Make, oak_chair: dict[str, Any]
    ) -> None:
        product = make_product(
            description="Long",
            brand_id=make_brand()["id"],
            compare_at_price="12.00",
            currency="SAR",
            status="draft",
            tags=["oak"],
            attributes={"legs": 4},
            external_id="erp-1",
            stock=7,
        )

        replaced = body_of(alice.put(f"/products/{product['id']}", oak_chair))

        assert replaced == oak_chair | {
            "id": product["id"],
            "sku": product["sku"],
            "slug": product["slug"],
            "gtin": None,
            "mpn": None,
            "weight_g": None,
            "track_stock": True,
            "low_stock_at": None,
            "description": "",
            "compare_at_price": None,
            "brand_id": None,
            "currency": "USD",
            "stock": 7,
            "status": "active",
            "tags": [],
            "attributes": {},
            "external_id": None,
            **SINGLE,
            "created_at": product["created_at"],
            "updated_at": replaced["updated_at"],
            "version": 2,
            "live": 0,
        }

    def test_is_what_is_read_afterwards(self, alice: Caller, make_product: Make, oak_chair: dict[str, Any]) -> None:
        product = make_product()

        answer = alice.put(f"/products/{product['id']}", oak_chair)

        assert answer.status_code == 200
        assert answer.headers["ETag"] == '"2.0"'
        assert body_of(alice.get(f"/products/{product['id']}")) == body_of(answer)

    def test_sets_a_sku_that_is_given(self, alice: Caller, make_product: Make, oak_chair: dict[str, Any]) -> None:
        product = make_product(sku="OLD")

        replaced = body_of(alice.put(f"/products/{product['id']}", oak_chair | {"sku": "NEW"}))

        assert replaced["sku"] == "NEW"

    def test_counts_the_change_in_updated_at(
        self, alice: Caller, make_product: Make, oak_chair: dict[str, Any]
    ) -> None:
        product = make_product()

        replaced = body_of(alice.put(f"/products/{product['id']}", oak_chair))

        assert replaced["updated_at"] > product["updated_at"]

    def test_names_every_missing_member_at_once(self, alice: Caller, make_product: Make) -> None:
        answer = alice.put(f"/products/{make_product()['id']}", {"description": "Long"})

        assert sorted(faults_of(answer)) == [
            ("/category_id", "required"),
            ("/name", "required"),
            ("/price", "required"),
        ]

    def test_leaves_the_stock_to_movements(self, alice: Caller, make_product: Make, oak_chair: dict[str, Any]) -> None:
        product = make_product(stock=7)

        answer = alice.put(f"/products/{product['id']}", oak_chair | {"stock": 7})

        assert faults_of(answer) == [("/stock", "unknown_field")]

    def test_refuses_a_sku_that_another_has(self, alice: Caller, make_product: Make, oak_chair: dict[str, Any]) -> None:
        make_product(sku="A-1")
        product = make_product(sku="A-2")

        answer = alice.put(f"/products/{product['id']}", oak_chair | {"sku": "A-1"})

        assert answer.status_code == 409
        assert code_of(answer) == "sku_taken"
        assert body_of(alice.get(f"/products/{product['id']}")) == product

    def test_refuses_an_unknown_category(self, alice: Caller, make_product: Make, oak_chair: dict[str, Any]) -> None:
        answer = alice.put(f"/products/{make_product()['id']}", oak_chair | {"category_id": 2**40})

        assert faults_of(answer) == [("/category_id", "category_unknown")]

    def test_keeps_the_version_where_nothing_changes(self, alice: Caller, make_product: Make) -> None:
        product = make_product(tags=["oak"], attributes={"legs": 4})
        same = {name: product[name] for name in ("name", "price", "category_id", "tags", "attributes")}

        answer = alice.put(f"/products/{product['id']}", same)

        assert body_of(answer) == product

    def test_refuses_a_merge_patch(self, alice: Caller, make_product: Make) -> None:
        answer = alice.put(
            f"/products/{make_product()['id']}", data=b"{}", headers={"Content-Type": "application/merge-patch+json"}
        )

        assert answer.status_code == 415
        assert body_of(answer)["accepted"] == ["application/json"]


class TestUpdateProduct:
    def test_changes_what_is_given_and_nothing_else(self, alice: Caller, make_product: Make) -> None:
        product = make_product(description="Long", tags=["oak"], stock=3, external_id="erp-1")

        changed = body_of(alice.patch(f"/products/{product['id']}", {"price": "9.5"}))

        assert changed == product | {"price": "9.50", "version": 2, "updated_at": changed["updated_at"]}
        assert changed["updated_at"] > product["updated_at"]

    def test_is_what_is_read_afterwards(self, alice: Caller, make_product: Make) -> None:
        product = make_product()

        answer = alice.patch(f"/products/{product['id']}", {"tags": ["oak"], "attributes": {"legs": 4}})

        assert body_of(alice.get(f"/products/{product['id']}")) == body_of(answer)

    @pytest.mark.parametrize("media_type", ["application/json", "application/merge-patch+json"])
    def test_takes_both_media_types(self, alice: Caller, make_product: Make, media_type: str) -> None:
        product = make_product()

        answer = alice.patch(
            f"/products/{product['id']}", data=b'{"name": "Beech chair"}', headers={"Content-Type": media_type}
        )

        assert body_of(answer)["name"] == "Beech chair"

    def test_merges_attributes_one_by_one(self, alice: Caller, make_product: Make) -> None:
        product = make_product(attributes={"colour": "red", "width_cm": 4})

        changed = body_of(alice.patch(f"/products/{product['id']}", {"attributes": {"colour": None, "depth_cm": 2.5}}))

        assert changed["attributes"] == {"width_cm": 4, "depth_cm": 2.5}

    def test_ignores_the_removal_of_an_attribute_that_is_not_there(self, alice: Caller, make_product: Make) -> None:
        product = make_product(attributes={"legs": 4})

        changed = body_of(alice.patch(f"/products/{product['id']}", {"attributes": {"arms": None}}))

        assert changed == product

    @pytest.mark.parametrize(("before", "after"), [(1, True), (False, 0), (1, 1.0), (True, 1.0)])
    def test_keeps_an_attribute_that_changes_only_its_type(
        self, alice: Caller, make_product: Make, before: Any, after: Any
    ) -> None:
        product = make_product(attributes={"value": before})

        changed = body_of(alice.patch(f"/products/{product['id']}", {"attributes": {"value": after}}))
        read = body_of(alice.get(f"/products/{product['id']}"))

        assert type(read["attributes"]["value"]) is type(after)
        assert read == changed
        assert changed["version"] == 2

    def test_replaces_tags_as_a_whole(self, alice: Caller, make_product: Make) -> None:
        product = make_product(tags=["oak", "garden"])

        changed = body_of(alice.patch(f"/products/{product['id']}", {"tags": ["beech"]}))

        assert changed["tags"] == ["beech"]

    def test_removes_the_external_id_by_null(self, alice: Caller, make_product: Make) -> None:
        product = make_product(external_id="erp-1")

        changed = body_of(alice.patch(f"/products/{product['id']}", {"external_id": None}))

        assert changed["external_id"] is None

    @pytest.mark.parametrize(
        "member", ["sku", "name", "description", "price", "currency", "category_id", "status", "tags", "attributes"]
    )
    def test_refuses_to_remove_what_must_be_there(self, alice: Caller, make_product: Make, member: str) -> None:
        answer = alice.patch(f"/products/{make_product()['id']}", {member: None})

        assert faults_of(answer) == [(f"/{member}", "null")]

    @pytest.mark.parametrize("member", ["stock", "id", "created_at", "updated_at", "version"])
    def test_refuses_what_is_not_the_clients(self, alice: Caller, make_product: Make, member: str) -> None:
        product = make_product()

        answer = alice.patch(f"/products/{product['id']}", {member: product[member]})

        assert faults_of(answer) == [(f"/{member}", "unknown_field")]

    @pytest.mark.parametrize("same", [{}, {"name": "Oak chair"}, {"attributes": {}}, {"attributes": {"legs": 4}}])
    def test_keeps_the_version_where_nothing_changes(
        self, alice: Caller, make_product: Make, same: dict[str, Any]
    ) -> None:
        product = make_product(name="Oak chair", attributes={"legs": 4})

        answer = alice.patch(f"/products/{product['id']}", same, if_match='"1.0"')

        assert body_of(answer) == product
        assert answer.headers["ETag"] == '"1.0"'

    def test_refuses_the_hundred_and_first_attribute(self, alice: Caller, make_product: Make) -> None:
        product = make_product(attributes={f"a{number}": number for number in range(100)})

        answer = alice.patch(f"/products/{product['id']}", {"attributes": {"another": 1}})

        assert code_of(answer) == "too_many_attributes"
        assert faults_of(answer) == [("/attributes", "too_many_attributes")]

    def test_takes_an_attribute_in_place_of_another_at_the_limit(self, alice: Caller, make_product: Make) -> None:
        product = make_product(attributes={f"a{number}": number for number in range(100)})

        answer = alice.patch(f"/products/{product['id']}", {"attributes": {"another": 1, "a0": None}})

        assert len(body_of(answer)["attributes"]) == 100

    def test_refuses_a_sku_that_another_has(self, alice: Caller, make_product: Make) -> None:
        make_product(sku="A-1")
        product = make_product(sku="A-2")

        answer = alice.patch(f"/products/{product['id']}", {"sku": "A-1"})

        assert answer.status_code == 409
        assert code_of(answer) == "sku_taken"

    def test_refuses_an_unknown_category(self, alice: Caller, make_product: Make) -> None:
        answer = alice.patch(f"/products/{make_product()['id']}", {"category_id": 2**40})

        assert faults_of(answer) == [("/category_id", "category_unknown")]

    def test_changes_nothing_when_it_refuses(self, app: Flask, alice: Caller, make_product: Make) -> None:
        make_product(sku="A-1")
        product = make_product()
        before = rows_of(app, "products")

        alice.patch(f"/products/{product['id']}", {"name": "Another", "price": "1.00", "sku": "A-1"})

        assert rows_of(app, "products") == before

    def test_is_found_under_the_new_words_only(self, alice: Caller, make_product: Make) -> None:
        product = make_product(name="Oak chair")

        alice.patch(f"/products/{product['id']}", {"name": "Beech stool"})

        assert [item["id"] for item in body_of(alice.get("/products?search=stool"))["items"]] == [product["id"]]
        assert body_of(alice.get("/products?search=oak"))["items"] == []


class TestDeleteProduct:
    def test_answers_204_without_a_body(self, root: Caller, make_product: Make) -> None:
        answer = root.delete(f"/products/{make_product()['id']}", if_match='"1"')

        assert answer.status_code == 204
        assert answer.data == b""
        assert "Content-Type" not in answer.headers

    def test_takes_the_product_off_the_list(self, root: Caller, make_product: Make) -> None:
        gone, stays = make_product(), make_product()

        root.delete(f"/products/{gone['id']}")

        assert [item["id"] for item in body_of(root.get("/products"))["items"]] == [stays["id"]]

    def test_keeps_the_row(self, app: Flask, root: Caller, make_product: Make) -> None:
        product = make_product()

        root.delete(f"/products/{product['id']}")

        assert [row[0] for row in rows_of(app, "products")] == [product["id"]]

    def test_frees_the_sku(self, root: Caller, make_product: Make) -> None:
        product = make_product(sku="A-1")

        root.delete(f"/products/{product['id']}")

        assert make_product(sku="A-1")["id"] != product["id"]

    def test_is_404_the_second_time(self, root: Caller, make_product: Make) -> None:
        product = make_product()
        root.delete(f"/products/{product['id']}", if_match='"1"')

        answer = root.delete(f"/products/{product['id']}", if_match='"1"')

        assert answer.status_code == 404

    def test_refuses_editors(self, alice: Caller, make_product: Make) -> None:
        answer = alice.delete(f"/products/{make_product()['id']}")

        assert answer.status_code == 403
        assert body_of(answer)["permission"] == "products:delete"


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
class TestIfMatch:
    @pytest.fixture
    def write(self, root: Caller, make_product: Make, method: str) -> Callable[[str | None], Any]:
        """Write over a product at its second version, under a precondition."""
        product = make_product()
        root.patch(f"/products/{product['id']}", {"name": "Second version"})
        body = {"name": "Third version", "price": "1.00", "category_id": product["category_id"]}

        def write(if_match: str | None) -> Any:
            headers = {} if if_match is None else {"If-Match": if_match}
            content = {} if method == "DELETE" else {"json": body}
            return root.call(method, f"/products/{product['id']}", headers=headers, **content)

        return write

    @pytest.mark.parametrize(
        "tags", ['"2"', 'W/"2"', "*", " * ", '"1", "2"', 'W/"7" ,W/"2"', ',"2",', '"2","2"', '"2.0"', 'W/"2.93"']
    )
    def test_lets_the_version_that_was_read_pass(self, write: Callable[[str | None], Any], tags: str) -> None:
        assert write(tags).status_code in {200, 204}

    def test_is_required(self, write: Callable[[str | None], Any]) -> None:
        answer = write(None)

        assert answer.status_code == 428
        assert code_of(answer) == "precondition_required"

    @pytest.mark.parametrize(
        "tags", ['"1"', '"3"', '"22"', '"W/2"', '""', '"*"', '"1", "3"', '"1.2"', '"22.0"', '"2."', '"2.x"', '".2"']
    )
    def test_refuses_another_version(self, write: Callable[[str | None], Any], tags: str) -> None:
        answer = write(tags)

        assert answer.status_code == 412
        assert code_of(answer) == "precondition_failed"

    @pytest.mark.parametrize(
        "tags",
        ["", "2", '"2', '2"', "W/2", 'w/"2"', '"2" "2"', '*, "2"', '"2"; "3"', '"a b"', '"2",' * 2000],
        ids=lambda tags: tags[:8],
    )
    def test_refuses_what_is_no_list_of_tags(self, write: Callable[[str | None], Any], tags: str) -> None:
        answer = write(tags)

        assert answer.status_code == 400
        assert code_of(answer) == "entity_tag_malformed"


class TestRestoring:
    def test_brings_a_deleted_product_back_as_it_was(self, root: Caller, bob: Caller, make_product: Make) -> None:
        product = make_product(sku="CHAIR-1", stock=5)
        root.delete(f"/products/{product['id']}")

        answer = root.post(f"/products/{product['id']}/restore")

        assert answer.status_code == 200
        unchanged = product.keys() - {"version", "updated_at"}
        restored = body_of(bob.get(f"/products/{product['id']}"))
        assert {name: restored[name] for name in unchanged} == {name: product[name] for name in unchanged}
        assert answer.headers["ETag"] == f'"{restored["version"]}.0"'
        assert restored["version"] == 3

    def test_leaves_a_living_product_as_it_is(self, root: Caller, make_product: Make) -> None:
        product = make_product()

        assert body_of(root.post(f"/products/{product['id']}/restore")) == product

    def test_conflicts_when_the_sku_is_used_again(self, root: Caller, make_product: Make) -> None:
        product = make_product(sku="CHAIR-1")
        root.delete(f"/products/{product['id']}")
        make_product(sku="CHAIR-1")

        answer = root.post(f"/products/{product['id']}/restore")

        assert (answer.status_code, code_of(answer)) == (409, "sku_taken")
        assert root.get(f"/products/{product['id']}").status_code == 404

    def test_is_told_in_the_audit_trail(self, root: Caller, make_product: Make) -> None:
        product = make_product()
        root.delete(f"/products/{product['id']}")
        root.post(f"/products/{product['id']}/restore")

        trail = body_of(root.get(f"/audit-events?resource=product/{product['id']}"))["items"]

        assert [event["action"] for event in trail] == ["product.restored", "product.deleted", "product.created"]

    def test_of_nothing_is_404(self, root: Caller) -> None:
        assert root.post("/products/999999/restore").status_code == 404

    def test_is_for_administrators(self, alice: Caller, root: Caller, make_product: Make) -> None:
        product = make_product()
        root.delete(f"/products/{product['id']}")

        assert alice.post(f"/products/{product['id']}/restore").status_code == 403
