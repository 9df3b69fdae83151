"""What a reader gets of changes: each with the current data of its row, or hidden where the reader may not see that."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from app.core.feed import ChangeEvent
from app.security.identity import Identity
from app.web.resources import Resource, published_resources
from app.web.schemas import shared

#: The rows that a reader may see, serialised, by resource name and id.
Rows = Mapping[tuple[str, int], Any]


def present_events(events: Sequence[ChangeEvent], identity: Identity) -> list[dict[str, Any]]:
    """The events as ``identity`` gets them, in their order: members as in ``ChangeEventSchema``, before its dump.

    One statement for each kind of row among the events, and one for the variants of parents, however many these are.
    It needs the context of an application and a unit of work, but no request. A row that the reader may not see arrives
    as ``product.hidden``, with nothing but its id; what a deleted row was before is hidden as well, and that it was
    deleted is not. Left out are hidden rows of a kind of which readers get no ``.hidden`` (``Resource.shows_hidden``),
    and kinds that this release does not know.
    """
    rows = _find_visible(events, identity)
    presented = (_present(event, rows, identity) for event in events)
    return [item for item in presented if item is not None]


def _find_visible(events: Sequence[ChangeEvent], identity: Identity) -> Rows:
    ids: dict[str, set[int]] = {}
    for event in events:
        ids.setdefault(event.resource_type, set()).add(event.resource_id)
    return {
        (name, row_id): row
        for name, resource in published_resources().items()
        if name in ids
        for row_id, row in _dump(resource, ids[name], identity).items()
    }


def _dump(resource: Resource, ids: Collection[int], identity: Identity) -> dict[int, dict[str, Any]]:
    """The rows that a reader may see, serialised, by id; with their children, where the resource has such."""
    schema, found = shared(resource.schema), resource.find_visible(ids, identity)
    dumped = {row_id: schema.dump(row) for row_id, row in found.items()}
    if (children := resource.children) is None:
        return dumped
    parents = {row_id for row_id, row in found.items() if getattr(row, children.given) is not None}
    for row_id in parents:
        dumped[row_id][children.member] = []
    for row in resource.find_referring(children.reference, children.order, parents, identity):
        dumped[getattr(row, children.reference)][children.member].append(schema.dump(row))
    return dumped


def _present(event: ChangeEvent, rows: Rows, identity: Identity) -> dict[str, Any] | None:
    resource = published_resources().get(event.resource_type)
    if resource is None:
        return None
    data = rows.get((event.resource_type, event.resource_id))
    is_hidden = data is None and not (identity.can(resource.permission) and event.type.endswith(".deleted"))
    if is_hidden and not resource.shows_hidden:
        return None
    types = [f"{event.resource_type}.hidden"] if is_hidden else event.types
    return {
        "id": event.id,
        "created_at": event.created_at,
        "type": types[0],
        "types": types,
        "resource_type": event.resource_type,
        "resource_id": event.resource_id,
        "version": None if is_hidden else event.row_version,
        "live": None if is_hidden else event.row_live,
        "data": data,
    }
