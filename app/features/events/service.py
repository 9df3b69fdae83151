"""Use cases of the change feed."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from itsdangerous import BadData, URLSafeSerializer
from sqlalchemy import delete, func, select, update

from app.core.errors import Gone
from app.core.feed import CatalogueState, ChangeEvent
from app.core.listing import CursorInvalid
from app.extensions import db
from app.features.categories import models as category_models
from app.features.categories import service as categories
from app.features.products import models as product_models
from app.features.products import service as products
from app.security.identity import Identity
from app.security.permissions import Permission


class CursorExpired(Gone):
    """Events after this position have been forgotten: read the catalogue anew, from a cursor of ?from=now on."""


@dataclass(frozen=True)
class FeedPage:
    """Events, what their rows are now where that is the reader's to see, and where to read on."""

    events: Sequence[ChangeEvent]
    rows: Mapping[tuple[str, int], Any]
    has_more: bool
    cursor: str


def read_events(cursor: str, *, limit: int, keys: Sequence[str], identity: Identity) -> FeedPage:
    """Up to ``limit`` events after the cursor's position; an empty cursor starts with the oldest that is kept."""
    position = _unseal(cursor, keys) if cursor else 0
    rows = select(ChangeEvent).where(ChangeEvent.id > position).order_by(ChangeEvent.id).limit(limit + 1)
    events = db.session.scalars(rows).all()
    # Asked after the events: what is forgotten meanwhile is missed by nobody.
    if cursor and position < pruned_through():
        raise CursorExpired
    page = events[:limit]
    last = page[-1].id if page else position
    return FeedPage(page, _visible_rows(page, identity), len(events) > limit, seal(last, keys))


def seal_now(keys: Sequence[str]) -> str:
    """The cursor after everything that has happened."""
    last = db.session.scalar(select(func.max(ChangeEvent.id)))
    return seal(last or pruned_through(), keys)


def seal(position: int, keys: Sequence[str]) -> str:
    """The cursor that goes on after an event."""
    return str(_serializer(keys).dumps(position))


def prune_events(*, before: datetime) -> int:
    """Forget the events that are older, and say how many; cursors that would need them are told so."""
    last = db.session.scalar(select(func.max(ChangeEvent.id)).where(ChangeEvent.created_at < before))
    if last is None:
        return 0
    db.session.execute(update(CatalogueState).values(pruned_through=last))
    return len(db.session.scalars(delete(ChangeEvent).where(ChangeEvent.id <= last).returning(ChangeEvent.id)).all())


def pruned_through() -> int:
    """The last event that was forgotten."""
    return db.session.scalar(select(CatalogueState.pruned_through)) or 0


def _visible_rows(events: Sequence[ChangeEvent], identity: Identity) -> dict[tuple[str, int], Any]:
    found: dict[tuple[str, int], Any] = {}
    for kind, permission, visible, key in (
        ("product", Permission.PRODUCTS_READ, products.visible_to, product_models.Product.id),
        ("category", Permission.CATEGORIES_READ, categories.visible_to, category_models.Category.id),
    ):
        ids = {event.resource_id for event in events if event.resource_type == kind}
        if ids and identity.can(permission):
            found |= {(kind, row.id): row for row in db.session.scalars(visible(identity).where(key.in_(ids)))}
    return found


def _unseal(cursor: str, keys: Sequence[str]) -> int:
    try:
        position = _serializer(keys).loads(cursor)
    except (BadData, ValueError):
        raise CursorInvalid from None
    return int(position)


def _serializer(keys: Sequence[str]) -> URLSafeSerializer:
    return URLSafeSerializer(list(keys), salt="cursor:events", signer_kwargs={"digest_method": hashlib.sha256})
