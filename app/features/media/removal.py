"""Deleting pictures for good: those that clients deleted, and those that no product has shown for a while.

First a row says that it is being removed, then its objects are deleted, and then the row. So what has a row may have
objects, and what has none has none. (decision 52)
"""

from collections.abc import Generator, Iterator
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, and_, delete, or_, select, update

from app.clients.object_store import ObjectStore, StoreUnavailable, current_store
from app.core import clock, jobs
from app.core.changes import record_write
from app.core.jobs import Claim, TransientFailure
from app.core.transactions import in_unit_of_work, unit_of_work
from app.extensions import db
from app.features.media.models import ASSETS, SHOWN, Asset, AssetStatus
from app.features.media.names import keys_of_asset
from app.features.media.service import is_placed

#: After so long, what no product shows is deleted.
UNPLACED_RETENTION = timedelta(days=1)
#: After so long, the one who was removing a picture is taken for dead.
LEASE = timedelta(minutes=10)
BATCH = 50

#: What may be deleted when nothing shows it; what is being processed is not.
_IDLE = (AssetStatus.RECEIVING, AssetStatus.READY, AssetStatus.FAILED)


def remove_deleted(claim: Claim) -> Generator[None, None, None]:
    """The periodic job, which is also ordered when a client deletes a picture."""
    try:
        for _ in remove(before=clock.now() - UNPLACED_RETENTION, store=current_store()):
            yield
            with unit_of_work(reading=True):
                jobs.confirm(claim, claim.progress)
    except StoreUnavailable as refusal:
        raise TransientFailure(refusal.sentence()) from refusal


def remove(*, before: datetime, store: ObjectStore) -> Iterator[int]:
    """Delete what was deleted, or last used before a moment and no product shows; the number of each batch.

    Raises ``StoreUnavailable``; what is left then is removed by the next call.
    """
    while in_unit_of_work(_delete_unplaced, before):
        pass
    while taken := in_unit_of_work(_take):
        store.delete([key for row in taken.values() for key in keys_of_asset(row)])
        with unit_of_work():
            is_mine = and_(ASSETS.c.id.in_(taken), ASSETS.c.status == AssetStatus.REMOVING)
            db.session.execute(delete(ASSETS).where(is_mine))
        yield len(taken)


def _delete_unplaced(before: datetime) -> int:
    """Mark a batch of what no product shows as deleted; their number."""
    is_old = and_(ASSETS.c.used_at < before, ASSETS.c.deleted_at.is_(None), ASSETS.c.status.in_(_IDLE))
    rows = select(ASSETS).where(is_old, ~is_placed(ASSETS)).order_by(ASSETS.c.used_at).limit(BATCH)
    found = db.session.execute(rows.with_for_update(skip_locked=True)).mappings().all()
    now = clock.now()
    for row in found:
        # One that is just being placed is locked, and then skipped, or placed by now.
        is_free = (ASSETS.c.id == row["id"], ~is_placed(ASSETS))
        gone = {"deleted_at": now, "version": row["version"] + 1}
        deleted = update(ASSETS).where(*is_free).values(gone).returning(ASSETS.c.id)
        if db.session.scalar(deleted) is not None and row["status"] in SHOWN:
            record_write(Asset, before=dict(row), after={**row, **gone}, members=["deleted_at"])
    return len(found)


def _take() -> dict[int, Row[Any]]:
    """Take a batch of what is deleted, for this process to remove; the rows by id."""
    now = clock.now()
    is_idle = and_(ASSETS.c.status.in_([*_IDLE]), ~is_placed(ASSETS))
    is_left = and_(ASSETS.c.status == AssetStatus.REMOVING, ASSETS.c.used_at < now - LEASE)
    rows = select(ASSETS).where(ASSETS.c.deleted_at.is_not(None), or_(is_idle, is_left))
    found = db.session.execute(rows.order_by(ASSETS.c.id).limit(BATCH).with_for_update(skip_locked=True)).all()
    taken = {row.id: row for row in found}
    if taken:
        values = {"status": AssetStatus.REMOVING, "used_at": now}
        db.session.execute(update(ASSETS).where(ASSETS.c.id.in_(taken)).values(values))
    return taken
