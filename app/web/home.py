"""The root of the server: a page for people, and for programs the same as JSON, as `Accept` asks for."""

from typing import Any

import orjson
from flask import Response, current_app, request

from app.web import docs, pages, readme
from app.web.body import JSON
from app.web.demo import demo_logins
from app.web.links import link_header
from app.web.operation import operation_of

TITLE = "Catalog API"
ABOUT = "A product catalogue behind an HTTP API: browse and search products, and keep them up to date."
HTML = "text/html"
#: Where everything begins, by the relation types of RFC 8631.
LINKS: dict[str, str | None] = {"service-desc": "/openapi.json", "service-doc": "/docs", "status": "/readyz"}


def home() -> Response:
    """The page, or the JSON document: browsers prefer HTML, and a client that accepts anything gets JSON."""
    chosen = request.accept_mimetypes.best_match([JSON, HTML], default=JSON)
    response = _page() if chosen == HTML else _document()
    response.headers["Link"] = link_header(LINKS)
    response.vary.add("Accept")
    return response


def _page() -> Response:
    values = {
        "version": docs.version(),
        "title": TITLE,
        "about": ABOUT,
        "logins": demo_logins(),
        "sections": readme.sections(),
    }
    return pages.render_page("home.html", values, policy=pages.STATIC_POLICY)


def _document() -> Response:
    body = orjson.dumps({
        "title": TITLE,
        "description": ABOUT,
        "links": {"self": "/", **LINKS, "login": "/api/v1/auth/login"},
        "resources": _resources(),
    })  # fmt: skip
    return pages.respond(body, JSON, policy=pages.STATIC_POLICY, etag=pages.digest_of(body))


def _resources() -> dict[str, str]:
    """The paths below /api/v1 that can be read without knowing an id, by what follows there."""
    prefix = "/api/v1/"
    sockets = {rule.rule for rule in current_app.url_map.iter_rules() if rule.websocket}
    operations = current_app.view_functions
    rules: list[Any] = [
        rule.rule
        for rule in current_app.url_map.iter_rules()
        if rule.rule.startswith(prefix) and "GET" in (rule.methods or ()) and not rule.arguments
        # A WebSocket is no link that a browser follows.
        if rule.rule not in sockets
        # Apps send people to a page with a query.
        if not operation_of(operations[rule.endpoint]).shows_page
    ]
    return {path.removeprefix(prefix): path for path in sorted(rules)}
