"""Use cases of the change feed."""

import hashlib
from collections.abc import Sequence
from datetime import datetime

from itsdangerous import BadData, URLSafeSerializer
from sqlalchemy import func, select, update

from app.core import clock
from app.core.changelog import LogRow
from app.core.errors import Gone
from app.core.feed import CatalogueState, ChangeEvent, require_state
from app.core.listing import CursorInvalid
from app.core.pruning import delete_batch
from app.core.snapshots import Snapshot, open_snapshot
from app.core.transactions import run
from app.extensions import db
from app.features.events.numbering import number_changes

#: More changes than overlap one: by so many the order of their moments may differ from that of their ids.
OVERLAPPING = 10_000


class CursorExpired(Gone):
    """Events after this cursor were deleted: request a cursor with ?from=now, then read the whole catalogue again."""


def events_after(position: int | None, *, limit: int) -> tuple[Sequence[ChangeEvent], bool]:
    """Up to ``limit`` events after the one with the id ``position``, by ascending ids, and whether more follow.

    0 is before the first event that there ever was, None before the oldest that is stored. What was committed before
    the call is among them, unless more follow. Refuses a position after which events were deleted (``CursorExpired``).
    """
    is_more_to_come = number_changes()
    after = pruned_through() if position is None else position
    rows = select(ChangeEvent).where(ChangeEvent.id > after).order_by(ChangeEvent.id).limit(limit + 1)
    events = db.session.scalars(rows).all()
    # Checked after reading the events: events that are pruned between the two statements would be missed otherwise.
    if position is not None and position < pruned_through():
        raise CursorExpired
    return events[:limit], is_more_to_come or len(events) > limit


def latest_position() -> int:
    """The id of the last event, or of an earlier one where very many are not numbered yet."""
    number_changes()
    return _last_position()


def position_since(moment: datetime) -> int:
    """The position before the first event that was recorded at a moment or after it; the latest if there is none.

    An event is recorded just before its COMMIT, by the clock of the server that handles the request. Refuses a moment
    after which events may have been deleted (``CursorExpired``).
    """
    # Before the search: an event that comes after it is not passed over.
    latest = latest_position()
    # Changes that overlapped may have their moments in another order than their ids, so it is the smallest id of many.
    # For the smallest of all since the moment, PostgreSQL would read everything before it, in the order of the ids.
    since = select(ChangeEvent.id).where(ChangeEvent.created_at >= moment)
    nearest = since.order_by(ChangeEvent.created_at, ChangeEvent.id).limit(OVERLAPPING).subquery()
    first = db.session.scalar(select(func.min(nearest.c.id)))
    state = db.session.execute(select(CatalogueState.pruned_before, CatalogueState.pruned_through)).one_or_none()
    if state is not None and _may_be_pruned(moment, *state):
        raise CursorExpired
    return latest if first is None else first - 1


def _may_be_pruned(moment: datetime, pruned_before: datetime | None, pruned_through: int) -> bool:
    """Whether events that were recorded at a moment or after it may be pruned."""
    if pruned_before is None and pruned_through:
        # The release before has pruned them, and says no time: no event that is stored is from before the last of them.
        rows = select(func.min(ChangeEvent.created_at)).where(ChangeEvent.id > pruned_through)
        pruned_before = db.session.scalar(rows) or clock.now()
    return pruned_before is not None and moment < pruned_before


def open_snapshot_with_cursor(keys: Sequence[str]) -> tuple[Snapshot, str]:
    """A snapshot of the database, and the cursor of the feed from which a copy of it goes on.

    The caller closes the snapshot. The events after the cursor have every change that the snapshot does not show; a few
    may be of changes that it does show, those committed since the numbering and, where very many are not numbered yet,
    others. As an event comes with the current row, to apply it again is harmless.

    The cursor is the greatest id of an event that the snapshot shows. Why that is enough: the transactions that number
    changes run one after the other, because each holds the row of `CatalogueState` from before it takes its first id
    to its end. So the ids up to the cursor were given by the one that gave the cursor and by those before it, all of
    them committed before the snapshot. Each had read its changes in the log, where only committed ones are visible, so
    the snapshot, which is later, shows these changes too. A change that it does not show is numbered later still,
    under a greater id. SQLite stores an event in the transaction of its change, one writer after the other.
    """
    number_changes()
    snapshot = open_snapshot()
    try:
        with snapshot.reading():
            return snapshot, sign_cursor(_last_position(), keys)
    except BaseException:
        snapshot.close()
        raise


def sign_cursor(position: int, keys: Sequence[str]) -> str:
    """The cursor after the event with this id, signed with the last of ``keys``."""
    return str(_serializer(keys).dumps(position))


def verify_cursor(cursor: str, keys: Sequence[str]) -> int:
    """The position of a cursor that one of ``keys`` signed; refuses any other (``CursorInvalid``)."""
    try:
        position = _serializer(keys).loads(cursor)
    except (BadData, ValueError):
        raise CursorInvalid from None
    return int(position)


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
        db.session.execute(update(CatalogueState).where(later).values(pruned_through=last, pruned_before=before))


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
    return run(select(CatalogueState.pruned_through)).scalar() or 0


def _last_position() -> int:
    """The id of the last event, or of the last that has expired where no later one is stored."""
    return run(select(func.max(ChangeEvent.id))).scalar() or pruned_through()


def _serializer(keys: Sequence[str]) -> URLSafeSerializer:
    return URLSafeSerializer(list(keys), salt="cursor:events", signer_kwargs={"digest_method": hashlib.sha256})
