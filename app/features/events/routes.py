"""The route of the change feed."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from flask import current_app, request

from app.core.listing import CursorInvalid
from app.features.events import service
from app.features.events.pages import FeedPage, Filter, read_page
from app.features.events.schemas import FeedQuerySchema, FeedSchema
from app.features.events.service import CursorExpired
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

    Repeat with `meta.next_cursor` until `meta.has_more` is false, and later continue from that cursor. A page may
    be short, or empty, although `meta.has_more` is true: with `types` or `resource` it has what fits of the next 1000
    changes, and it never has the imports of others.
    """
    keys = current_app.config["SECRET_KEYS"]
    page = _latest() if "from" in query else _page_after(query, keys)
    cursor = service.sign_cursor(page.position, keys)
    return {
        "items": page.items,
        "meta": {"per_page": query["per_page"], "has_more": page.has_more, "next_cursor": cursor},
        "links": {"next": f"{request.path}?{urlencode(_next_query(query, cursor))}"},
    }


def _latest() -> FeedPage:
    return FeedPage([], has_more=False, position=service.latest_position())


def _page_after(query: Mapping[str, Any], keys: list[str]) -> FeedPage:
    position = service.verify_cursor(query["cursor"], keys) if query["cursor"] else None
    wanted = Filter(query.get("types"), query.get("resource"))
    return read_page(position, limit=query["per_page"], wanted=wanted, identity=current_identity())


def _next_query(query: Mapping[str, Any], cursor: str) -> dict[str, Any]:
    filters = {name: ",".join(query[name]) for name in ("types", "resource") if name in query}
    return {"cursor": cursor, "per_page": query["per_page"], **filters}
