"""What is past its sunset, and may be removed with the next release."""

from collections.abc import Iterator
from datetime import date
from typing import Any

from compatibility.changes import Json


def past_sunset(document: Json, today: date) -> Iterator[str]:
    """Where a document has what is deprecated and past its sunset, each with its date."""
    for place, sunset in _sunsets(document, ()):
        if date.fromisoformat(sunset) < today:
            yield f"{' '.join(place)}: {sunset}"


def _sunsets(part: Any, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(part, list):
        for number, item in enumerate(part):
            yield from _sunsets(
                item, (*place, str(item.get("name", number)) if isinstance(item, dict) else str(number))
            )
    elif isinstance(part, dict):
        if isinstance(part.get("x-sunset"), str):
            yield place, part["x-sunset"]
            # Its schema may repeat the date.
            return
        for name, item in part.items():
            yield from _sunsets(item, (*place, name))
