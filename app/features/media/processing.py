"""The job of a picture: fetch it where it is a URL, render it, and say that it is ready or why it never will be.

A worker may be killed at any point: each step writes the same objects again, and the row says what is done. No step
holds a transaction while it waits for the store or another server.
"""

from collections.abc import Generator
from typing import Any

from flask import current_app
from sqlalchemy import select, update

from app.clients.object_store import ObjectMissing, ObjectStore, StoreUnavailable, current_store
from app.core import jobs
from app.core.errors import Invalid, Refusal
from app.core.jobs import Claim, Job, JobFailed, TransientFailure
from app.core.metrics import MEDIA_PROCESSED
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.media import images, placing
from app.features.media.fetching import fetch
from app.features.media.models import ASSETS, Asset, AssetStatus, MediaBusy, MediaLost
from app.features.media.names import file_name, original_key, rendition_key
from app.features.media.receiving import Original, add_original, lock_asset, store_original
from app.features.media.service import order_removal
from app.features.media.settling import order_settling, order_showing

#: How often a URL is asked that fails in a way which may pass: for about two minutes.
MAX_FETCHES = 7
_GIVEN_UP = ("media_unprocessed", "It could not be processed.")


def process(claim: Claim) -> Generator[None, None, None]:
    """Fetch and render an asset; ``claim`` has its ``media_id``."""
    store = current_store()
    try:
        original = yield from _original_of(claim, store)
        if original is not None:
            _render(claim, original, store)
    except StoreUnavailable as refusal:
        raise TransientFailure(refusal.sentence()) from refusal
    except Refusal as refusal:
        reason = _reason_of(refusal)
        with unit_of_work():
            jobs.advance(claim, {"reason": reason})
        raise JobFailed(reason[1]) from refusal


def end(job_id: int) -> None:
    """Let no asset wait for a job that has ended without it; for the transaction that ends the job.

    So an asset that has failed has no job any more, and one that is processed has one.
    """
    job = db.session.get_one(Job, job_id, populate_existing=True)
    found = select(Asset).where(Asset.id == job.payload["media_id"]).with_for_update(key_share=True)
    asset = db.session.scalars(found.execution_options(populate_existing=True)).one_or_none()
    if asset is None:
        return
    if asset.status == AssetStatus.PROCESSING:
        asset.fail(*job.progress.get("reason", _GIVEN_UP))
        MEDIA_PROCESSED.labels("failed").inc()
        db.session.flush()
        order_settling()
    if asset.deleted_at is not None:
        order_removal()


def _original_of(claim: Claim, store: ObjectStore) -> Generator[None, None, Original | None]:
    """The original of the claimed asset, which is in the store by then; None where nothing is left to be done."""
    with unit_of_work(reading=True):
        jobs.confirm(claim, claim.progress)
        columns = (Asset.sha256, Asset.source_url, Asset.status)
        asset = db.session.execute(select(*columns).where(Asset.id == claim.payload["media_id"])).one_or_none()
    if asset is None or asset.status not in {AssetStatus.PROCESSING, AssetStatus.FAILED}:
        return None
    # Also where it is of a URL, which an earlier attempt has fetched: by now there may be another picture.
    stored = None if asset.sha256 is None else _find_stored(asset.sha256, store)
    if stored is not None:
        return stored
    if asset.source_url is None:
        raise MediaLost
    content = fetch(asset.source_url, is_last=claim.attempts >= MAX_FETCHES)
    original = Original.of(content, max_pixels=current_app.config["MAX_MEDIA_PIXELS"])
    if not _claim_content(claim, original):
        _merge(claim, original, store)
        return None
    store.put(original_key(original.sha256), content, media_type=original.picture.media_type)
    with unit_of_work():
        jobs.advance(claim, claim.progress)
    yield
    return original


def _find_stored(sha256: str, store: ObjectStore) -> Original | None:
    try:
        content = store.read(original_key(sha256))
    except ObjectMissing:
        return None
    return Original.of(content, max_pixels=current_app.config["MAX_MEDIA_PIXELS"])


def _claim_content(claim: Claim, original: Original) -> bool:
    """Give the asset its content, unless another has it already."""
    with unit_of_work():
        owner_id = db.session.scalar(select(Asset.id).where(Asset.sha256 == original.sha256))
        if owner_id is not None:
            # Its own from an earlier attempt is no progress: the attempts shall end.
            return bool(owner_id == claim.payload["media_id"])
        jobs.advance(claim, claim.progress)
        asset = lock_asset(Asset.id == claim.payload["media_id"])
        # A violated index says that another got it at this moment: the job is tried again, and finds that.
        for name, value in original.columns.items():
            setattr(asset, name, value)
    return True


def _merge(claim: Claim, original: Original, store: ObjectStore) -> None:
    """Let the asset stand for another with the same content, which products show in its place."""
    try:
        stored = store_original(original, store)
        with unit_of_work():
            jobs.advance(claim, claim.progress)
            media_id = claim.payload["media_id"]
            _lock_in_order(media_id, stored.media_id)
            target = add_original(stored)
            asset = lock_asset(Asset.id == media_id)
            asset.merge_into(target.id)
            db.session.flush()
            # What was merged into it before leads to where it leads now.
            others = update(ASSETS).where(Asset.merged_into_id == asset.id).values(merged_into_id=target.id)
            db.session.execute(others)
            order_settling()
            # Not all that show the other: a picture that says that there is none may be at thousands of URLs.
            order_showing(placing.move_placements(asset.id, target.id))
        MEDIA_PROCESSED.labels("merged").inc()
    except MediaBusy as refusal:
        raise TransientFailure(refusal.sentence()) from refusal


def _lock_in_order(*media_ids: int | None) -> None:
    """Lock assets in the order of their ids, as those who place several do."""
    rows = select(ASSETS.c.id).where(ASSETS.c.id.in_(media_ids)).order_by(ASSETS.c.id)
    db.session.execute(rows.with_for_update(key_share=True))


def _render(claim: Claim, original: Original, store: ObjectStore) -> None:
    sources: list[dict[str, Any]] = []
    colour = None
    for each in images.render(original.content, original.picture):
        name = file_name(original.sha256, each.width, each.media_type)
        store.put(rendition_key(name), each.content, media_type=each.media_type)
        colour = colour or images.find_colour(each)
        sources.append({"file": name, "width": each.width, "height": each.height, "type": each.media_type})
    with unit_of_work():
        # The job first, as where it ends: one order of locks, so no deadlock.
        jobs.advance(claim, claim.progress)
        asset = lock_asset(Asset.id == claim.payload["media_id"])
        asset.status, asset.error_code, asset.error = AssetStatus.READY, None, None
        asset.sources, asset.colour, asset.is_settled = sources, colour, False
        db.session.flush()
        order_settling()
    MEDIA_PROCESSED.labels("ready").inc()


def _reason_of(refusal: Refusal) -> tuple[str, str]:
    if isinstance(refusal, Invalid):
        return refusal.faults[0].code, refusal.faults[0].detail
    return refusal.code(), refusal.sentence()
