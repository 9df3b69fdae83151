"""Query parameters that share a prefix, whose names only the database knows: ``attr.colour=red,blue``."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import marshmallow as ma

from app.web import fields

#: A text by itself, or the two ends of a range, of which one may be empty.
Piece = tuple[str, ...]


class Pieces(fields.Values):
    """The values of one parameter: texts, and ranges ``low..high``; a sorted tuple without duplicates.

    A dot that makes no range has a backslash before it, as a comma that separates nothing has.
    """

    _escape = re.compile(r"\\([\\,.])")
    _split_at_dots = re.compile(r"((?:\\[\\,.]|\\(?![\\,.])|\.(?!\.)|[^\\.])*)\.\.(.*)", re.DOTALL).fullmatch

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> tuple[Piece, ...]:
        texts = [value] if isinstance(value, str) else value
        pieces = dict.fromkeys(piece for text in texts for piece in self._pieces(text))
        return tuple(sorted({self._read_piece(piece) for piece in self.read_list(list(pieces))}))

    def _read_piece(self, piece: str) -> Piece:
        ends = self._split_at_dots(piece)
        return tuple(self.inner.read(self._escape.sub(r"\1", text)) for text in (ends.groups() if ends else (piece,)))


class ParameterGroup(fields.Field):
    """All query parameters whose names begin with the field's and a dot: pairs of the rest and its `Pieces`, sorted.

    The rest of a name has the form ``rest``; there are ``max_parameters`` at most, each with ``max_values``, of which a
    text has ``max_length`` characters at most.
    """

    openapi_type = "object"
    default_error_messages = {
        "unknown_parameter": "There is no such parameter here.",
        "too_many": "More than {max_parameters} parameters that begin so.",
    }

    def __init__(
        self, *, prefix: str, rest: str, max_parameters: int, max_values: int, max_length: int, **options: Any
    ) -> None:
        self.max_parameters = max_parameters
        self._is_rest = re.compile(rest).fullmatch
        text = fields.Text(min_length=0, max_length=max_length, pattern=fields.LINES)
        self._pieces = Pieces(text, max_items=max_values)
        schema = {
            "propertyNames": {"pattern": rf"^{prefix}\.{rest}$"},
            "additionalProperties": {
                "type": "string",
                # Each value between commas, and a backslash before each of its characters.
                "maxLength": max_values * (2 * max_length + 1),
                "pattern": fields.LINES,
            },
            "maxProperties": max_parameters,
        }
        super().__init__(schema=schema, **options)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> tuple[tuple[str, tuple[Piece, ...]], ...]:
        # The parameter without a dot.
        if not isinstance(value, dict):
            raise self.make_error("unknown_parameter")
        if len(value) > self.max_parameters:
            raise self.make_error("too_many", max_parameters=self.max_parameters)
        read, errors = {}, {}
        for name, texts in value.items():
            try:
                if not self._is_rest(name):
                    raise self.make_error("unknown_parameter")
                read[name] = self._pieces.read(texts)
            except ma.ValidationError as error:
                errors[name] = error.messages
        if errors:
            raise ma.ValidationError(errors)
        return tuple(sorted(read.items()))


def gather(parameters: Mapping[str, Any], groups: Sequence[str]) -> Mapping[str, Any]:
    """The parameters, with those of each group as one object under its name."""
    gathered: dict[str, Any] = {}
    for name, given in parameters.items():
        group, dot, rest = name.partition(".")
        if not dot or group not in groups:
            gathered[name] = given
        elif isinstance(gathered.setdefault(group, {}), dict):
            gathered[group][rest] = given
    return gathered


@dataclass(frozen=True)
class Repeatable:
    """The names of parameters that take several values: these, and all that begin with one of the prefixes."""

    names: frozenset[str]
    prefixes: tuple[str, ...]

    def __contains__(self, name: object) -> bool:
        """Whether a parameter of this name may be repeated."""
        return name in self.names or (isinstance(name, str) and name.startswith(self.prefixes))
