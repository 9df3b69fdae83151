"""Categories and brands by a slug or by the id of another system."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Caller, body_of, code_of, faults_of

Make = Callable[..., dict[str, Any]]

pytestmark = pytest.mark.parametrize("rows", ["categories", "brands"])


@pytest.fixture
def make(request: pytest.FixtureRequest, rows: str) -> Make:
    """Make a row of the collection."""
    fixture: Make = request.getfixturevalue({"categories": "make_category", "brands": "make_brand"}[rows])
    return fixture


@pytest.mark.parametrize(("key", "value"), [("slug", "seats"), ("external_id", "erp/12")])
class TestByKey:
    @pytest.fixture
    def path(self, rows: str, key: str, value: str) -> str:
        """The path of the row with this key."""
        return f"/{rows}/by/{key}/{value}"

    @pytest.fixture
    def given(self, key: str, value: str) -> dict[str, str]:
        """The key as a member."""
        return {key: value}

    def test_is_read_and_patched(
        self, alice: Caller, bob: Caller, make: Make, path: str, given: dict[str, str]
    ) -> None:
        row = make(**given)

        assert body_of(bob.get(path)) == row
        assert bob.patch(path, {"name": "Mine"}).status_code == 403
        assert alice.patch(path, {"name": "New"}, if_match=None).status_code == 428
        assert body_of(alice.patch(path, {"name": "New"}, if_match='"1"'))["name"] == "New"

    def test_is_deleted(self, root: Caller, make: Make, path: str, given: dict[str, str]) -> None:
        make(**given)

        assert root.delete(path, if_match='"2"').status_code == 412
        assert root.delete(path, if_match='"1"').status_code == 204
        assert root.get(path).status_code == 404

    def test_is_put(self, alice: Caller, path: str, rows: str, key: str, value: str) -> None:
        made = alice.put(path, {"name": "Seats"}, if_match=None)
        replaced = alice.put(path, {"name": "Stools"}, if_match=None)
        same = alice.put(path, {"name": "Stools"}, if_match='"2"')

        assert [answer.status_code for answer in (made, replaced, same)] == [201, 200, 200]
        assert made.headers["Location"] == f"/api/v1/{rows}/{body_of(made)['id']}"
        assert (body_of(made)[key], body_of(replaced)["name"]) == (value, "Stools")
        assert body_of(same) == body_of(replaced)
        assert alice.put(path, {"name": "Stools"}, if_match='"1"').status_code == 412
        assert alice.put(path, {"name": "Stools"}, if_match=None, headers={"If-None-Match": "*"}).status_code == 412
        assert faults_of(alice.put(path, {"name": "Stools", key: "other"}, if_match=None)) == [
            (f"/{key}", "key_differs")
        ]

    def test_that_another_has_is_refused(self, alice: Caller, make: Make, rows: str, key: str, value: str) -> None:
        make(**{key: value})
        other = make()

        assert code_of(alice.post(f"/{rows}", {"name": "Other", key: value})) == f"{key}_taken"
        assert code_of(alice.patch(f"/{rows}/{other['id']}", {key: value})) == f"{key}_taken"


class TestFormerSlugs:
    def test_lead_to_the_row_and_are_reserved(self, alice: Caller, bob: Caller, make: Make, rows: str) -> None:
        row, other = make(slug="first"), make()
        alice.patch(f"/{rows}/{row['id']}", {"slug": "second"})

        moved = bob.get(f"/{rows}/by/slug/first")
        assert (moved.status_code, moved.headers["Location"]) == (308, f"/api/v1/{rows}/by/slug/second")
        assert code_of(alice.post(f"/{rows}", {"name": "Other", "slug": "first"})) == "slug_taken"
        assert code_of(alice.patch(f"/{rows}/{other['id']}", {"slug": "first"})) == "slug_taken"
        assert body_of(alice.post(f"/{rows}", {"name": "First"}))["slug"] == "first-2"
        assert body_of(alice.patch(f"/{rows}/{row['id']}", {"slug": "first"}))["slug"] == "first"

    def test_of_a_deleted_row_are_free_again(self, root: Caller, make: Make, rows: str) -> None:
        row = make(slug="first")
        root.patch(f"/{rows}/{row['id']}", {"slug": "second"})
        root.delete(f"/{rows}/{row['id']}")

        assert root.get(f"/{rows}/by/slug/first").status_code == 404
        other = body_of(root.post(f"/{rows}", {"name": "First"}))
        assert other["slug"] == "first"
        root.patch(f"/{rows}/{other['id']}", {"slug": "third"})
        assert root.get(f"/{rows}/by/slug/first").headers["Location"].endswith("/third")
