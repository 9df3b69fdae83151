"""The documentation page: a vendored Swagger UI that reads this API's own document and talks to no other host."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from flask import Response
from werkzeug.exceptions import NotFound

from app.clients.oidc_settings import Provider
from app.web import pages
from app.web.demo import DemoLogin

_FOLDER = pages.FOLDER / "docs"


class Asset(NamedTuple):
    """A file that a page loads."""

    path: Path
    media_type: str


# A fixed list with explicit types: what mimetypes guesses depends on the machine.
ASSETS = {
    asset.path.name: asset
    for asset in (
        Asset(_FOLDER / "access.js", "text/javascript"),
        Asset(_FOLDER / "docs.css", "text/css"),
        Asset(_FOLDER / "docs.js", "text/javascript"),
        Asset(_FOLDER / "favicon.svg", "image/svg+xml"),
        Asset(_FOLDER / "oauth2-redirect.js", "text/javascript"),
        Asset(_FOLDER / "page.css", "text/css"),
        Asset(_FOLDER / "session.js", "text/javascript"),
        Asset(pages.FOLDER / "oauth" / "consent.css", "text/css"),
        Asset(_FOLDER / "swagger-ui" / "swagger-ui.css", "text/css"),
        Asset(_FOLDER / "swagger-ui" / "swagger-ui-bundle.js", "text/javascript"),
        Asset(_FOLDER / "swagger-ui" / "swagger-ui-bundle.js.LICENSE.txt", "text/plain"),
    )
}


def page(logins: Sequence[DemoLogin] = (), providers: Sequence[Provider] = ()) -> Response:
    """Read about the API's operations and try them; ``logins`` become buttons, and ``providers`` links to log in."""
    values = {"version": version(), "logins": logins, "providers": providers}
    return pages.render_page("docs/docs.html", values, policy=pages.SCRIPTED_POLICY)


def redirect_page() -> Response:
    """Take a browser back from the page that asks for consent; nothing keeps its URL, which has a code."""
    values = {"version": version()}
    return pages.render_private_page("docs/oauth2-redirect.html", values, policy=pages.SCRIPTED_POLICY)


def asset(name: str) -> Response:
    """Fetch a script, a style sheet or an image of a page."""
    if name not in ASSETS:
        raise NotFound
    # The pages' links to their assets carry the version, so a new release never runs a cached script of an old one.
    return pages.respond(
        _content(name),
        ASSETS[name].media_type,
        policy=pages.STATIC_POLICY,
        # One for all of them: an ETag need only differ between versions of one URL.
        etag=version(),
        cache_control="public, max-age=86400",
    )


@cache
def version() -> str:
    """One hash of all assets, for the links to them."""
    return pages.digest_of(*map(_content, ASSETS))


@cache
def _content(name: str) -> bytes:
    return ASSETS[name].path.read_bytes()
