"""Batches of products as clients send them: each item is written or refused by itself, and reported."""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from app.core.errors import Fault, Invalid
from app.core.references import find_unknown_among
from app.extensions import db
from app.features.bulk import upserts
from app.features.products.models import DEFAULTS, Product

#: The members of an item that are right, and what is wrong with the others.
Item = tuple[Mapping[str, Any], Sequence[Fault]]


class BatchMode(StrEnum):
    """Whether one bad item refuses the whole batch, or only itself."""

    ATOMIC = "atomic"
    PARTIAL = "partial"


class Outcome(StrEnum):
    """What became of an item."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    FAILED = "failed"


class BatchRefused(Invalid):
    """Some of the items are not acceptable, and nothing was changed."""


class DuplicateSku(Invalid):
    """An item before this one has the same sku."""


@dataclass(frozen=True, kw_only=True)
class ItemResult:
    """What became of one item: the product's id, or why there is none. A dry run has no ids of new products."""

    index: int
    sku: str | None
    status: Outcome
    id: int | None = None
    problem: Invalid | None = None


@dataclass(frozen=True)
class BatchResult:
    """What became of every item, in their order."""

    items: Sequence[ItemResult]

    @property
    def meta(self) -> dict[str, int]:
        """How many items there are, and how many of each outcome."""
        outcomes = [item.status for item in self.items]
        return {"total": len(outcomes)} | {outcome.value: outcomes.count(outcome) for outcome in Outcome}


def save_products(
    items: Sequence[Item], *, mode: BatchMode, dry_run: bool, currency: str, may_fetch: bool = True
) -> BatchResult:
    """Create the products whose sku is not there, and update the others by the members that their items state.

    An item fails that has faults, the sku of an item before it or an unknown reference, or that the upsert refuses;
    ``currency`` is a new product's unless it states one. A failed item is left out; in an atomic batch it raises
    ``BatchRefused`` for the whole. Without ``may_fetch`` no URL of a picture is fetched. A dry run
    writes nothing, and returns the same without the ids of new products.
    """
    problems = _find_problems(items)
    good = _without(problems, items)
    defaults = {**DEFAULTS, "currency": currency}
    upsert = _rehearse if dry_run else upserts.upsert_products
    upserted = upsert(good.values(), defaults=defaults, may_fetch=may_fetch)
    problems |= _refused(good, upserted)
    if problems and mode is BatchMode.ATOMIC:
        raise BatchRefused(*(fault for index in sorted(problems) for fault in problems[index].faults))
    return BatchResult(
        [
            _result(index, values.get("sku"), problems.get(index) or upserted[values["sku"]], dry_run=dry_run)
            for index, (values, _) in enumerate(items)
        ]
    )


def _find_problems(items: Sequence[Item]) -> dict[int, Invalid]:
    """The items that cannot be written: with faults, with the sku of an item before, or with an unknown reference."""
    problems: dict[int, Invalid] = _repeated(items)
    problems |= {index: Invalid(*faults) for index, (_, faults) in enumerate(items) if faults}
    for index, reference in find_unknown_among(Product, _without(problems, items)).items():
        problems[index] = reference.unknown.at(reference.member).below(f"/items/{index}")
    return problems


def _without(problems: Container[int], items: Sequence[Item]) -> dict[int, Mapping[str, Any]]:
    return {index: values for index, (values, _) in enumerate(items) if index not in problems}


def _repeated(items: Sequence[Item]) -> dict[int, Invalid]:
    seen: set[str] = set()
    problems: dict[int, Invalid] = {}
    for index, (values, _) in enumerate(items):
        sku = values.get("sku")
        if sku in seen:
            problems[index] = DuplicateSku.at("sku").below(f"/items/{index}")
        if sku is not None:
            seen.add(sku)
    return problems


def _refused(
    good: Mapping[int, Mapping[str, Any]], upserted: Mapping[str, upserts.Upserted | Invalid]
) -> dict[int, Invalid]:
    """The items that the upsert refused."""
    became = {index: upserted[values["sku"]] for index, values in good.items()}
    return {index: one.below(f"/items/{index}") for index, one in became.items() if isinstance(one, Invalid)}


def _rehearse(
    rows: Iterable[Mapping[str, Any]], *, defaults: Mapping[str, Any], may_fetch: bool
) -> dict[str, upserts.Upserted | Invalid]:
    """What an upsert would do."""
    savepoint = db.session.begin_nested()
    upserted = upserts.upsert_products(rows, defaults=defaults, may_fetch=may_fetch)
    savepoint.rollback()
    return upserted


def _result(index: int, sku: str | None, became: upserts.Upserted | Invalid, *, dry_run: bool) -> ItemResult:
    if isinstance(became, Invalid):
        return ItemResult(index=index, sku=sku, status=Outcome.FAILED, problem=became)
    is_gone = dry_run and became.effect is upserts.Effect.CREATED
    product_id = None if is_gone else became.product_id
    return ItemResult(index=index, sku=sku, status=Outcome(became.effect), id=product_id)
