"""The route of the change feed."""

from typing import Any
from urllib.parse import urlencode

from flask import current_app, request

from app.core.listing import CursorInvalid
from app.features.events import service
from app.features.events.presentation import present_events
from app.features.events.schemas import FeedQuerySchema, FeedSchema
from app.features.events.service import CursorExpired, FeedPage
from app.security.permissions import Permission
from app.web.access import current_identity
from app.web.contract import Blueprint, queries, refuses, requires, returns

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
        page = FeedPage([], has_more=False, cursor=service.sign_cursor(service.latest_position(), keys))
    else:
        page = service.read_events(query["cursor"], limit=query["per_page"], keys=keys)
    return {
        "items": present_events(page.events, current_identity()),
        "meta": {"per_page": query["per_page"], "has_more": page.has_more, "next_cursor": page.cursor},
        "links": {"next": f"{request.path}?{urlencode({'cursor': page.cursor, 'per_page': query['per_page']})}"},
    }
