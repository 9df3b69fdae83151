"""What `include` embeds in the rows of a response: other rows, which they refer to or which refer to them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from app.core.changelog import Published
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


class Companion(Protocol):
    """Members that the rows of a list have where its query asks for something, without being included by name."""

    #: The JSON Schema of the member, and an example.
    schema: Mapping[str, Any]
    #: The attributes of a row that it reads.
    attributes: Sequence[str]

    def find(self, rows: Sequence[Any], query: Mapping[str, Any]) -> Sequence[Any] | None:
        """The member of each of ``rows``, None for those that lack it; None in all where the query does not ask."""
