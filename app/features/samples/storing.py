"""How the pictures of sample products get into the media store: as any upload does."""

from collections.abc import Callable, Mapping, Sequence

from sqlalchemy import func, select

from app.clients.object_store import ObjectStore
from app.core.transactions import in_unit_of_work
from app.extensions import db
from app.features.media import receiving
from app.features.media.models import ASSETS, AssetStatus
from app.features.media.receiving import Original
from app.features.samples.gallery import Drawing, Gallery


def store_drawings(
    drawings: Sequence[Drawing], store: ObjectStore, *, max_pixels: int, advance: Callable[[int], None]
) -> Gallery:
    """Draw pictures and keep them, in transactions of their own; jobs render those that are new.

    Calls ``advance`` with the number of those that are done. Raises the refusals of `receiving`, after which some may
    be there.
    """
    originals = {}
    for drawing in drawings:
        originals[drawing] = Original.of(drawing.draw(), max_pixels=max_pixels)
        receiving.store_original(originals[drawing], store)
        advance(len(originals))
    return in_unit_of_work(_add, originals)


def count_unrendered(gallery: Gallery) -> int:
    """How many of the pictures are not ready."""
    is_waiting = (ASSETS.c.id.in_(gallery.values()), ASSETS.c.status != AssetStatus.READY)
    return db.session.scalar(select(func.count()).where(*is_waiting)) or 0


def _add(originals: Mapping[Drawing, Original]) -> Gallery:
    return {drawing: receiving.add_original(original).id for drawing, original in originals.items()}
