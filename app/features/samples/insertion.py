"""Insertion of sample products, parents with their variants among them: a handful of statements for all."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from app.features.bulk import upserts
from app.features.media import placing
from app.features.products import families
from app.features.products.creation import NEW
from app.features.products.models import INHERITED, ProductKind
from app.features.products.values import Definitions
from app.features.samples import gallery
from app.features.samples.gallery import PICTURES, Gallery, Placed

Row = Mapping[str, Any]

#: The rows of the variants in the row of a parent, which has the names of its options.
VARIANTS = "variants"
#: How many variants a statement inserts, which must end within the time that any statement has.
_MAX_ROWS = 2000
_NO_PICTURES: Gallery = MappingProxyType({})


def insert_products(products: Sequence[Row], pictures: Gallery = _NO_PICTURES) -> None:
    """Insert products whose keys no living product has; of a parent that is there already, no variants either.

    The row of a variant has no more than what is its own. Products show what their rows say of ``pictures``.
    """
    placed = gallery.place(products, pictures)
    products = [_with_image(product, placed.get(product["sku"], ())) for product in products]
    parents = {row["sku"]: {**NEW, **row, "kind": ProductKind.PARENT} for row in products if VARIANTS in row}
    variants = {sku: _variants_of(parent) for sku, parent in parents.items()}
    definitions = Definitions.of([*parents.values(), *(each for some in variants.values() for each in some)])
    for sku, some in variants.items():
        parents[sku] |= families.totals_of(_shown(each, parents[sku], definitions) for each in some)
    made = upserts.insert_products([parents.get(product["sku"], product) for product in products])
    living = {made[sku]["id"]: made[sku] for sku in parents if sku in made}
    rows = [{**each, "parent_id": parent_id} for parent_id, row in living.items() for each in variants[row["sku"]]]
    for start in range(0, len(rows), _MAX_ROWS):
        made |= upserts.insert_products(rows[start : start + _MAX_ROWS], living)
    gallery.insert_placements(placed, {sku: row["id"] for sku, row in made.items()})


def _with_image(product: Row, placed: Sequence[Placed]) -> Row:
    """The row of a product with what it, and each of its variants, shows first."""
    row = {name: value for name, value in product.items() if name != PICTURES}
    if not placed:
        return row
    row["image"] = placing.image_of(placed)
    if VARIANTS in row:
        row[VARIANTS] = [{**each, "image": _image_of_variant(each["sku"], placed)} for each in row[VARIANTS]]
    return row


def _image_of_variant(sku: str, placed: Sequence[Placed]) -> dict[str, Any] | None:
    return placing.image_of(each for each in placed if sku in each.variants) or placing.image_of(placed)


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
