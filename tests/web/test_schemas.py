"""Bodies are loaded by a short way; marshmallow's own, which it must equal, is the oracle."""

from collections.abc import Iterator
from typing import Any

import marshmallow as ma
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import app.factory  # noqa: F401 -- and with it every feature's schemas
from app.features.imports.schemas import ImportRowSchema
from app.features.products.schemas import ProductCreateSchema, ProductUpsertSchema
from app.web.schemas import BodySchema

NAMES = st.sampled_from(["width", "a.b", "_x", "x" * 65, "é"])
ODD = ["1.00", "0.00", "EUR", "draft", "A-1", " ", "\n", "x\0", "x" * 1001, 1.0, 2**53, 2**63, 2**64]
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=4), st.sampled_from(ODD)
)
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=3), st.dictionaries(NAMES, SCALARS, max_size=3))


def schemas(base: type[BodySchema] = BodySchema) -> Iterator[type[BodySchema]]:
    """Every schema of a body."""
    for schema in base.__subclasses__():
        yield schema
        yield from schemas(schema)


OURS = {schema for schema in schemas() if schema.__module__.startswith("app.")}
SCHEMAS = sorted(OURS, key=lambda schema: schema.__name__)


def right_body(schema: ma.Schema) -> dict[str, Any]:
    """A body of the examples that the documentation shows."""
    return {
        field.data_key or name: (field.metadata.get("examples") or field.metadata.get("enum") or ["Oak"])[0]
        for name, field in schema.load_fields.items()
    }


def bodies(schema: ma.Schema) -> st.SearchStrategy[Any]:
    """Bodies that are right, such as lack, add or spoil some members, and no objects at all."""
    right = right_body(schema)
    some = st.sets(st.sampled_from(sorted(right))).map(lambda names: {name: right[name] for name in names})
    spoiled = st.fixed_dictionaries({}, optional=dict.fromkeys([*right, "surprise"], VALUES))
    return st.one_of(some, st.just(right), spoiled, st.builds(lambda a, b: a | b, some, spoiled), VALUES)


def outcome(schema: ma.Schema, body: Any) -> str:
    """What comes of a body, with the types of the values."""
    try:
        return repr(schema.load(body))
    except ma.ValidationError as error:
        return repr((error.messages, error.valid_data))


class TestABody:
    def test_has_many_schemas(self) -> None:
        assert len(SCHEMAS) > 10

    @pytest.mark.parametrize("schema", SCHEMAS)
    def test_comes_to_the_same_by_either_way(self, schema: type[BodySchema]) -> None:
        short, long = schema(), schema()
        long.__dict__["_plan"] = None

        @settings(max_examples=150, deadline=None)
        @given(bodies(short))
        def check(body: Any) -> None:
            assert outcome(short, body) == outcome(long, body)

        check()

    @pytest.mark.parametrize("schema", [ProductCreateSchema, ProductUpsertSchema, ImportRowSchema])
    def test_that_is_right_goes_the_short_way(self, schema: type[BodySchema], monkeypatch: pytest.MonkeyPatch) -> None:
        body = right_body(schema())
        monkeypatch.setattr(ma.Schema, "load", None)

        assert schema().load(body)["name"] == body["name"]
