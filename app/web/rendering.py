"""Responses: what a view returned as JSON, with the headers that belong to it."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from flask import Response, current_app, request
from sqlalchemy import Select

from app.core.listing import Criteria, CursorPage, Listing, NumberedPage, nest, read_keyset_page, read_page, read_tree
from app.security.identity import Identity
from app.web import body, conditional, searches
from app.web.links import describe_page, link_header
from app.web.operation import Operation
from app.web.output import dump, to_json
from app.web.requests import parse_query_string
from app.web.schemas import Schema
from app.web.selection import select_members


def render(operation: Operation, result: Any, query: Mapping[str, Any]) -> Response:
    """The response of a view that returned ``result``: rows to be listed, one row, a mapping, or None."""
    if operation.listing is not None:
        return _render_list(operation, operation.listing, result, query)
    result, is_new = result if operation.upserts else (result, True)
    status = operation.status if is_new else HTTPStatus.OK
    if operation.is_deferred is not None and operation.is_deferred(result):
        status = HTTPStatus.ACCEPTED
    response = Response(status=status, content_type=body.JSON)
    if operation.returns is None:
        del response.headers["Content-Type"]
        return response
    if operation.location is not None and is_new:
        response.headers["Location"] = operation.location(result)
    if query.get("include"):
        # What is embedded changes without the row, so its version would be no strong ETag: the cache makes one.
        response.data = to_json(select_members(operation.returns, operation.includes, query).items([result], query)[0])
        return response
    if operation.is_versioned:
        response.headers.add("ETag", conditional.entity_tag(result))
    response.data = to_json(dump(operation.returns, result))
    return response


def set_cache_control(response: Response, operation: Operation, identity: Identity) -> None:
    """Say who may store the response (RFC 9111), unless the view did."""
    if "Cache-Control" in response.headers:
        return
    directives = "no-store"
    if operation.is_cacheable:
        directives = "private, no-cache" if identity.user_id else _public_lifetime()
        response.headers.add("Vary", "Authorization, X-API-Key")
    response.headers.add("Cache-Control", directives)


def _public_lifetime() -> str:
    config = current_app.config
    lifetime, stale = config["PUBLIC_CACHE_MAX_AGE"], config["PUBLIC_CACHE_STALE_WHILE_REVALIDATE"]
    # RFC 5861: a shared cache may answer with what it has while it revalidates it.
    return f"public, max-age={lifetime}" + (f", stale-while-revalidate={stale}" if stale else "")


def _render_list(operation: Operation, listing: Listing, rows: Select[Any], query: Mapping[str, Any]) -> Response:
    selection = select_members(operation.returns or Schema, operation.includes, query, operation.companions)
    query = listing.resolved(query)
    members, criteria = selection.attributes, _criteria(query, listing)
    if query.get("tree") and listing.parent is not None:
        return _render_tree(selection.items(read_tree(rows, listing, criteria, members), query), listing.parent.key)
    page: NumberedPage | CursorPage
    if criteria.cursor is None:
        page = read_page(rows, listing, criteria, members)
    else:
        keys = current_app.config["SECRET_KEYS"]
        taken = "".join(f" {name}={query.get(name)}" for name in operation.takes)
        page = read_keyset_page(rows, listing, criteria, members, keys=keys, scope=f"{request.path}{taken}")
    spelled = parse_query_string(operation.parameters, request.query_string).spelled
    if operation.counts_searches:
        # Attributes are parameters of their own: attr.size.
        given = {name.partition(".")[0] for name in spelled}
        searches.note_first_page(criteria, page.items, is_filtered=not given.isdisjoint(listing.filters))
    meta, links = describe_page(page, criteria, request.path, spelled)
    items = selection.items(page.items, query)
    listed = {"items": items, "meta": meta, "links": links}
    response = Response(to_json(listed), content_type=body.JSON)
    if header := link_header(links):
        response.headers.add("Link", header)
    return response


def _render_tree(items: Sequence[dict[str, Any]], parent: str) -> Response:
    links = {"self": f"{request.path}?tree=true", "first": f"{request.path}?tree=true", "next": None}
    tree = {"items": nest(items, parent), "meta": {"total": len(items)}, "links": links}
    return Response(to_json(tree), content_type=body.JSON)


def _criteria(query: Mapping[str, Any], listing: Listing) -> Criteria:
    return Criteria(
        sort_by=query["sort_by"],
        descending=query["order"] == "desc",
        per_page=query["per_page"],
        page=query.get("page", 1),
        cursor=query.get("cursor"),
        search=query.get("search"),
        filters={name: query[name] for name in listing.filters if name in query},
    )
