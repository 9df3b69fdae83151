"""How pictures come in: uploads, whose originals are in the store before they are shown, and URLs to be fetched.

The row of a picture is committed before its original is written, and its objects are deleted before its row
(`removal`): so each object has a row, and what is written is never what another request deletes. Of several uploads of
one picture at once each may write the same bytes; one of them makes it known. (decision 52)
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Row, delete, select, update
from sqlalchemy.exc import NoResultFound

from app.clients.object_store import ObjectStore, StoreUnavailable
from app.core import clock, jobs
from app.core.changes import record_write
from app.core.transactions import in_unit_of_work
from app.core.upserts import insert_into
from app.extensions import db
from app.features.media import images
from app.features.media.models import ASSETS, Asset, AssetStatus, Keep, MediaBusy
from app.features.media.names import original_key, rendition_key
from app.features.media.references import KIND, MAX_ATTEMPTS, job_key, new_columns

#: What is worth nothing without its original in the store.
_INCOMPLETE = frozenset({AssetStatus.RECEIVING, AssetStatus.FAILED})


@dataclass(frozen=True, kw_only=True)
class Original:
    """A picture as it was received, of which the header has been read; ``content`` is all of it.

    ``media_id`` is that of its asset, once `store_original` has it in the store; ``is_written`` says whether that wrote
    it, or found it there. ``is_lost`` says that the asset was ready and the store lacked a file of it.
    """

    sha256: str
    picture: images.Picture
    content: bytes
    media_id: int | None = None
    is_written: bool = False
    is_lost: bool = False

    @classmethod
    def of(cls, content: bytes, *, max_pixels: int) -> "Original":
        """Read the header of a picture; raises the refusals of `images.inspect`."""
        picture = images.inspect(content, max_pixels=max_pixels)
        return cls(sha256=hashlib.sha256(content).hexdigest(), picture=picture, content=content)

    @property
    def columns(self) -> dict[str, Any]:
        """What its asset has of it."""
        return {
            "sha256": self.sha256,
            "media_type": self.picture.media_type,
            "bytes": len(self.content),
            "width": self.picture.width,
            "height": self.picture.height,
            "is_animated": self.picture.is_animated,
        }


def store_original(original: Original, store: ObjectStore) -> Original:
    """Write an original to the store, unless it is there, in transactions of its own; the original for `add_original`.

    What is ready is looked for, because a restored store may lack it. Raises ``MediaBusy`` while it is being deleted,
    and ``StoreUnavailable``, after which there is nothing of it.
    """
    used_at = clock.now()
    media_id, is_missing, stored = in_unit_of_work(_expect, original, used_at)
    is_lost = not is_missing and not store.has_all(stored)
    if not (is_missing or is_lost):
        return replace(original, media_id=media_id)
    try:
        store.put(original_key(original.sha256), original.content, media_type=original.picture.media_type)
    except StoreUnavailable:
        in_unit_of_work(_forget, original.sha256, used_at)
        raise
    return replace(original, media_id=media_id, is_written=True, is_lost=is_lost)


def add_original(original: Original) -> Asset:
    """The asset of an original that is in the store; it is processed from now on, unless it was before.

    Without a ``media_id``, as in a dry run, it is not in the store. Raises ``MediaBusy`` where it was deleted or was
    lost since `store_original`.
    """
    row = _lock_or_insert(original, clock.now())
    if original.media_id is not None and not _has_original(row, original):
        raise MediaBusy
    if row.status == AssetStatus.RECEIVING:
        _make_known(row)
        order(row.id)
    asset = db.session.get_one(Asset, row.id, populate_existing=True)
    if original.is_lost and asset.status == AssetStatus.READY:
        asset.begin(clock.now())
        order(asset.id)
    return _use(asset)


def add_url(url: str, keep: Keep) -> Asset:
    """The asset of a URL: the link as it is, or a copy, which a worker fetches unless that has been done."""
    now = clock.now()
    is_link = keep == Keep.LINK
    status = AssetStatus.READY if is_link else AssetStatus.PROCESSING
    link = {"url": url, "width": None, "height": None, "type": None}
    values = {"source_url": url, "keep": keep, "status": status, "sources": [link] if is_link else []}
    insertion = insert_into(ASSETS).values({**new_columns(now), **values}).on_conflict_do_nothing().returning(ASSETS)
    row = db.session.execute(insertion).mappings().one_or_none()
    if row is not None:
        record_write(Asset, before=None, after=dict(row), members=ASSETS.c.keys())
        if not is_link:
            order(row["id"])
        return db.session.get_one(Asset, row["id"])
    return _again(Asset.source_url == url, Asset.keep == keep)


def lock_asset(*conditions: Any) -> Asset:
    """The one asset that meets the conditions, whatever its status, locked and as it is now."""
    rows = select(Asset).where(*conditions).with_for_update(key_share=True)
    return db.session.scalars(rows.execution_options(populate_existing=True)).one()


def order(media_id: int) -> None:
    """Have a worker fetch and render an asset."""
    jobs.enqueue(KIND, {"media_id": media_id}, key=job_key(media_id), max_attempts=MAX_ATTEMPTS)


def _again(*conditions: Any) -> Asset:
    """The asset of a URL that was given before. Raises ``MediaBusy`` while it is being deleted."""
    try:
        asset = lock_asset(*conditions)
        if asset.merged_into_id is not None:
            asset = lock_asset(Asset.id == asset.merged_into_id)
    except NoResultFound:
        raise MediaBusy from None
    if asset.status == AssetStatus.REMOVING:
        raise MediaBusy
    return _use(asset)


def _use(asset: Asset) -> Asset:
    """Take an asset that is locked and known for used now; one that has failed is processed again."""
    now = clock.now()
    asset.deleted_at = None
    if asset.status == AssetStatus.FAILED:
        # Its job has ended: what ends it makes it fail. One that is being processed has a job.
        asset.begin(now)
        order(asset.id)
    db.session.flush()
    _touch(asset.id)
    return asset


def _has_original(row: Row[Any], original: Original) -> bool:
    """Whether the original that was written, or found written, is there still.

    Where the row was deleted since, its objects were too. What is just received, or has failed, was not found written.
    """
    return row.id == original.media_id and (original.is_written or row.status not in _INCOMPLETE)


def _expect(original: Original, now: Any) -> tuple[int, bool, Sequence[str]]:
    """Have a row for an original; its id, whether the original has to be written, and else the keys that it needs.

    While a URL of the same content is processed, its worker may not have written it yet. What was deleted is not
    looked for: its objects may be going.
    """
    row = _lock_or_insert(original, now)
    _touch(row.id, now)
    is_fetched = row.status == AssetStatus.PROCESSING and row.source_url is not None
    stored: list[str] = []
    if row.status == AssetStatus.READY and row.deleted_at is None:
        renditions = [rendition_key(each["file"]) for each in row.sources]
        stored = [original_key(original.sha256), *renditions]
    return row.id, is_fetched or row.status in _INCOMPLETE, stored


def _lock_or_insert(original: Original, now: Any) -> Row[Any]:
    """The row of an original, locked; a new one says that it is being received. Raises ``MediaBusy``."""
    values = {**new_columns(now), **original.columns, "status": AssetStatus.RECEIVING}
    db.session.execute(insert_into(ASSETS).values(values).on_conflict_do_nothing())
    rows = select(ASSETS).where(ASSETS.c.sha256 == original.sha256).with_for_update(key_share=True)
    row = db.session.execute(rows).one_or_none()
    # Where it was deleted in between, its objects were too.
    if row is None or row.status == AssetStatus.REMOVING:
        raise MediaBusy
    return row


def _forget(sha256: str, used_at: Any) -> None:
    """Delete the row of an original that could not be written, unless another request writes it as well."""
    is_mine = (ASSETS.c.sha256 == sha256, ASSETS.c.status == AssetStatus.RECEIVING, ASSETS.c.used_at == used_at)
    db.session.execute(delete(ASSETS).where(*is_mine))


def _make_known(row: Row[Any]) -> None:
    """Begin to process what was received; for clients it is created at this moment."""
    now = clock.now()
    values = {"status": AssetStatus.PROCESSING, "created_at": now, "updated_at": now, "deleted_at": None}
    known = update(ASSETS).where(ASSETS.c.id == row.id).values(values).returning(ASSETS)
    after = db.session.execute(known).mappings().one()
    record_write(Asset, before=None, after=dict(after), members=ASSETS.c.keys())


def _touch(media_id: int, now: Any = None) -> None:
    """Note that an asset is used now; no response says so, so it is no change."""
    used = update(ASSETS).where(ASSETS.c.id == media_id).values(used_at=now or clock.now())
    db.session.execute(used)
