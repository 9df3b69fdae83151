"""What the items of a batch come to beside what is there and beside each other, before anything is written.

An item that the rules do not allow is refused by itself; where it was to make a parent, so are its variants.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from app.core.errors import Invalid
from app.core.money import CURRENCY
from app.features.bulk.locking import Found
from app.features.products import families
from app.features.products.creation import NEW, definitions_of
from app.features.products.models import (
    FAMILY,
    INHERITED,
    MAX_ATTRIBUTES,
    MAX_VARIANTS,
    MEMBERS,
    PRODUCTS,
    AttributePatch,
    CurrencyOfVariantDiffers,
    MemberOfParent,
    NotAParent,
    NotAVariant,
    NotSingle,
    OptionsInUse,
    OptionsTaken,
    OptionsUnfit,
    ProductIncomplete,
    ProductKind,
    RolledUp,
    StockNotTracked,
    TooManyAttributes,
    TooManyVariants,
    TooPrecise,
    missing_members,
    option_key,
    too_precise_amounts,
)
from app.features.products.values import MADE_OF, Assessment, Definitions

Row = Mapping[Any, Any]

#: The member of an item that names the parent of a variant.
PARENT = "parent_sku"
#: The member of an item with the pictures that the product shows before others, or a variant behind others.
IMAGES = "images"
#: What a parent's row shows of its variants, among the members that an item may state.
_ROLLED_UP = ("price", "stock", "track_stock")
#: Each column's own comparison: to Python, a 1 and a true among the attributes are the same.
_ARE_SAME = {column.name: column.type.compare_values for column in PRODUCTS.columns}
#: The columns in which a product can differ from an item.
_COMPARED = (*MEMBERS, *FAMILY, "parent_status", "image")
#: The columns of a parent that its variants follow.
_PASSED_ON = frozenset({*INHERITED, "status", *MADE_OF})


class ParentSkuUnknown(Invalid):
    """No product has this sku, and no item here makes one that can have variants."""

    pointer = f"/{PARENT}"


class ParentDiffers(Invalid):
    """This is a variant of another product, with which it stays."""

    pointer = f"/{PARENT}"


class KindDiffers(Invalid):
    """The product is of another kind: a variant has a parent_sku, a parent has options, and a single has neither."""

    pointer = "/kind"


@dataclass(frozen=True)
class Draft:
    """An item: the members that it states, and the product that it changes, if that is there."""

    stated: Row
    parent_sku: str | None
    there: Row | None
    defaults: Row
    #: What the item says that the product is.
    said: str | None = None
    #: The references of pictures that the item states, each once.
    images: tuple[str, ...] = ()

    @classmethod
    def of(cls, row: Row, found: Found, defaults: Row) -> "Draft":
        """The draft of an item, which may name a parent and a kind, and set attributes beside those that are there."""
        there, said = found.by_sku.get(row["sku"]), row.get("kind")
        stated = {name: value for name, value in row.items() if name not in {PARENT, IMAGES, "kind"}}
        if there is None and said == ProductKind.PARENT and stated.get("options") is None:
            stated["options"] = []
        if stated.get("position", 0) is None:
            del stated["position"]
        attributes = stated.get("attributes")
        if there is not None and isinstance(attributes, AttributePatch):
            stated["attributes"] = {**there["attributes"], **attributes}
        images = tuple(dict.fromkeys(row.get(IMAGES, ())))
        return cls(stated, row.get(PARENT) or _parent_sku(there, found), there, defaults, said, images)

    @cached_property
    def sku(self) -> str:
        """The sku."""
        return str(self.stated["sku"])

    @cached_property
    def kind(self) -> ProductKind:
        """What the product is afterwards."""
        if self.parent_sku is not None:
            return ProductKind.VARIANT
        if self.there is not None:
            return ProductKind(self.there["kind"])
        return ProductKind.PARENT if isinstance(self.stated.get("options"), list) else ProductKind.SINGLE

    @cached_property
    def joins(self) -> bool:
        """Whether it becomes a variant now."""
        was = self.there["kind"] if self.there is not None else None
        return self.kind == ProductKind.VARIANT != was

    @property
    def base(self) -> Row:
        """What it has beside what is stated."""
        return self.defaults if self.there is None else self.there

    @cached_property
    def as_parent(self) -> Row:
        """The row of a product that is no variant, as it is afterwards, without what follows from others."""
        follows = families.totals_of(()) if self.there is None and self.kind == ProductKind.PARENT else {}
        stated = self.stated
        if self.is_parent:
            stated = {name: value for name, value in stated.items() if name not in _ROLLED_UP}
        return {**self.base, **stated, **follows, "kind": self.kind}

    @cached_property
    def is_parent(self) -> bool:
        """Whether it is a parent afterwards."""
        return self.kind == ProductKind.PARENT

    def as_variant(self, parent: Row) -> Row:
        """The row of a variant as it is afterwards, without its place."""
        inherited = {**{name: parent[name] for name in INHERITED}, "parent_status": parent["status"]}
        if self.joins:
            inherited["image"] = parent.get("image")
        row = {**self.base, **self.stated, **inherited, "kind": self.kind, "parent_id": parent.get("id")}
        return {**row, "options": row["options"] or {}}

    def differing(self, after: Row) -> dict[str, Any]:
        """What of a product that is there differs afterwards."""
        return differing(self.there or {}, after)


def differing(there: Row, after: Row, names: Iterable[str] = _COMPARED) -> dict[str, Any]:
    """The columns that differ, as they are afterwards."""
    return {
        name: after[name]
        for name in names
        if after[name] is not there[name] and not _ARE_SAME[name](there[name], after[name])
    }


def is_passed_on(changed: Collection[str]) -> bool:
    """Whether variants follow a change of these columns of their parent."""
    return not _PASSED_ON.isdisjoint(changed)


def _parent_sku(there: Row | None, found: Found) -> str | None:
    """The sku of the parent that a product has already."""
    parent = found.by_id.get(there["parent_id"]) if there is not None else None
    return None if parent is None else str(parent["sku"])


class Drafts:
    """The drafts of a batch, and the refusals of those that cannot be written; both by sku."""

    def __init__(self, rows: Mapping[str, Row], found: Found, defaults: Row) -> None:
        self.found, self.defaults = found, {**NEW, **defaults}
        self.all = {sku: Draft.of(row, found, self.defaults) for sku, row in rows.items()}
        self.refused: dict[str, Invalid] = {}
        #: What the attributes of drafts come to, where they are new or differ; by sku.
        self.assessed: dict[str, Assessment] = {}
        #: Of the parents that are made.
        self.ids: dict[str, int] = {}
        self._definitions = self._find_definitions()
        self._refuse_unfit()

    def refuse(self, refused: Mapping[str, Invalid]) -> None:
        """Refuse some, and those that are not allowed without them."""
        self.refused |= refused
        if refused:
            self._refuse_unfit()
        while self._refuse_parents():
            self._refuse_unfit()

    @property
    def good(self) -> Iterator[Draft]:
        """Those that are not refused, in their order, but parents first."""
        good = [draft for sku, draft in self.all.items() if sku not in self.refused]
        yield from sorted(good, key=lambda draft: not draft.is_parent)

    def parent_of(self, draft: Draft) -> Row:
        """The row of a variant's parent as it is afterwards; raises what is wrong with the one that is named."""
        parent = None if draft.parent_sku is None else self._row_of(draft.parent_sku)
        if parent is None:
            raise ParentSkuUnknown
        if parent["kind"] != ProductKind.PARENT:
            raise Invalid.because(NotAParent, PARENT)
        return parent

    def after(self, draft: Draft) -> Row:
        """The row of a good draft as it is afterwards, without what follows from attributes and from others."""
        after = self._after(draft)
        return {**after, "position": self._positions[draft.sku]} if draft.sku in self._positions else after

    def followers(self) -> Iterator[Draft]:
        """The variants that have no good draft, as they are, of parents that are changed."""
        for parent in self.good:
            if parent.is_parent:
                yield from self._followers_of(parent.as_parent)

    def assess_follower(self, draft: Draft) -> Assessment | None:
        """What the attributes of a variant that follows its parent come to; None where nothing follows from these."""
        parent = self.parent_of(draft)
        after = draft.as_variant(parent)
        return self._definitions.assess(after, parent) if self._is_valued(draft, after, parent) else None

    def changed_of(self, parent: Row) -> Collection[str]:
        """The columns that variants follow of a parent, as it is afterwards, in which it differs from now."""
        there = self.found.by_id.get(parent.get("id", 0))
        return () if there is None else differing(there, parent, _PASSED_ON).keys()

    def variants_of(self, parent_id: int) -> Sequence[Row]:
        """The variants of a parent among the drafts, whole."""
        by_id = self.found.by_id
        return [by_id[row["id"]] for row in self.found.siblings[parent_id] if row["id"] in by_id]

    def _followers_of(self, parent: Row) -> Iterator[Draft]:
        if is_passed_on(self.changed_of(parent)):
            for row in self.variants_of(parent["id"]):
                if row["sku"] not in self.all or row["sku"] in self.refused:
                    yield Draft({"sku": row["sku"]}, parent["sku"], row, self.defaults)

    def _after(self, draft: Draft) -> Row:
        return draft.as_variant(self.parent_of(draft)) if draft.kind == ProductKind.VARIANT else draft.as_parent

    @cached_property
    def _positions(self) -> Mapping[str, int]:
        """The places of the good drafts that become variants and state none: behind the others, in their order."""
        joining = [draft for draft in self.good if draft.joins]
        last: dict[str, int] = {}
        for draft in joining:
            there = self.found.by_sku.get(str(draft.parent_sku))
            known = [row["position"] for row in self.found.siblings[there["id"]]] if there is not None else []
            known += [last.get(str(draft.parent_sku), -1), draft.stated.get("position", -1)]
            last[str(draft.parent_sku)] = max(known)
        positions: dict[str, int] = {}
        for draft in joining:
            if "position" not in draft.stated:
                last[str(draft.parent_sku)] += 1
                positions[draft.sku] = last[str(draft.parent_sku)]
        return positions

    def _row_of(self, sku: str) -> Row | None:
        draft = self.all.get(sku)
        if draft is None or sku in self.refused:
            return self.found.by_sku.get(sku)
        return {**draft.as_parent, "id": self.ids[sku]} if sku in self.ids else draft.as_parent

    def _find_definitions(self) -> Definitions:
        stated = [{**NEW, **draft.stated} for draft in self.all.values()]
        return definitions_of([*self.found.by_id.values(), *stated])

    def _refuse_unfit(self) -> None:
        """Refuse those that are not allowed as they are beside each other."""
        places = _Places(self.found)
        # Parents come first, so that none that is refused is a variant's.
        for draft in self.good:
            try:
                self._check(draft, places)
            except Invalid as refusal:
                self.refused[draft.sku] = refusal

    def _check(self, draft: Draft, places: "_Places") -> None:
        if draft.said not in {None, draft.kind}:
            raise KindDiffers
        if draft.kind == ProductKind.VARIANT:
            self._check_variant(draft)
        elif draft.is_parent:
            self._check_parent(draft)
        else:
            self._check_single(draft)
        if len(draft.stated.get("attributes", ())) > MAX_ATTRIBUTES:
            raise TooManyAttributes
        self._check_attributes(draft)
        if draft.kind == ProductKind.VARIANT:
            places.take(draft, self._after(draft))

    def _check_single(self, draft: Draft) -> None:
        stated, there = draft.stated, draft.there
        if isinstance(stated.get("options"), list):
            raise Invalid.because(NotAParent, "options")
        if wrong := [name for name in ("options", "position") if stated.get(name) is not None]:
            raise NotAVariant.at(*wrong)
        _require_members(draft, stated)
        _require_exact({**draft.defaults, **stated} if there is None else stated, there)
        _require_tracked(draft)

    def _check_parent(self, draft: Draft) -> None:
        stated, there = draft.stated, draft.there
        if stated.get("position") is not None:
            raise NotAVariant.at("position")
        _require_members(draft, {**stated, "price": None})
        if "options" in stated:
            self._require_names(draft)
        amounts = {name: value for name, value in stated.items() if name != "price"}
        if there is None:
            _require_exact({**draft.defaults, **amounts})
        else:
            # Its price is a variant's.
            _require_exact(amounts, {**there, "price": None})

    def _require_names(self, draft: Draft) -> None:
        names, there = draft.stated["options"], draft.there
        if not isinstance(names, list):
            raise OptionsUnfit
        if there is None or set(names) == set(there["options"]):
            return
        if any(row["options"] for row in self.found.siblings[there["id"]]):
            raise Invalid.because(OptionsInUse, "options")

    def _require_rolled_up(self, draft: Draft) -> None:
        """Raise ``RolledUp`` for what is stated neither as it is nor as it will be."""
        base = draft.there or draft.as_parent
        stated = {name: draft.stated[name] for name in _ROLLED_UP if name in draft.stated}
        if wrong := differing(base, {**base, **stated}, stated):
            totals = families.totals_of(self._variants_after(draft))
            if wrong := differing(totals, {**totals, **wrong}, wrong):
                raise RolledUp.at(*wrong)

    def _variants_after(self, draft: Draft) -> Iterator[Row]:
        """What a parent's variants will be, as far as a total is made of it."""
        own = {each.sku: each for each in self.good if each.parent_sku == draft.sku}
        parent = draft.as_parent
        siblings = self.found.siblings.get(parent.get("id", 0), ())
        yield from (row for row in siblings if row["sku"] not in own)
        for each in own.values():
            row = each.as_variant(parent)
            if "price" in row:
                yield {**row, "missing": None, "attribute_words": None}

    def _check_variant(self, draft: Draft) -> None:
        stated, there = draft.stated, draft.there
        if there is not None and there["kind"] == ProductKind.PARENT:
            raise Invalid.because(NotSingle, PARENT)
        if draft.parent_sku != (_parent_sku(there, self.found) or draft.parent_sku):
            raise ParentDiffers
        parent = self.parent_of(draft)
        if isinstance(stated.get("options"), list):
            raise OptionsUnfit
        foreign = {name: stated[name] for name in INHERITED if name in stated}
        if wrong := differing(parent, foreign, foreign):
            raise MemberOfParent.at(*wrong)
        if draft.joins and there is not None and there[CURRENCY] != parent[CURRENCY]:
            raise Invalid.because(CurrencyOfVariantDiffers, PARENT)
        _require_members(draft, {**stated, **dict.fromkeys(INHERITED)})
        own_amounts = {**stated, CURRENCY: parent[CURRENCY]}
        _require_exact({**draft.defaults, **own_amounts} if there is None else own_amounts, there)
        _require_tracked(draft)
        if draft.joins or "options" in stated:
            families.require_fitting(stated.get("options"), parent["options"])

    def _check_attributes(self, draft: Draft) -> None:
        parent = self.parent_of(draft) if draft.kind == ProductKind.VARIANT else None
        after = self._after(draft)
        self.assessed.pop(draft.sku, None)
        if self._is_valued(draft, after, parent):
            self.assessed[draft.sku] = assessment = self._definitions.assess(after, parent)
            assessment.require()

    def _is_valued(self, draft: Draft, after: Row, parent: Row | None) -> bool:
        """Whether what follows from attributes has to be made anew."""
        if draft.there is None:
            return True
        is_other = parent is not None and not MADE_OF.isdisjoint(self.changed_of(parent))
        return is_other or bool(differing(draft.there, after, MADE_OF))

    def _refuse_parents(self) -> bool:
        """Refuse parents for what they state of their variants, or change of these; whether there are any."""
        before = len(self.refused)
        for draft in self.good:
            try:
                if draft.is_parent:
                    self._require_rolled_up(draft)
                    self._check_passing_on(draft.as_parent)
            except Invalid as refusal:
                self.refused[draft.sku] = refusal
        return len(self.refused) > before

    def _check_passing_on(self, parent: Row) -> None:
        """Raise what forbids a change of a parent, in those of its variants that stay as they are."""
        for follower in self._followers_of(parent):
            if too_precise_amounts({CURRENCY: parent[CURRENCY]}, follower.there):
                raise TooPrecise.at(CURRENCY)
            if assessment := self.assess_follower(follower):
                assessment.require()


class _Places:
    """The options that the variants of each parent have, how many there are, and their places; by the parent's sku."""

    def __init__(self, found: Found) -> None:
        self._found = found
        self._taken: dict[str, dict[str, str]] = {}
        self._count: dict[str, int] = {}

    def take(self, draft: Draft, after: Row) -> None:
        """Take the options of a variant, and a place among the others; raises what forbids it."""
        parent_sku = str(draft.parent_sku)
        taken = self._options_of(parent_sku)
        if draft.joins and self._count[parent_sku] >= MAX_VARIANTS:
            raise Invalid.because(TooManyVariants, PARENT)
        key = option_key(after["options"])
        if key is not None and taken.get(key, draft.sku) != draft.sku:
            raise Invalid.because(OptionsTaken, "options")
        self._count[parent_sku] += draft.joins
        if key is not None:
            taken[key] = draft.sku

    def _options_of(self, parent_sku: str) -> dict[str, str]:
        if parent_sku not in self._taken:
            there = self._found.by_sku.get(parent_sku)
            siblings = self._found.siblings[there["id"]] if there is not None else ()
            self._taken[parent_sku] = {row["option_key"]: row["sku"] for row in siblings if row["option_key"]}
            self._count[parent_sku] = len(siblings)
        return self._taken[parent_sku]


def _require_members(draft: Draft, stated: Row) -> None:
    if draft.there is None and (missing := missing_members(stated, draft.defaults)):
        raise ProductIncomplete.at(*missing)


def _require_exact(stated: Row, there: Row | None = None) -> None:
    if wrong := too_precise_amounts(stated, there):
        raise TooPrecise.at(*wrong)


def _require_tracked(draft: Draft) -> None:
    stated, there = draft.stated, draft.there
    if there is None or stated.get("track_stock", there["track_stock"]):
        return
    if stated.get("stock", there["stock"]) != there["stock"]:
        raise Invalid.because(StockNotTracked, "stock")
