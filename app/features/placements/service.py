"""Use cases of placements."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from app.core.audit import record_event
from app.core.errors import Fault, Invalid
from app.extensions import db
from app.features.media import placing
from app.features.media.models import ASSETS, SHOWN, MediaOfParent, MediaRepeated, MediaUnknown, NotItsVariant
from app.features.products import pictures, service
from app.features.products.models import PRODUCTS, Product, ProductKind
from app.security.identity import Identity


@dataclass(frozen=True)
class ProductMedia:
    """What a product shows, in its order, with its counters; ``live`` of a variant counts its parent's changes too."""

    items: Sequence[Any]
    version: int
    live: int


def read_media_of_product(product_id: int, *, identity: Identity) -> ProductMedia:
    """What a product shows; of a variant what of its product's pictures is of it, or all where none is."""
    product = service.read_product(product_id, identity=identity)
    [items] = pictures.find_shown([product], identity)
    live = product.live
    if product.parent_id is not None:
        # A variant counts a new image alone; its parent counts each change of what they show.
        parent = service.read_product(product.parent_id, identity=identity)
        live += parent.version + parent.live
    return ProductMedia(items, product.version, live)


def replace_media_of_product(product: Product, items: Sequence[Mapping[str, Any]]) -> ProductMedia:
    """Replace what a product, which must be locked with its variants, shows; the first that is ready is its image.

    What it shows already in the same way counts as no change. Raises ``MediaOfParent`` for a variant, and ``Invalid``
    with the places of what is unknown.
    """
    if product.kind == ProductKind.VARIANT:
        raise MediaOfParent
    before = _described(placing.find_placed_now([product.id]).get(product.id, ()))
    rows = _placements(product, items, shown={row["media_id"] for row in before})
    after = [{name: row[name] for name in ("media_id", "alt", "variants")} for row in rows]
    if after != before:
        placing.replace_placements(product.id, rows)
        pictures.show([product.id], by_clients=True)
        record_event(
            "product.updated",
            resource_type="product",
            resource_id=product.id,
            before={"media": before},
            after={"media": after},
        )
        db.session.refresh(product)
    placed = placing.find_placed_now([product.id]).get(product.id, ())
    return ProductMedia(placed, product.version, product.live)


def _placements(product: Product, items: Sequence[Mapping[str, Any]], *, shown: set[int]) -> list[dict[str, Any]]:
    """The rows of placements, whose assets are locked against deletion, as are those that are ``shown`` until now."""
    ids = _lock_assets({item["media_id"] for item in items} | shown)
    variants = _variants_of(product) if any(item["variants"] for item in items) else frozenset()
    faults, seen, rows = [], set(), []
    for index, item in enumerate(items):
        media_id = ids.get(item["media_id"])
        if media_id is None:
            faults.append(_fault(MediaUnknown, index))
        elif media_id in seen:
            faults.append(_fault(MediaRepeated, index))
        elif not variants.issuperset(item["variants"]):
            faults.append(_fault(NotItsVariant, index))
        seen.add(media_id)
        rows.append({**item, "media_id": media_id, "position": index})
    if faults:
        raise Invalid(*faults)
    return rows


def _fault(refusal: type[Invalid], index: int) -> Fault:
    return Fault(refusal.sentence(), refusal.code(), pointer=f"/{index}{refusal.pointer}")


def _lock_assets(media_ids: set[int]) -> dict[int, int]:
    """The assets that are there, by the ids that clients know; another may stand for one. Locked against deletion.

    The lock is that of an UPDATE, and all are locked in one order: two products that take pictures from each other
    would wait for each other, if each shared those that it gets and then wrote to those that it had.
    """
    found = {row.id: row for row in _lock(media_ids)}
    others = {row.merged_into_id for row in found.values() if row.merged_into_id is not None} - found.keys()
    found |= {row.id: row for row in _lock(others)}
    known = {}
    for media_id in media_ids & found.keys():
        asset = found[found[media_id].merged_into_id or media_id]
        if asset.status in SHOWN and asset.deleted_at is None:
            known[media_id] = asset.id
    return known


def _lock(media_ids: set[int]) -> Sequence[Any]:
    if not media_ids:
        return ()
    columns = (ASSETS.c.id, ASSETS.c.status, ASSETS.c.merged_into_id, ASSETS.c.deleted_at)
    rows = select(*columns).where(ASSETS.c.id.in_(media_ids)).order_by(ASSETS.c.id).with_for_update(key_share=True)
    return db.session.execute(rows).all()


def _variants_of(product: Product) -> frozenset[int]:
    """Those that a picture may be of; the deleted ones too, so that what was read can be written, and come back."""
    return frozenset(db.session.scalars(select(PRODUCTS.c.id).where(PRODUCTS.c.parent_id == product.id)))


def _described(placed: Sequence[Any]) -> list[dict[str, Any]]:
    return [{"media_id": row.media_id, "alt": row.alt, "variants": row.variants} for row in placed]
