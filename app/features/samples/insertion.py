"""Insertion of sample products, parents with their variants among them: a handful of statements for all."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.features.bulk import upserts
from app.features.products import families
from app.features.products.creation import NEW
from app.features.products.models import INHERITED, ProductKind
from app.features.products.values import Definitions

Row = Mapping[str, Any]

#: The rows of the variants in the row of a parent, which has the names of its options.
VARIANTS = "variants"
#: How many variants a statement inserts, which must end within the time that any statement has.
_MAX_ROWS = 2000


def insert_products(products: Sequence[Row]) -> None:
    """Insert products whose keys no living product has; of a parent that is there already, no variants either.

    The row of a variant has no more than what is its own.
    """
    parents = {row["sku"]: {**NEW, **row, "kind": ProductKind.PARENT} for row in products if VARIANTS in row}
    variants = {sku: _variants_of(parent) for sku, parent in parents.items()}
    definitions = Definitions.of([*parents.values(), *(each for some in variants.values() for each in some)])
    for sku, some in variants.items():
        parents[sku] |= families.totals_of(_shown(each, parents[sku], definitions) for each in some)
    made = upserts.insert_products([parents.get(product["sku"], product) for product in products])
    living = {made[sku]["id"]: made[sku] for sku in parents if sku in made}
    rows = [{**each, "parent_id": parent_id} for parent_id, row in living.items() for each in variants[row["sku"]]]
    for start in range(0, len(rows), _MAX_ROWS):
        upserts.insert_products(rows[start : start + _MAX_ROWS], living)


def _variants_of(parent: dict[str, Any]) -> Sequence[Row]:
    """The rows of a parent's variants, each with what it has of the parent; they are taken out of that."""
    inherited = {name: parent.get(name) for name in INHERITED} | {"parent_status": parent["status"]}
    return [
        {**NEW, **inherited, **own, "kind": ProductKind.VARIANT, "position": place}
        for place, own in enumerate(parent.pop(VARIANTS))
    ]


def _shown(variant: Row, parent: Row, definitions: Definitions) -> Row:
    """What `families.totals_of` reads of a variant."""
    return {**variant, **definitions.assess(variant, parent).columns}
