"""Attributes over HTTP, end to end."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tests.conftest import Caller, body_of, code_of, faults_of, rows_of

Make = Callable[..., dict[str, Any]]

RED = {"code": "red", "label": "Deep red"}


def codes_of(answer: TestResponse) -> list[str]:
    """The codes of the listed attributes, in their order."""
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return [item["code"] for item in body_of(answer)["items"]]


class TestCreateAttribute:
    def test_makes_what_is_found_at_its_location(self, alice: Caller, bob: Caller) -> None:
        answer = alice.post("/attributes", {"code": "width_cm", "label": "Width", "type": "integer", "unit": "cm"})

        attribute = body_of(answer)
        assert (answer.status_code, answer.headers["ETag"]) == (201, '"1"')
        assert attribute == {
            "id": attribute["id"],
            "code": "width_cm",
            "label": "Width",
            "type": "integer",
            "unit": "cm",
            "choices": [],
            "filterable": False,
            "searchable": False,
            "created_at": attribute["created_at"],
            "updated_at": attribute["created_at"],
            "version": 1,
        }
        assert body_of(bob.get(answer.headers["Location"].removeprefix("/api/v1"))) == attribute

    def test_keeps_the_order_of_the_choices(self, make_attribute: Make) -> None:
        choices = [{"code": "M", "label": "Medium"}, {"code": "XL 2", "label": "Extra large"}, RED]

        assert make_attribute(type="choice", choices=choices)["choices"] == choices

    def test_refuses_a_code_that_another_has(self, alice: Caller, make_attribute: Make) -> None:
        attribute = make_attribute()

        answer = alice.post("/attributes", {"code": attribute["code"], "label": "Other", "type": "date"})

        assert (answer.status_code, code_of(answer)) == (409, "attribute_code_taken")

    @pytest.mark.parametrize("code", ["", "Width", "1st", "_width", "width-cm", "width cm", "bréadth", "a" * 64])
    def test_refuses_a_malformed_code(self, alice: Caller, code: str) -> None:
        answer = alice.post("/attributes", {"code": code, "label": "Width", "type": "text"})

        assert [pointer for pointer, _ in faults_of(answer)] == ["/code"]

    def test_takes_the_longest_code(self, make_attribute: Make) -> None:
        assert make_attribute(code="a" * 63)["code"] == "a" * 63

    @pytest.mark.parametrize(
        ("members", "fault"),
        [
            ({"type": "colour"}, ("/type", "not_a_choice")),
            ({"type": "choice"}, ("/choices", "choices_missing")),
            ({"type": "choices", "choices": []}, ("/choices", "choices_missing")),
            ({"type": "text", "choices": [RED]}, ("/choices", "choices_unexpected")),
            ({"type": "choice", "choices": [RED, RED]}, ("/choices/1/code", "repeated")),
            ({"type": "choice", "choices": [RED, {"code": "blue"}]}, ("/choices/1/label", "required")),
            ({"type": "choice", "choices": [{**RED, "colour": 1}]}, ("/choices/0/colour", "unknown_field")),
            ({"type": "choice", "choices": ["red"]}, ("/choices/0", "not_an_object")),
            ({"type": "choice", "choices": {"red": "Deep red"}}, ("/choices", "invalid")),
            (
                {"type": "choice", "choices": [{"code": f"c{number}", "label": "C"} for number in range(1001)]},
                ("/choices", "too_many"),
            ),
        ],
        ids=str,
    )
    def test_refuses_what_does_not_fit_its_type(
        self, alice: Caller, members: dict[str, Any], fault: tuple[str, str]
    ) -> None:
        answer = alice.post("/attributes", {"code": "width", "label": "Width", **members})

        assert faults_of(answer) == [fault]

    def test_is_for_editors_and_deleting_for_administrators(
        self, alice: Caller, bob: Caller, root: Caller, make_attribute: Make
    ) -> None:
        path = f"/attributes/{make_attribute()['id']}"

        assert bob.post("/attributes", {"code": "mine", "label": "Mine", "type": "text"}).status_code == 403
        assert bob.patch(path, {"label": "Mine"}).status_code == 403
        assert alice.delete(path).status_code == 403
        assert root.delete(path).status_code == 204


class TestUpdateAttribute:
    def test_changes_what_is_stated(self, alice: Caller, make_attribute: Make) -> None:
        attribute = make_attribute(type="integer", unit="cm")

        answer = alice.patch(f"/attributes/{attribute['id']}", {"label": "Breadth", "filterable": True}, if_match='"1"')

        changed = body_of(answer)
        assert changed == {
            **attribute,
            "label": "Breadth",
            "filterable": True,
            "version": 2,
            "updated_at": changed["updated_at"],
        }
        assert alice.patch(f"/attributes/{attribute['id']}", {"label": "B"}, if_match='"1"').status_code == 412

    def test_by_put_replaces_all_but_the_code(self, alice: Caller, make_attribute: Make) -> None:
        attribute = make_attribute(type="integer", unit="cm", filterable=True)

        changed = body_of(alice.put(f"/attributes/{attribute['id']}", {"label": "Breadth", "type": "integer"}))

        assert changed["code"] == attribute["code"]
        assert (changed["label"], changed["unit"], changed["filterable"]) == ("Breadth", None, False)

    @pytest.mark.parametrize("method", ["patch", "put"])
    def test_takes_the_code_and_the_type_as_they_are_and_no_others(
        self, alice: Caller, make_attribute: Make, method: str
    ) -> None:
        attribute = make_attribute(code="width", type="integer")
        send, path = getattr(alice, method), f"/attributes/{attribute['id']}"
        same = {"label": "Breadth", "code": "width", "type": "integer"}

        assert send(path, same).status_code == 200
        assert faults_of(send(path, {**same, "code": "breadth"})) == [("/code", "cannot_change")]
        assert faults_of(send(path, {**same, "type": "decimal"})) == [("/type", "cannot_change")]

    def test_keeps_choices_for_the_types_that_have_them(self, alice: Caller, make_attribute: Make) -> None:
        choice, text = make_attribute(type="choice"), make_attribute(type="text")

        assert faults_of(alice.patch(f"/attributes/{choice['id']}", {"choices": []})) == [
            ("/choices", "choices_missing")
        ]
        assert faults_of(alice.patch(f"/attributes/{text['id']}", {"choices": [RED]})) == [
            ("/choices", "choices_unexpected")
        ]
        assert body_of(alice.patch(f"/attributes/{choice['id']}", {"choices": [RED]}))["choices"] == [RED]


class TestByCode:
    def test_is_read_and_patched(self, alice: Caller, bob: Caller, make_attribute: Make) -> None:
        attribute = make_attribute(code="width")

        assert body_of(bob.get("/attributes/by/code/width")) == attribute
        assert bob.get("/attributes/by/code/depth").status_code == 404
        assert body_of(alice.patch("/attributes/by/code/width", {"label": "W"}, if_match='"1"'))["label"] == "W"

    def test_is_created_or_replaced(self, alice: Caller) -> None:
        path, content = "/attributes/by/code/width", {"label": "Width", "type": "integer"}

        made = alice.put(path, content, if_match=None)
        replaced = alice.put(path, {**content, "unit": "cm"}, if_match=None)

        assert [answer.status_code for answer in (made, replaced)] == [201, 200]
        assert made.headers["Location"] == f"/api/v1/attributes/{body_of(made)['id']}"
        assert (body_of(replaced)["code"], body_of(replaced)["unit"]) == ("width", "cm")
        assert faults_of(alice.put(path, {**content, "code": "depth"}, if_match=None)) == [("/code", "key_differs")]
        assert faults_of(alice.put(path, {**content, "type": "text"}, if_match=None)) == [("/type", "cannot_change")]

    def test_is_not_created_under_a_malformed_code(self, alice: Caller) -> None:
        answer = alice.put("/attributes/by/code/Width", {"label": "Width", "type": "integer"}, if_match=None)

        assert faults_of(answer) == [("/code", "malformed")]


class TestDeleteAttribute:
    def test_removes_the_row(self, app: Flask, root: Caller, make_attribute: Make) -> None:
        attribute = make_attribute()

        assert root.delete(f"/attributes/{attribute['id']}", if_match='"1"').status_code == 204
        assert rows_of(app, "attributes") == []
        assert root.delete(f"/attributes/{attribute['id']}").status_code == 404

    @pytest.mark.parametrize("path", ["/attributes/{id}", "/attributes/by/code/{code}"])
    def test_refuses_an_attribute_that_a_type_lists(
        self, root: Caller, make_attribute: Make, make_type: Make, path: str
    ) -> None:
        attribute = make_attribute()
        product_type = make_type(attributes=[{"code": attribute["code"]}])

        refused = root.delete(path.format(**attribute))
        assert (refused.status_code, code_of(refused)) == (409, "attribute_in_use")

        root.patch(f"/product-types/{product_type['id']}", {"attributes": []})
        assert root.delete(path.format(**attribute)).status_code == 204

    def test_is_allowed_once_the_type_is_gone(self, root: Caller, make_attribute: Make, make_type: Make) -> None:
        attribute = make_attribute()
        product_type = make_type(attributes=[{"code": attribute["code"]}])

        root.delete(f"/product-types/{product_type['id']}")

        assert root.delete(f"/attributes/{attribute['id']}").status_code == 204


class TestListAttributes:
    @pytest.fixture(autouse=True)
    def _rows(self, make_attribute: Make) -> None:
        make_attribute(code="width_cm", label="Breite", type="integer", filterable=True)
        make_attribute(code="colour", label="Farbe", type="choice")
        make_attribute(code="finish", label="Öl & Wachs", type="choices", filterable=True)

    @pytest.mark.parametrize(
        ("query", "codes"),
        [
            ("", ["width_cm", "colour", "finish"]),
            ("order=desc", ["finish", "colour", "width_cm"]),
            ("sort_by=code", ["colour", "finish", "width_cm"]),
            ("sort_by=created_at", ["width_cm", "colour", "finish"]),
            ("sort_by=updated_at&order=desc", ["finish", "colour", "width_cm"]),
            ("sort_by=id", ["width_cm", "colour", "finish"]),
            ("code=colour,width_cm", ["width_cm", "colour"]),
            ("type=choice,choices", ["colour", "finish"]),
            ("type=date", []),
            ("filterable=true", ["width_cm", "finish"]),
            ("filterable=false", ["colour"]),
            ("search=ol+wachs", ["finish"]),
            ("search=width", ["width_cm"]),
            ("created_since=2020-01-01T00:00:00Z", ["width_cm", "colour", "finish"]),
            ("updated_since=2999-01-01T00:00:00Z", []),
        ],
    )
    def test_filters_sorts_and_searches(self, bob: Caller, query: str, codes: list[str]) -> None:
        assert codes_of(bob.get(f"/attributes?{query}")) == codes

    @pytest.mark.parametrize("sort_by", ["label", "code", "created_at", "updated_at", "id"])
    def test_walks_by_cursor(self, bob: Caller, sort_by: str) -> None:
        first = body_of(bob.get(f"/attributes?cursor=&per_page=2&sort_by={sort_by}"))
        second = body_of(bob.get(first["links"]["next"].removeprefix("/api/v1")))

        assert len({item["id"] for item in first["items"] + second["items"]}) == 3

    def test_finds_by_several_ids(self, bob: Caller) -> None:
        first, *_, last = body_of(bob.get("/attributes?sort_by=id"))["items"]

        assert codes_of(bob.get(f"/attributes?id={last['id']},{first['id']}")) == [first["code"], last["code"]]

    def test_shows_a_renamed_attribute_under_its_new_words(self, alice: Caller) -> None:
        alice.patch("/attributes/by/code/colour", {"label": "Ton"})

        assert codes_of(alice.get("/attributes?search=ton")) == ["colour"]
        assert codes_of(alice.get("/attributes?search=farbe")) == []


class TestWhatFollows:
    def test_the_change_feed_has_each_change(self, root: Caller, bob: Caller, make_attribute: Make) -> None:
        cursor = body_of(bob.get("/events?from=now"))["meta"]["next_cursor"]
        attribute = make_attribute(type="choice")
        root.patch(f"/attributes/{attribute['id']}", {"choices": [RED]})
        changed = body_of(root.get(f"/attributes/{attribute['id']}"))

        events = body_of(bob.get(f"/events?cursor={cursor}&types=attribute.*"))["items"]
        root.delete(f"/attributes/{attribute['id']}")
        last = body_of(bob.get(f"/events?cursor={cursor}&types=*.deleted"))["items"][-1]

        assert [(event["type"], event["version"], event["data"]) for event in events] == [
            ("attribute.created", 1, changed),
            ("attribute.updated", 2, changed),
        ]
        assert (last["type"], last["data"]) == ("attribute.deleted", None)

    def test_the_audit_trail_has_before_and_after(self, alice: Caller, root: Caller, make_attribute: Make) -> None:
        attribute = make_attribute(label="Width")
        alice.patch(f"/attributes/{attribute['id']}", {"label": "Breadth"})

        (event,) = body_of(root.get("/audit-events?action=attribute.updated"))["items"]

        assert (event["before"]["label"], event["after"]["label"]) == ("Width", "Breadth")

    def test_a_dry_run_leaves_nothing(self, app: Flask, alice: Caller) -> None:
        answer = alice.post("/attributes?dry_run=true", {"code": "width", "label": "Width", "type": "integer"})

        assert (answer.status_code, answer.headers["Dry-Run"]) == (201, "true")
        assert rows_of(app, "attributes") == []

    def test_links_lead_to_what_the_caller_may_do(self, alice: Caller, bob: Caller, make_attribute: Make) -> None:
        path = f"/attributes/{make_attribute()['id']}?include=links"

        assert body_of(bob.get(path))["links"].keys() == {"self"}
        assert body_of(alice.get(path))["links"].keys() == {"self", "edit"}
