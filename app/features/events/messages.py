"""Events as live streams send them: written once, with the cursor after each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flask import current_app

from app.core.feed import ChangeEvent
from app.features.events import service
from app.features.events.presentation import present_events
from app.features.events.schemas import LiveEventSchema
from app.security.identity import Identity
from app.web.output import to_json
from app.web.schemas import shared


@dataclass(frozen=True, slots=True)
class Message:
    """An event as some clients get it: its position in the feed, its names, and its JSON, with the cursor after it."""

    position: int
    cursor: str
    type: str
    names: Sequence[str]
    resource: str
    text: bytes


def present(events: Sequence[ChangeEvent], identity: Identity) -> Sequence[Message]:
    """The events as ``identity`` gets them, in a unit of work, with at most a few statements."""
    return write_messages(present_events(events, identity))


def write_messages(items: Sequence[Mapping[str, Any]]) -> Sequence[Message]:
    """Items of the feed as messages, each with the cursor after it."""
    keys: Sequence[str] = current_app.config["SECRET_KEYS"]
    return [_message(item, service.sign_cursor(item["id"], keys)) for item in items]


def _message(item: Mapping[str, Any], cursor: str) -> Message:
    text = to_json(shared(LiveEventSchema).dump({**item, "cursor": cursor}))
    return Message(item["id"], cursor, item["type"], item["types"], item["resource_type"], text)
