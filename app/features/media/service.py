"""Use cases of media: which there are, what is known of one, and deleting it. `receiving` adds them."""

from contextlib import suppress
from operator import ge
from typing import Any

from sqlalchemy import ColumnElement, Select, exists, select

from app.core import clock, jobs
from app.core.errors import NotFound
from app.core.fastsql import find_row
from app.core.keys import get_row
from app.core.listing import Compare, Listing, OneOf
from app.extensions import db
from app.features.media.models import SHOWN, TABLE, Asset, MediaPlaced
from app.security.identity import Identity

#: The kind of the job that deletes objects and rows of what was deleted.
REMOVAL = "media_removal"


def is_placed(media_id: Any) -> ColumnElement[bool]:
    """Whether a product shows the asset whose id a column has."""
    return exists().where(TABLE.c.media_id == media_id)


def _is_unplaced(wanted: bool) -> ColumnElement[bool]:
    return ~is_placed(Asset.id) if wanted else is_placed(Asset.id)


LISTING = Listing(
    filters={
        "id": OneOf(Asset.id),
        "sha256": OneOf(Asset.sha256),
        "source_url": OneOf(Asset.source_url),
        "status": OneOf(Asset.status),
        "unplaced": _is_unplaced,
        "created_since": Compare(Asset.created_at, ge),
        "updated_since": Compare(Asset.updated_at, ge),
    },
    sorts={"created_at": Asset.created_at, "updated_at": Asset.updated_at, "id": Asset.id},
    tie_breaker=Asset.id,
)

_SHOWN = select(Asset).where(Asset.status.in_(SHOWN), Asset.deleted_at.is_(None))


def visible_to(_identity: Identity) -> Select[Asset]:
    """Every asset that is there for clients: the permission to read media covers all of them."""
    return _SHOWN


def read_media(media_id: int, *, identity: Identity) -> Any:
    """The asset, as a row for a read; of one that turned out to be the same as another, that one."""
    with suppress(NotFound):
        return find_row(visible_to(identity), Asset.id, media_id)
    return find_row(visible_to(identity), Asset.id, _merged_into(media_id))


def get_media(media_id: int, *, identity: Identity, lock: bool = False) -> Asset:
    """The asset, to be changed; ``lock`` locks its row (FOR NO KEY UPDATE)."""
    with suppress(NotFound):
        return _get(media_id, identity, lock)
    return _get(_merged_into(media_id), identity, lock)


def delete_media(asset: Asset) -> None:
    """Delete an asset, which must be locked; a worker deletes its objects. Raises ``MediaPlaced``."""
    if db.session.scalar(select(TABLE.c.product_id).where(TABLE.c.media_id == asset.id).limit(1)) is not None:
        raise MediaPlaced
    asset.deleted_at = clock.now()
    db.session.flush()
    order_removal()


def order_removal() -> None:
    """Have a worker delete the objects and rows of what was deleted."""
    jobs.enqueue(REMOVAL, {}, key=REMOVAL)


def _get(media_id: int, identity: Identity, lock: bool) -> Asset:
    asset: Asset = get_row(visible_to(identity), Asset.id, media_id, lock=lock)
    return asset


def _merged_into(media_id: int) -> int:
    """The id of the asset that has the content of another. Raises ``NotFound``."""
    found = db.session.scalar(select(Asset.merged_into_id).where(Asset.id == media_id))
    if found is None:
        raise NotFound
    return found
