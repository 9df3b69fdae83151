"""What `include` embeds in the rows of a response: other rows, which they refer to or which refer to them."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import marshmallow as ma

from app.core.changelog import Published
from app.security.identity import Identity
from app.web.access import current_identity
from app.web.output import output_of
from app.web.resources import Resource, published_resources
from app.web.schemas import shared


class Embedding(Protocol):
    """What `include` can embed in each row of a response, as a member of its own."""

    @property
    def attributes(self) -> Sequence[str]:
        """The attributes of a row that it reads."""

    @property
    def members(self) -> Collection[str]:
        """The members of what is embedded, of which `fields` can choose some."""

    def embed(self, rows: Sequence[Any], members: tuple[str, ...] | None) -> Sequence[Any]:
        """What is embedded in each of ``rows``, in their order: all of its members, or only these."""


@dataclass(frozen=True)
class Include:
    """The published row whose id is the attribute ``reference`` of a row; null where the caller may read none."""

    reference: str
    model: type[Published]

    @property
    def resource(self) -> Resource:
        """The kind of row that is embedded."""
        return published_resources()[self.model.audited_as]

    @property
    def attributes(self) -> Sequence[str]:
        """The attribute that refers to the other row."""
        return (self.reference,)

    @property
    def members(self) -> Collection[str]:
        """The members of the other row."""
        return list(shared(self.resource.schema).dump_fields)

    def embed(self, rows: Sequence[Any], members: tuple[str, ...] | None) -> Sequence[Any]:
        """The other row of each of ``rows``; at most one statement, however many there are."""
        ids = [getattr(row, self.reference) for row in rows]
        found = self.resource.find_visible({one for one in ids if one is not None}, current_identity())
        output = output_of(self.resource.schema, members)
        shown = {row_id: output(row) for row_id, row in found.items()}
        return [shown.get(one) for one in ids]


@dataclass(frozen=True)
class IncludeMany:
    """The published rows whose attribute ``reference`` is the id of a row, in the order of some attributes of theirs.

    An empty list where there are none, or the caller may read none.
    """

    model: type[Published]
    reference: str
    order: Sequence[str]

    @property
    def resource(self) -> Resource:
        """The kind of rows that are embedded."""
        return published_resources()[self.model.audited_as]

    @property
    def attributes(self) -> Sequence[str]:
        """The id, to which the other rows refer."""
        return ("id",)

    @property
    def members(self) -> Collection[str]:
        """The members of each of the other rows."""
        return list(shared(self.resource.schema).dump_fields)

    def embed(self, rows: Sequence[Any], members: tuple[str, ...] | None) -> Sequence[Any]:
        """The other rows of each of ``rows``; at most one statement, however many there are."""
        output = output_of(self.resource.schema, members)
        found: dict[int, list[Any]] = {row.id: [] for row in rows}
        for row in self.resource.find_referring(self.reference, self.order, list(found), current_identity()):
            found[getattr(row, self.reference)].append(output(row))
        return [found[row.id] for row in rows]


@dataclass(frozen=True)
class IncludeObjects:
    """Objects of a schema that ``find`` finds for rows: for each row a list, in their order."""

    schema: type[ma.Schema]
    #: The attributes of a row that it reads.
    attributes: Sequence[str]
    find: Callable[[Sequence[Any], Identity], Sequence[Sequence[Any]]]

    @property
    def members(self) -> Collection[str]:
        """The members of each of the objects."""
        return list(shared(self.schema).dump_fields)

    def embed(self, rows: Sequence[Any], members: tuple[str, ...] | None) -> Sequence[Any]:
        """The objects of each of ``rows``."""
        output = output_of(self.schema, members)
        return [[output(one) for one in objects] for objects in self.find(rows, current_identity())]


class Companion(Protocol):
    """Members that the rows of a list have where its query asks for something, without being included by name.

    A member that rows always have may be another one then.
    """

    #: The members that are there in such a list alone: a JSON Schema, with an example.
    schemas: Mapping[str, Mapping[str, Any]]
    #: The members that are others then.
    replaces: Collection[str]
    #: The attributes of a row that it reads.
    attributes: Sequence[str]

    def find(self, rows: Sequence[Any], query: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """The members of each of ``rows``, as far as it has any; nothing where the query does not ask."""
