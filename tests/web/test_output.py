"""Output functions beside marshmallow's own: the same JSON for any row."""

from collections.abc import Iterator, Mapping
from datetime import UTC
from decimal import Decimal
from functools import cache
from operator import attrgetter
from types import SimpleNamespace
from typing import Any

import marshmallow as ma
import pytest
from flask import Flask
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.errors import Fault, Invalid
from app.core.money import CURRENCIES, MAX_AMOUNT
from app.factory import create_app
from app.features.facets import schemas as facets
from app.features.media.schemas import Image, Sources
from app.features.products import schemas as products
from app.web import batch, fields
from app.web.operation import Operation
from app.web.output import Output, dump, output_of, to_json
from app.web.schemas import shared
from tests.conftest import settings_for

#: An application whose database is never asked.
BARE: Flask = create_app(settings_for("sqlite:////there/is/none.db"))
TEXT = st.text(st.characters(codec="utf-8"), max_size=30)
SCALARS = st.one_of(st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False), TEXT)
CURRENCY_CODES = st.sampled_from(sorted(CURRENCIES)) | TEXT
PROBLEMS = st.builds(Invalid, st.builds(Fault, TEXT, st.just("a_code"), pointer=TEXT))

#: What a row can have where a field of such a class is; the first class that fits counts.
NUMBER = st.none() | st.integers(1, 2000)
VALUES: list[tuple[type[ma.fields.Field[Any]], st.SearchStrategy[Any]]] = [
    (fields.Boolean, st.booleans()),
    (fields.Integer, st.integers(-(2**63), 2**63 - 1)),
    (fields.Money, st.decimals(0, MAX_AMOUNT, places=4) | st.integers(0, 9999999999).map(Decimal)),
    (fields.Currency, CURRENCY_CODES),
    (fields.Moment, st.datetimes(timezones=st.just(UTC))),
    (fields.Items, st.lists(TEXT, max_size=4)),
    (products.Options, st.dictionaries(TEXT, SCALARS, max_size=4) | st.lists(TEXT, max_size=4)),
    (facets.End, SCALARS),
    (products.Codes, st.lists(TEXT, max_size=4)),
    (fields.Scalars, st.dictionaries(TEXT, SCALARS, max_size=4)),
    (fields.Anything, st.dictionaries(TEXT, SCALARS, max_size=4)),
    (batch.Problem, PROBLEMS),
    (fields.Text, TEXT),
    (fields.Choice, TEXT),
]


#: Of links, whose URLs no setting determines.
SOURCES = st.lists(st.fixed_dictionaries({"url": TEXT, "width": NUMBER, "height": NUMBER, "type": TEXT}), max_size=3)
IMAGES = st.fixed_dictionaries(
    {"media_id": NUMBER, "alt": TEXT, "width": NUMBER, "height": NUMBER, "colour": TEXT, "sources": SOURCES}
)


def value_of(field: ma.fields.Field[Any]) -> st.SearchStrategy[Any]:
    """Anything that a row can have for a field, nothing included."""
    if isinstance(field, Sources | Image):
        # Their JSON columns have what they are made of.
        return SOURCES if isinstance(field, Sources) else st.none() | IMAGES
    if isinstance(field, fields.Nested):
        row = row_of(field.nested)
        return st.none() | (st.lists(row, max_size=3) if field.many else row)
    return st.none() | next(values for kind, values in VALUES if isinstance(field, kind))


@cache
def row_of(schema: type[ma.Schema]) -> st.SearchStrategy[Any]:
    """Any row of a schema; made once, since hypothesis takes longer to prepare a strategy than to draw from it."""
    fields_ = shared(schema).dump_fields.items()
    values = {field.attribute or name: value_of(field) for name, field in fields_}
    beside = {field.beside: CURRENCY_CODES for _, field in fields_ if isinstance(field, fields.Field) and field.beside}
    return st.fixed_dictionaries(beside | values).map(as_row)


def as_row(values: Mapping[str, Any]) -> SimpleNamespace:
    """A row with these attributes; one with a dot is an attribute of another."""
    row = SimpleNamespace()
    for path, value in values.items():
        *outer, name = path.split(".")
        place = row
        for part in outer:
            if not hasattr(place, part):
                setattr(place, part, SimpleNamespace())
            place = getattr(place, part)
        setattr(place, name, value)
    return row


def schemas() -> Iterator[type[ma.Schema]]:
    """Every schema that a route answers with."""
    views = [getattr(view, "operation", None) for view in BARE.view_functions.values()]
    answered = {view.returns for view in views if isinstance(view, Operation) and view.returns is not None}
    yield from sorted(answered, key=lambda schema: schema.__name__)


@pytest.fixture(autouse=True, scope="module")
def _settings_of_an_application() -> Iterator[None]:
    """What some fields make depends on settings: the name of an identity provider."""
    with BARE.app_context():
        yield


few = settings(max_examples=40, deadline=None)
every_schema = pytest.mark.parametrize("schema", list(schemas()), ids=lambda schema: schema.__name__)


@every_schema
class TestOutput:
    @few
    @given(st.data())
    def test_is_what_the_schema_makes_of_any_row(self, schema: type[ma.Schema], data: st.DataObject) -> None:
        row = data.draw(row_of(schema))
        expected = to_json(schema().dump(row))

        assert to_json(Output(schema)(row)) == expected
        assert to_json(output_of(schema)(row)) == expected
        assert to_json(dump(schema, row)) == expected
        assert to_json(dump(schema, vars(row))) == expected

    @few
    @given(st.data())
    def test_is_that_of_any_of_its_members(self, schema: type[ma.Schema], data: st.DataObject) -> None:
        row, names = data.draw(row_of(schema)), list(shared(schema).dump_fields)
        chosen = tuple(data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True)))
        whole = schema().dump(row)
        keys = {name: shared(schema).dump_fields[name].data_key or name for name in chosen}
        output = Output(schema, chosen)

        assert to_json(output(row)) == to_json({key: whole[key] for key in keys.values()})
        # A row with these attributes alone is enough.
        enough = as_row({name: attrgetter(name)(row) for name in output.attributes})
        assert to_json(output(enough)) == to_json(output(row))

    def test_takes_every_member(self, schema: type[ma.Schema]) -> None:
        members = shared(schema).dump_fields.items()
        nothing = as_row(
            {field.attribute or name: [] if isinstance(field, Sources) else None for name, field in members}
        )

        assert list(Output(schema)(nothing)) == list(schema().dump(nothing)) != []


def test_there_are_schemas() -> None:
    assert len(list(schemas())) > 15
