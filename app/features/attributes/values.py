"""The values of attributes, as JSON has them: which of them fit a type, and how they are compared and shown."""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from app.features.attributes.models import AttributeType

#: Integers beyond this are not exact as floats, which many clients read numbers as.
MAX_NUMBER = 2**53
#: The most characters of a text, and of one that products are filtered by.
MAX_TEXT_LENGTH = 1000
MAX_FILTERABLE_LENGTH = 200
#: The most choices that one value has.
MAX_CHOSEN = 100

#: The days of the Gregorian calendar from 0001-01-01 to 9999-12-31, for Python and for PostgreSQL.
DATE = (
    r"(?!0000)(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    r"|02-(?:0[1-9]|1[0-9]|2[0-8]))"
    r"|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)"
)
_is_date = re.compile(DATE).fullmatch


class Allowed(NamedTuple):
    """What an attribute allows beside its type: its choices, labels by code, and the most characters of a text."""

    choices: Mapping[str, str]
    max_length: int


def fits(value: Any, type_: AttributeType, allowed: Allowed) -> bool:
    """Whether a JSON value is one of a type."""
    return _FITS[type_](value, allowed)


def describe(type_: AttributeType, allowed: Allowed) -> str:
    """A sentence that says which values fit."""
    codes = [*allowed.choices]
    first = ", ".join(codes if len(codes) <= 20 else [*codes[:20], "and others"])
    return _MISFITS[type_].format(max_length=allowed.max_length, max_number=MAX_NUMBER, most=MAX_CHOSEN, first=first)


def canonical(value: Any) -> str:
    """The one text of a value that fits and is no list: numbers that are equal have equal texts."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else _number_text(value)


def _number_text(number: float) -> str:
    exact = Decimal(repr(number))
    if exact == 0:
        return "0"
    # As plain digits, unless these would be mostly zeros.
    return f"{exact.normalize():{'f' if exact.adjusted() > -20 else ''}}"


def _is_text(value: Any, allowed: Allowed) -> bool:
    return isinstance(value, str) and len(value) <= allowed.max_length


def _is_integer(value: Any, allowed: Allowed) -> bool:
    return isinstance(value, int) and _is_decimal(value, allowed)


def _is_decimal(value: Any, _allowed: Allowed) -> bool:
    # To Python a boolean is an integer.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MAX_NUMBER


def _is_boolean(value: Any, _allowed: Allowed) -> bool:
    return isinstance(value, bool)


def _is_day(value: Any, _allowed: Allowed) -> bool:
    return isinstance(value, str) and _is_date(value) is not None


def _is_choice(value: Any, allowed: Allowed) -> bool:
    return isinstance(value, str) and value in allowed.choices


def _are_choices(value: Any, allowed: Allowed) -> bool:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_CHOSEN:
        return False
    return all(_is_choice(code, allowed) for code in value) and len(set(value)) == len(value)


_FITS: Mapping[AttributeType, Callable[[Any, Allowed], bool]] = {
    AttributeType.TEXT: _is_text,
    AttributeType.INTEGER: _is_integer,
    AttributeType.DECIMAL: _is_decimal,
    AttributeType.BOOLEAN: _is_boolean,
    AttributeType.DATE: _is_day,
    AttributeType.CHOICE: _is_choice,
    AttributeType.CHOICES: _are_choices,
}
_MISFITS: Mapping[AttributeType, str] = {
    AttributeType.TEXT: "Not a text of at most {max_length} characters.",
    AttributeType.INTEGER: "Not an integer from -{max_number} to {max_number}.",
    AttributeType.DECIMAL: "Not a number from -{max_number} to {max_number}.",
    AttributeType.BOOLEAN: "Neither true nor false.",
    AttributeType.DATE: "Not a date such as 2026-01-31.",
    AttributeType.CHOICE: "Not the code of one of the choices: {first}.",
    AttributeType.CHOICES: "Not a list of 1 to {most} distinct codes of the choices: {first}.",
}
