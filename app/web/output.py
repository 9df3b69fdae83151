"""Output functions: they return the same values for a row as a schema's ``dump``, in a fraction of its time.

marshmallow resolves every member again for each row, in many ways. An `Output` resolves them once per schema; a
property test compares the two for generated rows.
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
    """A function from a row to its values for `to_json`: all members of a schema, or only ``members``."""

    def __init__(self, schema: type[ma.Schema], members: tuple[str, ...] | None = None) -> None:
        fields = shared(schema).dump_fields
        chosen = {name: fields[name] for name in members or fields}
        own = [field.attribute or name for name, field in chosen.items()]
        beside = {name: field.beside for name, field in chosen.items() if isinstance(field, Field) and field.beside}
        #: The attributes of a row that it reads.
        self.attributes = (*own, *sorted({*beside.values()} - {*own}))
        self._names = [field.data_key or name for name, field in chosen.items()]
        read = attrgetter(*self.attributes)
        self._read = read if len(self.attributes) > 1 else lambda row: (read(row),)
        self._converts = [
            (fields[name].data_key or name, convert)
            for name, field in chosen.items()
            if name not in beside and (convert := _conversion(field))
        ]
        self._converts_beside = [
            (fields[name].data_key or name, fields[name].write, self.attributes.index(other))
            for name, other in beside.items()
        ]

    def __call__(self, row: Any) -> dict[str, Any]:
        """The members of a row, by name."""
        found = self._read(row)
        # What is only read beside a member comes after the members.
        values = dict(zip(self._names, found, strict=False))
        for name, convert in self._converts:
            values[name] = convert(values[name])
        for name, convert_beside, place in self._converts_beside:
            values[name] = convert_beside(values[name], found[place])
        return values


def to_json(values: Any) -> bytes:
    """The JSON of values from an `Output` or `dump`; moments, which must be in UTC, are written as RFC 3339."""
    return orjson.dumps(values, option=orjson.OPT_UTC_Z)


def _conversion(field: ma.fields.Field[Any]) -> Callable[[Any], Any] | None:
    # to_json writes moments, and most other values need no conversion.
    if not isinstance(field, Field) or isinstance(field, Moment) or type(field).write is Field.write:
        return None
    return field.write


@lru_cache(maxsize=1000)
def output_of(schema: type[ma.Schema], members: tuple[str, ...] | None = None) -> Output:
    """The cached output function of a schema, or of only some of its members."""
    return Output(schema, members)


def dump(schema: type[ma.Schema], result: Any) -> Any:
    """The values for `to_json` of what a view returned: a row, or a mapping, which may lack members."""
    return shared(schema).dump(result) if isinstance(result, Mapping) else output_of(schema)(result)
