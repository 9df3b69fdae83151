"""Product types over HTTP, end to end."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tests.conftest import Caller, body_of, code_of, faults_of, rows_of

Make = Callable[..., dict[str, Any]]


def codes_of(answer: TestResponse) -> list[str]:
    """The codes of the listed types, in their order."""
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return [item["code"] for item in body_of(answer)["items"]]


@pytest.fixture(autouse=True)
def _attributes(make_attribute: Make) -> None:
    make_attribute(code="colour", type="choice")
    make_attribute(code="finish", type="choices")
    make_attribute(code="width", type="integer")


class TestCreateProductType:
    def test_makes_what_is_found_at_its_location(self, alice: Caller, bob: Caller) -> None:
        listed = [{"code": "width", "required": True}, {"code": "colour", "is_option": True}, {"code": "finish"}]

        answer = alice.post("/product-types", {"code": "chair", "label": "Chair", "attributes": listed})

        product_type = body_of(answer)
        assert (answer.status_code, answer.headers["ETag"]) == (201, '"1"')
        assert product_type == {
            "id": product_type["id"],
            "code": "chair",
            "label": "Chair",
            "attributes": [
                {"code": "width", "position": 0, "required": True, "is_option": False},
                {"code": "colour", "position": 1, "required": False, "is_option": True},
                {"code": "finish", "position": 2, "required": False, "is_option": False},
            ],
            "created_at": product_type["created_at"],
            "updated_at": product_type["created_at"],
            "version": 1,
        }
        assert body_of(bob.get(answer.headers["Location"].removeprefix("/api/v1"))) == product_type

    def test_refuses_a_code_that_another_has(self, alice: Caller, make_type: Make) -> None:
        make_type(code="chair")

        answer = alice.post("/product-types", {"code": "chair", "label": "Seat"})

        assert (answer.status_code, code_of(answer)) == (409, "product_type_code_taken")

    @pytest.mark.parametrize("method", ["post", "patch"])
    @pytest.mark.parametrize(
        ("listed", "faults"),
        [
            (["depth", "width", "height"], [(f"/attributes/{place}/code", "attribute_unknown") for place in (0, 2)]),
            (["width", "width"], [("/attributes/1/code", "repeated")]),
            (["Width"], [("/attributes/0/code", "malformed")]),
            ([{"code": "finish", "is_option": True}], [("/attributes/0/is_option", "option_not_single")]),
            ([{"code": "width", "position": 0}], [("/attributes/0/position", "unknown_field")]),
            ([{"required": True}], [("/attributes/0/code", "required")]),
            ([{"code": "width", "required": None}], [("/attributes/0/required", "null")]),
            ([f"a{number}" for number in range(101)], [("/attributes", "too_many")]),
        ],
        ids=["unknown", "twice", "malformed", "option", "position", "code", "null", "many"],
    )
    def test_refuses_a_list_that_is_wrong(
        self, alice: Caller, make_type: Make, method: str, listed: list[Any], faults: list[tuple[str, str]]
    ) -> None:
        attributes = [{"code": each} if isinstance(each, str) else each for each in listed]
        path = "/product-types" if method == "post" else f"/product-types/{make_type(code='chair')['id']}"

        answer = getattr(alice, method)(path, {"code": "chair", "label": "Chair", "attributes": attributes})

        assert faults_of(answer) == faults

    def test_takes_as_many_attributes_as_a_product_has(self, make_attribute: Make, make_type: Make) -> None:
        codes = [make_attribute()["code"] for _ in range(100)]

        listed = make_type(attributes=[{"code": code} for code in codes])["attributes"]

        assert [each["code"] for each in listed] == codes

    def test_is_for_editors_and_deleting_for_administrators(
        self, alice: Caller, bob: Caller, root: Caller, make_type: Make
    ) -> None:
        path = f"/product-types/{make_type()['id']}"

        assert bob.post("/product-types", {"code": "mine", "label": "Mine"}).status_code == 403
        assert bob.patch(path, {"label": "Mine"}).status_code == 403
        assert alice.delete(path).status_code == 403
        assert root.delete(path).status_code == 204


class TestUpdateProductType:
    def test_changes_what_is_stated(self, alice: Caller, make_type: Make) -> None:
        product_type = make_type(attributes=[{"code": "width"}])

        changed = body_of(alice.patch(f"/product-types/{product_type['id']}", {"label": "Seat"}, if_match='"1"'))

        assert changed == {**product_type, "label": "Seat", "version": 2, "updated_at": changed["updated_at"]}

    def test_replaces_the_whole_list(self, alice: Caller, make_type: Make) -> None:
        path = f"/product-types/{make_type(attributes=[{'code': 'width'}, {'code': 'colour'}])['id']}"

        changed = body_of(alice.patch(path, {"attributes": [{"code": "finish"}, {"code": "width"}]}))
        replaced = body_of(alice.put(path, {"label": "Seat"}))

        assert [(each["code"], each["position"]) for each in changed["attributes"]] == [("finish", 0), ("width", 1)]
        assert replaced["attributes"] == []

    def test_lets_go_of_what_it_lists_no_more(self, root: Caller, make_type: Make) -> None:
        path = f"/product-types/{make_type(attributes=[{'code': 'width'}, {'code': 'colour'}])['id']}"

        root.patch(path, {"attributes": [{"code": "colour"}, {"code": "finish"}]})

        statuses = {
            code: root.delete(f"/attributes/by/code/{code}").status_code for code in ("width", "colour", "finish")
        }
        assert statuses == {"width": 204, "colour": 409, "finish": 409}

    @pytest.mark.parametrize("method", ["patch", "put"])
    def test_takes_the_code_as_it_is_and_no_other(self, alice: Caller, make_type: Make, method: str) -> None:
        path, send = f"/product-types/{make_type(code='chair')['id']}", getattr(alice, method)

        assert send(path, {"label": "Seat", "code": "chair"}).status_code == 200
        assert faults_of(send(path, {"label": "Seat", "code": "seat"})) == [("/code", "cannot_change")]

    def test_leaves_the_row_as_it_is_where_nothing_changes(self, alice: Caller, make_type: Make) -> None:
        product_type = make_type(attributes=[{"code": "width"}])

        same = alice.patch(f"/product-types/{product_type['id']}", {"attributes": [{"code": "width"}]})

        assert body_of(same) == product_type


class TestByCode:
    def test_is_read_and_patched(self, alice: Caller, bob: Caller, make_type: Make) -> None:
        product_type = make_type(code="chair")

        assert body_of(bob.get("/product-types/by/code/chair")) == product_type
        assert bob.get("/product-types/by/code/table").status_code == 404
        assert body_of(alice.patch("/product-types/by/code/chair", {"label": "S"}, if_match='"1"'))["label"] == "S"

    def test_is_created_or_replaced(self, alice: Caller) -> None:
        path = "/product-types/by/code/chair"

        made = alice.put(path, {"label": "Chair", "attributes": [{"code": "width"}]}, if_match=None)
        replaced = alice.put(path, {"label": "Seat"}, if_match=None)

        assert [answer.status_code for answer in (made, replaced)] == [201, 200]
        assert made.headers["Location"] == f"/api/v1/product-types/{body_of(made)['id']}"
        assert (body_of(replaced)["label"], body_of(replaced)["attributes"]) == ("Seat", [])
        assert faults_of(alice.put(path, {"label": "Seat", "code": "seat"}, if_match=None)) == [
            ("/code", "key_differs")
        ]

    def test_is_deleted(self, app: Flask, root: Caller, make_type: Make) -> None:
        make_type(code="chair", attributes=[{"code": "width"}])

        assert root.delete("/product-types/by/code/chair", if_match='"1"').status_code == 204
        assert rows_of(app, "product_types") == []


class TestListProductTypes:
    @pytest.fixture(autouse=True)
    def _rows(self, make_type: Make) -> None:
        for code, label in (("chair", "Stuhl"), ("table", "Tisch"), ("armchair", "Fauteuil für Élan")):
            make_type(code=code, label=label)

    @pytest.mark.parametrize(
        ("query", "codes"),
        [
            ("", ["armchair", "chair", "table"]),
            ("order=desc", ["table", "chair", "armchair"]),
            ("sort_by=code&order=desc", ["table", "chair", "armchair"]),
            ("sort_by=created_at", ["chair", "table", "armchair"]),
            ("sort_by=updated_at&order=desc", ["armchair", "table", "chair"]),
            ("sort_by=id", ["chair", "table", "armchair"]),
            ("code=table,chair", ["chair", "table"]),
            ("search=elan", ["armchair"]),
            ("search=chair", ["armchair", "chair"]),
            ("created_since=2020-01-01T00:00:00Z", ["armchair", "chair", "table"]),
            ("updated_since=2999-01-01T00:00:00Z", []),
        ],
    )
    def test_filters_sorts_and_searches(self, bob: Caller, query: str, codes: list[str]) -> None:
        assert codes_of(bob.get(f"/product-types?{query}")) == codes

    @pytest.mark.parametrize("sort_by", ["label", "code", "created_at", "updated_at", "id"])
    def test_walks_by_cursor(self, bob: Caller, sort_by: str) -> None:
        first = body_of(bob.get(f"/product-types?cursor=&per_page=2&sort_by={sort_by}"))
        second = body_of(bob.get(first["links"]["next"].removeprefix("/api/v1")))

        assert len({item["id"] for item in first["items"] + second["items"]}) == 3

    def test_finds_by_several_ids(self, bob: Caller) -> None:
        first, *_, last = body_of(bob.get("/product-types?sort_by=id"))["items"]

        found = bob.get(f"/product-types?id={last['id']},{first['id']}&sort_by=id")

        assert codes_of(found) == [first["code"], last["code"]]


class TestWhatFollows:
    def test_the_change_feed_has_each_change(self, root: Caller, bob: Caller, make_type: Make) -> None:
        cursor = body_of(bob.get("/events?from=now"))["meta"]["next_cursor"]
        product_type = make_type()
        root.patch(f"/product-types/{product_type['id']}", {"attributes": [{"code": "width"}]})
        changed = body_of(root.get(f"/product-types/{product_type['id']}"))

        events = body_of(bob.get(f"/events?cursor={cursor}&types=product_type.*"))["items"]
        root.delete(f"/product-types/{product_type['id']}")
        last = body_of(bob.get(f"/events?cursor={cursor}"))["items"][-1]

        assert [(event["type"], event["version"], event["data"]) for event in events] == [
            ("product_type.created", 1, changed),
            ("product_type.updated", 2, changed),
        ]
        assert (last["type"], last["data"]) == ("product_type.deleted", None)

    def test_the_audit_trail_has_before_and_after(self, alice: Caller, root: Caller, make_type: Make) -> None:
        product_type = make_type()
        alice.patch(f"/product-types/{product_type['id']}", {"attributes": [{"code": "width"}]})

        (event,) = body_of(root.get("/audit-events?action=product_type.updated"))["items"]

        assert event["before"]["attributes"] == []
        assert [each["code"] for each in event["after"]["attributes"]] == ["width"]

    def test_a_dry_run_leaves_nothing(self, app: Flask, alice: Caller) -> None:
        content = {"code": "chair", "label": "Chair", "attributes": [{"code": "width"}]}

        answer = alice.post("/product-types?dry_run=true", content)

        assert (answer.status_code, answer.headers["Dry-Run"]) == (201, "true")
        assert rows_of(app, "product_types") == []

    def test_links_lead_to_what_the_caller_may_do(self, alice: Caller, bob: Caller, make_type: Make) -> None:
        path = f"/product-types/{make_type()['id']}?include=links"

        assert body_of(bob.get(path))["links"].keys() == {"self"}
        assert body_of(alice.get(path))["links"].keys() == {"self", "edit"}
