"""Validation by a schema: marshmallow's nested error messages become a flat list of faults with pointers."""

from collections.abc import Iterator
from typing import Any

import marshmallow as ma

from app.core.errors import Fault, Invalid, pointer_to
from app.web.fields import Message

SCHEMA_LEVEL = "_schema"


def validate(schema: ma.Schema, values: Any, *, in_query: bool = False) -> dict[str, Any]:
    """``values``, loaded by ``schema``; raises `Invalid` (422) with all faults."""
    try:
        loaded: dict[str, Any] = schema.load(values)
    except ma.ValidationError as error:
        raise Invalid(*faults_of(error.messages, in_query=in_query)) from None
    return loaded


def faults_of(messages: Any, *, in_query: bool = False) -> list[Fault]:
    """A fault per message, with the JSON pointer (RFC 6901) of its member, or the name of its query parameter."""
    faults = []
    for path, message in _flatten(messages, ()):
        code = message.code if isinstance(message, Message) else "invalid"
        if in_query:
            faults.append(Fault(str(message), code, parameter=".".join(path)))
        else:
            faults.append(Fault(str(message), code, pointer=pointer_to(*path)))
    return faults


def describe_fault(fault: Fault) -> dict[str, str]:
    """A fault as a member of ``errors`` in a problem document."""
    places = {"pointer": fault.pointer, "parameter": fault.parameter, "header": fault.header}
    place = {name: value for name, value in places.items() if value is not None}
    return {**place, "detail": fault.detail, "code": fault.code}


def _flatten(messages: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(messages, dict):
        for name, inner in messages.items():
            yield from _flatten(inner, path if name == SCHEMA_LEVEL else (*path, str(name)))
    elif isinstance(messages, list):
        for inner in messages:
            yield from _flatten(inner, path)
    else:
        yield path, messages
