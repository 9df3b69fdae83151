"""The keys of many products at once: slugs for new ones, and what others have already."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from sqlalchemy import RowMapping, select

from app.core import slugs
from app.core.errors import Invalid
from app.core.membership import among
from app.core.slugs import SlugChange, make_random_slug, make_slug, make_spare_slug, select_reserved
from app.extensions import db
from app.features.products.models import KEYS, PRODUCTS, Product

_LIVING = select(Product).where(Product.deleted_at.is_(None))
#: The keys but the sku, by which a batch finds its products.
_OTHERS = [name for name in KEYS if name != "sku"]
_NONE: Mapping[str, RowMapping] = MappingProxyType({})

Rows = Mapping[str, Mapping[str, Any]]


def with_slugs(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows of new products, each with a slug: the one that it states, or one made from its name.

    A slug that another living product has or had, or a row before, gets the product's sku at its end, or random digits
    where that is taken as well.
    """
    candidates = [_candidates(row) for row in rows]
    taken = _taken_slugs({slug for pair in candidates for slug in pair})
    taken |= {row["slug"] for row in rows if "slug" in row}
    made: list[Mapping[str, Any]] = []
    for row, pair in zip(rows, candidates, strict=True):
        slug = row.get("slug") or _first_free(pair, taken)
        taken.add(slug)
        made.append({**row, "slug": slug})
    return made


def _first_free(pair: Sequence[str], taken: set[str]) -> str:
    return next((slug for slug in pair if slug not in taken), None) or make_random_slug(pair[0])


def _candidates(row: Mapping[str, Any]) -> Sequence[str]:
    if "slug" in row:
        return ()
    base = make_slug(row["name"], "product")
    return base, make_spare_slug(base, row["sku"])


def find_taken(rows: Rows, found: Mapping[str, RowMapping] = _NONE) -> dict[str, Invalid]:
    """The refusals of the rows with a key that another living product has, or a row before, by sku.

    ``found`` are the products that the rows change, by sku. One statement for each key that rows state. What a product
    gives up in the same batch is still taken.
    """
    refused: dict[str, Invalid] = {}
    for name in _OTHERS:
        normalize = KEYS[name].normalize
        stated = {sku: normalize(row[name]) for sku, row in rows.items() if row.get(name) is not None}
        holders = _holders(name, set(stated.values()))
        first = {value: sku for sku, value in reversed(stated.items())}
        for sku, value in stated.items():
            own_id = found[sku]["id"] if sku in found else None
            if first[value] != sku or holders.get(value, own_id) != own_id:
                refused.setdefault(sku, Invalid.because(KEYS[name].taken, name))
    return refused


def free_slug_for(product: Product) -> str:
    """The slug of a deleted product, or one made from it where a living product has or had that."""
    pair = (product.slug, make_spare_slug(product.slug, product.sku))
    holders = _holders("slug", set(pair))
    return _first_free(pair, {slug for slug, product_id in holders.items() if product_id != product.id})


def retire(changes: Iterable[SlugChange]) -> None:
    """Reserve the slugs that products give up."""
    slugs.retire_slugs(db.session.connection(), Product.audited_as, list(changes))


def _taken_slugs(wanted: set[str]) -> set[str]:
    return set(_holders("slug", wanted))


def _holders(name: str, values: set[str]) -> Mapping[str, int]:
    """The living products that have one of these values of a key, or had this slug: their ids, by the value."""
    if not values:
        return {}
    column = KEYS[name].column
    found = select(column, PRODUCTS.c.id).where(among(column, values), PRODUCTS.c.deleted_at.is_(None))
    holders = found.union_all(select_reserved(_LIVING, values)) if name == "slug" else found
    return {row[0]: row[1] for row in db.session.execute(holders)}
