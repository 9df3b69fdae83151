"""The contract of a route: who may call it, what comes in, what goes out; and the one pipeline that keeps it.

A view is decorated with what it declares and registered on a `Blueprint`, which refuses a view that does not say who
may call it and what it returns. Each request then runs in one order: who (401, 403), the bytes of the body (400, 408,
413, 415), the query (422), the row (404, 428, 412), the body's values (422), the view (409); and ends in one place:
serialise, commit, set headers. An exception raised in ``after_request`` would bypass the error handlers, which is why
the commit is here.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import flask
import marshmallow as ma
from flask import current_app, request
from sqlalchemy import Select

from app.core.breaker import breaker
from app.core.errors import Fault, Invalid, Refusal
from app.core.listing import (
    RELEVANCE,
    Criteria,
    CursorPage,
    Listing,
    NumberedPage,
    nest,
    read_cursor,
    read_page,
    read_tree,
)
from app.core.transactions import ATTEMPTS, in_unit_of_work
from app.extensions import db
from app.security.identity import Identity
from app.security.permissions import CATALOG_READS, Permission
from app.security.tokens import TokenKind
from app.web import body, conditional, idempotency, uploads
from app.web.access import Access, admit, current_identity, remember_use
from app.web.answers import answer_once
from app.web.limits import limit_calls
from app.web.links import describe_page, encode_parameters, link_header
from app.web.output import dump, output_of, to_json
from app.web.query import read_query
from app.web.schemas import BodySchema, ListQuerySchema, QuerySchema, Schema, shared
from app.web.validation import faults_of

#: A view returns rows or values; the pipeline makes the response.
View = Callable[..., Any]
SAFE_METHODS = frozenset({"GET", "HEAD"})
#: In bytes; what is read of a longer query string is not remembered.
LONGEST_REMEMBERED = 500


class ContractMissing(Exception):
    """A view was registered that does not declare who may call it and what it returns."""


@dataclass(frozen=True)
class FileContract:
    """What kinds of files an operation takes, and the name of the setting that bounds their size."""

    media_types: tuple[str, ...]
    limit: str


@dataclass
class Operation:
    """What a view declares. Filled by the decorators below; read by the pipeline and by the OpenAPI document."""

    view: View
    access: Access | None = None
    limit: str | None = None
    load: Callable[..., Any] | None = None
    by_version: bool = False
    accepts: type[BodySchema] | None = None
    largest: int = 0
    is_brief: bool = False
    takes_file: FileContract | None = None
    streams: tuple[str, ...] = ()
    query: type[QuerySchema] | None = None
    listing: Listing | None = None
    returns: type[ma.Schema] | None = None
    status: int | None = None
    location: Callable[[Any], str] | None = None
    media_type: str = body.JSON
    kept: bool = True
    refuses: tuple[type[Refusal], ...] = ()

    @property
    def name(self) -> str:
        """The view's name, which is the use case's and the operationId."""
        return self.view.__name__

    @property
    def is_versioned(self) -> bool:
        """Whether the answer is one row that counts its versions, and so has an ETag."""
        return self.returns is not None and self.listing is None and "version" in shared(self.returns).fields

    @property
    def is_keepable(self) -> bool:
        """Whether caches may keep the answer: it reads the catalogue, by rights, path and query alone."""
        return self.kept and self.access is not None and self.access.permission in CATALOG_READS

    @property
    def is_tagged(self) -> bool:
        """Whether the answer has an ETag: its row's version, or else one of its content."""
        return self.is_versioned or self.is_keepable

    def check(self) -> None:
        """Refuse a declaration with a hole in it."""
        if self.access is None:
            raise ContractMissing(f"{self.name} does not say who may call it: @requires, @public")
        if self.status is None:
            raise ContractMissing(f"{self.name} does not say what it returns: @returns, @lists")
        if self.listing is not None and self.query is not None:
            reserved = {"page", "cursor", "per_page", "order", "search", "fields", "sort_by", "tree"}
            wire = shared(self.query).fields
            filters = {declared.data_key or name for name, declared in wire.items()} - reserved
            if filters != set(self.listing.filters):
                raise ContractMissing(f"{self.name}: filters differ from its Listing: {filters}")
            if ("tree" in wire) != (self.listing.parent is not None):
                raise ContractMissing(f"{self.name}: only one of query and Listing can be a tree")
            if ("search" in wire) != (self.listing.search is not None):
                raise ContractMissing(f"{self.name}: only one of query and Listing can be searched")
            sorts = [*self.listing.sorts, *([RELEVANCE] if self.listing.relevance else [])]
            if wire["sort_by"].metadata["enum"] != sorts:
                raise ContractMissing(f"{self.name}: sort_by differs from its Listing")

    def __call__(self, **path: Any) -> flask.Response:
        """Answer one request."""
        response = self._answer(path)
        remember_use(current_identity())
        return response

    def _answer(self, path: dict[str, Any]) -> flask.Response:
        access, reading = self.access or Access(), request.method in SAFE_METHODS
        if self.accepts is None and self.takes_file is None:
            return in_unit_of_work(
                lambda: self._perform_once(path, admit(access), bytes, None), reading=reading, guard=breaker
            )
        identity = in_unit_of_work(functools.partial(admit, access), reading=True, guard=breaker)
        # A body comes at its sender's pace; no lock and no connection is held meanwhile.
        with self._read_body() as (read, content):
            perform = functools.partial(self._perform_once, path, identity, read, content)
            # A file is read once.
            attempts = 1 if self.takes_file else ATTEMPTS
            return in_unit_of_work(perform, reading=reading, guard=breaker, attempts=attempts)

    def _perform_once(
        self, path: dict[str, Any], identity: Identity, read: Callable[[], bytes], content: Any
    ) -> flask.Response:
        perform = functools.partial(self._perform, path, identity, content)
        if self.is_keepable:
            response = answer_once(identity, perform)
        else:
            response = self._perform_retriable(perform, identity, read)
        if request.method in SAFE_METHODS:
            conditional.leave_out_known(response)
        self._say_who_may_keep_it(response, identity)
        return response

    def _perform_retriable(
        self, perform: Callable[[], flask.Response], identity: Identity, read: Callable[[], bytes]
    ) -> flask.Response:
        retriable = request.url_rule is not None and idempotency.takes_key(request.url_rule, self.access or Access())
        return idempotency.once(perform, identity, read, self.returns) if retriable else perform()

    @contextmanager
    def _read_body(self) -> Iterator[tuple[Callable[[], bytes], Any]]:
        """What tells the body from others, when it is asked, and what the view takes of it."""
        config = current_app.config
        if self.takes_file is None:
            largest = body.BRIEF if self.is_brief else max(self.largest, config["MAX_BODY_BYTES"])
            content, value = body.read_json(limit=largest, accepted=self.media_types(request.method))
            yield lambda: content, value
            return
        limit, accepted = config[self.takes_file.limit], (*self.takes_file.media_types, uploads.FORM)
        with uploads.receive(limit=limit, accepted=accepted) as upload:
            yield upload.fingerprint, upload

    def _perform(self, path: dict[str, Any], identity: Identity, content: Any) -> flask.Response:
        if_match = conditional.read_if_match() if self.by_version else None
        query = self._read_query(content.fields if self.takes_file else {})
        row, path = self._load_row(path, identity, if_match)
        values = {"data": validate(shared(self.accepts), content)} if self.accepts else {}
        if self.takes_file:
            values["upload"] = content
        if self.query is not None and self.listing is None:
            values["query"] = query
        result = self.view(*row, **path, **values)
        if request.method not in SAFE_METHODS:
            db.session.flush()
        return result if isinstance(result, flask.Response) else self._render(result, query)

    @staticmethod
    def media_types(method: str) -> tuple[str, ...]:
        """What a body may be sent as."""
        return (body.JSON, body.MERGE_PATCH) if method == "PATCH" else (body.JSON,)

    def _read_query(self, form: dict[str, str]) -> dict[str, Any]:
        schema = self.query or QuerySchema
        if form:
            return validate(shared(schema), read_query(request.query_string) | form, in_query=True)
        return dict(_read_query_string(schema, request.query_string).values)

    def _load_row(
        self, path: dict[str, Any], identity: Identity, if_match: frozenset[str] | None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if self.load is None:
            return (), path
        # Whoever writes over whatever is there must not lose to somebody who writes at the same moment.
        lock = not self.by_version or (if_match is not None and "*" in if_match)
        row = self.load(**path, identity=identity, lock=lock)
        if self.by_version:
            conditional.check_if_match(if_match, row)
        return (row,), {}

    def _render(self, result: Any, query: dict[str, Any]) -> flask.Response:
        if self.listing is not None:
            return self._render_list(result, self.listing, query)
        response = flask.Response(status=self.status, content_type=body.JSON)
        if self.returns is None:
            del response.headers["Content-Type"]
            return response
        if self.location is not None:
            response.headers["Location"] = self.location(result)
        if self.is_versioned:
            response.headers.add("ETag", conditional.entity_tag(result))
        response.data = to_json(dump(self.returns, result))
        return response

    def _render_list(self, rows: Select[Any], listing: Listing, query: dict[str, Any]) -> flask.Response:
        item = self.returns or Schema
        output = output_of(item, _chosen_members(item, query.get("fields")))
        members = output.attributes
        criteria = _criteria(query, listing)
        if query.get("tree") and listing.parent is not None:
            items = [output(row) for row in read_tree(rows, listing, criteria, members)]
            return self._render_tree(items, listing.parent.key)
        page: NumberedPage | CursorPage
        if criteria.cursor is None:
            page = read_page(rows, listing, criteria, members)
        else:
            keys = current_app.config["SECRET_KEYS"]
            page = read_cursor(rows, listing, criteria, members, keys=keys, scope=request.path)
        asked = _read_query_string(self.query or QuerySchema, request.query_string)
        meta, links = describe_page(page, criteria, request.path, asked.spelled)
        items = [output(row) for row in page.items]
        response = flask.Response(to_json({"items": items, "meta": meta, "links": links}), content_type=body.JSON)
        if header := link_header(links):
            response.headers.add("Link", header)
        return response

    def _render_tree(self, items: Sequence[dict[str, Any]], parent: str) -> flask.Response:
        links = {"self": f"{request.path}?tree=true", "first": f"{request.path}?tree=true", "next": None}
        tree = {"items": nest(items, parent), "meta": {"total": len(items)}, "links": links}
        return flask.Response(to_json(tree), content_type=body.JSON)

    def _say_who_may_keep_it(self, response: flask.Response, identity: Identity) -> None:
        if "Cache-Control" in response.headers:
            return
        keep = "no-store"
        if self.is_keepable:
            keep = "private, no-cache" if identity.user_id else _public_lifetime()
            response.headers.add("Vary", "Authorization, X-API-Key")
        response.headers.add("Cache-Control", keep)


class Blueprint(flask.Blueprint):
    """A Flask blueprint on which a route without access or contract cannot exist."""

    def add_url_rule(
        self, rule: str, endpoint: str | None = None, view_func: View | None = None, *args: Any, **options: Any
    ) -> None:
        """Register the view's operation in its place."""
        operation = operation_of(view_func)
        operation.check()
        super().add_url_rule(rule, endpoint or operation.name, _as_view(operation), *args, **options)


def operation_of(view: Any) -> Operation:
    """What a view declares; an empty declaration to start with."""
    operation = getattr(view, "operation", None)
    if not isinstance(operation, Operation):
        operation = view.operation = Operation(view)
    return operation


def requires(permission: Permission) -> Callable[[View], View]:
    """Only who holds ``permission`` may call this."""
    return _declare(access=Access(permission, TokenKind.ACCESS))


def requires_refresh_token(view: View) -> View:
    """Only who holds a refresh token may call this; the view reads its claims."""
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


def accepts(schema: type[BodySchema], *, largest: int = 0, is_brief: bool = False) -> Callable[[View], View]:
    """Take a JSON body of this schema as ``data``.

    It may have ``largest`` bytes even where MAX_BODY_BYTES is less; one that ``is_brief`` has at most 16 KiB: what
    anybody may send is to cost little.
    """
    return _declare(accepts=schema, largest=largest, is_brief=is_brief)


def takes_file(*media_types: str, options: type[QuerySchema], limit: str) -> Callable[[View], View]:
    """Take a file as ``upload``: the body, of one of these media types, or the part ``file`` of a form.

    Its options come as ``query``: parameters of the query string, and before them the other fields of the form.
    ``limit`` names the setting that bounds the body, in bytes.
    """
    return _declare(takes_file=FileContract(media_types, limit), query=options)


def streams(*media_types: str, query: type[QuerySchema]) -> Callable[[View], View]:
    """Answer with a stream of one of these media types, which the view makes as its ``query`` asks."""
    return _declare(streams=media_types, query=query, status=200)


def queries(schema: type[QuerySchema]) -> Callable[[View], View]:
    """Take these parameters in the query string as ``query``, and no others."""
    return _declare(query=schema)


def returns(
    schema: type[ma.Schema] | None = None,
    *,
    status: int = 200,
    location: Callable[[Any], str] | None = None,
    media_type: str = body.JSON,
    kept: bool = True,
) -> Callable[[View], View]:
    """Answer with this schema, or without a body; ``location`` tells where what was created is.

    What is not ``kept`` no cache may store, even where the catalogue is public.
    """
    return _declare(returns=schema, status=status, location=location, media_type=media_type, kept=kept)


def refuses(*refusals: type[Refusal]) -> Callable[[View], View]:
    """Name the refusals of this use case for the documentation."""
    return _declare(refuses=refusals)


def lists(schema: type[ma.Schema], query: type[ListQuerySchema], listing: Listing) -> Callable[[View], View]:
    """Answer with pages of the rows that the view selects."""
    return _declare(returns=schema, status=200, query=query, listing=listing)


def validate(schema: ma.Schema, values: Any, *, in_query: bool = False) -> dict[str, Any]:
    """``values`` loaded by ``schema``; every fault at once otherwise (422)."""
    try:
        loaded: dict[str, Any] = schema.load(values)
    except ma.ValidationError as error:
        raise Invalid(*faults_of(error.messages, in_query=in_query)) from None
    return loaded


class Asked(NamedTuple):
    """The values of a query string, and each of its parameters as links spell it."""

    values: dict[str, Any]
    spelled: dict[str, str]


def _read_query_string(schema: type[QuerySchema], raw: bytes) -> Asked:
    return (_read_again if len(raw) <= LONGEST_REMEMBERED else _read)(schema, raw)


def _read(schema: type[QuerySchema], raw: bytes) -> Asked:
    parameters = read_query(raw)
    return Asked(validate(shared(schema), parameters, in_query=True), encode_parameters(parameters))


# Shops ask the same questions again and again, also where the answers have changed. A thousand take 3 MB at most.
# Faults are not remembered.
_read_again = functools.lru_cache(maxsize=1000)(_read)


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
        return operation(**path)

    return limit_calls(view, operation.limit) if operation.limit else view


def _public_lifetime() -> str:
    config = current_app.config
    lifetime, stale = config["PUBLIC_CACHE_MAX_AGE"], config["PUBLIC_CACHE_STALE_WHILE_REVALIDATE"]
    # RFC 5861: a shared cache may answer with what it has while it fetches it anew.
    return f"public, max-age={lifetime}" + (f", stale-while-revalidate={stale}" if stale else "")


def _criteria(query: dict[str, Any], listing: Listing) -> Criteria:
    return Criteria(
        sort_by=query["sort_by"],
        descending=query["order"] == "desc",
        per_page=query["per_page"],
        page=query.get("page", 1),
        cursor=query.get("cursor"),
        search=query.get("search"),
        filters={name: query[name] for name in listing.filters if name in query},
    )


def _chosen_members(schema: type[ma.Schema], names: str | None) -> tuple[str, ...] | None:
    if names is None:
        return None
    chosen = tuple(dict.fromkeys(names.split(",")))
    unknown = [name for name in chosen if name not in shared(schema).fields]
    if unknown:
        raise Invalid(Fault(f"There is no member {unknown[0]}.", "unknown_member", parameter="fields"))
    return chosen
