"""What follows when a picture is ready or has failed: whatever refers to it has to learn of that.

`order_settling` makes it a job in the transaction of the change. A job that is just running may have looked already, so
that a source looks again.
"""

from collections.abc import Sequence

from sqlalchemy import select, update

from app.core import jobs
from app.core.jobs import Job
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.media.models import ASSETS, Asset

#: The kind of the job. What it does is known where products and imports are.
KIND = "media_settling"
_UNSETTLED = select(Asset.id, Asset.version).where(Asset.is_settled.is_(False)).order_by(Asset.id)


def order_settling() -> None:
    """Have a worker bring what refers to changed assets up to date.

    A job that is there already is left alone: to insert a second one is to wait for the step that it is in, which may
    wait for an asset that the caller has locked.
    """
    is_ordered = select(Job.id).where(Job.key == KIND, jobs.IS_OPEN).limit(1)
    if db.session.scalar(is_ordered) is None:
        jobs.enqueue(KIND, {}, key=KIND)


def order_showing(product_ids: Sequence[int]) -> None:
    """Have a worker bring these products to what they show now."""
    if product_ids:
        jobs.enqueue(KIND, {"product_ids": list(product_ids)})


def look_for_unsettled() -> None:
    """Order the job where there is something for it; a source of every worker."""
    with unit_of_work(reading=True):
        has_some = db.session.execute(_UNSETTLED.limit(1)).first() is not None
    if has_some:
        with unit_of_work():
            order_settling()


def find_unsettled(limit: int) -> dict[int, int]:
    """The versions of assets that changed, by id, the oldest first."""
    return {row.id: row.version for row in db.session.execute(_UNSETTLED.limit(limit))}


def lock_unchanged(versions: dict[int, int]) -> list[int]:
    """Lock assets, by their ids, that still have these versions; their ids."""
    columns = (ASSETS.c.id, ASSETS.c.version)
    rows = select(*columns).where(ASSETS.c.id.in_(versions)).order_by(ASSETS.c.id).with_for_update(key_share=True)
    return [row.id for row in db.session.execute(rows) if row.version == versions[row.id]]


def mark_settled(media_ids: list[int]) -> None:
    """Note that whatever refers to these assets, which are locked, is up to date."""
    db.session.execute(update(ASSETS).where(ASSETS.c.id.in_(media_ids)).values(is_settled=True))
