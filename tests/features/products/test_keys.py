"""Keys by which others know a product: slug, GTIN, external id, and the paths by key."""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from tests.conftest import Caller, body_of, code_of, faults_of

Make = Callable[..., dict[str, Any]]


def by(key: str, value: str) -> str:
    return f"/products/by/{key}/{quote(value, safe='')}"


def slug_of(caller: Caller, product: dict[str, Any]) -> str:
    return str(body_of(caller.get(f"/products/{product['id']}"))["slug"])


@pytest.fixture
def chair(make_category: Make) -> Callable[..., dict[str, Any]]:
    """The members of a new product; a test mentions what matters."""
    category_id = make_category()["id"]

    def chair(**members: Any) -> dict[str, Any]:
        return {"name": "Oak chair", "price": "129.00", "category_id": category_id, **members}

    return chair


class TestSlugs:
    def test_are_made_from_the_name(self, make_product: Make) -> None:
        assert make_product(name="Café & Bar — Tisch №1")["slug"] == "cafe-and-bar-tisch-no1"

    def test_of_the_same_name_end_with_the_sku(self, make_product: Make) -> None:
        slugs = [make_product(name="Oak chair", sku=sku)["slug"] for sku in ("A-1", "B 2", "Ø")]

        assert slugs[:2] == ["oak-chair", "oak-chair-b-2"]
        assert slugs[2].startswith("oak-chair-")

    def test_of_a_name_without_ascii_letters_are_made_as_well(self, make_product: Make) -> None:
        slugs = [make_product(name="椅子", sku=sku)["slug"] for sku in ("A-1", "A-2")]

        assert slugs == ["product", "product-a-2"]

    def test_have_random_digits_where_the_sku_does_not_distinguish_them(self, make_product: Make) -> None:
        make_product(name="Oak chair")
        make_product(name="Other", slug="oak-chair-b-2")

        slug = make_product(name="Oak chair", sku="B-2")["slug"]

        assert slug.removeprefix("oak-chair-").isalnum()
        assert len(slug) == len("oak-chair-") + 8

    def test_stay_where_the_name_changes(self, alice: Caller, make_product: Make) -> None:
        product = make_product(name="Oak chair")

        assert body_of(alice.patch(f"/products/{product['id']}", {"name": "Stool"}))["slug"] == "oak-chair"

    def test_that_another_has_are_refused(self, alice: Caller, chair: Make, make_product: Make) -> None:
        product = make_product(slug="seat")
        other = make_product(slug="other")

        assert code_of(alice.post("/products", chair(slug="seat"))) == "slug_taken"
        assert code_of(alice.patch(f"/products/{other['id']}", {"slug": "seat"})) == "slug_taken"
        assert slug_of(alice, product) == "seat"

    def test_of_before_lead_to_the_product(self, alice: Caller, bob: Caller, make_product: Make) -> None:
        product = make_product(slug="first")
        for slug in ("second", "third"):
            alice.patch(f"/products/{product['id']}", {"slug": slug})

        answer = bob.get(by("slug", "first"))

        assert (answer.status_code, answer.headers["Location"]) == (308, "/api/v1/products/by/slug/third")
        assert bob.get(by("slug", "second")).status_code == 308
        assert body_of(bob.get(by("slug", "third")))["id"] == product["id"]

    @pytest.mark.parametrize("method", ["put", "patch", "delete"])
    def test_of_before_lead_writers_to_it_as_well(
        self, root: Caller, chair: Make, make_product: Make, method: str
    ) -> None:
        product = make_product(slug="first")
        root.patch(f"/products/{product['id']}", {"slug": "second"})
        content = () if method == "delete" else (chair(),) if method == "put" else ({"name": "New"},)

        answer = getattr(root, method)(by("slug", "first"), *content)

        assert (answer.status_code, answer.headers["Location"]) == (308, "/api/v1/products/by/slug/second")
        assert slug_of(root, product) == "second"

    def test_of_before_are_reserved(self, alice: Caller, chair: Make, make_product: Make) -> None:
        product, other = make_product(slug="first"), make_product(slug="other")
        alice.patch(f"/products/{product['id']}", {"slug": "second"})

        assert code_of(alice.post("/products", chair(slug="first"))) == "slug_taken"
        assert code_of(alice.patch(f"/products/{other['id']}", {"slug": "first"})) == "slug_taken"
        assert body_of(alice.post("/products", chair(name="First", sku="F")))["slug"] == "first-f"

    def test_of_before_can_be_had_back(self, alice: Caller, make_product: Make) -> None:
        product = make_product(slug="first")
        for slug in ("second", "first"):
            assert alice.patch(f"/products/{product['id']}", {"slug": slug}).status_code == 200

        assert alice.get(by("slug", "first")).status_code == 200
        assert alice.get(by("slug", "second")).headers["Location"].endswith("/first")

    def test_of_a_deleted_product_are_free_again(self, root: Caller, chair: Make, make_product: Make) -> None:
        product = make_product(slug="first")
        root.patch(f"/products/{product['id']}", {"slug": "second"})
        root.delete(f"/products/{product['id']}")

        assert root.get(by("slug", "first")).status_code == 404
        for slug in ("first", "second"):
            assert root.post("/products", chair(slug=slug)).status_code == 201

    def test_of_a_restored_product_are_new_where_another_has_them(
        self, root: Caller, chair: Make, make_product: Make
    ) -> None:
        product = make_product(slug="seat", sku="A-1")
        root.delete(f"/products/{product['id']}")
        other = body_of(root.post("/products", chair(slug="seat")))

        restored = body_of(root.post(f"/products/{product['id']}/restore"))

        assert (restored["slug"], restored["version"]) == ("seat-a-1", 3)
        assert body_of(root.get(by("slug", "seat")))["id"] == other["id"]
        assert root.patch(f"/products/{other['id']}", {"slug": "bench"}).status_code == 200
        assert root.patch(f"/products/{other['id']}", {"slug": "seat"}).status_code == 200

    def test_that_others_gave_up_meanwhile_still_lead_to_them_after_a_restoration(
        self, root: Caller, chair: Make, make_product: Make
    ) -> None:
        product = make_product(slug="seat", sku="A-1")
        root.delete(f"/products/{product['id']}")
        other = body_of(root.post("/products", chair(slug="seat")))
        root.patch(f"/products/{other['id']}", {"slug": "bench"})

        restored = body_of(root.post(f"/products/{product['id']}/restore"))

        assert restored["slug"] == "seat-a-1"
        assert root.get(by("slug", "seat")).headers["Location"].endswith("/bench")

    def test_are_their_own_products_even_where_another_had_them(
        self, root: Caller, chair: Make, make_product: Make
    ) -> None:
        product = make_product(slug="seat")
        root.patch(f"/products/{product['id']}", {"slug": "bench"})
        root.delete(f"/products/{product['id']}")
        other = body_of(root.post("/products", chair(slug="seat", sku="B")))
        root.post(f"/products/{product['id']}/restore")

        batch = root.post("/products/bulk", {"items": [{"sku": "B", "slug": "seat", "name": "New"}]})

        assert body_of(batch)["meta"]["updated"] == 1
        assert body_of(root.get(by("slug", "seat")))["id"] == other["id"]

    def test_of_drafts_lead_plain_users_nowhere(self, alice: Caller, bob: Caller, make_product: Make) -> None:
        product = make_product(slug="first", status="draft")
        alice.patch(f"/products/{product['id']}", {"slug": "second"})

        assert {bob.get(by("slug", slug)).status_code for slug in ("first", "second")} == {404}


class TestGtins:
    @pytest.mark.parametrize("gtin", ["96385074", "036000291452", "4006381333931", "10614141000415"])
    def test_are_kept_as_they_were_written(self, alice: Caller, make_product: Make, gtin: str) -> None:
        product = make_product(gtin=gtin)

        assert product["gtin"] == gtin
        assert body_of(alice.get(by("gtin", gtin.zfill(14))))["id"] == product["id"]

    def test_are_the_same_with_zeros_before_them(self, alice: Caller, chair: Make, make_product: Make) -> None:
        make_product(gtin="036000291452")

        for same in ("036000291452", "0036000291452", "00036000291452"):
            assert code_of(alice.post("/products", chair(gtin=same))) == "gtin_taken"

    def test_are_found_several_at_once(self, bob: Caller, make_product: Make) -> None:
        ids = [make_product(gtin=gtin)["id"] for gtin in ("4006381333931", "96385074")]

        found = body_of(bob.get("/products?gtin=04006381333931,00000096385074&sort_by=id&order=asc"))["items"]
        assert [item["id"] for item in found] == ids

    @pytest.mark.parametrize("scanned", ["036000291452", "0036000291452", "00036000291452"])
    def test_are_found_as_a_scanner_reads_them(self, bob: Caller, make_product: Make, scanned: str) -> None:
        product = make_product(gtin="036000291452")

        assert [item["id"] for item in body_of(bob.get(f"/products?search={scanned}"))["items"]] == [product["id"]]

    def test_are_found_by_search(self, bob: Caller, make_product: Make) -> None:
        product = make_product(gtin="4006381333931", mpn="OC-42/B")

        for words in ("4006381333931", "oc-42"):
            assert [item["id"] for item in body_of(bob.get(f"/products?search={words}"))["items"]] == [product["id"]]

    def test_of_a_deleted_product_are_free_again(self, root: Caller, chair: Make, make_product: Make) -> None:
        product = make_product(gtin="4006381333931", external_id="erp-1")
        root.delete(f"/products/{product['id']}")

        assert root.post("/products", chair(gtin="4006381333931", external_id="erp-1")).status_code == 201
        assert code_of(root.post(f"/products/{product['id']}/restore")) in {"gtin_taken", "external_id_taken"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sku", "Ø 12/4 [M&S] #%25?"),
        ("sku", "a//b/"),
        ("slug", "oak-chair"),
        ("gtin", "4006381333931"),
        ("external_id", "erp://7781?x=1&y=ä"),
    ],
)
class TestByKey:
    def test_reads_the_product(self, bob: Caller, make_product: Make, key: str, value: str) -> None:
        product = make_product(**{key: value})

        answer = bob.get(by(key, value))

        assert (answer.status_code, body_of(answer)) == (200, product)
        assert answer.headers["ETag"] == '"1.0"'
        assert bob.get(by(key, value), headers={"If-None-Match": '"1.0"'}).status_code == 304

    def test_patches_it_under_a_precondition(self, alice: Caller, make_product: Make, key: str, value: str) -> None:
        make_product(**{key: value})

        assert alice.patch(by(key, value), {"name": "New"}, if_match=None).status_code == 428
        assert alice.patch(by(key, value), {"name": "New"}, if_match='"2.0"').status_code == 412
        assert body_of(alice.patch(by(key, value), {"name": "New"}, if_match='"1.7"'))["name"] == "New"

    def test_deletes_it(self, alice: Caller, root: Caller, make_product: Make, key: str, value: str) -> None:
        make_product(**{key: value})

        assert alice.delete(by(key, value)).status_code == 403
        assert root.delete(by(key, value), if_match='"1"').status_code == 204
        assert root.get(by(key, value)).status_code == 404

    def test_puts_a_new_product(self, alice: Caller, chair: Make, key: str, value: str) -> None:
        answer = alice.put(by(key, value), chair(), if_match=None)

        product = body_of(answer)
        assert (answer.status_code, product[key], product["version"]) == (201, value, 1)
        assert answer.headers["Location"] == f"/api/v1/products/{product['id']}"
        assert answer.headers["ETag"] == '"1.0"'
        assert body_of(alice.get(by(key, value))) == product

    def test_puts_over_what_is_there(
        self, alice: Caller, chair: Make, make_product: Make, key: str, value: str
    ) -> None:
        product = make_product(**{key: value}, description="Old", stock=7)

        answer = alice.put(by(key, value), chair(name="New"), if_match=None)

        replaced = body_of(answer)
        assert (answer.status_code, "Location" in answer.headers) == (200, False)
        assert (replaced["id"], replaced["name"], replaced["description"]) == (product["id"], "New", "")
        assert (replaced[key], replaced["sku"], replaced["stock"]) == (value, product["sku"], 7)

    def test_puts_the_same_and_changes_nothing(self, alice: Caller, chair: Make, key: str, value: str) -> None:
        first = alice.put(by(key, value), chair(), if_match=None)

        second = alice.put(by(key, value), chair(), if_match=None)

        assert (first.status_code, second.status_code) == (201, 200)
        assert body_of(second) == body_of(first)

    def test_puts_under_the_preconditions_that_are_sent(self, alice: Caller, chair: Make, key: str, value: str) -> None:
        def put(**headers: str) -> int:
            named = {name.replace("_", "-"): text for name, text in headers.items()}
            return alice.put(by(key, value), chair(), if_match=None, headers=named).status_code

        assert put(If_Match="*") == 412
        assert put(If_Match='"1.0"') == 412
        assert put(If_None_Match="*") == 201
        assert put(If_None_Match="*") == 412
        assert put(If_None_Match='"1.0"') == 412
        assert put(If_Match='"2.0"') == 412
        assert put(If_Match='"1.5"') == 200
        assert put(If_Match="1") == 400

    def test_refuses_a_body_that_says_another(self, alice: Caller, chair: Make, key: str, value: str) -> None:
        other = {"sku": "B", "slug": "other", "gtin": "96385074", "external_id": "other"}[key]

        answer = alice.put(by(key, value), chair(**{key: other}), if_match=None)

        assert faults_of(answer) == [(f"/{key}", "key_differs")]
        assert alice.put(by(key, value), chair(**{key: value}), if_match=None).status_code == 201


class TestPaths:
    def test_of_an_unknown_key_are_none(self, alice: Caller) -> None:
        assert alice.get("/products/by/name/Chair").status_code == 404
        assert alice.get("/products/by/sku/").status_code == 404

    @pytest.mark.parametrize("value", ["M\xfcller", "M\xf6ller", "\xed\xa0\x80", "\xc3"])
    def test_that_are_not_utf_8_are_refused(self, alice: Caller, chair: Make, value: str) -> None:
        # As WSGI has it: a character for each byte.
        path = {"PATH_INFO": f"/api/v1/products/by/external_id/{value}"}
        answer = alice.put("/products/by/external_id/x", chair(), if_match=None, environ_overrides=path)

        assert (answer.status_code, code_of(answer)) == (400, "path_malformed")

    def test_that_put_a_null_key_are_refused(self, alice: Caller, chair: Make) -> None:
        for key, value in (("gtin", "4006381333931"), ("external_id", "erp-1")):
            answer = alice.put(by(key, value), chair(**{key: None}), if_match=None)
            assert faults_of(answer) == [(f"/{key}", "key_differs")]

    def test_leave_a_gtin_as_it_was_written(self, alice: Caller, chair: Make, make_product: Make) -> None:
        make_product(gtin="036000291452")

        replaced = alice.put(by("gtin", "00036000291452"), chair(), if_match=None)

        assert (replaced.status_code, body_of(replaced)["gtin"]) == (200, "036000291452")

    @pytest.mark.parametrize("value", ["%00", "a%0A", "%EF%BF%BD", "x" * 3000])
    def test_of_a_value_that_no_product_can_have_are_none(self, alice: Caller, value: str) -> None:
        for key in ("sku", "slug", "gtin", "external_id"):
            assert alice.get(f"/products/by/{key}/{value}").status_code == 404

    def test_that_put_a_value_out_of_form_are_refused_at_the_member(self, alice: Caller, chair: Make) -> None:
        assert faults_of(alice.put(by("gtin", "4006381333930"), chair(), if_match=None)) == [("/gtin", "check_digit")]
        assert faults_of(alice.put(by("sku", " A"), chair(), if_match=None)) == [("/sku", "malformed")]

    def test_that_put_say_what_else_is_taken(self, alice: Caller, chair: Make, make_product: Make) -> None:
        make_product(sku="A-1")

        answer = alice.put(by("external_id", "erp-1"), chair(sku="A-1"), if_match=None)

        assert (answer.status_code, code_of(answer)) == (409, "sku_taken")
        assert alice.get(by("external_id", "erp-1")).status_code == 404

    def test_that_put_say_what_is_unknown(self, alice: Caller, chair: Make) -> None:
        answer = alice.put(by("external_id", "erp-1"), chair(category_id=999_999), if_match=None)

        assert faults_of(answer) == [("/category_id", "category_unknown")]

    def test_that_put_take_exact_amounts_alone(self, alice: Caller, chair: Make) -> None:
        for status in (201, 200):
            refused = alice.put(by("sku", "A"), chair(price="1.005"), if_match=None)
            assert faults_of(refused) == [("/price", "too_precise")]
            assert alice.put(by("sku", "A"), chair(price="1.5"), if_match=None).status_code == status

    def test_that_put_are_for_editors(self, bob: Caller, chair: Make) -> None:
        assert bob.put(by("sku", "A"), chair()).status_code == 403


class TestManyAtOnce:
    def test_each_get_a_slug_of_their_own(self, alice: Caller, chair: Make, make_product: Make) -> None:
        make_product(name="Oak chair", slug="first")
        items = [chair(sku=f"S-{number}") for number in range(3)] + [chair(sku="T", slug="seat")]

        assert alice.post("/products/bulk", {"items": items}).status_code == 200

        slugs = [body_of(alice.get(by("sku", item["sku"])))["slug"] for item in items]
        assert slugs == ["oak-chair", "oak-chair-s-1", "oak-chair-s-2", "seat"]

    @pytest.mark.parametrize(("key", "value"), [("slug", "seat"), ("gtin", "4006381333931"), ("external_id", "erp-1")])
    def test_fail_by_themselves_where_a_key_is_taken(
        self, alice: Caller, chair: Make, make_product: Make, key: str, value: str
    ) -> None:
        make_product(**{key: value})
        make_product(sku="there")
        items = [chair(sku="A", **{key: value}), {"sku": "there", key: value}, chair(sku="B")]

        batch = body_of(alice.post("/products/bulk", {"mode": "partial", "items": items}))

        assert [item["status"] for item in batch["items"]] == ["failed", "failed", "created"]
        for number in (0, 1):
            problem = batch["items"][number]["problem"]
            assert [(fault["pointer"], fault["code"]) for fault in problem["errors"]] == [
                (f"/items/{number}/{key}", f"{key}_taken")
            ]

    def test_fail_by_themselves_where_two_state_one_key(self, alice: Caller, chair: Make) -> None:
        items = [chair(sku=sku, gtin=gtin) for sku, gtin in (("A", "036000291452"), ("B", "0036000291452"))]

        batch = body_of(alice.post("/products/bulk", {"mode": "partial", "items": items}))

        assert [item["status"] for item in batch["items"]] == ["created", "failed"]
        assert (
            code_of(alice.post("/products/bulk", {"items": [chair(sku="C", gtin="036000291452")]})) == "batch_refused"
        )

    def test_have_a_key_that_only_a_refused_row_stated(self, alice: Caller, chair: Make, make_product: Make) -> None:
        make_product(gtin="4006381333931")
        items = [
            chair(sku="A", gtin="4006381333931", external_id="only"),
            chair(sku="B", external_id="only"),
            chair(sku="C", name="Seat"),
            chair(sku="D", slug="seat"),
        ]

        batch = body_of(alice.post("/products/bulk", {"mode": "partial", "items": items}))

        assert [item["status"] for item in batch["items"]] == ["failed", "created", "created", "created"]
        assert body_of(alice.get(by("slug", "seat")))["sku"] == "D"

    def test_give_a_key_to_the_first_whether_it_is_new_or_not(
        self, alice: Caller, chair: Make, make_product: Make
    ) -> None:
        make_product(sku="there")
        items = [{"sku": "there", "external_id": "one"}, chair(sku="new", external_id="one")]

        batch = body_of(alice.post("/products/bulk", {"mode": "partial", "items": items}))

        assert [item["status"] for item in batch["items"]] == ["updated", "failed"]

    def test_keep_the_slugs_that_they_give_up(self, alice: Caller, make_product: Make) -> None:
        product = make_product(slug="first", sku="A")

        alice.post("/products/bulk", {"items": [{"sku": "A", "slug": "second"}]})

        assert alice.get(by("slug", "first")).headers["Location"].endswith("/second")
        assert slug_of(alice, product) == "second"
