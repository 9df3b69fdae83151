"""The routes of the change feed: pages of it, and two streams that follow it."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from flask import Response, current_app, request
from simple_websocket import Server

from app.core.listing import CursorInvalid
from app.features.events import service
from app.features.events.broadcast import TooManyStreams
from app.features.events.live import EventStream, open_stream, serve_socket, write_blocks
from app.features.events.pages import FeedPage, Filter, read_page
from app.features.events.schemas import FeedQuerySchema, FeedSchema, StreamQuerySchema
from app.features.events.service import CursorExpired
from app.security.permissions import Permission
from app.web import sockets, sse
from app.web.access import current_identity
from app.web.contract import Blueprint, queries, refuses, requires, returns, streams, upgrades

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


@blueprint.get("/stream")
@requires(Permission.EVENTS_READ)
@streams(sse.MEDIA_TYPE, query=StreamQuerySchema, is_live=True)
@refuses(CursorInvalid, CursorExpired, TooManyStreams)
def stream_events(query: dict[str, Any]) -> Response:
    """Follow the changes as server-sent events.

    Each block has an event of the feed as `data`, its `type` as `event`, and the cursor after it as `id`: send that of
    the last one as `Last-Event-ID`, and the next stream goes on from there, with nothing missed and nothing repeated.
    Without it, and without `cursor`, a stream begins with the next change; its first block has the id of that place. A
    comment with an id is a heartbeat, every 15 seconds.

    Credentials are checked again every few seconds. When they have expired or were revoked, the last block is an event
    `end` with a problem document. A server that stops ends its streams without one.
    """
    if request.method == "HEAD":
        return Response(mimetype=sse.MEDIA_TYPE)
    stream = open_stream(query)
    stream.has_left = sse.watch_connection()
    response = sse.stream_blocks(write_blocks(stream))
    response.call_on_close(stream.close)
    return response


@blueprint.websocket("/ws")
@requires(Permission.EVENTS_READ)
@upgrades(open_stream, query=StreamQuerySchema)
@refuses(CursorInvalid, CursorExpired, TooManyStreams, *sockets.REFUSALS)
def connect_events(socket: Server, stream: EventStream) -> None:
    """Follow the changes over a WebSocket.

    Each message is an event of the feed as JSON, with the `cursor` after it: connect with that of the last one, and the
    next stream goes on from there. Without `cursor`, a stream begins with the next change. A message of the type
    `stream.position` has nothing but a cursor; it is the first message, and the heartbeat of every 15 seconds. Clients
    send nothing.

    A browser offers the subprotocols `catalog.events.v1` and `bearer.<access token>`; others can send `Authorization`
    or `X-API-Key` as everywhere. When the credentials have expired or were revoked, the connection is closed with 4401
    or 4403; with 1001 when the server stops, and with 1013 when its database does not answer for a minute.
    """
    serve_socket(socket, stream)


def _latest() -> FeedPage:
    return FeedPage([], has_more=False, position=service.latest_position())


def _page_after(query: Mapping[str, Any], keys: list[str]) -> FeedPage:
    position = service.verify_cursor(query["cursor"], keys) if query["cursor"] else None
    wanted = Filter(query.get("types"), query.get("resource"))
    return read_page(position, limit=query["per_page"], wanted=wanted, identity=current_identity())


def _next_query(query: Mapping[str, Any], cursor: str) -> dict[str, Any]:
    filters = {name: ",".join(query[name]) for name in ("types", "resource") if name in query}
    return {"cursor": cursor, "per_page": query["per_page"], **filters}
