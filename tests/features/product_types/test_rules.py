"""The rules of product types: which values of attributes fit, and how products are found by them."""

from typing import Any

import pytest
from flask import Flask

from app.core.reads import gathering
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.attributes.models import Attribute, AttributeType
from app.features.product_types.models import ProductType
from app.features.product_types.rules import Definition, Rules, all_definitions, find_definitions, find_rules


def defined(type_: str, *, code: str = "width", **members: Any) -> Definition:
    """An attribute; a test mentions what matters."""
    default: dict[str, Any] = {"id": 1, "label": "Width", "unit": None, "filterable": True, "searchable": True}
    chosen = {"red": "Deep red", "blue": "Blue"} if type_.startswith("choice") else {}
    return Definition(**{**default, "code": code, "type": AttributeType(type_), "choices": chosen, **members})


class TestValues:
    @pytest.mark.parametrize(
        ("type_", "value"),
        [
            ("text", ""),
            ("text", "é" * 200),
            ("integer", 0),
            ("integer", -(2**53)),
            ("decimal", 45),
            ("decimal", 0.1),
            ("boolean", False),
            ("date", "2024-02-29"),
            ("date", "0001-01-01"),
            ("choice", "red"),
            ("choices", ["blue", "red"]),
        ],
    )
    def test_of_its_type_fit(self, type_: str, value: Any) -> None:
        assert defined(type_).fault_of(value) is None

    @pytest.mark.parametrize(
        ("type_", "value"),
        [
            ("text", 1),
            ("text", "é" * 201),
            ("integer", True),
            ("integer", 1.0),
            ("integer", "1"),
            ("integer", 2**53 + 1),
            ("decimal", False),
            ("decimal", "0.1"),
            ("decimal", float("inf")),
            ("decimal", float("nan")),
            ("boolean", 0),
            ("boolean", "true"),
            ("date", "2023-02-29"),
            ("date", "1900-02-29"),
            ("date", "2023-04-31"),
            ("date", "0000-01-01"),
            ("date", "20230101"),
            ("date", "2023-01-01\n"),
            ("date", 2023),
            ("choice", "green"),
            ("choice", ["red"]),
            ("choices", "red"),
            ("choices", []),
            ("choices", ["red", "red"]),
            ("choices", ["red", "green"]),
            ("choices", ["red", ["red"]]),
        ],
    )
    def test_of_another_do_not(self, type_: str, value: Any) -> None:
        fault = defined(type_).fault_of(value)

        assert fault is not None
        assert (fault.pointer, fault.code) == ("/attributes/width", "attribute_invalid")

    def test_of_a_text_that_is_no_filter_may_be_longer(self) -> None:
        definition = defined("text", filterable=False)

        assert definition.fault_of("é" * 1000) is None
        assert definition.fault_of("é" * 1001) is not None

    def test_that_do_not_fit_are_answered_with_the_choices(self) -> None:
        fault = defined("choice").fault_of("green")

        assert fault is not None
        assert fault.detail == "Not the code of one of the choices: red, blue."

    def test_that_do_not_fit_are_answered_with_few_of_many_choices(self) -> None:
        fault = defined("choice", choices={f"c{number}": "C" for number in range(1000)}).fault_of("green")

        assert fault is not None
        assert fault.detail.endswith("c18, c19, and others.")


class TestIndex:
    @pytest.mark.parametrize(
        ("type_", "value", "rows"),
        [
            ("text", "Oak", [("Oak", None)]),
            ("integer", 40, [("40", 40.0)]),
            ("decimal", 40.0, [("40", 40.0)]),
            ("decimal", 40, [("40", 40.0)]),
            ("decimal", 4e15, [("4000000000000000", 4e15)]),
            ("decimal", -0.0, [("0", 0.0)]),
            ("decimal", 1.50, [("1.5", 1.5)]),
            ("decimal", 5e-324, [("5E-324", 5e-324)]),
            ("boolean", True, [("true", None)]),
            ("date", "1970-01-01", [("1970-01-01", 719163.0)]),
            ("choice", "red", [("red", None)]),
            ("choices", ["blue", "red"], [("blue", None), ("red", None)]),
            ("choice", "green", []),
        ],
    )
    def test_has_a_canonical_form(self, type_: str, value: Any, rows: list[tuple[str, float | None]]) -> None:
        assert defined(type_).index(value) == rows

    def test_has_nothing_of_an_attribute_that_is_no_filter(self) -> None:
        assert defined("text", filterable=False).index("Oak") == []


class TestWords:
    @pytest.mark.parametrize(
        ("type_", "value", "words"),
        [
            ("text", "Oak", "Oak"),
            ("integer", 40, "40"),
            ("decimal", 1.50, "1.5"),
            ("choice", "red", "Deep red"),
            ("choices", ["blue", "red"], "Blue Deep red"),
            ("choice", "green", ""),
        ],
    )
    def test_are_what_people_read(self, type_: str, value: Any, words: str) -> None:
        assert defined(type_).words(value) == words

    def test_are_none_of_an_attribute_that_is_not_searched(self) -> None:
        assert defined("text", searchable=False).words("Oak") == ""


class TestRules:
    @pytest.fixture
    def rules(self) -> Rules:
        """Rules with an option and with required attributes."""
        definitions = [defined("integer", code="width"), defined("choice", code="colour"), defined("text", code="wood")]
        return Rules(
            id=1,
            code="chair",
            definitions={each.code: each for each in definitions},
            required=frozenset({"wood", "width"}),
            options=["colour"],
        )

    def test_find_every_fault(self, rules: Rules) -> None:
        faults = rules.faults_of({"width": "wide", "a/b~c": 1, "colour": "red"})

        assert [(fault.pointer, fault.code) for fault in faults] == [
            ("/attributes/width", "attribute_invalid"),
            ("/attributes/a~1b~0c", "attribute_unknown"),
        ]

    def test_say_what_is_missing_in_the_order_of_the_type(self, rules: Rules) -> None:
        assert rules.missing({}) == ["width", "wood"]
        assert rules.missing({"wood": "oak"}) == ["width"]


class TestFinding:
    @pytest.fixture(autouse=True)
    def _rows(self, app: Flask) -> None:
        with app.app_context(), unit_of_work():
            choices = [{"code": "red", "label": "Deep red"}]
            db.session.add(Attribute(code="colour", label="Colour", type=AttributeType.CHOICE, choices=choices))
            db.session.add(Attribute(code="width", label="Width", type=AttributeType.INTEGER, unit="cm"))
            db.session.add(Attribute(code="height", label="Height", type=AttributeType.INTEGER))
            listed = [
                {"code": "width", "position": 0, "required": True, "is_option": False},
                {"code": "colour", "position": 1, "required": True, "is_option": True},
            ]
            db.session.add(ProductType(code="chair", label="Chair", attributes=listed))
            db.session.add(ProductType(code="gift", label="Gift", attributes=[]))

    @pytest.mark.parametrize("reading", [True, False])
    def test_rules_have_the_attributes_in_the_order_of_the_type(self, app: Flask, reading: bool) -> None:
        with app.app_context(), unit_of_work(reading=reading):
            ids = {product_type.code: product_type.id for product_type in db.session.query(ProductType)}
            found = find_rules([*ids.values(), 10**6])

        assert set(found) == set(ids.values())
        chair = found[ids["chair"]]
        assert [*chair.definitions] == ["width", "colour"]
        assert (chair.code, {*chair.required}, [*chair.options]) == ("chair", {"width"}, ["colour"])
        assert chair.definitions["width"].unit == "cm"
        assert chair.definitions["colour"].choices == {"red": "Deep red"}
        assert found[ids["gift"]].definitions == {}

    def test_definitions_are_those_with_the_codes(self, app: Flask) -> None:
        with app.app_context(), unit_of_work(reading=True):
            assert [*find_definitions(["width", "depth"])] == ["width"]
            assert find_definitions([]) == {}
            assert [*all_definitions()] == ["colour", "height", "width"]

    def test_rules_depend_on_their_types_and_on_attributes(self, app: Flask) -> None:
        with app.app_context(), unit_of_work(reading=True), gathering() as reads:
            type_id = min(product_type.id for product_type in db.session.query(ProductType))
            reads.topics.clear()
            find_rules([type_id])

        assert {f"product_type/{type_id}", "attribute"} <= reads.topics
        assert "*" not in reads.topics
        assert reads.is_logged
