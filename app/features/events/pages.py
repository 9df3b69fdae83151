"""A page of the feed for one reader: what this wants of the next events, chosen from what it would get of them."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from app.core.feed import ChangeEvent
from app.features.events import service
from app.features.events.names import matches
from app.features.events.presentation import present_events
from app.security.identity import Identity

#: How many events are looked at for a page, if not every one is wanted: a page takes a bounded time, and may be empty.
MAX_READ = 1000
#: How many of them are presented at once, at least.
MIN_PRESENTED = 100


@dataclass(frozen=True)
class Filter:
    """The events that a reader wants: of one of ``resources``, with a name that fits one of ``types``; None: of any."""

    types: Collection[str] | None = None
    resources: Collection[str] | None = None

    @property
    def wants_all(self) -> bool:
        """Whether it leaves nothing out."""
        return self.types is None and self.resources is None

    def wants(self, resource: str, names: Collection[str]) -> bool:
        """Whether it wants a change of a resource with these names."""
        is_of_resource = self.resources is None or resource in self.resources
        return is_of_resource and (self.types is None or matches(self.types, names))

    def may_want(self, event: ChangeEvent) -> bool:
        """Whether it wants an event as some reader gets it: with all of its names, or hidden."""
        resource = event.resource_type
        return self.wants(resource, event.types) or self.wants(resource, [f"{resource}.hidden"])


@dataclass(frozen=True)
class FeedPage:
    """Events as a reader gets them, whether more follow, and the position to continue from."""

    items: Sequence[dict[str, Any]]
    has_more: bool
    position: int


def read_page(position: int | None, *, limit: int, wanted: Filter, identity: Identity) -> FeedPage:
    """Up to ``limit`` of the events after a position that ``identity`` wants; `service.events_after` has positions.

    It looks at ``MAX_READ`` events at most, and at ``limit`` where all are wanted. So a page may be short, or empty,
    although more follow. Refuses a position after which events were deleted (``CursorExpired``).
    """
    events, has_more = service.events_after(position, limit=limit if wanted.wants_all else MAX_READ)
    found: list[dict[str, Any]] = []
    for items in _present([event for event in events if wanted.may_want(event)], limit, identity):
        found += [item for item in items if wanted.wants(item["resource_type"], item["types"])]
        if len(found) > limit:
            return FeedPage(found[:limit], has_more=True, position=found[limit - 1]["id"])
    if events:
        position = events[-1].id
    return FeedPage(found, has_more, service.pruned_through() if position is None else position)


def _present(events: Sequence[ChangeEvent], limit: int, identity: Identity) -> Iterator[Sequence[dict[str, Any]]]:
    """Present events in batches, because a page may be full after the first ones."""
    size = max(limit, MIN_PRESENTED)
    for start in range(0, len(events), size):
        yield present_events(events[start : start + size], identity)
