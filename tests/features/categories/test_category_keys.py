"""Categories by a slug or by the id of another system."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Caller, body_of, code_of, faults_of

Make = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(("key", "value"), [("slug", "seats"), ("external_id", "erp/12")])
class TestByKey:
    def test_is_read_and_patched(self, alice: Caller, bob: Caller, make_category: Make, key: str, value: str) -> None:
        category, path = make_category(**{key: value}), f"/categories/by/{key}/{value}"

        assert body_of(bob.get(path)) == category
        assert bob.patch(path, {"name": "Mine"}).status_code == 403
        assert alice.patch(path, {"name": "New"}, if_match=None).status_code == 428
        assert body_of(alice.patch(path, {"name": "New"}, if_match='"1"'))["name"] == "New"

    def test_is_deleted(self, root: Caller, make_category: Make, key: str, value: str) -> None:
        path = f"/categories/by/{key}/{value}"
        make_category(**{key: value})

        assert root.delete(path, if_match='"2"').status_code == 412
        assert root.delete(path, if_match='"1"').status_code == 204
        assert root.get(path).status_code == 404

    def test_is_put(self, alice: Caller, make_category: Make, key: str, value: str) -> None:
        path, parent = f"/categories/by/{key}/{value}", make_category()

        made = alice.put(path, {"name": "Seats"}, if_match=None)
        replaced = alice.put(path, {"name": "Seats", "parent_id": parent["id"]}, if_match=None)
        same = alice.put(path, {"name": "Seats", "parent_id": parent["id"]}, if_match='"2"')

        assert [answer.status_code for answer in (made, replaced, same)] == [201, 200, 200]
        assert made.headers["Location"] == f"/api/v1/categories/{body_of(made)['id']}"
        assert (body_of(made)[key], body_of(replaced)["parent_id"]) == (value, parent["id"])
        assert body_of(same) == body_of(replaced)
        assert alice.put(path, {"name": "Seats"}, if_match=None, headers={"If-None-Match": "*"}).status_code == 412
        assert faults_of(alice.put(path, {"name": "Seats", key: "other"}, if_match=None)) == [
            (f"/{key}", "key_differs")
        ]

    def test_that_another_has_is_refused(self, alice: Caller, make_category: Make, key: str, value: str) -> None:
        make_category(**{key: value})
        other = make_category()

        assert code_of(alice.post("/categories", {"name": "Other", key: value})) == f"{key}_taken"
        assert code_of(alice.patch(f"/categories/{other['id']}", {key: value})) == f"{key}_taken"


class TestFormerSlugs:
    def test_lead_to_the_category_and_are_reserved(self, alice: Caller, bob: Caller, make_category: Make) -> None:
        category, other = make_category(slug="first"), make_category()
        alice.patch(f"/categories/{category['id']}", {"slug": "second"})

        assert bob.get("/categories/by/slug/first").headers["Location"] == "/api/v1/categories/by/slug/second"
        assert code_of(alice.post("/categories", {"name": "Other", "slug": "first"})) == "slug_taken"
        assert code_of(alice.patch(f"/categories/{other['id']}", {"slug": "first"})) == "slug_taken"
        assert body_of(alice.post("/categories", {"name": "First"}))["slug"] == "first-2"
        assert body_of(alice.patch(f"/categories/{category['id']}", {"slug": "first"}))["slug"] == "first"

    def test_of_a_deleted_category_are_free_again(self, root: Caller, make_category: Make) -> None:
        category = make_category(slug="first")
        root.patch(f"/categories/{category['id']}", {"slug": "second"})
        root.delete(f"/categories/{category['id']}")

        assert root.get("/categories/by/slug/first").status_code == 404
        other = body_of(root.post("/categories", {"name": "First"}))
        assert other["slug"] == "first"
        root.patch(f"/categories/{other['id']}", {"slug": "third"})
        assert root.get("/categories/by/slug/first").headers["Location"].endswith("/third")
