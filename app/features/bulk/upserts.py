"""Many products at once: upsert by sku, in a handful of statements however many they are.

A stock that is stated here goes into the ledger: as a receipt of a new product, as a correction of one that is there.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from app.core import clock
from app.core.changelog import record_in_log
from app.core.changes import record_write
from app.core.errors import Invalid
from app.features.bulk import images
from app.features.bulk.changes import Change, changes_of
from app.features.bulk.drafts import IMAGES, PARENT, Draft, Drafts
from app.features.bulk.locking import find_and_lock
from app.features.products import families, keys, ledger, pictures, values
from app.features.products.creation import NEW, insert_together
from app.features.products.ledger import Reason
from app.features.products.models import (
    DEFAULTS,
    FAMILY,
    MEMBERS,
    Product,
    ProductKind,
)
from app.features.products.statements import has_id, update_rows
from app.features.products.values import Definitions

Row = Mapping[str, Any]

_NONE: Mapping[int, Any] = MappingProxyType({})

#: What the audit trail has of a new product.
_SHOWN = (*MEMBERS, *FAMILY)


class Effect(StrEnum):
    """What an upsert did to a product."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


@dataclass(frozen=True)
class Upserted:
    """One product after an upsert."""

    product_id: int
    effect: Effect
    #: The status that it has now; None where it had it before.
    status: str | None = field(default=None, compare=False)
    #: The pictures that its row states which are being fetched or rendered; the ids of their assets.
    pending: Sequence[int] = field(default=(), compare=False)


def upsert_products(
    rows: Iterable[Row], *, defaults: Row = DEFAULTS, may_fetch: bool = True
) -> dict[str, Upserted | Invalid]:
    """Create the products whose sku no living product has and update the others; what became of each, by sku.

    No two rows have the same sku. A row holds the members that it states: a product that exists keeps the others, and a
    new one takes ``defaults``; an ``AttributePatch`` keeps the attributes that it does not set. One with a
    ``parent_sku`` is a variant of that product, which is there or among the rows, in whatever order; one with a list of
    ``options`` is a parent. A row that the rules do not allow writes nothing and is refused by itself, with a fault at
    each member that is wrong. Only a product that really differs is written, and its family with it: its version counts
    changes of what clients write, and ``live`` those of its stock and its family. The audit trail has the members of
    each product before and after. The caller has validated the values, owns the transaction and has looked the
    references up: an unknown one raises ``IntegrityError``.

    ``images`` are URLs and hashes of pictures, which the product shows then (`bulk.images`). A URL makes an asset,
    which a worker fetches, but not without ``may_fetch``. Raises ``MediaBusy`` where one is being deleted just now.
    """
    wanted = {row["sku"]: row for row in rows}
    showing = {sku for sku, row in wanted.items() if row.get(IMAGES)}
    created: dict[str, Row] = {}
    # One round is enough, unless another transaction makes or deletes one of the products in between.
    while True:
        pending = {sku: row for sku, row in wanted.items() if sku not in created}
        parents = {sku: row[PARENT] for sku, row in pending.items() if row.get(PARENT)}
        found = find_and_lock(pending.keys(), parents, showing=showing & pending.keys())
        drafts = Drafts(pending, found, defaults)
        drafts.refuse(_find_taken(drafts))
        references = images.find_references(wanted.values(), may_fetch=may_fetch)
        if refused := images.find_refused(drafts, references):
            drafts.refuse(refused)
        made = _create(drafts)
        created |= made
        if all(draft.there is not None or draft.sku in made for draft in drafts.good):
            break
    changed = _update(drafts)
    _roll_up(created.values(), changed.values())
    pictures.adopt(_joined(changed.values()))
    shown = images.show(
        _stated_images(wanted, created, drafts), references, counted=_counted(created.values(), changed.values())
    )
    upserted = {
        sku: Upserted(made["id"], Effect.CREATED, made["status"], shown.pending.get(sku, ()))
        for sku, made in created.items()
    }
    for draft in drafts.good:
        if draft.there is not None:
            upserted[draft.sku] = _outcome(draft.there["id"], draft, changed.get(draft.there["id"]), shown)
    return upserted | drafts.refused


def insert_products(rows: Sequence[Row], parents: Mapping[int, Row] = _NONE) -> dict[str, Row]:
    """Create the sample products whose keys no living product has; every column of each, by sku.

    A row may be a parent's, with what follows from its variants, or a variant's: ``parents`` are those of the variants,
    by id.
    """
    states = [{**NEW, **row} for row in rows]
    definitions = Definitions.of([*states, *parents.values()])
    assessed = {str(row["sku"]): definitions.assess(row, parents.get(row.get("parent_id", 0))) for row in states}
    made = insert_together([{**assessed[row["sku"]].columns, **row} for row in rows], DEFAULTS, assessed)
    for row in made.values():
        # By intention the audit trail has none of the samples. The log has them: caches and the change feed follow it.
        counters = {"version": row["version"], "live": row["live"]}
        record_in_log(Product, "product.created", row["id"], **counters, before=None, after=row)
    return made


def _find_taken(drafts: Drafts) -> dict[str, Invalid]:
    """The refusals of rows with a key that another has: of two that state one, the first has it."""
    good = {sku: draft for sku, draft in drafts.all.items() if sku not in drafts.refused}
    ids = {sku: draft.there["id"] for sku, draft in good.items() if draft.there is not None}
    return keys.find_taken({sku: draft.stated for sku, draft in good.items()}, ids)


def _create(drafts: Drafts) -> dict[str, Row]:
    """Make the good products that are not there, parents first; every column of each, by sku."""
    new = [draft for draft in drafts.good if draft.there is None]
    created = _make(drafts, [draft for draft in new if draft.kind != ProductKind.VARIANT])
    drafts.ids |= {sku: made["id"] for sku, made in created.items()}
    return created | _make(drafts, [draft for draft in new if draft.parent_sku is not None])


def _make(drafts: Drafts, new: Sequence[Draft]) -> dict[str, Row]:
    rows: list[Row] = []
    for draft in sorted(new, key=lambda draft: draft.sku):
        parent = drafts.parent_of(draft) if draft.parent_sku is not None else None
        # Where another transaction has made its parent at this moment, the next round finds that.
        if parent is None or "id" in parent:
            columns = drafts.assessed[draft.sku].columns
            # What a parent lacks is what its variants lack.
            rows.append({**drafts.after(draft), **columns, **({"missing": None} if draft.is_parent else {})})
    stated = {draft.stated["slug"] for draft in drafts.all.values() if "slug" in draft.stated}
    made = insert_together(rows, drafts.defaults, drafts.assessed, stated_slugs=stated)
    for row in made.values():
        record_write(Product, before=None, after=row, members=_SHOWN)
    return made


def _update(drafts: Drafts) -> dict[int, Change]:
    """Bring the products that are there to what their rows state, and variants to their parents; the changes, by id."""
    changes = {change.product_id: change for change in changes_of(drafts)}
    update_rows({each: change.row() for each, change in changes.items()}, moment=clock.now())
    keys.retire(renaming for change in changes.values() if (renaming := change.slug_change))
    for change in changes.values():
        change.record()
    _balance([each for each, change in changes.items() if "stock" in change.own], Reason.CORRECTION)
    assessed = ((change.after, change.assessment) for change in changes.values() if change.assessment)
    values.store({after["id"]: (values.listed_id_of(after), assessment.values) for after, assessment in assessed})
    return changes


def _roll_up(created: Iterable[Row], changed: Iterable[Change]) -> None:
    """Bring the parents of the variants that were made or changed to what these say now."""
    parents = {row["parent_id"] for row in created}
    moved: set[int | None] = set()
    for change in changed:
        if change.moves_stock_alone:
            moved.add(change.after["parent_id"])
        elif change.own or change.assessment:
            parents.add(change.after["parent_id"])
    families.roll_up(parents)
    families.roll_up(moved - parents, kind="stock.moved")


def _joined(changes: Iterable[Change]) -> dict[int, int]:
    """The parents of the products that have become variants, by the ids of these."""
    return {each.product_id: each.own["parent_id"] for each in changes if each.own.get("parent_id") is not None}


def _counted(created: Iterable[Row], changes: Iterable[Change]) -> dict[int, bool]:
    """The products that have a new version already, and whether they are new."""
    written = {each.product_id: False for each in changes if each.after["version"] != each.there["version"]}
    return written | {row["id"]: True for row in created}


def _stated_images(wanted: Mapping[str, Row], created: Mapping[str, Row], drafts: Drafts) -> list[images.Stated]:
    """The pictures that rows state of products that are made, or there."""
    rows = {draft.sku: drafts.after(draft) for draft in drafts.good if draft.images and draft.there is not None}
    rows.update(created)
    return [
        images.Stated(sku, rows[sku]["id"], rows[sku]["parent_id"] or rows[sku]["id"], list(dict.fromkeys(row[IMAGES])))
        for sku, row in wanted.items()
        if row.get(IMAGES) and sku in rows
    ]


def _outcome(product_id: int, draft: Draft, change: Change | None, shown: images.Outcome) -> Upserted:
    """What became of a product that was there; one that only follows its parent is as its row states it."""
    is_changed = change is not None and (change.own or not change.passed.keys().isdisjoint(draft.stated))
    effect = Effect.UPDATED if is_changed or draft.sku in shown.changed else Effect.UNCHANGED
    status = change.own.get("status") if change is not None else None
    return Upserted(product_id, effect, status, shown.pending.get(draft.sku, ()))


def _balance(product_ids: Collection[int], reason: Reason) -> None:
    if product_ids:
        ledger.balance(has_id(product_ids), reason=reason)
