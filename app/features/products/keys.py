"""The keys of many products at once: slugs for new ones, and what others have already."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import literal, select

from app.core import slugs
from app.core.errors import Invalid
from app.core.membership import among
from app.core.slugs import SlugChange, make_random_slug, make_slug, make_spare_slug, select_reserved
from app.extensions import db
from app.features.products.models import KEYS, PRODUCTS, Product, title_of

_LIVING = select(Product).where(Product.deleted_at.is_(None))
#: The keys but the sku, by which a batch finds its products.
_OTHERS = [name for name in KEYS if name != "sku"]

Rows = Mapping[str, Mapping[str, Any]]


def with_slugs(rows: Sequence[Mapping[str, Any]], *, stated: Collection[str] = ()) -> list[Mapping[str, Any]]:
    """The rows of new products, each with a slug: the one that it states, or one made from its name.

    Where another living product has or had that, or it is among ``stated``, the slugs that rows of the same batch
    state, the made one gets the product's sku at its end, or random digits where that is taken as well.
    """
    candidates = [_candidates(row) for row in rows]
    taken = {*_holders("slug", {slug for pair in candidates for slug in pair}), *stated}
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
    base = make_slug(title_of(row), "product")
    return base, make_spare_slug(base, row["sku"])


def find_taken(rows: Rows, ids: Mapping[str, int]) -> dict[str, Invalid]:
    """The refusals of the rows with a key that another living product has, or a row before, by sku.

    ``ids`` are those of the products that the rows change, by sku; the other rows are new products'. One statement for
    each key that rows state. What a product gives up in the same batch is still taken.
    """
    stated = {sku: _stated_keys(row) for sku, row in rows.items()}
    holders = {name: _holders(name, {own[name] for own in stated.values() if name in own}) for name in _OTHERS}
    refused: dict[str, Invalid] = {}
    claimed: set[tuple[str, str]] = set()
    for sku, own in stated.items():
        own_id = ids.get(sku)
        taken = [
            name
            for name, value in own.items()
            if (name, value) in claimed or holders[name].get(value, own_id) != own_id
        ]
        if taken:
            refused[sku] = Invalid.because(KEYS[taken[0]].taken, taken[0])
        else:
            claimed.update(own.items())
    return refused


def find_skus(name: str, values: Collection[str]) -> dict[str, str]:
    """The skus of the living products with one of these values of a key, by the value as `Key.normalize` has it."""
    holders = _holders(name, {KEYS[name].normalize(value) for value in values})
    found = select(PRODUCTS.c.id, PRODUCTS.c.sku).where(PRODUCTS.c.id.in_(set(holders.values())))
    skus = {row.id: row.sku for row in db.session.execute(found)} if holders else {}
    return {value: skus[product_id] for value, product_id in holders.items()}


def _stated_keys(row: Mapping[str, Any]) -> dict[str, str]:
    return {name: KEYS[name].normalize(row[name]) for name in _OTHERS if row.get(name) is not None}


def free_slugs_for(rows: Iterable[Mapping[Any, Any]]) -> dict[int, str]:
    """The slugs of deleted products, by id: those that they had, or ones made from these where others have them now."""
    pairs = {row["id"]: (row["slug"], make_spare_slug(row["slug"], row["sku"])) for row in rows}
    taken = {*_holders("slug", {slug for pair in pairs.values() for slug in pair})}
    found: dict[int, str] = {}
    for product_id, pair in pairs.items():
        found[product_id] = _first_free(pair, taken)
        taken.add(found[product_id])
    return found


def retire(changes: Iterable[SlugChange]) -> None:
    """Reserve the slugs that products give up."""
    slugs.retire_slugs(db.session.connection(), Product.audited_as, list(changes))


def _holders(name: str, values: set[str]) -> Mapping[str, int]:
    """The ids of the living products that have one of these values of a key, or had this slug, by the value."""
    if not values:
        return {}
    column = KEYS[name].column
    present = select(column, PRODUCTS.c.id, literal(1).label("rank"))
    present = present.where(among(column, values), PRODUCTS.c.deleted_at.is_(None))
    reserved = select_reserved(_LIVING, values).add_columns(literal(0).label("rank"))
    found = db.session.execute(present.union_all(reserved) if name == "slug" else present)
    # In the order of the rank, so that the product that has a slug replaces the one that had it.
    return {value: product_id for value, product_id, _ in sorted(found, key=lambda row: row.rank)}
