"""What a type would refuse, in SQL: the same as its rules say in Python, on both databases."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Text, literal, select, union_all

from app.core.model import json_type
from app.core.reads import extent_of
from app.core.transactions import run, unit_of_work
from app.features.attributes.models import OF_CHOICES, AttributeType
from app.features.attributes.values import MAX_CHOSEN, MAX_NUMBER
from app.features.product_types.rules import Definition, Rules
from app.features.product_types.validity import is_refused
from app.features.products.models import Product

Row = tuple[dict[str, Any], str]
Make = Callable[..., dict[str, Any]]

LABELS = {"red": "Red", "blue": "Blue", 'a "b" \\c': "Quoted", "größe": "Größe", "1": "One"}
CODES = ["width", "colour", "a_1"]
#: Beside the codes, what a product without a type may have.
STRANGE_CODES = ["Colour", "a.b-c"]

dates = st.dates().map(str) | st.sampled_from(
    [
        *("2023-02-29", "2024-02-29", "1900-02-29", "2000-02-29", "0000-02-29", "0001-01-01", "9999-12-31"),
        *("2023-04-31", "2023-01-32", "2023-1-01", "20230101", "2023-01-01T00", " 2023-01-01", "2023-01-01\n"),
        *("now", "2023-13-01", "2023-00-10", "-2023-01-01", "10000-01-01", "٢٠٢٣-01-01"),
    ]
)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=5) | st.builds(
    lambda letter, length: letter * length, st.sampled_from("aé😀"), st.sampled_from([199, 200, 201, 1000, 1001])
)
numbers = (
    st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([0, 1, 1.0, -0.0, MAX_NUMBER, -MAX_NUMBER, MAX_NUMBER + 1, -MAX_NUMBER - 1, float(MAX_NUMBER)])
)
scalars = texts | numbers | st.booleans() | dates | st.sampled_from([*LABELS])
values = scalars | st.lists(st.sampled_from([*LABELS]), max_size=4) | st.lists(scalars, max_size=3)
rows: st.SearchStrategy[Sequence[Row]] = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from([*CODES, *STRANGE_CODES]), values, max_size=4),
        st.sampled_from(["draft", "active", "archived"]),
    ),
    min_size=1,
    max_size=12,
)


@st.composite
def definitions(draw: st.DrawFn, code: str) -> Definition:
    """An attribute of any type, with choices if it is of those."""
    type_ = draw(st.sampled_from(AttributeType))
    codes = draw(st.lists(st.sampled_from([*LABELS]), min_size=1, unique=True)) if type_ in OF_CHOICES else []
    choices = {each: LABELS[each] for each in codes}
    is_filter = draw(st.booleans())
    return Definition(
        id=1, code=code, type=type_, label="", unit=None, choices=choices, filterable=is_filter, searchable=False
    )


@st.composite
def types(draw: st.DrawFn) -> Rules:
    """Rules of a type that lists some attributes."""
    listed = draw(st.lists(st.sampled_from(CODES), unique=True))
    return Rules(
        id=1,
        code="chair",
        definitions={code: draw(definitions(code)) for code in listed},
        required=frozenset(draw(st.sets(st.sampled_from(listed))) if listed else ()),
        options=[],
    )


def type_of(type_: AttributeType, **members: Any) -> Rules:
    """Rules of a type that lists one attribute."""
    one = {"id": 1, "code": "width", "type": type_, "label": "", "unit": None, "choices": LABELS}
    definition = Definition(**{**one, "filterable": True, "searchable": False, **members})
    return Rules(id=1, code="chair", definitions={"width": definition}, required=frozenset(), options=[])


def refused_in_sql(rules: Rules, rows: Sequence[Row]) -> list[bool]:
    """What the database says of each row."""
    asked = [
        select(
            literal(number),
            is_refused(rules, attributes=literal(attributes, json_type), status=literal(status, Text())),
        )
        for number, (attributes, status) in enumerate(rows)
    ]
    return [bool(is_wrong) for _, is_wrong in sorted(run(union_all(*asked)).all())]


def refused_in_python(rules: Rules, rows: Sequence[Row]) -> list[bool]:
    """What the rules say of each row."""
    return [
        bool(rules.faults_of(attributes)) or (status == "active" and bool(rules.missing(attributes)))
        for attributes, status in rows
    ]


@pytest.fixture
def database(app: Flask) -> Iterator[None]:
    """A unit of work that reads."""
    with app.app_context(), unit_of_work(reading=True):
        yield


@pytest.mark.usefixtures("database")
class TestInSql:
    @given(types(), rows)
    @settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_random_types_refuse_the_rows_that_they_refuse_in_python(self, rules: Rules, rows: Sequence[Row]) -> None:
        assert refused_in_sql(rules, rows) == refused_in_python(rules, rows)

    @pytest.mark.parametrize("type_", AttributeType)
    @given(st.lists(values, min_size=1, max_size=20))
    @example([45, 45.0, 1e300, 5e-324, -0.0, MAX_NUMBER, MAX_NUMBER + 1, float(MAX_NUMBER), True, "45", [45]])
    @example([["red"], ["red", "blue"], ["red", "red"], ["red", 1], ["red", ["blue"]], [], ["green"], [None], "red"])
    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_each_value_fits_where_it_fits_in_python(self, type_: AttributeType, values: list[Any]) -> None:
        rules = type_of(type_)
        rows = [({"width": value}, "draft") for value in values]

        assert refused_in_sql(rules, rows) == refused_in_python(rules, rows)

    def test_a_list_has_as_many_choices_as_in_python(self) -> None:
        codes = [f"c{number}" for number in range(MAX_CHOSEN + 1)]
        rules = type_of(AttributeType.CHOICES, choices=dict.fromkeys(codes, ""))

        assert refused_in_sql(rules, [({"width": codes}, "draft"), ({"width": codes[1:]}, "draft")]) == [True, False]


def test_finds_the_products_that_a_type_would_refuse(app: Flask, make_product: Make) -> None:
    rules = type_of(AttributeType.INTEGER)
    wrong, _ = make_product(attributes={"width": "wide"}), make_product(attributes={"width": 40})

    with app.app_context(), unit_of_work(reading=True):
        found = run(select(Product.id).where(is_refused(rules, attributes=Product.attributes, status=Product.status)))
        assert found.scalars().all() == [wrong["id"]]


def test_a_response_depends_on_what_it_reads_and_on_nothing_else(app: Flask) -> None:
    condition = is_refused(type_of(AttributeType.TEXT), attributes=Product.attributes, status=Product.status)

    with app.app_context():
        extent = extent_of(select(Product.id).where(condition))

    assert extent.topics == {"product": {"product*", "product.attributes", "product.status"}}
