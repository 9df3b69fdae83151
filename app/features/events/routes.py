"""The route of the change feed."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from flask import current_app, request

from app.core.feed import ChangeEvent
from app.core.listing import CursorInvalid
from app.features.events import service
from app.features.events.schemas import FeedQuerySchema, FeedSchema
from app.features.events.service import CursorExpired, FeedPage
from app.security.permissions import Permission
from app.web.access import current_identity
from app.web.contract import Blueprint, queries, refuses, requires, returns
from app.web.resources import published_resources
from app.web.schemas import shared

blueprint = Blueprint("events", __name__, url_prefix="/events", about="The change feed, in commit order.")


@blueprint.get("")
@requires(Permission.EVENTS_READ)
@queries(FeedQuerySchema)
@returns(FeedSchema)
@refuses(CursorInvalid, CursorExpired)
def list_events(query: dict[str, Any]) -> dict[str, Any]:
    """Read the changes after a cursor.

    Repeat with `meta.next_cursor` until `meta.has_more` is false, and later continue from that cursor.
    """
    keys = current_app.config["SECRET_KEYS"]
    if "from" in query:
        page = FeedPage([], has_more=False, cursor=service.latest_cursor(keys))
    else:
        page = service.read_events(query["cursor"], limit=query["per_page"], keys=keys)
    rows = _visible_rows(page.events)
    return {
        "items": [_item(event, rows) for event in page.events],
        "meta": {"per_page": query["per_page"], "has_more": page.has_more, "next_cursor": page.cursor},
        "links": {"next": f"{request.path}?{urlencode({'cursor': page.cursor, 'per_page': query['per_page']})}"},
    }


def _visible_rows(events: Sequence[ChangeEvent]) -> dict[tuple[str, int], Any]:
    """The current rows of these events that the reader may see, serialised, by resource name and id."""
    ids: dict[str, set[int]] = {}
    for event in events:
        ids.setdefault(event.resource_type, set()).add(event.resource_id)
    return {
        (name, row_id): shared(resource.schema).dump(row)
        for name, resource in published_resources().items()
        if name in ids
        for row_id, row in resource.find_visible(ids[name], current_identity()).items()
    }


def _item(event: ChangeEvent, rows: Mapping[tuple[str, int], Any]) -> dict[str, Any]:
    data = rows.get((event.resource_type, event.resource_id))
    can_read = current_identity().can(published_resources()[event.resource_type].permission)
    is_hidden = data is None and not (can_read and event.type.endswith(".deleted"))
    return {
        "id": event.id,
        "created_at": event.created_at,
        "type": f"{event.resource_type}.hidden" if is_hidden else event.type,
        "resource_type": event.resource_type,
        "resource_id": event.resource_id,
        "version": None if is_hidden else event.row_version,
        "live": None if is_hidden else event.row_live,
        "data": data,
    }
