"""The pictures that items of a batch state: what products show because of them, beside what they show already.

An item adds and never takes away. The pictures of a product come first in the order of its item, and the others that it
shows stay behind them; those of a variant are of its parent, name the variant, and come behind the others. What is
shown already keeps its alternative text and its variants. An item that states what is shown changes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.core.audit import record_event
from app.core.errors import Invalid
from app.features.bulk.drafts import IMAGES, Draft, Drafts
from app.features.media import placing
from app.features.media.models import MAX_PLACEMENTS, AssetStatus, TooManyPictures
from app.features.media.references import References, is_digest
from app.features.products import pictures
from app.features.products.models import ProductKind

Row = Mapping[Any, Any]


@dataclass(frozen=True)
class Stated:
    """The pictures that an item states, the product that they are of, and the one whose list they are in."""

    sku: str
    product_id: int
    owner_id: int
    images: Sequence[str]

    @property
    def is_of_variant(self) -> bool:
        """Whether they are of a variant."""
        return self.product_id != self.owner_id


@dataclass
class Outcome:
    """What became of the pictures of items: the skus of those that changed something, and pictures that are awaited.

    ``pending`` are the ids of assets that are being fetched or rendered, by sku.
    """

    changed: set[str] = field(default_factory=set)
    pending: dict[str, list[int]] = field(default_factory=dict)


def find_references(rows: Iterable[Row], *, may_fetch: bool) -> References:
    """The pictures that rows state, looked up and locked; the products are locked before."""
    return References({each for row in rows for each in row.get(IMAGES, ())}, may_fetch=may_fetch)


def find_refused(drafts: Drafts, references: References) -> dict[str, Invalid]:
    """The refusals of drafts with a picture that there is not, or with too many; by sku."""
    stating = [draft for draft in drafts.good if draft.images]
    if not stating:
        return {}
    shown = _Counted(drafts, stating)
    refused: dict[str, Invalid] = {}
    for draft in stating:
        try:
            for place, reference in enumerate(draft.images):
                if not shown.has_link(draft, reference):
                    references.require(reference, f"{IMAGES}/{place}")
            shown.count(draft, references)
        except Invalid as refusal:
            refused[draft.sku] = refusal
    return refused


def show(stated: Sequence[Stated], references: References, *, counted: Mapping[int, bool]) -> Outcome:
    """Let products show what items state, and bring their rows to it; `find_refused` has refused what cannot be.

    ``counted`` are the products that this transaction has made or written with a new version, and whether it made them.
    """
    outcome = Outcome()
    if not stated:
        return outcome
    placed = placing.find_named_now({each.owner_id for each in stated})
    lists = {owner_id: _Pictures(placed.get(owner_id, ())) for owner_id in {each.owner_id for each in stated}}
    wanted = {url for each in stated for url in each.images if url not in lists[each.owner_id].links}
    references.add(wanted)
    # A product before its variants: these name pictures that it lists, perhaps.
    for each in sorted(stated, key=lambda one: one.is_of_variant):
        media_ids = lists[each.owner_id].ids_of(each.images, references)
        is_other = (
            lists[each.owner_id].name_variant(each.product_id, media_ids)
            if each.is_of_variant
            else lists[each.owner_id].put_first(media_ids)
        )
        if is_other:
            outcome.changed.add(each.sku)
        pending = [
            media_id
            for image, media_id in zip(each.images, media_ids, strict=True)
            if image in wanted and references.is_pending(image)
        ]
        if pending:
            outcome.pending[each.sku] = list(dict.fromkeys(pending))
    _write({owner_id: shown for owner_id, shown in lists.items() if shown.is_changed}, counted)
    return outcome


class _Pictures:
    """What one product shows, in its order, by the ids of the assets."""

    def __init__(self, placed: Sequence[Any]) -> None:
        self.before = [_shown(row) for row in placed]
        self._shown: dict[int, dict[str, Any]] = {row["media_id"]: dict(row) for row in self.before}
        #: Whether one of them is ready.
        self.has_ready = any(row.status == AssetStatus.READY for row in placed)
        #: The assets that are but links, by URL.
        self.links = links_of(placed)

    @property
    def after(self) -> Sequence[Row]:
        """What it shows now."""
        return list(self._shown.values())

    @property
    def is_changed(self) -> bool:
        """Whether that differs."""
        return self.after != self.before

    def ids_of(self, images: Sequence[str], references: References) -> list[int]:
        """The assets of references, which it is to show."""
        self.has_ready = self.has_ready or any(map(references.is_ready, images))
        return [self.links.get(each) or references.id_of(each) or 0 for each in images]

    def put_first(self, media_ids: Sequence[int]) -> bool:
        """Show these before others; whether it did not yet. Pictures of variants may stay among them."""
        listed = list(dict.fromkeys(media_ids))
        others = [each for each in self._shown if each not in listed]
        of_all = [each for each, row in self._shown.items() if each in listed or not row["variants"]]
        if of_all == [*listed, *(each for each in others if not self._shown[each]["variants"])]:
            return False
        self._shown = {each: self._shown.get(each) or _new(each) for each in (*listed, *others)}
        return True

    def name_variant(self, variant_id: int, media_ids: Sequence[int]) -> bool:
        """Let these be of a variant; whether one was not."""
        is_other = False
        for media_id in media_ids:
            row = self._shown.setdefault(media_id, _new(media_id))
            if variant_id not in row["variants"]:
                row["variants"] = [*row["variants"], variant_id]
                is_other = True
        return is_other


class _Counted:
    """How many pictures each product would show, by its sku, beside those that it shows."""

    def __init__(self, drafts: Drafts, stating: Iterable[Draft]) -> None:
        found = drafts.found.by_sku
        self._moving: dict[str, list[int]] = {}
        for draft in drafts.good:
            if draft.joins and draft.there is not None:
                self._moving.setdefault(str(draft.parent_sku), []).append(draft.there["id"])
        owners = {_owner_of(draft) for draft in stating}
        self._ids = {sku: found[sku]["id"] for sku in owners if sku in found}
        moving = {each for sku in owners for each in self._moving.get(sku, ())}
        self._placed = placing.find_named_now({*self._ids.values(), *moving})
        self._shown: dict[str, set[int | str]] = {}

    def has_link(self, draft: Draft, url: str) -> bool:
        """Whether the product shows the link to a URL."""
        return not is_digest(url) and url in links_of(self._placed_of(_owner_of(draft)))

    def count(self, draft: Draft, references: References) -> None:
        """Count the pictures of a draft; raises ``TooManyPictures``."""
        owner = _owner_of(draft)
        placed = self._placed_of(owner)
        links = links_of(placed)
        before = self._shown.setdefault(owner, {row.media_id for row in placed})
        named = {links.get(each) or references.id_of(each) or each for each in draft.images}
        if len(before | named) > max(MAX_PLACEMENTS, len(before)):
            raise TooManyPictures
        before |= named

    def _placed_of(self, owner: str) -> Sequence[Any]:
        own = self._placed.get(self._ids.get(owner, 0), ())
        return [*own, *(row for each in self._moving.get(owner, ()) for row in self._placed.get(each, ()))]


def links_of(placed: Iterable[Any]) -> Mapping[str, int]:
    """The assets among placements that are links, by URL."""
    return {row.source_url: row.media_id for row in placed if row.sha256 is None and row.status == AssetStatus.READY}


def _owner_of(draft: Draft) -> str:
    return str(draft.parent_sku) if draft.kind == ProductKind.VARIANT else draft.sku


def _write(lists: Mapping[int, _Pictures], counted: Mapping[int, bool]) -> None:
    placing.rewrite_placements(
        {
            owner_id: [{**row, "position": place} for place, row in enumerate(shown.after)]
            for owner_id, shown in lists.items()
        }
    )
    for owner_id, shown in lists.items():
        record_event(
            "product.updated",
            resource_type="product",
            resource_id=owner_id,
            before={"media": shown.before},
            after={"media": shown.after},
        )
    # Where it was made just now and none is ready, its row says so already.
    visible = [each for each, shown in lists.items() if shown.before or not counted.get(each) or shown.has_ready]
    pictures.show(visible, by_clients=True, counted=counted)


def _shown(row: Any) -> dict[str, Any]:
    return {name: getattr(row, name) for name in ("media_id", "alt", "variants")}


def _new(media_id: int) -> dict[str, Any]:
    return {"media_id": media_id, "alt": "", "variants": []}
