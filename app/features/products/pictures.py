"""What products show of their pictures, on their own rows: the first that is ready, in every list.

Which pictures a product has is in `media`; a variant shows those of its parent. Whatever changes them calls this in the
same transaction, or, where a worker has made a picture ready, soon after it (`follow`).
"""

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence, Set
from types import SimpleNamespace
from typing import Any

from sqlalchemy import select, true

from app.core import clock, jobs, reads
from app.core.jobs import Claim
from app.core.transactions import run, unit_of_work
from app.extensions import db
from app.features.media import placing, settling
from app.features.media.models import PLACEMENTS, AssetStatus
from app.features.products import families
from app.features.products.models import PRODUCTS, Product, ProductKind, ProductStatus
from app.features.products.statements import has_id, update_rows
from app.security.identity import Identity
from app.security.permissions import Permission

Row = Mapping[Any, Any]

#: Products of one transaction, beside their variants.
BATCH = 100
#: Pictures that are followed together.
ASSETS_PER_BATCH = 200

# Each change of what a product shows is one of its image, whether that differs or not.
reads.stand_for(Product.image, PLACEMENTS)


def find_shown(products: Sequence[Any], identity: Identity) -> Sequence[Sequence[Any]]:
    """What each of some products shows; those who do not write products see what is ready, and of active variants.

    One statement, or two where pictures name variants.
    """
    owners = [product.parent_id or product.id for product in products]
    placed = placing.find_placed(set(owners))
    if not identity.can(Permission.PRODUCTS_WRITE):
        placed = _seen_by_shoppers(placed)
    shown = []
    for product, owner in zip(products, owners, strict=True):
        rows = placed.get(owner, ())
        shown.append(placing.shown_for(rows, product.id) if product.parent_id else rows)
    return shown


def _seen_by_shoppers(placed: Mapping[int, Sequence[Any]]) -> Mapping[int, Sequence[Any]]:
    """The placements that are ready, without variants that are not active, and without those of such variants alone."""
    ready = {owner: [row for row in rows if row.status == AssetStatus.READY] for owner, rows in placed.items()}
    named = {each for rows in ready.values() for row in rows for each in row.variants}
    if not named:
        return ready
    is_seen = (has_id(named), PRODUCTS.c.status == ProductStatus.ACTIVE, PRODUCTS.c.deleted_at.is_(None))
    seen = {row.id for row in run(select(PRODUCTS.c.id).where(*is_seen))}
    return {owner: list(_of_seen(rows, seen)) for owner, rows in ready.items()}


def _of_seen(placed: Iterable[Any], seen: Set[int]) -> Iterator[Any]:
    for row in placed:
        variants = [each for each in row.variants if each in seen]
        if len(variants) == len(row.variants):
            yield row
        elif variants:
            yield SimpleNamespace(**{**row._asdict(), "variants": variants})


def find_image_of_variant(variant_id: int, parent_id: int) -> dict[str, Any] | None:
    """What the row of a variant shows by what its parent shows now."""
    placed = placing.find_placed_now([parent_id]).get(parent_id, ())
    return placing.image_of_variant(placed, variant_id)


def show(
    product_ids: Collection[int], *, by_clients: bool = False, deleted: bool = False, counted: Collection[int] = ()
) -> None:
    """Bring products, and the variants of parents, to what their placements say now; those that are ``deleted`` too.

    ``product_ids`` are of single products and parents. Each gets a new ETag: a new ``version`` where
    it was written ``by_clients``, and else a new ``live``. A variant does where its own image differs. For those that
    are ``counted`` this transaction has given them one already.
    """
    sold, listed = _lock(product_ids, deleted=deleted)
    ids = [row["id"] for row in listed]
    placed = placing.find_placed_now(ids)
    if placing.replace_merged(placed):
        placed = placing.find_placed_now(ids)
    counter = "version" if by_clients else "live"
    written = []
    for row in listed:
        image = placing.image_of(placed.get(row["id"], ()))
        written.append((row, {"image": image, counter: row[counter] + (row["id"] not in counted)}))
    for row in sold:
        image = placing.image_of_variant(placed.get(row["parent_id"], ()), row["id"])
        if image != row["image"]:
            written.append((row, {"image": image, "live": row["live"] + (row["id"] not in counted)}))
    _write(written)


def adopt(parents: Mapping[int, int]) -> None:
    """Let parents show what the products showed that have become their variants; ``parents`` are theirs by id.

    The pictures come behind the others, as those of the variant.
    """
    if not parents:
        return
    moving = placing.find_named_now(parents)
    if not moving:
        return
    owners = {parents[each] for each in moving}
    placed = placing.find_named_now(owners)
    shown = {owner: {row.media_id: _placement(row) for row in placed.get(owner, ())} for owner in owners}
    for variant_id, rows in moving.items():
        of_parent = shown[parents[variant_id]]
        for row in rows:
            there = of_parent.setdefault(row.media_id, {**_placement(row), "variants": []})
            there["variants"] = [*there["variants"], variant_id]
    placing.rewrite_placements(
        {**dict.fromkeys(moving, ()), **{owner: _in_order(some.values()) for owner, some in shown.items()}}
    )
    show(owners)


def follow(claim: Claim, *, also: Callable[[list[int]], bool] = lambda _: True) -> Generator[None, None, None]:
    """Bring products to what became of pictures, yielding after each batch of products.

    ``also`` does what else has to be done for assets, by their ids, in the transaction that marks them as settled. They
    are locked. Where there is too much of it for one transaction, it does a part, and returns false. A job that names
    ``product_ids`` is for these alone.
    """
    if "product_ids" in claim.payload:
        yield from _show_all(claim, claim.payload["product_ids"])
        return
    while True:
        with unit_of_work(reading=True):
            jobs.confirm(claim, claim.progress)
            changed = settling.find_unsettled(ASSETS_PER_BATCH)
        if not changed:
            return
        followed: set[int] = set()
        # One that became a variant meanwhile has given its pictures to another.
        while product_ids := _showing_beside(followed, changed, claim):
            yield from _show_all(claim, product_ids)
            followed.update(product_ids)
        is_over = False
        while not is_over:
            with unit_of_work():
                jobs.advance(claim, claim.progress)
                settled = settling.lock_unchanged(changed)
                is_over = also(settled)
                if is_over:
                    settling.mark_settled(settled)
            yield


def _show_all(claim: Claim, product_ids: Sequence[int]) -> Generator[None, None, None]:
    """Bring products to what they show now, yielding after each batch."""
    for start in range(0, len(product_ids), BATCH):
        with unit_of_work():
            jobs.advance(claim, claim.progress)
            show(product_ids[start : start + BATCH], deleted=True)
        yield


def _showing_beside(followed: Set[int], media_ids: Collection[int], claim: Claim) -> Sequence[int]:
    """The ids of the other products that show any of some assets, in ascending order."""
    with unit_of_work(reading=True):
        jobs.confirm(claim, claim.progress)
        return [each for each in placing.products_showing(media_ids) if each not in followed]


def _placement(row: Any) -> dict[str, Any]:
    return {name: getattr(row, name) for name in ("media_id", "alt", "variants")}


def _in_order(rows: Iterable[Row]) -> list[Row]:
    return [{**row, "position": place} for place, row in enumerate(rows)]


def _lock(product_ids: Collection[int], *, deleted: bool) -> tuple[Sequence[Row], Sequence[Row]]:
    """The variants of some products, and then these, locked in this order by their ids."""
    if not product_ids:
        return (), ()
    return families.lock_whole(lambda: _lock_families(product_ids, deleted=deleted))


def _lock_families(product_ids: Collection[int], *, deleted: bool) -> tuple[Sequence[Row], Sequence[Row]] | None:
    """The same; None where a parent got another variant while this waited."""
    is_there = true() if deleted else PRODUCTS.c.deleted_at.is_(None)
    is_sold = has_id(product_ids, PRODUCTS.c.parent_id)
    rows = select(PRODUCTS).where(is_there).order_by(PRODUCTS.c.id).with_for_update(key_share=True)
    sold = db.session.execute(rows.where(is_sold)).mappings().all()
    listed = rows.where(has_id(product_ids), PRODUCTS.c.kind != ProductKind.VARIANT)
    products = db.session.execute(listed).mappings().all()
    if any(row["kind"] == ProductKind.PARENT for row in products):
        found = set(db.session.scalars(select(PRODUCTS.c.id).where(is_there, is_sold)))
        if found != {row["id"] for row in sold}:
            return None
    return sold, products


def _write(changes: Iterable[tuple[Row, Row]]) -> None:
    now = clock.now()
    written: dict[int, Row] = {}
    for row, change in changes:
        after = {**row, **change}
        written[row["id"]] = {name: after[name] for name in ("image", "version", "live")}
        if row["deleted_at"] is None:
            families.record(row["id"], "product.updated", row, after, ["image"])
    update_rows(written, moment=now)
    families.expire(written)
