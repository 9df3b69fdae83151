"""Use cases of the change feed."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from itsdangerous import BadData, URLSafeSerializer
from sqlalchemy import func, select, update

from app.core.changelog import LogRow
from app.core.errors import Gone
from app.core.feed import CatalogueState, ChangeEvent, require_state
from app.core.listing import CursorInvalid
from app.core.pruning import delete_batch
from app.extensions import db
from app.features.events.numbering import number_changes


class CursorExpired(Gone):
    """Events after this cursor were deleted: request a cursor with ?from=now, then read the whole catalogue again."""


@dataclass(frozen=True)
class FeedPage:
    """Events, whether more follow, and the cursor to continue from."""

    events: Sequence[ChangeEvent]
    has_more: bool
    cursor: str


def read_events(cursor: str, *, limit: int, keys: Sequence[str]) -> FeedPage:
    """Up to ``limit`` events after the cursor's position; an empty cursor starts with the oldest event that is stored.

    ``keys`` verify the cursor, and the last of them signs the next. Refuses a cursor that none of them signed
    (``CursorInvalid``), and one after which events were deleted (``CursorExpired``).
    """
    verified = _verify_cursor(cursor, keys) if cursor else None
    is_more_to_come = number_changes()
    position = pruned_through() if verified is None else verified
    rows = select(ChangeEvent).where(ChangeEvent.id > position).order_by(ChangeEvent.id).limit(limit + 1)
    events = db.session.scalars(rows).all()
    # Checked after reading the events: events that are pruned between the two statements would be missed otherwise.
    if cursor and position < pruned_through():
        raise CursorExpired
    page = events[:limit]
    last = page[-1].id if page else position
    return FeedPage(page, is_more_to_come or len(events) > limit, sign_cursor(last, keys))


def latest_cursor(keys: Sequence[str]) -> str:
    """The cursor after the last event, or after an earlier one where very many are not numbered yet."""
    number_changes()
    last = db.session.scalar(select(func.max(ChangeEvent.id)))
    return sign_cursor(last or pruned_through(), keys)


def sign_cursor(position: int, keys: Sequence[str]) -> str:
    """The cursor after the event with this id, signed with the last of ``keys``."""
    return str(_serializer(keys).dumps(position))


def expire_events(*, before: datetime) -> None:
    """Mark the events before a moment as expired: refuse their cursors (``CursorExpired``) and let them be pruned.

    Commit before deleting any of them, so that no reader misses an event unnoticed; and in a short transaction, because
    the numbering of events waits for this row.
    """
    older = select(ChangeEvent.id).where(ChangeEvent.created_at < before)
    last = db.session.scalar(older.order_by(ChangeEvent.created_at.desc(), ChangeEvent.id.desc()).limit(1))
    if last is not None:
        db.session.execute(require_state())
        later = CatalogueState.pruned_through < last
        db.session.execute(update(CatalogueState).where(later).values(pruned_through=last))


def prune_events() -> int:
    """Delete a batch of expired events, oldest first; their number."""
    return delete_batch(ChangeEvent, ChangeEvent.id <= pruned_through(), order=ChangeEvent.id.asc())


def number_all_changes() -> None:
    """Number what is committed."""
    while number_changes():
        pass


def prune_log(*, before: datetime) -> int:
    """Delete a batch of what the log of changes had before a moment, oldest first; their number.

    Call `number_all_changes` before. The last change stays, from which the response caches go on. A transaction stores
    its changes as it commits, so none becomes visible long after its moment.
    """
    newest = db.session.scalar(select(func.max(LogRow.id))) or 0
    return delete_batch(LogRow, LogRow.id < newest, LogRow.created_at < before, order=LogRow.id.asc())


def pruned_through() -> int:
    """The id of the last event that has expired; 0 if none has."""
    return db.session.scalar(select(CatalogueState.pruned_through)) or 0


def _verify_cursor(cursor: str, keys: Sequence[str]) -> int:
    try:
        position = _serializer(keys).loads(cursor)
    except (BadData, ValueError):
        raise CursorInvalid from None
    return int(position)


def _serializer(keys: Sequence[str]) -> URLSafeSerializer:
    return URLSafeSerializer(list(keys), salt="cursor:events", signer_kwargs={"digest_method": hashlib.sha256})
