"""Categories over HTTP, end to end."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tests.conftest import Caller, body_of, code_of, faults_of, rows_of

Make = Callable[..., dict[str, Any]]


def slugs_of(answer: TestResponse) -> list[str]:
    """The slugs of the listed categories, in their order."""
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return [item["slug"] for item in body_of(answer)["items"]]


class TestCreateCategory:
    def test_answers_201_with_location_and_etag(self, alice: Caller) -> None:
        answer = alice.post("/categories", {"name": "Chairs"})

        assert answer.status_code == 201
        assert answer.headers["Location"] == f"/api/v1/categories/{body_of(answer)['id']}"
        assert answer.headers["ETag"] == '"1"'

    def test_makes_a_root_unless_told_otherwise(self, alice: Caller) -> None:
        category = body_of(alice.post("/categories", {"name": "Chairs"}))

        assert category == {
            "id": category["id"],
            "name": "Chairs",
            "slug": "chairs",
            "external_id": None,
            "parent_id": None,
            "created_at": category["created_at"],
            "updated_at": category["created_at"],
            "version": 1,
        }

    def test_is_found_at_its_location(self, alice: Caller) -> None:
        answer = alice.post("/categories", {"name": "Chairs", "slug": "seats"})

        found = alice.get(answer.headers["Location"].removeprefix("/api/v1"))

        assert body_of(found) == body_of(answer)

    def test_files_it_under_its_parent(self, alice: Caller, make_category: Make) -> None:
        parent = make_category()

        child = body_of(alice.post("/categories", {"name": "Chairs", "parent_id": parent["id"]}))

        assert child["parent_id"] == parent["id"]

    @pytest.mark.parametrize(
        ("name", "slug"),
        [
            ("Outdoor furniture", "outdoor-furniture"),
            ("Café & Bar", "cafe-and-bar"),
            ("Tables&Chairs", "tables-and-chairs"),
            ("  Beds -- 90 × 200 ", "beds-90-200"),
            ("Straßenmöbel", "strassenmobel"),
            ("Ｗｉｄｅ", "wide"),
            ("ﬁne things", "fine-things"),
            ("家具", "category"),
            ("!!!", "category"),
            ("家具 42", "42"),
            ("x" * 120, "x" * 120),
            ("ﷺ" * 120, "category"),
        ],
    )
    def test_makes_a_slug_of_the_name(self, make_category: Make, name: str, slug: str) -> None:
        assert make_category(name=name)["slug"] == slug

    def test_keeps_a_slug_within_its_length(self, make_category: Make) -> None:
        slug = make_category(name="½" * 120)["slug"]  # each is folded to three characters

        assert len(slug) <= 120
        assert not slug.endswith("-")

    def test_numbers_the_slugs_of_equal_names(self, make_category: Make) -> None:
        slugs = [make_category(name=name)["slug"] for name in ("Chairs", "chairs", "CHAIRS!", "Chairs 2")]

        assert slugs == ["chairs", "chairs-2", "chairs-3", "chairs-2-2"]

    def test_fills_a_gap_in_the_numbers(self, root: Caller, make_category: Make) -> None:
        made = [make_category(name="Chairs") for _ in range(3)]
        root.delete(f"/categories/{made[1]['id']}")

        assert make_category(name="Chairs")["slug"] == "chairs-2"

    def test_refuses_a_slug_that_another_has(self, app: Flask, alice: Caller, make_category: Make) -> None:
        make_category(slug="chairs")
        before = rows_of(app, "categories")

        answer = alice.post("/categories", {"name": "Other chairs", "slug": "chairs"})

        assert answer.status_code == 409
        assert code_of(answer) == "slug_taken"
        assert rows_of(app, "categories") == before

    @pytest.mark.parametrize("parent_id", [2**40, 2**63 - 1])
    def test_refuses_an_unknown_parent(self, alice: Caller, parent_id: int) -> None:
        answer = alice.post("/categories", {"name": "Chairs", "parent_id": parent_id})

        assert code_of(answer) == "parent_unknown"
        assert faults_of(answer) == [("/parent_id", "parent_unknown")]

    @pytest.mark.parametrize(
        ("members", "where", "code"),
        [
            ({}, "/name", "required"),
            ({"name": None}, "/name", "null"),
            ({"name": ""}, "/name", "too_short"),
            ({"name": "\u2003"}, "/name", "malformed"),
            ({"name": "x" * 121}, "/name", "too_long"),
            ({"name": "two\nlines"}, "/name", "malformed"),
            ({"name": 1}, "/name", "invalid"),
            ({"name": "x", "slug": None}, "/slug", "null"),
            ({"name": "x", "slug": ""}, "/slug", "too_short"),
            ({"name": "x", "slug": "Chairs"}, "/slug", "malformed"),
            ({"name": "x", "slug": "-chairs"}, "/slug", "malformed"),
            ({"name": "x", "slug": "chairs-"}, "/slug", "malformed"),
            ({"name": "x", "slug": "a--b"}, "/slug", "malformed"),
            ({"name": "x", "slug": "stühle"}, "/slug", "malformed"),
            ({"name": "x", "slug": "x" * 141}, "/slug", "too_long"),
            ({"name": "x", "parent_id": 0}, "/parent_id", "too_small"),
            ({"name": "x", "parent_id": "1"}, "/parent_id", "invalid"),
            ({"name": "x", "parent_id": True}, "/parent_id", "invalid"),
            ({"name": "x", "id": 1}, "/id", "unknown_field"),
            ({"name": "x", "version": 1}, "/version", "unknown_field"),
            ({"name": "x", "children": []}, "/children", "unknown_field"),
        ],
        ids=lambda value: str(value)[:40],
    )
    def test_refuses_what_is_out_of_form(self, alice: Caller, members: dict[str, Any], where: str, code: str) -> None:
        assert faults_of(alice.post("/categories", members)) == [(where, code)]

    def test_refuses_plain_users(self, bob: Caller) -> None:
        answer = bob.post("/categories", {"name": "Chairs"})

        assert answer.status_code == 403
        assert body_of(answer)["permission"] == "categories:write"


class TestReadCategory:
    def test_answers_with_the_etag_of_the_version(self, bob: Caller, alice: Caller, make_category: Make) -> None:
        category = make_category()
        alice.patch(f"/categories/{category['id']}", {"name": "Seats"})

        answer = bob.get(f"/categories/{category['id']}")

        assert answer.status_code == 200
        assert answer.headers["ETag"] == '"2"'

    def test_is_304_for_who_holds_the_version(self, bob: Caller, make_category: Make) -> None:
        answer = bob.get(f"/categories/{make_category()['id']}", headers={"If-None-Match": '"1"'})

        assert answer.status_code == 304
        assert answer.headers["ETag"] == '"1"'

    @pytest.mark.parametrize("category_id", ["9223372036854775807", "9223372036854775808", "0", "abc"])
    def test_is_404_for_what_is_not_there(self, bob: Caller, category_id: str) -> None:
        answer = bob.get(f"/categories/{category_id}")

        assert answer.status_code == 404
        assert code_of(answer) == "not_found"


class TestReplaceCategory:
    def test_keeps_the_slug_and_makes_a_root(self, alice: Caller, make_category: Make) -> None:
        category = make_category(name="Chairs", parent_id=make_category()["id"])

        replaced = body_of(alice.put(f"/categories/{category['id']}", {"name": "Seats"}))

        assert replaced == category | {
            "name": "Seats",
            "parent_id": None,
            "version": 2,
            "updated_at": replaced["updated_at"],
        }
        assert replaced["updated_at"] > category["updated_at"]

    def test_is_what_is_read_afterwards(self, alice: Caller, make_category: Make) -> None:
        category, parent = make_category(), make_category()

        answer = alice.put(
            f"/categories/{category['id']}", {"name": "Seats", "slug": "seats", "parent_id": parent["id"]}
        )

        assert answer.headers["ETag"] == '"2"'
        assert body_of(alice.get(f"/categories/{category['id']}")) == body_of(answer)

    def test_needs_the_name(self, alice: Caller, make_category: Make) -> None:
        answer = alice.put(f"/categories/{make_category()['id']}", {"slug": "seats"})

        assert faults_of(answer) == [("/name", "required")]

    def test_refuses_a_slug_that_another_has(self, alice: Caller, make_category: Make) -> None:
        make_category(slug="chairs")

        answer = alice.put(f"/categories/{make_category()['id']}", {"name": "Seats", "slug": "chairs"})

        assert answer.status_code == 409
        assert code_of(answer) == "slug_taken"

    def test_keeps_the_version_where_nothing_changes(self, alice: Caller, make_category: Make) -> None:
        category = make_category(name="Chairs")

        assert body_of(alice.put(f"/categories/{category['id']}", {"name": "Chairs"})) == category


class TestUpdateCategory:
    def test_changes_what_is_given_and_nothing_else(self, alice: Caller, make_category: Make) -> None:
        category = make_category(parent_id=make_category()["id"])

        changed = body_of(alice.patch(f"/categories/{category['id']}", {"name": "Seats"}))

        assert changed == category | {"name": "Seats", "version": 2, "updated_at": changed["updated_at"]}

    def test_moves_a_category(self, alice: Caller, make_category: Make) -> None:
        category, parent = make_category(), make_category()

        changed = body_of(alice.patch(f"/categories/{category['id']}", {"parent_id": parent["id"]}))

        assert changed["parent_id"] == parent["id"]

    def test_makes_a_root_by_null(self, alice: Caller, make_category: Make) -> None:
        category = make_category(parent_id=make_category()["id"])

        changed = body_of(alice.patch(f"/categories/{category['id']}", {"parent_id": None}))

        assert changed["parent_id"] is None

    @pytest.mark.parametrize("member", ["name", "slug"])
    def test_refuses_to_remove_what_must_be_there(self, alice: Caller, make_category: Make, member: str) -> None:
        answer = alice.patch(f"/categories/{make_category()['id']}", {member: None})

        assert faults_of(answer) == [(f"/{member}", "null")]

    def test_keeps_the_version_where_nothing_changes(self, alice: Caller, make_category: Make) -> None:
        category = make_category(parent_id=make_category()["id"])
        same = {name: category[name] for name in ("name", "slug", "parent_id")}

        assert body_of(alice.patch(f"/categories/{category['id']}", same)) == category

    def test_refuses_itself_as_its_parent(self, alice: Caller, make_category: Make) -> None:
        category = make_category()

        answer = alice.patch(f"/categories/{category['id']}", {"parent_id": category["id"]})

        assert answer.status_code == 409
        assert code_of(answer) == "category_cycle"

    @pytest.mark.parametrize("method", ["PUT", "PATCH"])
    @pytest.mark.parametrize("depth", [1, 3])
    def test_refuses_a_parent_from_below_itself(
        self, app: Flask, alice: Caller, make_category: Make, method: str, depth: int
    ) -> None:
        top = below = make_category()
        for _ in range(depth):
            below = make_category(parent_id=below["id"])
        before = rows_of(app, "categories")

        answer = alice.call(
            method,
            f"/categories/{top['id']}",
            json={"name": "Top", "parent_id": below["id"]},
            headers={"If-Match": "*"},
        )

        assert answer.status_code == 409
        assert code_of(answer) == "category_cycle"
        assert rows_of(app, "categories") == before

    def test_moves_a_branch_under_its_neighbour(self, alice: Caller, make_category: Make) -> None:
        top = make_category()
        left, right = make_category(parent_id=top["id"]), make_category(parent_id=top["id"])
        make_category(parent_id=left["id"])

        answer = alice.patch(f"/categories/{left['id']}", {"parent_id": right["id"]})

        assert body_of(answer)["parent_id"] == right["id"]

    def test_refuses_an_unknown_parent(self, alice: Caller, make_category: Make) -> None:
        answer = alice.patch(f"/categories/{make_category()['id']}", {"parent_id": 2**40})

        assert faults_of(answer) == [("/parent_id", "parent_unknown")]

    def test_refuses_a_slug_that_another_has(self, alice: Caller, make_category: Make) -> None:
        make_category(slug="chairs")

        answer = alice.patch(f"/categories/{make_category()['id']}", {"slug": "chairs"})

        assert answer.status_code == 409
        assert code_of(answer) == "slug_taken"

    def test_is_found_under_the_new_words_only(self, alice: Caller, make_category: Make) -> None:
        category = make_category(name="Chairs")

        alice.patch(f"/categories/{category['id']}", {"name": "Stools", "slug": "stools"})

        assert slugs_of(alice.get("/categories?search=stools")) == ["stools"]
        assert slugs_of(alice.get("/categories?search=chairs")) == []


class TestDeleteCategory:
    def test_removes_the_row(self, app: Flask, root: Caller, make_category: Make) -> None:
        category = make_category()

        answer = root.delete(f"/categories/{category['id']}", if_match='"1"')

        assert answer.status_code == 204
        assert answer.data == b""
        assert rows_of(app, "categories") == []

    def test_is_404_the_second_time(self, root: Caller, make_category: Make) -> None:
        category = make_category()
        root.delete(f"/categories/{category['id']}")

        assert root.delete(f"/categories/{category['id']}").status_code == 404

    def test_never_gives_its_id_to_another(self, root: Caller, make_category: Make) -> None:
        category = make_category()
        root.delete(f"/categories/{category['id']}")

        assert make_category()["id"] > category["id"]

    def test_refuses_while_a_product_is_filed_under_it(self, root: Caller, make_product: Make) -> None:
        product = make_product()

        answer = root.delete(f"/categories/{product['category_id']}")

        assert answer.status_code == 409
        assert code_of(answer) == "category_in_use"

    def test_refuses_while_a_deleted_product_is_filed_under_it(self, root: Caller, make_product: Make) -> None:
        product = make_product()
        root.delete(f"/products/{product['id']}")

        answer = root.delete(f"/categories/{product['category_id']}")

        assert answer.status_code == 409
        assert code_of(answer) == "category_in_use"

    def test_refuses_while_a_category_is_below_it(self, root: Caller, make_category: Make) -> None:
        parent = make_category()
        make_category(parent_id=parent["id"])

        answer = root.delete(f"/categories/{parent['id']}")

        assert answer.status_code == 409
        assert code_of(answer) == "category_in_use"

    def test_allows_it_once_nothing_is_filed_under_it(self, root: Caller, alice: Caller, make_product: Make) -> None:
        product = make_product()
        other = body_of(alice.post("/categories", {"name": "Other"}))
        alice.patch(f"/products/{product['id']}", {"category_id": other["id"]})

        assert root.delete(f"/categories/{product['category_id']}").status_code == 204

    def test_refuses_editors(self, alice: Caller, make_category: Make) -> None:
        answer = alice.delete(f"/categories/{make_category()['id']}")

        assert answer.status_code == 403
        assert body_of(answer)["permission"] == "categories:delete"


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
class TestIfMatch:
    @pytest.mark.parametrize(("tags", "status"), [(None, 428), ('"2"', 412), ("1", 400)])
    def test_is_required_and_must_fit(
        self, root: Caller, make_category: Make, method: str, tags: str | None, status: int
    ) -> None:
        headers = {} if tags is None else {"If-Match": tags}
        content = {} if method == "DELETE" else {"json": {"name": "Seats"}}

        answer = root.call(method, f"/categories/{make_category()['id']}", headers=headers, **content)

        assert answer.status_code == status

    @pytest.mark.parametrize("tags", ['"1"', 'W/"1"', "*"])
    def test_lets_the_version_that_was_read_pass(
        self, root: Caller, make_category: Make, method: str, tags: str
    ) -> None:
        content = {} if method == "DELETE" else {"json": {"name": "Seats"}}

        answer = root.call(method, f"/categories/{make_category()['id']}", headers={"If-Match": tags}, **content)

        assert answer.status_code in {200, 204}


class TestListCategories:
    @pytest.fixture
    def tree(self, make_category: Make) -> dict[str, int]:
        """Furniture, with chairs and tables, and bar stools below chairs; and lamps."""
        furniture = make_category(name="Furniture")
        chairs = make_category(name="Chairs", parent_id=furniture["id"])
        make_category(name="Tables & desks", parent_id=furniture["id"])
        make_category(name="Bar stools", parent_id=chairs["id"])
        make_category(name="École lamps", slug="lamps")
        return {"furniture": furniture["id"], "chairs": chairs["id"]}

    @pytest.mark.usefixtures("tree")
    def test_sorts_by_name(self, bob: Caller) -> None:
        assert slugs_of(bob.get("/categories")) == ["bar-stools", "chairs", "furniture", "tables-and-desks", "lamps"]

    @pytest.mark.parametrize(
        ("query", "slugs"),
        [
            ("parent_id={furniture}", ["chairs", "tables-and-desks"]),
            ("parent_id={chairs}", ["bar-stools"]),
            ("parent_id=9223372036854775807", []),
            ("slug=lamps", ["lamps"]),
            ("slug=lamp", []),
            ("slug=lamps,chairs,lamp", ["chairs", "lamps"]),
            ("parent_id={furniture},{chairs}", ["bar-stools", "chairs", "tables-and-desks"]),
            ("id={chairs}&id={furniture}", ["chairs", "furniture"]),
            ("below={chairs}", ["bar-stools", "chairs"]),
            ("below={chairs},{furniture}", ["bar-stools", "chairs", "furniture", "tables-and-desks"]),
            ("below={furniture}&search=desks", ["tables-and-desks"]),
            ("below=9223372036854775807", []),
            ("updated_since=2999-01-01T00:00:00Z", []),
            ("created_since=2000-01-01T00:00:00Z&slug=lamps", ["lamps"]),
            ("parent_id={furniture}&slug=lamps", []),
            ("parent_id={furniture}&search=desks", ["tables-and-desks"]),
        ],
    )
    def test_narrows_by_its_filters(self, bob: Caller, tree: dict[str, int], query: str, slugs: list[str]) -> None:
        assert slugs_of(bob.get(f"/categories?{query.format(**tree)}")) == slugs

    @pytest.mark.usefixtures("tree")
    @pytest.mark.parametrize(
        ("words", "slugs"),
        [
            ("chairs", ["chairs"]),
            ("STOOLS bar", ["bar-stools"]),
            ("desks tables", ["tables-and-desks"]),
            ("école", ["lamps"]),
            ("ecole LAMPS", ["lamps"]),
            ("&", ["tables-and-desks"]),
            ("%", []),
            ("_", []),
            ("\\", []),
            ("chairs lamps", []),
        ],
    )
    def test_finds_every_word_in_any_order(self, bob: Caller, words: str, slugs: list[str]) -> None:
        assert slugs_of(bob.get("/categories", query_string={"search": words})) == slugs

    @pytest.mark.parametrize("order", ["asc", "desc"])
    @pytest.mark.parametrize("sort_by", ["name", "slug", "created_at", "updated_at", "id"])
    def test_sorts_and_ends_in_the_id(self, bob: Caller, make_category: Make, sort_by: str, order: str) -> None:
        made = [make_category(name=name) for name in ("b", "a", "b", "B")]

        items = body_of(bob.get(f"/categories?sort_by={sort_by}&order={order}"))["items"]

        expected = sorted(made, key=lambda row: (row[sort_by], row["id"]), reverse=order == "desc")
        assert items == expected

    @pytest.mark.usefixtures("tree")
    def test_walks_every_page_once(self, bob: Caller) -> None:
        seen, path = [], "/categories?cursor=&per_page=2"

        while path:
            page = body_of(bob.get(path))
            seen += [item["slug"] for item in page["items"]]
            path = (page["links"]["next"] or "").removeprefix("/api/v1")

        assert seen == ["bar-stools", "chairs", "furniture", "tables-and-desks", "lamps"]

    @pytest.mark.usefixtures("tree")
    def test_counts_pages(self, bob: Caller) -> None:
        page = body_of(bob.get("/categories?page=2&per_page=2&fields=slug"))

        assert page["meta"] == {"page": 2, "per_page": 2, "total": 5, "pages": 3}
        assert page["items"] == [{"slug": "furniture"}, {"slug": "tables-and-desks"}]

    @pytest.mark.parametrize(
        ("query", "parameter", "code"),
        [
            ("parent_id=0", "parent_id", "too_small"),
            ("parent_id=null", "parent_id", "invalid"),
            ("slug=Lamps", "slug", "malformed"),
            ("sort_by=parent_id", "sort_by", "not_a_choice"),
            ("fields=search_text", "fields", "unknown_member"),
            ("name=x", "name", "unknown_parameter"),
        ],
    )
    def test_refuses_what_is_no_query(self, bob: Caller, query: str, parameter: str, code: str) -> None:
        assert faults_of(bob.get(f"/categories?{query}")) == [(parameter, code)]

    def test_may_be_kept_privately_and_must_be_asked_for_again(self, bob: Caller) -> None:
        answer = bob.get("/categories")

        assert answer.headers["Cache-Control"] == "private, no-cache"
        assert answer.headers["Vary"] == "Authorization, X-API-Key"
