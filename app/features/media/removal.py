"""Deleting pictures for good: those that clients deleted, those that no product has shown for a while, and orphans.

First a row says that it is being removed, then its objects are deleted, and then the row. So what has a row may have
objects, and what has none has none, but for orphans: what was still being written when its process was killed or the
store did not answer in time. An orphan gets such a row first, so that no upload writes what is being deleted.
(decision 52)
"""

import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Row, and_, delete, literal, or_, select, tuple_, update

from app.clients.object_store import ObjectStore, StoreUnavailable, current_store
from app.core import clock, jobs
from app.core.changes import record_write
from app.core.jobs import Claim, TransientFailure
from app.core.membership import ValueList, is_one_of
from app.core.model import big_integer
from app.core.transactions import in_unit_of_work, unit_of_work
from app.core.upserts import insert_unless_there
from app.extensions import db
from app.features.media.models import ASSETS, SHOWN, Asset, AssetStatus
from app.features.media.names import keys_of_asset
from app.features.media.references import new_columns
from app.features.media.service import is_placed

#: After so long, what no product shows is deleted.
UNPLACED_RETENTION = timedelta(days=1)
#: After so long, the one who was removing a picture is taken for dead.
LEASE = timedelta(minutes=10)
#: Of the periodic job, so that what a store that was away has left half removed does not stay so for long.
EVERY = timedelta(minutes=10)
#: After so long, what no row stands for is an orphan; whatever wrote it has ended.
ORPHAN_AGE = timedelta(days=1)
#: The kind of the job that deletes orphans, and how often it runs.
ORPHANS = "media_orphans"
ORPHANS_EVERY = timedelta(days=1)
BATCH = 50
#: Assets that are looked at in one statement, whether a product shows them.
WINDOW = 500
#: In the order of the last use: when that was, and the id.
Position = tuple[datetime, int]
_BEGINNING: Position = (datetime.min.replace(tzinfo=UTC), 0)

#: The keys of objects, which begin with the SHA-256 of the original; others are not ours.
_KEY = re.compile(r"(?:originals/([0-9a-f]{64})|public/([0-9a-f]{64})-[0-9]+\.[a-z]+)")

#: What may be deleted when nothing shows it; what is being processed is not.
_IDLE = (AssetStatus.RECEIVING, AssetStatus.READY, AssetStatus.FAILED)


def remove_deleted(claim: Claim) -> Generator[None, None, None]:
    """The periodic job, which is also ordered when a client deletes a picture."""
    yield from _in_steps(claim, remove(before=clock.now() - UNPLACED_RETENTION, store=current_store()))


def remove_orphaned(claim: Claim) -> Generator[None, None, None]:
    """The daily job that lists the store and deletes orphans."""
    yield from _in_steps(claim, remove_orphans(before=clock.now() - ORPHAN_AGE, store=current_store()))


def _in_steps(claim: Claim, batches: Iterator[int]) -> Generator[None, None, None]:
    try:
        for _ in batches:
            yield
            with unit_of_work(reading=True):
                jobs.confirm(claim, claim.progress)
    except StoreUnavailable as refusal:
        raise TransientFailure(refusal.sentence()) from refusal


def remove(*, before: datetime, store: ObjectStore) -> Iterator[int]:
    """Delete what was deleted, or last used before a moment and no product shows; the number of each batch.

    Raises ``StoreUnavailable``; what is left then is removed by a call after ``LEASE``.
    """
    position: Position | None = _BEGINNING
    while (position := in_unit_of_work(_delete_unplaced, before, position)) is not None:
        yield 0
    while True:
        until = clock.now() + LEASE / 2
        if not (taken := in_unit_of_work(_take)):
            return
        _delete({media_id: keys_of_asset(row) for media_id, row in taken.items()}, store, until=until)
        yield len(taken)


def remove_orphans(*, before: datetime, store: ObjectStore) -> Iterator[int]:
    """Delete the objects of no row that were stored before a moment; the number of pictures for each batch of the list.

    It lists the whole store, a thousand keys at a time, with two statements for each that has orphans and one for the
    others. Raises ``StoreUnavailable``.
    """
    store.remove_unfinished(older_than=before)
    for prefix in ("originals", "public"):
        for keys in store.list_keys(prefix, older_than=before):
            until = clock.now() + LEASE / 2
            taken = in_unit_of_work(_take_orphans, _by_content(keys))
            _delete(taken, store, until=until)
            yield len(taken)


def _delete(taken: Mapping[int, Sequence[str]], store: ObjectStore, *, until: datetime) -> None:
    """Delete the objects of assets that this process has just taken, and then their rows, in small batches.

    None is begun after ``until``, when half of the lease is over: by its end nothing is deleted any more.
    """
    ids = [*taken]
    for start in range(0, len(ids), BATCH):
        batch = ids[start : start + BATCH]
        if clock.now() >= until:
            return
        store.delete([key for media_id in batch for key in taken[media_id]])
        with unit_of_work():
            is_mine = and_(ASSETS.c.id.in_(batch), ASSETS.c.status == AssetStatus.REMOVING)
            db.session.execute(delete(ASSETS).where(is_mine))


def _by_content(keys: Sequence[str]) -> Mapping[str, list[str]]:
    """The keys that are ours, by the SHA-256 that they begin with."""
    found: dict[str, list[str]] = {}
    for key in keys:
        if match := _KEY.fullmatch(key):
            found.setdefault(match[1] or match[2], []).append(key)
    return found


def _take_orphans(keys: Mapping[str, list[str]]) -> dict[int, list[str]]:
    """Take the contents that no row stands for, for this process to remove; their keys by the id of the new row."""
    known = set(db.session.scalars(select(ASSETS.c.sha256).where(ASSETS.c.sha256.in_(keys))))
    if not (orphans := [sha256 for sha256 in keys if sha256 not in known]):
        return {}
    now = clock.now()
    removing = {"status": AssetStatus.REMOVING, "deleted_at": now}
    rows = [{**new_columns(now), **removing, "sha256": sha256} for sha256 in orphans]
    # What is received at this moment has a row by then, and is none.
    taken = insert_unless_there(ASSETS, rows, ASSETS.c.id, ASSETS.c.sha256)
    return {} if taken is None else {row.id: keys[row.sha256] for row in taken}


def _delete_unplaced(before: datetime, position: Position) -> Position | None:
    """Mark those of the next assets after a position that no product shows as deleted; the position of the last.

    None where there are no more. Nearly all are shown, and to find the others at once takes too long for one statement.
    """
    is_old = and_(ASSETS.c.used_at < before, ASSETS.c.deleted_at.is_(None), ASSETS.c.status.in_(_IDLE))
    order = (ASSETS.c.used_at, ASSETS.c.id)
    next_ones = select(*order).where(is_old, tuple_(*order) > position).order_by(*order).limit(WINDOW)
    window = db.session.execute(next_ones).all()
    if not window:
        return None
    is_it = is_one_of(ASSETS.c.id, literal(sorted(row.id for row in window), ValueList(big_integer)))
    rows = select(ASSETS).where(is_it, is_old, ~is_placed(ASSETS.c.id)).order_by(ASSETS.c.id)
    now = clock.now()
    for row in db.session.execute(rows.with_for_update(skip_locked=True)).mappings().all():
        # One that is just being placed is locked, and then skipped, or placed by now.
        is_free = (ASSETS.c.id == row["id"], ~is_placed(ASSETS.c.id))
        gone = {"deleted_at": now, "version": row["version"] + 1}
        deleted = update(ASSETS).where(*is_free).values(gone).returning(ASSETS.c.id)
        if db.session.scalar(deleted) is not None and row["status"] in SHOWN:
            record_write(Asset, before=dict(row), after={**row, **gone}, members=["deleted_at"])
    return window[-1].used_at, window[-1].id


def _take() -> dict[int, Row[Any]]:
    """Take a batch of what is deleted, for this process to remove; the rows by id."""
    now = clock.now()
    is_idle = and_(ASSETS.c.status.in_([*_IDLE]), ~is_placed(ASSETS.c.id))
    is_left = and_(ASSETS.c.status == AssetStatus.REMOVING, ASSETS.c.used_at < now - LEASE)
    rows = select(ASSETS).where(ASSETS.c.deleted_at.is_not(None), or_(is_idle, is_left))
    found = db.session.execute(rows.order_by(ASSETS.c.id).limit(BATCH).with_for_update(skip_locked=True)).all()
    taken = {row.id: row for row in found}
    if taken:
        values = {"status": AssetStatus.REMOVING, "used_at": now}
        db.session.execute(update(ASSETS).where(ASSETS.c.id.in_(taken)).values(values))
    return taken
