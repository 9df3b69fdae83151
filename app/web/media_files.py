"""Serves renditions of media from the media store, where no nginx, CDN or bucket does (MEDIA_URL)."""

import re

from flask import Response, request

from app.clients.object_store import IMMUTABLE, PUBLIC, ObjectMissing, StoreUnavailable, current_store
from app.core.errors import NotFound
from app.web.contract import Blueprint, ignores_query, public, refuses, returns

#: Of the address, by its end. What else is in the store has no address.
MEDIA_TYPES = {"webp": "image/webp", "gif": "image/gif", "png": "image/png"}
_NAME = re.compile(rf"[0-9a-f]{{64}}-[1-9][0-9]{{0,5}}\.(?P<ending>{'|'.join(MEDIA_TYPES)})")

blueprint = Blueprint("media_files", __name__, about="Renditions of media.")


@blueprint.get("/media/<name>")
@public
@ignores_query
@returns()
@refuses(NotFound, StoreUnavailable)
def read_rendition(name: str) -> Response:
    """Fetch a rendition of media by the address in its `sources`."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise NotFound
    try:
        stored = current_store().open(f"{PUBLIC}/{name}")
    except ObjectMissing:
        raise NotFound from None
    response = Response(() if request.method == "HEAD" else stored.chunks(), mimetype=MEDIA_TYPES[found["ending"]])
    response.headers["Content-Length"] = str(stored.size)
    response.headers["Cache-Control"] = IMMUTABLE
    # An image of unknown origin, opened as a page: it may neither run nor load anything.
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    # Pages of other origins, such as a shop's, show it.
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    # The content of a name never changes.
    response.set_etag(name)
    return response
