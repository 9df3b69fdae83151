"""New products: their rows, with what is made for those that do not state it, and the first receipt of their stock."""

import secrets
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from sqlalchemy import select, text

from app.core import clock
from app.core.audit import origin
from app.core.constraints import refusing
from app.core.errors import Fault, Invalid
from app.core.fastsql import insert_row
from app.core.references import require_references, stated_references
from app.core.slugs import make_random_slug, make_slug, make_spare_slug, require_unreserved
from app.extensions import db
from app.features.products import ledger, values
from app.features.products.models import (
    DEFAULTS,
    REFUSALS,
    UNIQUE_SLUG,
    Product,
    ProductKind,
    SkuTaken,
    TooPrecise,
    free_slug,
    new_row,
    title_of,
    too_precise_amounts,
)
from app.features.products.values import Definitions

Row = Mapping[Any, Any]

#: What a new product is unless it is stated.
NEW: Row = {**DEFAULTS, "kind": ProductKind.SINGLE, "options": None, "parent_status": None, "deleted_at": None}

_LIVING = select(Product).where(Product.deleted_at.is_(None))

#: Any other constraint is refused where the references are known.
_SKU_ALONE = {"uq_products_sku": SkuTaken}

_NEXT_ID = {
    "postgresql": text("SELECT nextval('products_id_seq')"),
    # SQLite has one writer at a time, so no other takes this id.
    "sqlite": text("SELECT coalesce(max(seq), 0) + 1 FROM sqlite_sequence WHERE name = 'products'"),
}


def create_row(members: dict[str, Any], parent: Row | None = None, *, is_nested: bool = False) -> Any:
    """Add a product of any kind, and return what answers have of it; ``parent`` is that of a variant.

    Where it ``is_nested`` in a savepoint, its references are looked up before.

    Raises the refusals of `models.REFUSALS`, ``TooPrecise``, that of a missing price, and those of attributes.
    """
    require_price(members)
    require_exact(members)
    assessment = _assess({**NEW, **members}, parent)
    references = stated_references(Product, members)
    if is_nested:
        require_references(references)
    with refusing(REFUSALS, references={} if is_nested else references):
        row = _insert_with_key({**members, **assessment.columns})
    state = {**NEW, **members, "id": row.id}
    values.store({row.id: (values.listed_id_of(state), assessment.values)}, are_new=True)
    return row


def _assess(row: Row, parent: Row | None) -> values.Assessment:
    """What the attributes of a new product come to; raises what is wrong with them."""
    states = [row] if parent is None else [row, parent]
    # Nothing follows from them where there are none, as in most catalogues that are moved here.
    is_plain = not any(row["attributes"] or row["type_id"] or row["options"] for row in states)
    definitions = Definitions() if is_plain else Definitions.of(states)
    assessment = definitions.assess(row, parent)
    assessment.require()
    return assessment


def require_exact(members: dict[str, Any], there: dict[str, Any] | None = None) -> None:
    """Raise ``TooPrecise`` for amounts that the currency cannot have; ``there`` are those of a product that exists."""
    if wrong := too_precise_amounts(members, there):
        raise TooPrecise.at(*wrong)


def require_price(members: dict[str, Any]) -> None:
    """Refuse members without a price, as the schema of a body would: only a parent has none of its own."""
    if "price" not in members:
        raise Invalid(Fault("This is required.", "required", pointer="/price"))


def _insert_with_key(members: dict[str, Any]) -> Any:
    """Insert a product, without a sku with P-<id>, or P-<id>-<random> where another product has that one already."""
    if "sku" in members:
        return _insert(members)
    product_id = db.session.scalar(_NEXT_ID[db.engine.dialect.name])
    for sku in (f"P-{product_id}", f"P-{product_id}-{secrets.token_hex(4)}"):
        # The savepoint keeps what the transaction did before, and lets the second name be tried.
        with suppress(SkuTaken), db.session.begin_nested(), refusing(_SKU_ALONE):
            return _insert({**members, "sku": sku}, id=product_id)
    raise RuntimeError("a random sku was taken")


def _insert(members: dict[str, Any], **key: int) -> Any:
    """Insert a product that states its sku, without a slug with one made from its name."""
    base = make_slug(title_of(members), "product")
    values = {**new_row({"slug": base, **members}, DEFAULTS, clock.now()), **key}
    options: dict[str, Any] = {"along": ledger.opening if values["stock"] else None, "mover": origin.get().user_id}
    if "slug" in members:
        row = insert_row(Product, values, **options)
        require_unreserved(row, _LIVING)
        return row
    slugs = {"wanted_slug": values.pop("slug"), "spare_slug": make_spare_slug(base, values["sku"])}
    row = insert_row(Product, values, computed={"slug": free_slug}, unless_taken=UNIQUE_SLUG, **slugs, **options)
    # Another request has taken the slug at the same moment, or a product has the spare one as well.
    return row or insert_row(Product, values | {"slug": make_random_slug(base)}, **options)
