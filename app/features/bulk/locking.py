"""The products that a batch is about, found and locked: those with its skus, and the families of these.

Variants and single products are locked by their ids, and then parents by theirs, as every transaction does: two batches
that mention the same products, in whatever order, cannot wait for each other.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from sqlalchemy import ColumnElement, Select, or_, select

from app.core.locks import advisory_lock
from app.core.membership import among
from app.extensions import db
from app.features.products import families
from app.features.products.models import PRODUCTS, ProductKind
from app.features.products.statements import has_id

Row = Mapping[str, Any]

_IS_ALIVE = PRODUCTS.c.deleted_at.is_(None)
_NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Found:
    """Living products, locked, by their ids and skus; of each parent among them the variants, in their order."""

    by_id: Mapping[int, Row] = field(default_factory=dict)
    siblings: Mapping[int, Sequence[Row]] = field(default_factory=dict)
    by_sku: Mapping[str, Row] = field(default_factory=dict)


def find_and_lock(skus: Collection[str], parents: Mapping[str, str] = _NONE, *, showing: Collection[str] = ()) -> Found:
    """The living products with these skus or of their families, locked.

    Of products with ``skus`` these are a variant's parent, and a parent's variants; of the ``parents`` that items name,
    by the skus of these, none. But a family is whole where a product joins it, or where an item that is ``showing``
    pictures is of it: all of a family may show another then. Where a product is to be made, no other batch makes any
    until this transaction ends: several would wait for each other at several unique indexes.
    """
    living = find_living({*skus, *parents.values()})
    if not living.keys() >= set(skus):
        advisory_lock("create-products")
    ids = {each for row in living.values() for each in (row["id"], row["parent_id"]) if each is not None}
    whole = {living[sku]["id"] for sku in skus if sku in living and living[sku]["kind"] == ProductKind.PARENT}
    whole |= {living[sku]["parent_id"] for sku in showing if sku in living and living[sku]["parent_id"] is not None}
    joining = {sku for sku in parents if sku in living and living[sku]["kind"] == ProductKind.SINGLE}
    joined = {parents[sku] for sku in {*showing, *joining} & parents.keys()}
    whole |= {living[sku]["id"] for sku in joined if sku in living}
    return families.lock_whole(lambda: _lock_all(ids, whole)) if ids else Found()


def _lock_all(ids: set[int], whole: Collection[int]) -> Found | None:
    """The products with ``ids``, and the variants of ``whole`` ones, locked; None where others have come to these.

    Those that a product has for a parent by now are added to ``ids``.
    """
    locked = _lock(or_(has_id(ids), has_id(whole, PRODUCTS.c.parent_id)) if whole else has_id(ids))
    siblings = _siblings_of(locked.values())
    # What has come to these families while this waited for a lock.
    late = {row["parent_id"] for row in locked.values() if row["parent_id"] is not None}
    late |= {row["id"] for parent_id in whole for row in siblings.get(parent_id, ())}
    if late <= ids | locked.keys():
        return Found(locked, siblings, {row["sku"]: row for row in locked.values()})
    ids |= late
    return None


def find_living(skus: Iterable[str]) -> Mapping[str, Row]:
    """The id, the kind and the parent's id of the living products with these skus, by sku."""
    columns = (PRODUCTS.c[name] for name in ("sku", "id", "kind", "parent_id"))
    rows = select(*columns).where(among(PRODUCTS.c.sku, list(skus)), _IS_ALIVE)
    return {row["sku"]: row for row in _read(rows)}


def _lock(condition: ColumnElement[bool]) -> dict[int, Row]:
    rows = select(PRODUCTS).where(condition, _IS_ALIVE).order_by(PRODUCTS.c.kind == ProductKind.PARENT, PRODUCTS.c.id)
    return {row["id"]: row for row in _read(rows.with_for_update(key_share=True))}


def _read(rows: Select[Any]) -> Iterator[Row]:
    found = db.session.execute(rows)
    names = list(found.keys())
    return (dict(zip(names, row, strict=True)) for row in found)


def _siblings_of(locked: Iterable[Row]) -> dict[int, list[Any]]:
    """The variants of the parents among these, read after the parents are locked."""
    siblings: dict[int, list[Any]] = {row["id"]: [] for row in locked if row["kind"] == ProductKind.PARENT}
    for row in families.read_variants(siblings) if siblings else ():
        siblings[row["parent_id"]].append(row)
    return siblings
