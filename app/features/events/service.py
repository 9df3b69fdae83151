"""Use cases of the change feed."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from itsdangerous import BadData, URLSafeSerializer
from sqlalchemy import func, select, update

from app.core.errors import Gone
from app.core.feed import CatalogueState, ChangeEvent
from app.core.listing import CursorInvalid
from app.core.pruning import delete_batch
from app.extensions import db


class CursorExpired(Gone):
    """Events after this position have been forgotten: read the catalogue anew, from a cursor of ?from=now on."""


@dataclass(frozen=True)
class FeedPage:
    """Events, whether there are more by now, and the cursor to go on from."""

    events: Sequence[ChangeEvent]
    has_more: bool
    cursor: str


def read_events(cursor: str, *, limit: int, keys: Sequence[str]) -> FeedPage:
    """Up to ``limit`` events after the cursor's position; an empty cursor starts with the oldest that is kept."""
    position = _unseal(cursor, keys) if cursor else pruned_through()
    rows = select(ChangeEvent).where(ChangeEvent.id > position).order_by(ChangeEvent.id).limit(limit + 1)
    events = db.session.scalars(rows).all()
    # Read after the events: no reader may miss what is pruned meanwhile.
    if cursor and position < pruned_through():
        raise CursorExpired
    page = events[:limit]
    last = page[-1].id if page else position
    return FeedPage(page, len(events) > limit, seal(last, keys))


def seal_now(keys: Sequence[str]) -> str:
    """The cursor after everything that has happened."""
    last = db.session.scalar(select(func.max(ChangeEvent.id)))
    return seal(last or pruned_through(), keys)


def seal(position: int, keys: Sequence[str]) -> str:
    """The cursor that goes on after an event."""
    return str(_serializer(keys).dumps(position))


def expire_events(*, before: datetime) -> None:
    """Refuse the cursors of events that are older (``CursorExpired``), which may then be pruned.

    Committed before any of them is deleted, so that no reader misses an event unawares; and in a short transaction,
    because every write of the catalogue waits for this row.
    """
    older = select(ChangeEvent.id).where(ChangeEvent.created_at < before)
    last = db.session.scalar(older.order_by(ChangeEvent.created_at.desc(), ChangeEvent.id.desc()).limit(1))
    if last is not None:
        later = CatalogueState.pruned_through < last
        db.session.execute(update(CatalogueState).where(later).values(pruned_through=last))


def prune_events() -> int:
    """Delete a batch of the expired events, the oldest first; their number."""
    return delete_batch(ChangeEvent, ChangeEvent.id <= pruned_through(), order=ChangeEvent.id.asc())


def pruned_through() -> int:
    """The last event that has expired."""
    return db.session.scalar(select(CatalogueState.pruned_through)) or 0


def _unseal(cursor: str, keys: Sequence[str]) -> int:
    try:
        position = _serializer(keys).loads(cursor)
    except (BadData, ValueError):
        raise CursorInvalid from None
    return int(position)


def _serializer(keys: Sequence[str]) -> URLSafeSerializer:
    return URLSafeSerializer(list(keys), salt="cursor:events", signer_kwargs={"digest_method": hashlib.sha256})
