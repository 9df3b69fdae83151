"""Strict schema fields: each describes its bounds to OpenAPI, and refuses, with a code, what others would coerce."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, ClassVar

import marshmallow as ma
from email_validator import EmailNotValidError, validate_email

from app.core.model import MAX_ID
from app.core.money import CURRENCIES, CURRENCY, STORED_DECIMALS, amount_text
from app.core.text import INVISIBLE, is_visible
from app.web.deprecation import Deprecation

#: The example of a member that is null in the example of its object.
NULL: Any = object()


class Message(str):
    """An error sentence that carries its stable code."""

    __slots__ = ("code",)
    code: str

    def __new__(cls, code: str, sentence: str) -> "Message":
        """A sentence and its code."""
        message = super().__new__(cls, sentence)
        message.code = code
        return message


class Field(ma.fields.Field[Any]):
    """A field whose errors have their key as code, and whose metadata is its JSON Schema: the bounds that it checks."""

    openapi_type: ClassVar[str] = "string"
    #: The attribute of the row whose value `write` takes as well, where the value alone does not say how it is written.
    beside: ClassVar[str | None] = None
    default_error_messages = {
        "required": "This is required.",
        "null": "This may not be null.",
        "validator_failed": "This is not acceptable.",
    }

    def __init__(
        self,
        *,
        schema: Mapping[str, Any] | None = None,
        note: str = "",
        example: Any = None,
        secret: bool = False,
        deprecated: Deprecation | None = None,
        **options: Any,
    ) -> None:
        self.deprecated = deprecated
        metadata: dict[str, Any] = {"type": self.openapi_type, **(schema or {})}
        if options.get("allow_none") or secret:
            metadata["type"] = [self.openapi_type, "null"]
        if secret:
            # Shown once: a replayed response (Idempotency-Key) has null here.
            metadata["x-secret"] = True
        if deprecated is not None:
            note = " ".join(filter(None, (note, deprecated.sentence)))
            metadata |= deprecated.facts
        if note:
            metadata["description"] = note
        if example is not None:
            metadata["examples"] = [None if example is NULL else example]
        super().__init__(metadata=metadata, **options)

    def describe(self) -> Mapping[str, Any]:
        """The JSON Schema for the document; a field overrides it for what is known once the application is made."""
        return self.metadata

    def read(self, value: Any, name: str | None = None) -> Any:
        """The loaded value, as ``deserialize`` returns it without validators; raises ``ValidationError``."""
        if value is None:
            if self.allow_none:
                return None
            raise self.make_error("null")
        return self._deserialize(value, name, None)

    def write(self, value: Any, _beside: Any = None) -> Any:
        """A row's value as responses have it. Fields whose values are no JSON override it."""
        return value

    def _serialize(self, value: Any, attr: str | None, obj: Any, **_: Any) -> Any:  # noqa: ARG002 -- marshmallow's name
        return (
            self.write(value) if self.beside is None else self.write(value, ma.utils.get_value(obj, self.beside, None))
        )

    def make_error(self, key: str, **data: Any) -> ma.ValidationError:
        """Keep the error's key, which marshmallow drops, as its code."""
        sentence = str(self.error_messages[key]).format(**data)
        return ma.ValidationError([Message(key, sentence)])


_CONTROLS = r"\u0000-\u001f\u007f"
_BLANK = r"\u0020"
# A text needs a visible character, which neither a blank nor a Default_Ignorable_Code_Point of Unicode is. Each
# character can match in one place of the pattern only: with two, backtracking would be quadratic (ReDoS).
LINE = rf"^[{INVISIBLE}]*[^{_CONTROLS}{INVISIBLE}][^{_CONTROLS}]*$"
LINES = r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]*$"


class Text(Field):
    """A string of ``min_length`` to ``max_length`` characters: one line with a visible one, unless ``pattern`` differs.

    No pattern may admit NUL, which PostgreSQL cannot store.
    """

    default_error_messages = {
        "invalid": "Not a string.",
        "too_short": "Shorter than {min_length} characters.",
        "too_long": "Longer than {max_length} characters.",
        "malformed": "Not in the expected form.",
    }

    def __init__(
        self,
        *,
        min_length: int = 1,
        max_length: int,
        pattern: str = LINE,
        schema: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.min_length, self.max_length = min_length, max_length
        self._must_show = pattern == LINE
        # fullmatch, because Python's `$` also matches before a trailing line feed; in JSON Schema it does not.
        self._matches = re.compile(pattern).fullmatch
        bounds = {"minLength": min_length, "maxLength": max_length, "pattern": pattern}
        super().__init__(schema=bounds | dict(schema or {}), **options)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str:
        if not isinstance(value, str):
            raise self.make_error("invalid")
        if len(value) < self.min_length:
            raise self.make_error("too_short", min_length=self.min_length)
        if len(value) > self.max_length:
            raise self.make_error("too_long", max_length=self.max_length)
        if not self._matches(value) or (self._must_show and not is_visible(value)):
            raise self.make_error("malformed")
        return value


class Code(Text):
    """A key that others gave, such as a sku: visible characters, and blanks only between them."""

    _SHOWN = rf"[^{_CONTROLS}{INVISIBLE}]"
    PATTERN = rf"^{_SHOWN}([^{_CONTROLS}{INVISIBLE.removeprefix(_BLANK)}]*{_SHOWN})?$"

    def __init__(self, **options: Any) -> None:
        super().__init__(pattern=self.PATTERN, **options)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str:
        code = super()._deserialize(value)
        # The pattern does not name the invisible characters beyond U+FFFF.
        if not code.isascii() and not all(is_visible(character) for character in code if character != " "):
            raise self.make_error("malformed")
        return code


class Prose(Text):
    """A text of several lines, possibly empty."""

    def __init__(self, *, max_length: int, **options: Any) -> None:
        super().__init__(min_length=0, max_length=max_length, pattern=LINES, **options)


class Email(Text):
    """An e-mail address, lower-cased; two spellings of one mailbox are one account."""

    default_error_messages = {"not_an_address": "Not an e-mail address."}

    def __init__(self, **options: Any) -> None:
        super().__init__(min_length=3, max_length=254, schema={"format": "idn-email"}, **options)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str:
        address = normalized_email(super()._deserialize(value))
        if address is None:
            raise self.make_error("not_an_address")
        return address


def normalized_email(text: str) -> str | None:
    """The normalized form in which an e-mail address is stored; None when it is not an address."""
    try:
        return validate_email(text, check_deliverability=False).normalized.lower()
    except EmailNotValidError:
        return None


class Integer(Field):
    """A JSON integer. Refuses 1.5, "1" and true.

    Accepts 1.0, as JSON Schema does, because some clients write all numbers with a fraction.
    """

    openapi_type = "integer"
    default_error_messages = {
        "invalid": "Not an integer.",
        "too_small": "Less than {minimum}.",
        "too_large": "Greater than {maximum}.",
    }

    def __init__(
        self, *, minimum: int = 1, maximum: int = MAX_ID, schema: Mapping[str, Any] | None = None, **options: Any
    ) -> None:
        self.minimum, self.maximum = minimum, maximum
        bounds = {"minimum": minimum, "maximum": maximum, "format": "int64"}
        super().__init__(schema=bounds | dict(schema or {}), **options)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> int:
        # Above 2^53 a float no longer identifies one integer.
        if isinstance(value, float) and value.is_integer() and abs(value) <= 2**53:
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.make_error("invalid")
        if value < self.minimum:
            raise self.make_error("too_small", minimum=self.minimum)
        if value > self.maximum:
            raise self.make_error("too_large", maximum=self.maximum)
        return value


class QueryInteger(Integer):
    """An integer in a query string in its canonical spelling; refuses 01, +1 and 1_000, which int() accepts."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> int:
        if not re.fullmatch(r"0|-?[1-9][0-9]{0,29}", value):
            raise self.make_error("invalid")
        return super()._deserialize(int(value))


class Boolean(Field):
    """A JSON boolean."""

    openapi_type = "boolean"
    default_error_messages = {"invalid": "Neither true nor false."}

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid")
        return value


class QueryBoolean(Boolean):
    """``true`` or ``false`` in a query string."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> bool:
        return super()._deserialize({"true": True, "false": False}.get(value))


class Choice(Field):
    """One of a closed set of strings, an enumeration or several texts with a ``name``; ``refusal`` is another's code.

    The OpenAPI document has the set as a component of that name, so that a client has one type for it.
    """

    refusal: ClassVar[str] = "not_a_choice"
    default_error_messages = {"not_a_choice": "Not one of: {choices}."}

    def __init__(self, choices: type[StrEnum] | Sequence[str], *, name: str = "", **options: Any) -> None:
        self.choices: dict[str, str] = {str(choice): choice for choice in choices}
        self.set_name = name or (choices.__name__ if isinstance(choices, type) else "")
        if not self.set_name and len(self.choices) > 1:
            raise TypeError("a choice of several texts needs a name")
        super().__init__(schema={"enum": list(self.choices)}, **options)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str:
        if not isinstance(value, str) or value not in self.choices:
            raise self.make_error(self.refusal, choices=", ".join(self.choices))
        return self.choices[value]


class Money(Field):
    """An amount as a decimal string, never a JSON number and never rounded, written with its currency's decimals.

    It is read with as many decimals as any currency has: the rules of the row know which one it is.
    """

    beside = CURRENCY
    #: From 0 to 9999999999 and its fraction, as digits: no sign, no exponent, no leading zero.
    WHOLE = r"(0|[1-9][0-9]{0,9})"
    PATTERN = rf"^{WHOLE}(\.[0-9]{{1,{STORED_DECIMALS}}})?$"
    _matches = re.compile(PATTERN).fullmatch
    _is_longer = re.compile(rf"{WHOLE}\.[0-9]+").fullmatch
    default_error_messages = {
        "invalid": "Not a decimal string from 0 to 9999999999 and its fraction.",
        "too_precise": "More decimals than any currency has.",
    }

    def __init__(self, **options: Any) -> None:
        super().__init__(schema={"pattern": self.PATTERN, "maxLength": 15, "format": "decimal"}, **options)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Decimal:
        if not isinstance(value, str):
            raise self.make_error("invalid")
        if not self._matches(value):
            raise self.make_error("too_precise" if self._is_longer(value) else "invalid")
        return Decimal(value)

    def write(self, value: Decimal | None, currency: Any = None) -> str | None:
        """The amount with the decimals of its currency."""
        return None if value is None else amount_text(value, currency)


class Currency(Choice):
    """An ISO 4217 code."""

    default_error_messages = {"not_a_choice": "Not an ISO 4217 currency code."}

    def __init__(self, **options: Any) -> None:
        super().__init__(sorted(CURRENCIES), name="Currency", **options)


class Moment(Field):
    """An RFC 3339 time: written in UTC, ending in Z; read with any offset, but never without one."""

    PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,6})?([Zz]|[+-][0-9]{2}:[0-9]{2})$"
    default_error_messages = {"invalid": "Not an RFC 3339 time with an offset."}

    def __init__(self, *, example: str = "2026-01-31T12:00:00Z", **options: Any) -> None:
        schema = {"format": "date-time", "pattern": self.PATTERN, "maxLength": 35}
        super().__init__(schema=schema, example=example, **options)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> datetime:
        if not isinstance(value, str) or not re.fullmatch(self.PATTERN, value):
            raise self.make_error("invalid")
        try:
            return datetime.fromisoformat(value.upper()).astimezone(UTC)
        except (ValueError, OverflowError):
            raise self.make_error("invalid") from None

    def write(self, value: datetime | None, _beside: Any = None) -> str | None:
        """The time in UTC."""
        return None if value is None else value.astimezone(UTC).isoformat().replace("+00:00", "Z")


class Array(Field):
    """A list of ``min_items`` to ``max_items`` items; subclasses define the items."""

    openapi_type = "array"
    default_error_messages = {
        "invalid": "Not a list.",
        "too_few": "Fewer than {min_items} items.",
        "too_many": "More than {max_items} items.",
    }

    def __init__(
        self, *, max_items: int, min_items: int = 0, schema: Mapping[str, Any] | None = None, **options: Any
    ) -> None:
        self.min_items, self.max_items = min_items, max_items
        super().__init__(schema={"minItems": min_items, "maxItems": max_items, **(schema or {})}, **options)

    def read_list(self, value: Any) -> list[Any]:
        """The items, not yet validated; raises ``ValidationError`` for another type or number of items."""
        if not isinstance(value, list):
            raise self.make_error("invalid")
        if len(value) > self.max_items:
            raise self.make_error("too_many", max_items=self.max_items)
        if len(value) < self.min_items:
            raise self.make_error("too_few", min_items=self.min_items)
        return value


class Items(Array):
    """A list of distinct values of one kind."""

    default_error_messages = {"repeated": "The same item twice."}

    def __init__(self, inner: Field, **options: Any) -> None:
        self.inner = inner
        super().__init__(schema={"items": inner.metadata, "uniqueItems": True}, **options)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> list[Any]:
        items, errors = [], {}
        for index, item in enumerate(self.read_list(value)):
            try:
                items.append(self.inner.read(item))
            except ma.ValidationError as error:
                errors[index] = error.messages
        if errors:
            raise ma.ValidationError(errors)
        if len(set(items)) < len(items):
            raise self.make_error("repeated")
        return items


class Values(Array):
    """One or several values of a query parameter, of which an item must have one; a sorted tuple without duplicates.

    The order in which a client states values, and how often, do not matter: equal queries load equal tuples.
    """

    NOTE = "Several values, separated by commas or with the parameter repeated: any of them."
    NOTE_ON_COMMAS = "A comma within a value is written `\\,` and a backslash `\\\\`."
    # A backslash before any other character is itself, as in a query with one value.
    _pieces = re.compile(r"(?:\A|,)((?:\\[\\,]|[^,])*)").findall
    _escape = re.compile(r"\\([\\,])")

    def __init__(self, inner: Field, *, max_items: int = 100, note: str = "", **options: Any) -> None:
        self.inner = inner
        notes = (note, self.NOTE, self.NOTE_ON_COMMAS if _takes_commas(inner) else "")
        schema = {"items": inner.metadata}
        super().__init__(max_items=max_items, min_items=1, schema=schema, note=" ".join(filter(None, notes)), **options)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> tuple[Any, ...]:
        texts = dict.fromkeys([value] if isinstance(value, str) else value)
        pieces = dict.fromkeys(piece for text in texts for piece in self._split(text))
        return tuple(sorted({self.inner.read(piece) for piece in self.read_list(list(pieces))}))

    def _split(self, text: str) -> list[str]:
        if "\\" not in text:
            return text.split(",")
        return [self._escape.sub(r"\1", piece) for piece in self._pieces(text)]


def _takes_commas(field: Field) -> bool:
    try:
        field.read(",")
    except ma.ValidationError:
        return False
    return True


class IncludeName(Choice):
    """The name of what `include` can embed."""

    refusal = "unknown_include"
    default_error_messages = {"unknown_include": "Nothing of this name can be included, but: {choices}."}


class Include(Values):
    """The names of what is to be embedded."""

    NOTE = "Several names are separated by commas, or the parameter is repeated."

    def __init__(self, names: Sequence[str], *, set_name: str, **options: Any) -> None:
        super().__init__(IncludeName(names, name=set_name), example=list(names), **options)


class Scalars(Field):
    """An object of at most ``max_properties`` named scalars: strings, numbers and booleans.

    null is not a member's value, because a merge patch (RFC 7396) cannot write one: where ``removable``, a null removes
    its member. Where it ``has_lists``, a member may be a list of distinct strings as well.
    """

    openapi_type = "object"
    NAME = r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$"
    _is_name, _is_text = re.compile(NAME).fullmatch, re.compile(LINES).fullmatch
    MAX_LENGTH = 1000
    MAX_NUMBER = 2**53
    MAX_ITEMS = 100
    default_error_messages = {
        "invalid": "Not an object.",
        "too_many": "More than {max_properties} members.",
        "name_malformed": "A member's name is a letter and up to 63 letters, digits, '_', '.' or '-'.",
        "not_a_scalar": "Not a string of at most 1000 characters, a number of at most 53 bits, or a boolean.",
    }

    def __init__(
        self, *, max_properties: int, removable: bool = False, has_lists: bool = False, **options: Any
    ) -> None:
        self.max_properties, self.removable, self.has_lists = max_properties, removable, has_lists
        scalars: list[dict[str, Any]] = [
            {"type": "string", "maxLength": self.MAX_LENGTH, "pattern": LINES},
            {"type": "number", "minimum": -self.MAX_NUMBER, "maximum": self.MAX_NUMBER},
            {"type": ["boolean", "null"] if removable else "boolean"},
        ]
        if has_lists:
            items = {"items": scalars[0], "minItems": 1, "maxItems": self.MAX_ITEMS, "uniqueItems": True}
            scalars.append({"type": "array", **items})
        bounds = {
            "maxProperties": max_properties,
            "propertyNames": {"pattern": self.NAME},
            "additionalProperties": {"anyOf": scalars},
        }
        super().__init__(schema=bounds, **options)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.make_error("invalid")
        if len(value) > self.max_properties:
            raise self.make_error("too_many", max_properties=self.max_properties)
        errors = {
            name: self.make_error("not_a_scalar" if self._is_name(name) else "name_malformed").messages
            for name, member in value.items()
            if not (self._is_name(name) and self._is_scalar(member))
        }
        if errors:
            raise ma.ValidationError(errors)
        return value

    def _is_scalar(self, member: Any) -> bool:
        if isinstance(member, bool):
            return True
        if isinstance(member, str):
            return len(member) <= self.MAX_LENGTH and self._is_text(member) is not None
        if isinstance(member, int | float):
            return abs(member) <= self.MAX_NUMBER
        if isinstance(member, list) and self.has_lists:
            return self._is_list(member)
        return member is None and self.removable

    def _is_list(self, member: list[Any]) -> bool:
        is_of_texts = all(isinstance(one, str) and self._is_scalar(one) for one in member)
        return is_of_texts and len({*member}) == len(member) and 1 <= len(member) <= self.MAX_ITEMS


class Anything(Field):
    """Any JSON object; for responses."""

    openapi_type = "object"


class Nested(Field):
    """An object, or a list of objects, of another schema; for responses."""

    def __init__(self, nested: type[ma.Schema], *, many: bool = False, **options: Any) -> None:
        self.nested, self.many = nested, many
        super().__init__(**options)

    def write(self, value: Any, _beside: Any = None) -> Any:
        """The value, dumped by the other schema."""
        return self.nested(many=self.many).dump(value)
