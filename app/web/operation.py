"""What a view declares: who may call it, what comes in, what goes out. The pipeline and the document read it."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import marshmallow as ma

from app.core.errors import Refusal
from app.core.listing import RELEVANCE, Listing, OneOf
from app.security.permissions import CATALOG_READS
from app.web import body, fields
from app.web.access import Access
from app.web.deprecated_members import Path, deprecated_members
from app.web.deprecation import Deprecation
from app.web.includes import Companion, Embedding
from app.web.schemas import BodySchema, QuerySchema, shared

#: A view returns rows or values; the pipeline makes the response.
View = Callable[..., Any]
SAFE_METHODS = frozenset({"GET", "HEAD"})
#: What the query of a list has beside its filters.
_LIST_PARAMETERS = frozenset({"page", "cursor", "per_page", "order", "search", "fields", "sort_by", "tree"})


#: The name of the operation itself among what is deprecated of it.
ITSELF = "operation"


class ContractMissing(Exception):
    """A view was registered that does not declare who may call it and what it returns."""


@dataclass(frozen=True)
class FileContract:
    """What kinds of files an operation takes, and the name of the setting that bounds their size."""

    media_types: tuple[str, ...]
    limit: str
    #: Whether the view does a dry run itself: it gets ``dry_run`` among the options, and what it writes is committed.
    rehearses: bool = False


@dataclass
class Operation:
    """What a view declares. The decorators of `web.contract` fill it; after `check` nothing changes it."""

    view: View
    access: Access | None = None
    limit: str | None = None
    load: Callable[..., Any] | None = None
    by_version: bool = False
    #: The names of the keys by which the path names the row, if it is not by its id.
    keys: tuple[str, ...] = ()
    #: Whether the row that the path names by a key is created if it is not there, without a precondition.
    upserts: bool = False
    accepts: type[BodySchema] | None = None
    max_bytes: int = 0
    is_small: bool = False
    #: Whether the body is a form (application/x-www-form-urlencoded), and no JSON.
    is_form: bool = False
    takes_file: FileContract | None = None
    #: What is done with the file before the transaction begins; the view gets what it returns.
    prepares: Callable[..., Any] | None = None
    #: What waits for another server before the transaction begins; the view gets what it returns.
    awaits: Callable[..., Any] | None = None
    #: Whether a GET writes all the same, as the last step of a redirect does.
    writes: bool = False
    #: Whether what it refuses has the form of OAuth 2 (RFC 6749 section 5.2) beside that of a problem.
    answers_oauth: bool = False
    #: Whether people see it in a browser, so that what it refuses is a page too.
    shows_page: bool = False
    streams: tuple[str, ...] = ()
    #: The headers of the response that the view itself sets, beside those that follow from the rest.
    headers: tuple[str, ...] = ()
    #: Whether the response lasts as long as the client wants: the server gives it a thread that is there for such.
    is_live: bool = False
    #: What admits a client to a WebSocket, which the view then serves.
    admits: View | None = None
    query: type[QuerySchema] | None = None
    ignores_query: bool = False
    listing: Listing | None = None
    includes: Mapping[str, Embedding] = field(default_factory=dict)
    #: Members of the rows of a list that its query may ask for.
    companions: Sequence[Companion] = ()
    #: The parameters of the query of a list that the view takes itself, because its rows depend on them.
    takes: tuple[str, ...] = ()
    #: Whether a search in the list is one for products, of which operators want to know.
    counts_searches: bool = False
    returns: type[ma.Schema] | None = None
    status: int | None = None
    location: Callable[[Any], str] | None = None
    #: Whether a result is still to come, and the status so 202.
    is_deferred: Callable[[Any], bool] | None = None
    cacheable: bool = True
    refuses: tuple[type[Refusal], ...] = ()
    #: The messages that the server sends to the client's own URL because of it, by name.
    sends: Mapping[str, type[ma.Schema]] = field(default_factory=dict)
    #: What `deprecated` declares: the operation under `ITSELF`, and its parameters as ``query.name``.
    deprecated: Mapping[str, Deprecation] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The view's name, which is the use case's and the operationId."""
        return self.view.__name__

    @cached_property
    def parameters(self) -> type[QuerySchema]:
        """The schema of the query string: the one that is declared, and `include` where something can be included."""
        declared = self.query or QuerySchema
        if not self.includes:
            return declared
        note = "The members to embed."
        if self.listing is None:
            note += " The ETag is then one of the whole content: it fits If-None-Match, and no If-Match."
        else:
            note += " With `fields`, only those that it names."
        resource = self.returns.__name__.removesuffix("Schema") if self.returns else ""
        include = fields.Include(list(self.includes), set_name=f"{resource}Include", note=note)
        # marshmallow says that it is a Schema, and it is a subclass of this one.
        return cast("type[QuerySchema]", declared.from_dict({"include": include}, name=declared.__name__))

    @cached_property
    def deprecated_members(self) -> Mapping[str, tuple[Path, Deprecation]]:
        """The deprecated members of its body as ``body.name``, each with its path."""
        members = deprecated_members(self.accepts) if self.accepts is not None else {}
        return {".".join(("body", *path)): (path, deprecation) for path, deprecation in members.items()}

    @cached_property
    def deprecations(self) -> Mapping[str, Deprecation]:
        """Everything of it that is deprecated: itself, parameters of its query, and members of its body."""
        members = {item: deprecation for item, (_, deprecation) in self.deprecated_members.items()}
        return {**self.deprecated, **self._deprecated_fields, **members}

    @property
    def _deprecated_fields(self) -> Mapping[str, Deprecation]:
        """The parameters that their schema declares to be deprecated, wherever it is used."""
        declared = shared(self.parameters).fields.items()
        return {
            f"query.{field.data_key or name}": field.deprecated
            for name, field in declared
            if isinstance(field, fields.Field) and field.deprecated is not None
        }

    def is_reading(self, method: str) -> bool:
        """Whether a request with this method writes nothing."""
        return method in SAFE_METHODS and not self.writes

    @property
    def respond(self) -> View:
        """What makes the response: the view, or what admits a client to its WebSocket."""
        return self.admits or self.view

    @property
    def takes_body(self) -> bool:
        """Whether a request has a body to be read."""
        return self.accepts is not None or self.takes_file is not None

    @property
    def is_versioned(self) -> bool:
        """Whether the response is one row that counts its versions, and so has an ETag."""
        if self.returns is None or self.listing is not None:
            return False
        # The version of a release is a text.
        return isinstance(shared(self.returns).fields.get("version"), fields.Integer)

    @property
    def is_cacheable(self) -> bool:
        """Whether caches may store the response: it reads the catalogue, by rights, path and query alone."""
        return self.cacheable and self.access is not None and self.access.permission in CATALOG_READS

    @property
    def is_tagged(self) -> bool:
        """Whether the response has an ETag: its row's version, or else one of its content."""
        return self.is_versioned or self.is_cacheable

    def media_types(self, method: str) -> tuple[str, ...]:
        """The media types that a body may have which is no file."""
        if self.is_form:
            return (body.FORM,)
        return (body.JSON, body.MERGE_PATCH) if method == "PATCH" else (body.JSON,)

    def check(self) -> None:
        """Raise `ContractMissing` for a declaration with a hole in it."""
        if self.access is None:
            raise ContractMissing(f"{self.name} does not say who may call it: @requires, @public")
        if self.status is None:
            raise ContractMissing(f"{self.name} does not say what it returns: @returns, @lists")
        if self.listing is not None and self.query is not None:
            for problem in _differences(self.listing, shared(self.query), self.takes):
                raise ContractMissing(f"{self.name}: {problem}")
        if self.includes and not self.is_cacheable:
            # It is the cache that gives a response with something included an ETag of its content.
            raise ContractMissing(f"{self.name} includes something in what caches may not store")
        for problem in self._differences_of_deprecated():
            raise ContractMissing(f"{self.name}: {problem}")

    def _differences_of_deprecated(self) -> Iterator[str]:
        """What is declared to be deprecated and is not there, or is declared so by its schema too."""
        # Most operations need their schema only with their first request.
        if not self.deprecated.keys() - {ITSELF}:
            return
        parameters = {f"query.{field.data_key or name}" for name, field in shared(self.parameters).fields.items()}
        for item in sorted(self.deprecated.keys() - {ITSELF}):
            if item not in parameters:
                yield f"there is no {item} that could be deprecated"
            elif item in self._deprecated_fields:
                yield f"{item} is declared twice to be deprecated"


def _differences(listing: Listing, query: QuerySchema, taken: Collection[str]) -> Iterator[str]:
    """What the query schema of a list says otherwise than its Listing."""
    filters = {field.data_key or name: field for name, field in query.fields.items()}
    filters = {name: field for name, field in filters.items() if name not in _LIST_PARAMETERS | set(taken)}
    if filters.keys() != set(listing.filters):
        yield f"filters differ from its Listing: {filters.keys() ^ set(listing.filters)}"
    for name, condition in listing.filters.items():
        if isinstance(condition, OneOf) and not isinstance(filters.get(name), fields.Values):
            yield f"{name} takes several values in its Listing alone"
    if ("tree" in query.fields) != (listing.parent is not None):
        yield "only one of query and Listing can be a tree"
    if ("search" in query.fields) != (listing.search is not None):
        yield "only one of query and Listing can be searched"
    sorts = [*listing.sorts, *([RELEVANCE] if listing.is_ranked else [])]
    if query.fields["sort_by"].metadata["enum"] != sorts:
        yield "sort_by differs from its Listing"


def operation_of(view: Any) -> Operation:
    """What a view declares; an empty declaration to start with."""
    operation = getattr(view, "operation", None)
    if not isinstance(operation, Operation):
        operation = view.operation = Operation(view)
    return operation
