"""Bodies are loaded by a short way; marshmallow's own, which it must equal, is the oracle."""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import marshmallow as ma
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import app.factory  # noqa: F401 -- and with it every feature's schemas
from app.features.bulk.schemas import ProductUpsertSchema
from app.features.imports.paths import CategoryPath
from app.features.imports.row_schema import CategoryName, ImportRowSchema
from app.features.products.schemas import ProductCreateSchema
from app.web import fields
from app.web.body import parse_json
from app.web.schemas import BodySchema, QuerySchema

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


#: Those with members: the bases in app.web have none.
OURS = {schema for schema in schemas() if schema.__module__.startswith("app.") and schema().fields}
SCHEMAS = sorted(OURS, key=lambda schema: schema.__name__)


#: A value of a field that has no example.
WITHOUT_EXAMPLE: Mapping[type, object] = defaultdict(lambda: "Oak", {CategoryName: CategoryPath(("Oak",))})


def right_body(schema: ma.Schema) -> dict[str, Any]:
    """A body of the examples that the documentation shows."""
    return {
        field.data_key or name: (
            field.metadata.get("examples") or field.metadata.get("enum") or [WITHOUT_EXAMPLE[type(field)]]
        )[0]
        for name, field in schema.load_fields.items()
    }


def bodies(schema: ma.Schema) -> st.SearchStrategy[Any]:
    """Bodies that are right, such as lack, add or spoil some members, and no objects at all."""
    right = right_body(schema)
    some = st.sets(st.sampled_from(sorted(right))).map(lambda names: {name: right[name] for name in names})
    spoiled = st.fixed_dictionaries({}, optional=dict.fromkeys([*right, "surprise"], VALUES))
    return st.one_of(some, st.just(right), spoiled, st.builds(lambda a, b: a | b, some, spoiled), VALUES)


def cpu_of(work: Callable[[], object]) -> float:
    """The seconds of CPU that this takes; the least of three."""

    def once() -> float:
        started = time.process_time()
        work()
        return time.process_time() - started

    return min(once() for _ in range(3))


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

    def test_is_searched_for_a_hundred_faults(self) -> None:
        members = {f"member_{number}": number for number in range(10_000)}

        with pytest.raises(ma.ValidationError) as caught:
            ProductCreateSchema().load({"name": "", "price": 1, **members})

        assert isinstance(caught.value.messages, dict)
        assert len(caught.value.messages) == 100 + len(["name", "price", "category_id"])

    def test_of_many_unknown_members_costs_no_more_than_to_read_it(self) -> None:
        content = json.dumps({f"member_{number}": number for number in range(50_000)}).encode()
        schema = ProductCreateSchema()

        def refuse() -> None:
            with pytest.raises(ma.ValidationError):
                schema.load(parsed)

        reading, parsed = cpu_of(lambda: parse_json(content)), parse_json(content)

        assert cpu_of(refuse) < reading

    @pytest.mark.parametrize("schema", [ProductCreateSchema, ProductUpsertSchema, ImportRowSchema])
    def test_that_is_right_goes_the_short_way(self, schema: type[BodySchema], monkeypatch: pytest.MonkeyPatch) -> None:
        body = right_body(schema())
        monkeypatch.setattr(ma.Schema, "load", None)

        assert schema().load(body)["name"] == body["name"]


def escaped(value: str) -> str:
    """A value as a client writes it among others."""
    return value.replace("\\", "\\\\").replace(",", "\\,")


class TestValues:
    FIELD = fields.Values(fields.Text(max_length=30))
    SEVERAL = st.lists(st.text(alphabet="a,\\b ", min_size=1, max_size=6).filter(str.strip), min_size=1, max_size=8)

    @given(SEVERAL, st.data())
    def test_come_back_however_they_are_spelled(self, values: list[str], data: st.DataObject) -> None:
        expected = tuple(sorted(set(values)))
        shuffled = [escaped(value) for value in data.draw(st.permutations([*values, values[0]]))]
        cut = data.draw(st.integers(1, len(shuffled)))
        parts = [",".join(part) for part in (shuffled[:cut], shuffled[cut:]) if part]

        assert self.FIELD.deserialize(",".join(shuffled)) == self.FIELD.deserialize(shuffled) == expected
        assert self.FIELD.deserialize(parts) == expected

    @pytest.mark.parametrize(
        ("text", "values"), [("a\\", ("a\\",)), ("a\\b,c", ("a\\b", "c")), ("\\\\,a", ("\\", "a"))]
    )
    def test_take_another_backslash_for_itself(self, text: str, values: tuple[str, ...]) -> None:
        assert self.FIELD.deserialize(text) == values

    @pytest.mark.parametrize("text", ["", ",", "a,", ",a", "a,,b", "\\\\,"])
    def test_are_never_empty(self, text: str) -> None:
        with pytest.raises(ma.ValidationError) as caught:
            self.FIELD.deserialize(text)

        assert [message.code for message in caught.value.messages] == ["too_short"]  # type: ignore[union-attr]  # ours

    def test_cost_in_proportion_to_their_length(self) -> None:
        def refuse(text: str) -> Callable[[], None]:
            def once() -> None:
                with pytest.raises(ma.ValidationError):
                    self.FIELD.deserialize(text)

            return once

        for unit in ("\\", "\\,", ",", "a,"):
            assert cpu_of(refuse(unit * 40_000)) < 30 * max(cpu_of(refuse(unit * 4000)), 0.000_05), unit


class TestAQuery:
    def test_is_searched_for_a_hundred_faults(self) -> None:
        with pytest.raises(ma.ValidationError) as caught:
            QuerySchema().load({f"member_{number}": "1" for number in range(10_000)})

        assert isinstance(caught.value.messages, dict)
        assert len(caught.value.messages) == 100


#: Each shows nothing, alone or beside others: blanks, zero-width and bidirectional marks, fillers, tags.
INVISIBLE = (
    " \u00a0\u00ad\u034f\u061c\u115f\u1160\u17b4\u180e\u200b\u200e\u200f\u2003\u2028\u202e\u2060\u2066\u2800\u3000"
)
INVISIBLE += "\u3164\ufe0f\ufeff\uffa0\U0001d173\U000e0001\U000e0100"


class TestAText:
    FIELD = fields.Text(max_length=100_000)

    @pytest.mark.parametrize("text", [*INVISIBLE, INVISIBLE, "\u200b \u3164", "\u202e" * 3], ids=ascii)
    def test_that_shows_nothing_is_refused(self, text: str) -> None:
        with pytest.raises(ma.ValidationError) as caught:
            self.FIELD.deserialize(text)

        assert [message.code for message in caught.value.messages] == ["malformed"]  # type: ignore[union-attr]  # ours

    @pytest.mark.parametrize(
        "text",
        ["a", "\u200ba", "a\u200db", "\u3164가", "م\u200cن", "❤\ufe0f", "👨\u200d👩\u200d👧", " ı "],
        ids=ascii,
    )
    def test_that_shows_something_is_taken_as_it_is(self, text: str) -> None:
        assert self.FIELD.deserialize(text) == text

    def test_costs_in_proportion_to_its_length(self) -> None:
        def refuse(length: int) -> float:
            def once() -> None:
                with pytest.raises(ma.ValidationError):
                    self.FIELD.deserialize("a" * length + "\n")

            return cpu_of(once)

        # A pattern that tries the text from each of its places takes a hundred times as long, and seconds.
        assert refuse(20_000) < 30 * max(refuse(2000), 0.000_05)
