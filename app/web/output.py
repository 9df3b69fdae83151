"""Output functions: what a schema's ``dump`` makes of a row, in a fraction of its time.

marshmallow looks every member up anew, in many ways, for each row. Here that is decided once for each schema; a test
holds the two against each other for any row.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from operator import attrgetter
from typing import Any

import marshmallow as ma
import orjson

from app.web.fields import Field, Moment
from app.web.schemas import shared


class Output:
    """Makes values for `to_json` of rows, as a schema says, or of only some ``members``: a function of one row."""

    def __init__(self, schema: type[ma.Schema], members: tuple[str, ...] | None = None) -> None:
        fields = shared(schema).dump_fields
        chosen = {name: fields[name] for name in members or fields}
        #: The attributes of a row that it takes.
        self.attributes = tuple(field.attribute or name for name, field in chosen.items())
        self._names = [field.data_key or name for name, field in chosen.items()]
        read = attrgetter(*self.attributes)
        self._read = read if len(chosen) > 1 else lambda row: (read(row),)
        self._converts = [
            (field.data_key or name, convert) for name, field in chosen.items() if (convert := _conversion(field))
        ]

    def __call__(self, row: Any) -> dict[str, Any]:
        """The row's members."""
        values = dict(zip(self._names, self._read(row), strict=True))
        for name, convert in self._converts:
            values[name] = convert(values[name])
        return values


def to_json(values: Any) -> bytes:
    """The JSON of what outputs and schemas make; moments, which must be in UTC, come as RFC 3339 has them."""
    return orjson.dumps(values, option=orjson.OPT_UTC_Z)


def _conversion(field: ma.fields.Field[Any]) -> Callable[[Any], Any] | None:
    # Of moments to_json takes care, and most values are written as they are.
    if not isinstance(field, Field) or isinstance(field, Moment) or type(field).write is Field.write:
        return None
    return field.write


@lru_cache(maxsize=1000)
def output_of(schema: type[ma.Schema], members: tuple[str, ...] | None = None) -> Output:
    """The output function of a schema, or of only some of its members."""
    return Output(schema, members)


def dump(schema: type[ma.Schema], result: Any) -> Any:
    """Values for `to_json` of what a view returns: a row, or a mapping made for the answer, which may lack members."""
    return shared(schema).dump(result) if isinstance(result, Mapping) else output_of(schema)(result)
