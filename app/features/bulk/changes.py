"""What a batch changes of products that are there: by their own items, and by those of their parents."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from app.core.changelog import record_in_log
from app.core.changes import record_write
from app.core.slugs import SlugChange
from app.features.bulk.drafts import Draft, Drafts, is_passed_on
from app.features.products.families import ASSESSED
from app.features.products.models import FAMILY, INHERITED, MEMBERS, Product, ProductKind, option_key, search_text
from app.features.products.values import Assessment

Row = Mapping[str, Any]

#: The columns that are written.
_WRITTEN = (*MEMBERS, *FAMILY, "parent_status", "image", *ASSESSED, "option_key", "search_text", "version", "live")
_COPIED = frozenset({*INHERITED, "parent_status"})


@dataclass(frozen=True)
class Change:
    """What changes of a product: the product as it is, which is locked, and the columns that differ.

    ``own`` are those that its item changes, ``passed`` those that it has of its parent; it ``follows`` where the parent
    changes what its variants show, whether or not a column differs. ``assessment`` is made where attributes differ.
    """

    there: Row
    own: Row
    passed: Row = field(default_factory=dict)
    follows: bool = False
    assessment: Assessment | None = None

    @property
    def product_id(self) -> int:
        """The product's id."""
        return int(self.there["id"])

    @property
    def moves_stock_alone(self) -> bool:
        """Whether it is as a movement of stock."""
        return self.own.keys() == {"stock"} and not self.follows

    @property
    def slug_change(self) -> SlugChange | None:
        """The slug that the product gives up, and the one that it gets."""
        if "slug" not in self.own:
            return None
        return SlugChange(self.product_id, self.there["slug"], self.own["slug"])

    @cached_property
    def after(self) -> Row:
        """Every column as it is afterwards.

        ``live`` counts a stock that differs, and a change of the parent; ``version`` any other member.
        """
        moved = "stock" in self.own
        row = {**self.there, **self.own, **self.passed, **self._assessed}
        row["version"] += len(self.own) > moved
        row["live"] += moved + self.follows
        # Made anew: after a release that makes other words they may differ by themselves.
        return {**row, "search_text": search_text(**row), "option_key": option_key(row["options"])}

    def row(self) -> dict[str, Any]:
        """The columns to write."""
        return {name: self.after[name] for name in _WRITTEN}

    def record(self) -> None:
        """Record the change in the audit trail and in the log; in the log alone where its item changes nothing."""
        there, after = dict(self.there), self.after
        members = [*self.own, *self.passed, *(name for name in ("search_text",) if there[name] != after[name])]
        # The values may differ though their words do not.
        members += [name for name in self._assessed if self.follows or there[name] != after[name]]
        if self.own:
            kind = "stock.moved" if self.moves_stock_alone else None
            record_write(Product, before=there, after=after, members=members, kind=kind)
            return
        counters = {"version": after["version"], "live": after["live"]}
        record_in_log(
            Product, "product.updated", self.product_id, **counters, members=members, before=there, after=after
        )

    @property
    def _assessed(self) -> Row:
        if self.assessment is None:
            return {}
        columns = self.assessment.columns
        # What a parent lacks is what its variants lack.
        return (
            columns if self.own.get("kind", self.there["kind"]) != ProductKind.PARENT else {**columns, **self._missing}
        )

    @property
    def _missing(self) -> Row:
        return {"missing": self.there["missing"]}


def changes_of(drafts: Drafts) -> Iterator[Change]:
    """The changes of the products that are there: those of good drafts, and those of variants that follow them."""
    for draft in drafts.good:
        if draft.there is not None:
            yield from _changes_of(draft, draft.there, drafts, drafts.assessed.get(draft.sku))
    for draft in drafts.followers():
        if draft.there is not None:
            yield from _changes_of(draft, draft.there, drafts, drafts.assess_follower(draft))


def _changes_of(draft: Draft, there: Row, drafts: Drafts, assessment: Assessment | None) -> Iterator[Change]:
    """The change that brings a product to what its draft comes to; none if it is as stated."""
    parent = drafts.parent_of(draft) if draft.kind == ProductKind.VARIANT else None
    after = drafts.after(draft)
    own, passed = draft.differing(after), {}
    if parent is not None and not draft.joins:
        passed = {name: value for name, value in own.items() if name in _COPIED}
        own = {name: value for name, value in own.items() if name not in _COPIED}
    follows = parent is not None and not draft.joins and is_passed_on(drafts.changed_of(parent))
    if own or follows:
        yield Change(there, own, passed, follows, assessment)
