"""The contract of a route: what a view is decorated with, and the blueprint that refuses a view without it.

    @blueprint.post("")
    @requires(Permission.PRODUCTS_WRITE)
    @accepts(ProductCreateSchema)
    @returns(ProductSchema, status=201)
    def create_product(data): ...

`web.pipeline` answers each request as its view declares; `web.openapi` describes it.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from typing import Any

import flask
import marshmallow as ma

from app import extensions
from app.core.errors import Refusal
from app.core.listing import Listing
from app.security.permissions import Permission
from app.security.tokens import TokenKind
from app.web import pipeline, sockets
from app.web.access import Access
from app.web.deprecation import Deprecation
from app.web.includes import Companion, Embedding
from app.web.limits import limit_calls
from app.web.operation import (
    ITSELF,
    ContractMissing,
    FileContract,
    Operation,
    View,
    operation_of,
)
from app.web.schemas import BodySchema, FormSchema, ListQuerySchema, QuerySchema

__all__ = [
    "Blueprint",
    "ContractMissing",
    "Require",
    "accepts",
    "answers_oauth",
    "awaits",
    "by_key",
    "changes",
    "counts_searches",
    "deprecated",
    "ignores_query",
    "limited",
    "lists",
    "locks",
    "path_by_key",
    "prepares",
    "public",
    "queries",
    "redirects",
    "refuses",
    "requires",
    "requires_refresh_token",
    "returns",
    "sends",
    "shows_page",
    "streams",
    "takes_file",
    "takes_form",
    "upgrades",
    "upserts",
    "writes",
]


#: The preconditions of an upsert: raises ``PreconditionFailed`` for a row, or for None where there is none.
Require = Callable[[Any], None]


class Blueprint(flask.Blueprint):
    """A Flask blueprint on which a route without access or contract cannot exist.

    ``about`` is a sentence on its resource for the OpenAPI document, which has its operations under its name, or under
    ``tag``, the name of another.
    """

    def __init__(self, name: str, import_name: str, *args: Any, about: str = "", tag: str = "", **options: Any) -> None:
        super().__init__(name, import_name, *args, **options)
        self.about = about
        self.tag = tag or name

    def add_url_rule(
        self, rule: str, endpoint: str | None = None, view_func: View | None = None, *args: Any, **options: Any
    ) -> None:
        """Register the view's operation in its place; raises `ContractMissing`."""
        operation = operation_of(view_func)
        operation.check()
        endpoint = endpoint or operation.name
        if view_func is not None and operation.admits is not None:
            # What flask-sock registers. A request that is no handshake matches the rule beside it, and is refused.
            operation.admits = functools.partial(sockets.upgrade, view_func, operation.admits)
            super().add_url_rule(rule, endpoint, view := _as_view(operation), *args, **options)
            super().add_url_rule(rule, endpoint, view, *args, **{**options, "websocket": False})
            return
        super().add_url_rule(rule, endpoint, _as_view(operation), *args, **options)

    def websocket(self, rule: str) -> Callable[[View], None]:
        """Register a view that serves a WebSocket, by flask-sock; it declares `upgrades`."""
        register: Callable[[View], None] = extensions.sockets.route(rule, bp=self)
        return register


def requires(permission: Permission) -> Callable[[View], View]:
    """Only holders of ``permission`` may call this."""
    return _declare(access=Access(permission, TokenKind.ACCESS))


def requires_refresh_token(view: View) -> View:
    """Only holders of a refresh token may call this; the view reads its claims."""
    return _declare(access=Access(token=TokenKind.REFRESH))(view)


def public(view: View) -> View:
    """Anyone may call this."""
    return _declare(access=Access())(view)


def limited(setting: str) -> Callable[[View], View]:
    """Count calls of this by client address against the rate in ``setting``, beside the limit on everything."""
    return _declare(limit=setting)


def changes(load: Callable[..., Any]) -> Callable[[View], View]:
    """Load the row that the path names and hand it to the view, if it is there (404) and If-Match fits (428, 412)."""
    return _declare(load=load, by_version=True)


def locks(load: Callable[..., Any]) -> Callable[[View], View]:
    """Load the row that the path names, lock it and hand it to the view, if it is there (404); without If-Match."""
    return _declare(load=load)


def by_key(keys: Iterable[str]) -> Callable[[View], View]:
    """The path names the row by one of ``keys``, as `path_by_key`; a slug that it had before leads to it (308)."""
    return _declare(keys=tuple(keys))


def path_by_key(keys: Iterable[str]) -> str:
    """The path of a row below its collection, by one of ``keys`` and the value of that."""
    return f"/by/<any({', '.join(keys)}):key>/<value:value>"


def upserts(view: View) -> View:
    """Create or replace the row that the path names by a key; If-Match and If-None-Match are optional.

    The body may leave the key out, which the path states. The view gets the preconditions as ``require``, and returns
    the row and whether it is new (201 + Location) or replaced (200).
    """
    return _declare(upserts=True)(view)


def accepts(schema: type[BodySchema], *, max_bytes: int = 0, is_small: bool = False) -> Callable[[View], View]:
    """Take a JSON body of this schema as ``data``.

    It may have ``max_bytes`` bytes even where MAX_BODY_BYTES is less. One that ``is_small`` has at most 16 KiB: a body
    that needs no credentials must be cheap to read.
    """
    return _declare(accepts=schema, max_bytes=max_bytes, is_small=is_small)


def takes_form(schema: type[FormSchema]) -> Callable[[View], View]:
    """Take a form of this schema as ``data``: application/x-www-form-urlencoded, at most 16 KiB.

    As RFC 6749 section 3.2 says, empty parameters count as missing, unknown ones are ignored and none may be repeated.
    """
    return _declare(accepts=schema, is_form=True, is_small=True)


def answers_oauth(view: View) -> View:
    """What is refused has `error` and `error_description` too, as clients of OAuth 2 read them (`web.oauth_errors`)."""
    return _declare(answers_oauth=True)(view)


def shows_page(view: View) -> View:
    """People see this in a browser: what is refused is an HTML page with the same status and headers."""
    return _declare(shows_page=True)(view)


def awaits(ask: Callable[..., Any]) -> Callable[[View], View]:
    """Before the transaction begins, call ``ask`` with what the view gets; it gets what that returns as ``awaited``.

    For requests to other servers: no lock and no connection is held meanwhile. It is called once, also where the
    transaction is retried, and what it raises is the response.
    """
    return _declare(awaits=ask)


def writes(view: View) -> View:
    """A GET that writes: a browser that another site has redirected here can send nothing else. It has no HEAD."""
    return _declare(writes=True)(view)


def takes_file(
    *media_types: str, options: type[QuerySchema] | None = None, limit: str, rehearses: bool = False
) -> Callable[[View], View]:
    """Take a file as ``upload``: the body, of one of these media types, or the part ``file`` of a form.

    Where the view also `accepts` a JSON body, it gets one of the two, and None for the other.

    Its options come as ``query``: parameters of the query string; the other fields of the form take precedence over
    them. ``limit`` names the setting that bounds the body, in bytes. ``rehearses`` says that the view does a dry run
    itself, because what is written is only the order: it gets ``dry_run`` among the options.
    """
    return _declare(takes_file=FileContract(media_types, limit, rehearses), query=options)


def prepares(prepare: Callable[..., Any]) -> Callable[[View], View]:
    """Before the transaction begins, call ``prepare(upload, is_dry_run)``; the view gets what it returns as ``upload``.

    For slow work on a file that needs neither a lock nor a connection. Where the request is sent again it is done
    again, and also where the transaction then fails.
    """
    return _declare(prepares=prepare)


def streams(
    *media_types: str, query: type[QuerySchema], headers: Sequence[str] = (), is_live: bool = False
) -> Callable[[View], View]:
    """Answer with a stream of one of these media types, which the view makes by its ``query``.

    ``headers`` are those that only this view sends; `openapi_components.HEADERS` describes them. A stream that
    ``is_live`` lasts as long as the client wants.
    """
    return _declare(streams=media_types, query=query, status=200, headers=tuple(headers), is_live=is_live)


def upgrades(admit: Callable[..., Any], *, query: type[QuerySchema]) -> Callable[[View], View]:
    """Become a WebSocket, which the view gets with what ``admit(query=...)`` has returned.

    ``admit`` refuses before the upgrade, over HTTP. The route is registered by `Blueprint.websocket`.
    """
    return _declare(admits=admit, query=query, status=101, is_live=True)


def queries(schema: type[QuerySchema]) -> Callable[[View], View]:
    """Take these parameters in the query string as ``query``, and no others."""
    return _declare(query=schema)


def ignores_query(view: View) -> View:
    """Take any query string, unread: a link to a page may carry what is for others."""
    return _declare(ignores_query=True)(view)


def returns(
    schema: type[ma.Schema] | None = None,
    *,
    status: int = 200,
    location: Callable[[Any], str] | None = None,
    cacheable: bool = True,
    includes: Mapping[str, Embedding] | None = None,
    is_deferred: Callable[[Any], bool] | None = None,
) -> Callable[[View], View]:
    """Answer with this schema, or without a body; ``location`` gives the path of the created row.

    Where ``cacheable`` is false no cache may store the response, even where the catalogue is public. ``includes`` are
    what a client can have embedded, by the name that `include` has for it. The status is 202 for a result that
    ``is_deferred``.
    """
    beside = {"location": location, "cacheable": cacheable, "includes": includes or {}, "is_deferred": is_deferred}
    return _declare(returns=schema, status=status, **beside)


def redirects(view: View) -> View:
    """Answer with 303 (See Other, RFC 9110 section 15.4.4), which the view makes itself: the browser goes on by GET."""
    return _declare(status=303, headers=("Location",))(view)


def refuses(*refusals: type[Refusal]) -> Callable[[View], View]:
    """Name the refusals of this use case for the documentation."""
    return _declare(refuses=refusals)


def sends(**messages: type[ma.Schema]) -> Callable[[View], View]:
    """Order messages, which the server sends to a URL of the client's from then on; by the names of their schemas.

    They are the document's `webhooks`.
    """
    return _declare(sends=messages)


def deprecated(
    *, since: date, sunset: date | None = None, link: str, parameter: str | None = None
) -> Callable[[View], View]:
    """Say that the operation, or one parameter of its query, is deprecated, as a `Deprecation` describes.

    Responses to those who use it carry `Deprecation`, `Sunset` and `Link`, refusals too; it goes on working. What
    several operations share, or a member of a body, is declared with its field instead.
    """
    item = ITSELF if parameter is None else f"query.{parameter}"
    deprecation = Deprecation(since=since, sunset=sunset, link=link)

    def decorate(view: View) -> View:
        operation = operation_of(view)
        if item in operation.deprecated:
            raise ContractMissing(f"{operation.name}: {item} is declared twice to be deprecated")
        operation.deprecated = {**operation.deprecated, item: deprecation}
        return view

    return decorate


def lists(
    schema: type[ma.Schema],
    query: type[ListQuerySchema],
    listing: Listing,
    *,
    includes: Mapping[str, Embedding] | None = None,
    companions: Sequence[Companion] = (),
    takes: Sequence[str] = (),
) -> Callable[[View], View]:
    """Answer with pages of the rows that the view selects; ``includes`` are as in `returns`.

    ``companions`` are members that the rows have where the query asks for them. The view ``takes`` parameters
    of the query itself, None for one that is missing: those that its listing does not know.
    """
    beside = {"includes": includes or {}, "companions": companions, "takes": tuple(takes)}
    return _declare(returns=schema, status=200, query=query, listing=listing, **beside)


def counts_searches(view: View) -> View:
    """Count the searches in this list, and whether they find something."""
    return _declare(counts_searches=True)(view)


def live_paths(app: flask.Flask) -> frozenset[str]:
    """The paths of the operations whose responses last as long as their clients want."""
    return frozenset(rule.rule for rule in app.url_map.iter_rules() if _operation_at(app, rule.endpoint).is_live)


def _operation_at(app: flask.Flask, endpoint: str) -> Operation:
    return operation_of(app.view_functions[endpoint])


def _declare(**declared: Any) -> Callable[[View], View]:
    def decorate(view: View) -> View:
        operation = operation_of(view)
        for name, value in declared.items():
            setattr(operation, name, value)
        return view

    return decorate


def _as_view(operation: Operation) -> Callable[..., flask.Response]:
    @functools.wraps(operation.view)
    def view(**path: Any) -> flask.Response:
        return pipeline.answer(operation, path)

    return limit_calls(view, operation.limit) if operation.limit else view
