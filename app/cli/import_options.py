"""The options of ``flask catalog import``: those of the API, as its schema declares them."""

from collections.abc import Callable
from typing import Any

import click
import marshmallow as ma
import orjson

from app.features.imports.reading.cells import check_constants
from app.features.imports.reading.options import Reading
from app.features.imports.schemas import ImportOptionsSchema, Pairs
from app.web import fields
from app.web.schemas import shared
from app.web.validation import faults_of

Command = Callable[..., Any]


def import_options(command: Command) -> Command:
    """Give a command the options of an import; it gets those that were given, as ``options``."""
    for name, field in reversed(shared(ImportOptionsSchema).fields.items()):
        command = click.option(_switch(name), name, **_settings(field))(command)
    return command


def load_reading(given: dict[str, Any], defaults: Callable[[dict[str, Any]], dict[str, Any]]) -> Reading:
    """The reading that the options state, with ``defaults`` for what they do not; refuses what the API refuses.

    The exit code is then 2.
    """
    options = _load(given)
    reading = Reading.of({**defaults(options), **options})
    try:
        check_constants(reading)
    except ma.ValidationError as error:
        fault = faults_of(error.messages)[0]
        raise click.BadParameter(f"{fault.pointer}: {fault.detail}", param_hint="--set") from None
    return reading


def _load(given: dict[str, Any]) -> dict[str, Any]:
    texts = {name: _text(name, value) for name, value in given.items() if value not in (None, (), False)}
    try:
        loaded: dict[str, Any] = shared(ImportOptionsSchema).load(texts)
    except ma.ValidationError as error:
        fault = faults_of(error.messages, in_query=True)[0]
        raise click.BadParameter(fault.detail, param_hint=_switch(fault.parameter or "")) from None
    return loaded


def _text(name: str, value: Any) -> str:
    if isinstance(value, tuple):
        return orjson.dumps(_named(name, value)).decode()
    return "true" if value is True else str(value)


def _named(name: str, pairs: tuple[str, ...]) -> dict[str, str]:
    named: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise click.BadParameter(f"{pair!r} is not of the form NAME=VALUE", param_hint=_switch(name))
        if key in named:
            raise click.BadParameter(f"{key!r} is given twice", param_hint=_switch(name))
        named[key] = value
    return named


def _switch(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _settings(field: ma.fields.Field[Any]) -> dict[str, Any]:
    """How click takes a field of the query string."""
    settings: dict[str, Any] = {"help": str(field.metadata.get("description", "")).replace("`", "")}
    match field:
        case fields.QueryBoolean():
            return settings | {"is_flag": True}
        case Pairs():
            return settings | {"multiple": True, "metavar": "NAME=VALUE"}
        case fields.Currency():
            return settings | {"metavar": "CODE"}
        case fields.Choice():
            return settings | {"type": click.Choice(list(field.choices))}
        case _:
            return settings
