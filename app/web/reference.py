"""The routes of the documentation: the home page, the OpenAPI document, and the page that displays it."""

import orjson
from flask import Response, current_app

from app.clients.oidc import current_providers
from app.core.errors import NotFound
from app.web import docs, home, readme
from app.web.body import JSON
from app.web.contract import Blueprint, ignores_query, public, refuses, returns
from app.web.demo import demo_logins

blueprint = Blueprint("docs", __name__, about="This documentation.")


# Strict slashes would redirect an empty path to the request's Host.
@blueprint.get("/", strict_slashes=False)
@public
@ignores_query
@returns()
def read_home() -> Response:
    """See what this is and where to begin, as a page or as JSON."""
    return home.home()


@blueprint.get("/readme")
@public
@ignores_query
@returns()
@refuses(NotFound)
def read_readme() -> Response:
    """Read the README; 404 outside development."""
    return readme.page()


@blueprint.get("/openapi.json")
@public
@returns()
def read_document() -> Response:
    """Read this API's OpenAPI document."""
    response = Response(_document(), mimetype=JSON)
    response.headers["Cache-Control"] = "no-cache"
    response.add_etag()
    return response


@blueprint.get("/docs")
@public
@ignores_query
@returns()
def read_page() -> Response:
    """Read about the operations, and try them."""
    return docs.page(demo_logins(), [client.provider for client in current_providers().values()])


@blueprint.get("/docs/oauth2-redirect.html")
@public
@ignores_query
@returns()
def read_redirect_page() -> Response:
    """Hand the answer of an authorization to the documentation page, which has asked for it."""
    return docs.redirect_page()


@blueprint.get("/docs/<name>")
@public
@ignores_query
@returns()
def read_asset(name: str) -> Response:
    """Read a part of the documentation page; the version in its URL only varies that."""
    return docs.asset(name)


def _document() -> bytes:
    """The document, generated at the first request and cached: the routes of an application do not change."""
    if "openapi" not in current_app.extensions:
        from app.web.openapi import describe  # noqa: PLC0415 -- most workers never serve it, and need no apispec

        current_app.extensions["openapi"] = orjson.dumps(describe(current_app))
    document: bytes = current_app.extensions["openapi"]
    return document
