"""Which members a response's rows have: those of their schema and what `include` embeds, or what `fields` names."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import marshmallow as ma

from app.core.errors import Fault, Invalid
from app.web.includes import Companion, Embedding
from app.web.output import Output, output_of
from app.web.schemas import shared

#: Members of what is embedded; None for all of them.
Inner = tuple[str, ...] | None


@dataclass(frozen=True)
class Selection:
    """The members of a response's rows; ``order`` has the names of all of them where `fields` chooses."""

    output: Output
    embedded: Mapping[str, tuple[Embedding, Inner]] = field(default_factory=dict)
    order: Sequence[str] | None = None
    companions: Sequence[Companion] = ()

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attributes of a row that it reads."""
        embedded = (name for embedding, _ in self.embedded.values() for name in embedding.attributes)
        beside = (name for companion in self.companions for name in companion.attributes)
        return tuple(dict.fromkeys([*self.output.attributes, *embedded, *beside]))

    def items(self, rows: Sequence[Any], query: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The members of each of ``rows``, by name, with what the query asks for beside them."""
        items = [self.output(row) for row in rows]
        for name, (embedding, inner) in self.embedded.items():
            for item, value in zip(items, embedding.embed(rows, inner), strict=True):
                item[name] = value
        for companion in self.companions:
            for item, found in zip(items, companion.find(rows, query), strict=False):
                item.update(found)
        if self.order is not None:
            return [{name: item[name] for name in self.order if name in item} for item in items]
        return items


def select_members(
    schema: type[ma.Schema],
    includes: Mapping[str, Embedding],
    query: Mapping[str, Any],
    companions: Sequence[Companion] = (),
) -> Selection:
    """The members that a query selects by `include` and `fields`; an unknown one is refused (422)."""
    included: Sequence[str] = query.get("include", ())
    if query.get("fields") is None:
        whole: dict[str, tuple[Embedding, Inner]] = {name: (includes[name], None) for name in included}
        return Selection(output_of(schema), whole, companions=companions)
    chosen = _chosen_members(query["fields"])
    beside = [one for one in companions if not chosen.keys().isdisjoint({*one.schemas, *one.replaces})]
    additional = {name for one in beside for name in one.schemas}
    for fault in _faults(
        {name: inner for name, inner in chosen.items() if name not in additional or inner}, schema, includes, included
    ):
        raise Invalid(fault)
    embedded = {name: (includes[name], inner) for name, inner in chosen.items() if name in includes}
    own = tuple(name for name in chosen if name not in includes and name not in additional)
    # An output of no members would be one of all.
    output = output_of(schema, own or tuple(shared(schema).dump_fields)[:1])
    return Selection(output, embedded, tuple(chosen) if embedded or beside else None, beside)


def _chosen_members(names: str) -> Mapping[str, Inner]:
    """What `fields` names, in its order: each member, and which of its own members after a dot."""
    chosen: dict[str, Inner] = {}
    for path in names.split(","):
        name, dot, inner = path.partition(".")
        if not dot:
            chosen[name] = None
        elif (others := chosen.get(name, ())) is not None:
            chosen[name] = tuple(dict.fromkeys([*others, inner]))
    return chosen


def _faults(
    chosen: Mapping[str, Inner],
    schema: type[ma.Schema],
    includes: Mapping[str, Embedding],
    included: Sequence[str],
) -> Iterator[Fault]:
    for name, inner in chosen.items():
        if name in includes and name not in included:
            yield Fault(f"{name} needs include={name}.", "not_included", parameter="fields")
        elif name not in includes and name not in shared(schema).fields:
            yield _unknown(name)
        else:
            members = includes[name].members if name in includes else ()
            yield from (_unknown(f"{name}.{one}") for one in inner or () if one not in members)


def _unknown(path: str) -> Fault:
    return Fault(f"There is no member {path}.", "unknown_member", parameter="fields")
