"""The route of the change feed."""

from typing import Any
from urllib.parse import urlencode

from flask import current_app, request

from app.core.feed import ChangeEvent
from app.core.listing import CursorInvalid
from app.features.categories.schemas import CategorySchema
from app.features.events import service
from app.features.events.schemas import FeedQuerySchema, FeedSchema
from app.features.events.service import CursorExpired, FeedPage
from app.features.products.schemas import ProductSchema
from app.security.permissions import Permission
from app.web.access import current_identity
from app.web.contract import Blueprint, queries, refuses, requires, returns
from app.web.schemas import shared

blueprint = Blueprint("events", __name__, url_prefix="/events")

SCHEMAS = {"product": ProductSchema, "category": CategorySchema}


@blueprint.get("")
@requires(Permission.EVENTS_READ)
@queries(FeedQuerySchema)
@returns(FeedSchema)
@refuses(CursorInvalid, CursorExpired)
def list_events(query: dict[str, Any]) -> dict[str, Any]:
    """Read what changed since a cursor; repeat until has_more is false, and later go on from there."""
    keys = current_app.config["SECRET_KEYS"]
    if "from" in query:
        page = FeedPage([], {}, has_more=False, cursor=service.seal_now(keys))
    else:
        page = service.read_events(query["cursor"], limit=query["per_page"], keys=keys, identity=current_identity())
    return {
        "items": [_item(event, page) for event in page.events],
        "meta": {"per_page": query["per_page"], "has_more": page.has_more, "next_cursor": page.cursor},
        "links": {"next": f"{request.path}?{urlencode({'cursor': page.cursor, 'per_page': query['per_page']})}"},
    }


def _item(event: ChangeEvent, page: FeedPage) -> dict[str, Any]:
    item = {
        "id": event.id,
        "created_at": event.created_at,
        "type": event.type,
        "resource_type": event.resource_type,
        "resource_id": event.resource_id,
        "version": event.row_version,
        "data": None,
    }
    row = page.rows.get((event.resource_type, event.resource_id))
    if row is not None:
        return {**item, "data": shared(SCHEMAS[event.resource_type]).dump(row)}
    if event.type.endswith(".deleted"):
        return item
    return {**item, "type": f"{event.resource_type}.hidden", "version": None}
