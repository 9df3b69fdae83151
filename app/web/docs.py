"""The documentation page: a vendored Swagger UI that reads this API's own document and talks to no other host."""

from functools import cache
from hashlib import sha256
from pathlib import Path
from string import Template
from typing import NamedTuple

from flask import Response, request
from werkzeug.exceptions import NotFound

_FOLDER = Path(__file__).parent / "static" / "docs"


class Asset(NamedTuple):
    """A file that the page loads."""

    path: Path
    media_type: str


# A fixed list with explicit types: what mimetypes guesses depends on the machine.
ASSETS = {
    asset.path.name: asset
    for asset in (
        Asset(_FOLDER / "docs.css", "text/css"),
        Asset(_FOLDER / "docs.js", "text/javascript"),
        Asset(_FOLDER / "favicon.svg", "image/svg+xml"),
        Asset(_FOLDER / "swagger-ui" / "swagger-ui.css", "text/css"),
        Asset(_FOLDER / "swagger-ui" / "swagger-ui-bundle.js", "text/javascript"),
        Asset(_FOLDER / "swagger-ui" / "swagger-ui-bundle.js.LICENSE.txt", "text/plain"),
    )
}

# Swagger UI loads its icons from data: URLs and sets styles through the CSSOM only, so 'unsafe-inline' is not needed.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)


def page() -> Response:
    """Read about the API's operations and try them."""
    html = Template((_FOLDER / "docs.html").read_text("utf-8")).substitute(version=_version())
    return _respond(html.encode(), "text/html", cache_control="no-cache")


def asset(name: str) -> Response:
    """Fetch a script, a style sheet or an image of the documentation page."""
    if name not in ASSETS:
        raise NotFound
    # The page's links to its assets carry the version, so a new release never runs a cached script of an old one.
    return _respond(_content(name), ASSETS[name].media_type, cache_control="public, max-age=86400")


def _respond(body: bytes, media_type: str, *, cache_control: str) -> Response:
    response = Response(body, mimetype=media_type)
    response.headers["Cache-Control"] = cache_control
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    response.set_etag(_version())
    response.make_conditional(request)
    return response


@cache
def _content(name: str) -> bytes:
    return ASSETS[name].path.read_bytes()


@cache
def _version() -> str:
    """One hash of all files, which is every response's ETag: an ETag need only differ between versions of one URL."""
    digest = sha256((_FOLDER / "docs.html").read_bytes())
    for name in ASSETS:
        digest.update(_content(name))
    return digest.hexdigest()[:16]
