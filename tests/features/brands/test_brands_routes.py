"""Brands over HTTP, end to end."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tests.conftest import Caller, body_of, code_of, faults_of, rows_of

Make = Callable[..., dict[str, Any]]


def names_of(answer: TestResponse) -> list[str]:
    """The names of the listed brands, in their order."""
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return [item["name"] for item in body_of(answer)["items"]]


class TestCreateBrand:
    def test_makes_what_is_found_at_its_location(self, alice: Caller, bob: Caller) -> None:
        answer = alice.post("/brands", {"name": "Oak & Sons"})

        brand = body_of(answer)
        assert (answer.status_code, answer.headers["ETag"]) == (201, '"1"')
        assert brand == {
            "id": brand["id"],
            "name": "Oak & Sons",
            "slug": "oak-and-sons",
            "website": None,
            "external_id": None,
            "created_at": brand["created_at"],
            "updated_at": brand["created_at"],
            "version": 1,
        }
        assert body_of(bob.get(answer.headers["Location"].removeprefix("/api/v1"))) == brand

    def test_refuses_a_name_that_another_has(self, alice: Caller, make_brand: Make) -> None:
        make_brand(name="Oakworks")

        assert code_of(alice.post("/brands", {"name": "Oakworks"})) == "brand_name_taken"
        assert code_of(alice.post("/brands", {"name": "Oakworks", "slug": "other"})) == "brand_name_taken"
        assert alice.post("/brands", {"name": "OakWorks"}).status_code == 201

    @pytest.mark.parametrize(
        "website",
        [
            "https://oakworks.example",
            "http://oakworks.example/",
            "HTTPS://www.oakworks.example:8443/chairs?by=name&in=de#top",
            "https://192.0.2.1/a%20b/[1]",
            "https://xn--mbel-5qa.example/~oak_works",
        ],
    )
    def test_takes_the_address_of_a_website(self, make_brand: Make, website: str) -> None:
        assert make_brand(website=website)["website"] == website

    @pytest.mark.parametrize(
        "website",
        [
            "oakworks.example",
            "www.oakworks.example",
            "//oakworks.example",
            "/chairs",
            "ftp://oakworks.example",
            "javascript:alert(1)",
            "https:oakworks.example",
            "https://",
            "https:///chairs",
            "https://?oak",
            "https://.example",
            "https://user:secret@oakworks.example",
            "https://oakworks.example@evil.example/",
            "https://oakworks.example:port/",
            "https://oakworks.example/a b",
            "https://oakworks.example/\n",
            'https://oakworks.example/">',
            "https://möbel.example/",
            " https://oakworks.example",
        ],
    )
    def test_refuses_what_is_no_address_of_a_website(self, alice: Caller, website: str) -> None:
        answer = alice.post("/brands", {"name": "Oakworks", "website": website})

        assert faults_of(answer) == [("/website", "malformed")]

    def test_is_for_editors_and_deleting_for_administrators(
        self, alice: Caller, bob: Caller, root: Caller, make_brand: Make
    ) -> None:
        path = f"/brands/{make_brand()['id']}"

        assert bob.post("/brands", {"name": "Mine"}).status_code == 403
        assert bob.patch(path, {"name": "Mine"}).status_code == 403
        assert alice.delete(path).status_code == 403
        assert root.delete(path).status_code == 204


class TestUpdateBrand:
    def test_changes_what_is_stated(self, alice: Caller, make_brand: Make) -> None:
        brand = make_brand(name="Oakworks", website="https://oakworks.example", external_id="erp-1")

        answer = alice.patch(f"/brands/{brand['id']}", {"website": None, "name": "Oak Works"}, if_match='"1"')

        changed = body_of(answer)
        assert changed == {
            **brand,
            "website": None,
            "name": "Oak Works",
            "version": 2,
            "updated_at": changed["updated_at"],
        }
        assert alice.patch(f"/brands/{brand['id']}", {"name": "Oak"}, if_match='"1"').status_code == 412

    def test_by_put_replaces_all_but_the_slug(self, alice: Caller, make_brand: Make) -> None:
        brand = make_brand(name="Oakworks", slug="oak", website="https://oakworks.example", external_id="erp-1")

        changed = body_of(alice.put(f"/brands/{brand['id']}", {"name": "Oak Works"}))

        assert (changed["slug"], changed["website"], changed["external_id"]) == ("oak", None, None)

    def test_refuses_a_name_that_another_has(self, alice: Caller, make_brand: Make) -> None:
        make_brand(name="Oakworks")
        other = make_brand()

        assert code_of(alice.patch(f"/brands/{other['id']}", {"name": "Oakworks"})) == "brand_name_taken"
        assert code_of(alice.put("/brands/by/external_id/erp-9", {"name": "Oakworks"}, if_match=None)) == (
            "brand_name_taken"
        )


class TestDeleteBrand:
    def test_removes_the_row(self, app: Flask, root: Caller, make_brand: Make) -> None:
        brand = make_brand()

        assert root.delete(f"/brands/{brand['id']}", if_match='"1"').status_code == 204
        assert rows_of(app, "brands") == []
        assert root.delete(f"/brands/{brand['id']}").status_code == 404
        assert make_brand()["id"] > brand["id"]

    @pytest.mark.parametrize("path", ["/brands/{id}", "/brands/by/slug/{slug}"])
    def test_refuses_a_brand_of_products_and_of_deleted_ones(
        self, root: Caller, make_brand: Make, make_product: Make, path: str
    ) -> None:
        brand = make_brand()
        product = make_product(brand_id=brand["id"])

        assert code_of(root.delete(path.format(**brand))) == "brand_in_use"
        root.delete(f"/products/{product['id']}")
        assert code_of(root.delete(path.format(**brand))) == "brand_in_use"


class TestListBrands:
    @pytest.fixture(autouse=True)
    def _rows(self, make_brand: Make) -> None:
        for name, external_id in (("Oakworks", "erp-1"), ("Ash & Élan", "erp,2"), ("Hearth", None)):
            make_brand(name=name, external_id=external_id)

    @pytest.mark.parametrize(
        ("query", "names"),
        [
            ("", ["Ash & Élan", "Hearth", "Oakworks"]),
            ("order=desc", ["Oakworks", "Hearth", "Ash & Élan"]),
            ("sort_by=slug", ["Ash & Élan", "Hearth", "Oakworks"]),
            ("sort_by=created_at", ["Oakworks", "Ash & Élan", "Hearth"]),
            ("sort_by=updated_at&order=desc", ["Hearth", "Ash & Élan", "Oakworks"]),
            ("sort_by=id", ["Oakworks", "Ash & Élan", "Hearth"]),
            ("slug=hearth,oakworks", ["Hearth", "Oakworks"]),
            ("external_id=erp%5C,2&external_id=erp-1", ["Ash & Élan", "Oakworks"]),
            ("search=elan+ash", ["Ash & Élan"]),
            ("search=works", ["Oakworks"]),
            ("search=oak+ash", []),
            ("created_since=2020-01-01T00:00:00Z", ["Ash & Élan", "Hearth", "Oakworks"]),
            ("updated_since=2999-01-01T00:00:00Z", []),
        ],
    )
    def test_filters_sorts_and_searches(self, bob: Caller, query: str, names: list[str]) -> None:
        assert names_of(bob.get(f"/brands?{query}")) == names

    @pytest.mark.parametrize("sort_by", ["name", "slug", "created_at", "updated_at", "id"])
    def test_walks_by_cursor(self, bob: Caller, sort_by: str) -> None:
        first = body_of(bob.get(f"/brands?cursor=&per_page=2&sort_by={sort_by}"))
        second = body_of(bob.get(first["links"]["next"].removeprefix("/api/v1")))

        assert len({item["id"] for item in first["items"] + second["items"]}) == 3

    def test_finds_by_several_ids(self, bob: Caller) -> None:
        first, *_, last = body_of(bob.get("/brands?sort_by=id"))["items"]

        assert names_of(bob.get(f"/brands?id={last['id']},{first['id']}&sort_by=id")) == [first["name"], last["name"]]

    def test_shows_a_renamed_brand_under_its_new_words(self, alice: Caller) -> None:
        (brand,) = body_of(alice.get("/brands?search=hearth"))["items"]
        alice.patch(f"/brands/{brand['id']}", {"name": "Stove", "slug": "stove"})

        assert names_of(alice.get("/brands?search=stove")) == ["Stove"]
        assert names_of(alice.get("/brands?search=hearth")) == []


class TestLinks:
    def test_lead_to_the_products_of_the_brand(
        self, alice: Caller, bob: Caller, make_brand: Make, make_product: Make
    ) -> None:
        brand = make_brand()
        product = make_product(brand_id=brand["id"])
        make_product()

        links = body_of(bob.get(f"/brands/{brand['id']}?include=links"))["links"]

        found = body_of(bob.get(links["products"].removeprefix("/api/v1")))
        assert [item["id"] for item in found["items"]] == [product["id"]]
        assert links.keys() == {"self", "products"}
        assert body_of(alice.get(f"/brands/{brand['id']}?include=links"))["links"].keys() == {
            "self",
            "products",
            "edit",
        }


class TestWhatFollows:
    def test_the_change_feed_has_each_change(self, root: Caller, bob: Caller, make_brand: Make) -> None:
        cursor = body_of(bob.get("/events?from=now"))["meta"]["next_cursor"]
        brand = make_brand()
        root.patch(f"/brands/{brand['id']}", {"name": "Oakworks"})
        renamed = body_of(root.get(f"/brands/{brand['id']}"))

        events = body_of(bob.get(f"/events?cursor={cursor}"))["items"]
        root.delete(f"/brands/{brand['id']}")
        last = body_of(bob.get(f"/events?cursor={cursor}"))["items"][-1]

        assert [(event["type"], event["version"], event["data"]) for event in events] == [
            ("brand.created", 1, renamed),
            ("brand.updated", 2, renamed),
        ]
        assert (last["type"], last["data"]) == ("brand.deleted", None)

    def test_the_audit_trail_has_before_and_after(self, alice: Caller, root: Caller, make_brand: Make) -> None:
        brand = make_brand(name="Oakworks")
        alice.patch(f"/brands/{brand['id']}", {"name": "Oak Works"})

        (event,) = body_of(root.get("/audit-events?action=brand.updated"))["items"]

        assert (event["before"]["name"], event["after"]["name"]) == ("Oakworks", "Oak Works")

    def test_a_dry_run_leaves_nothing(self, app: Flask, alice: Caller) -> None:
        answer = alice.post("/brands?dry_run=true", {"name": "Oakworks"})

        assert (answer.status_code, answer.headers["Dry-Run"]) == (201, "true")
        assert rows_of(app, "brands") == []
