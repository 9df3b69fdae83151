"""Use cases of products."""

import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from operator import ge, le
from typing import Any

from sqlalchemy import ColumnElement, Select, Text, inspect, select, text, true

from app.core import clock
from app.core.audit import origin
from app.core.constraints import refusing, save
from app.core.fastsql import find_row, insert_row
from app.core.keys import get_by_key, get_row, read_by_key, require_same, upsert_by_key
from app.core.listing import Compare, Listing, OneOf
from app.core.money import CURRENCY
from app.core.references import require_references, stated_references
from app.core.slugs import SlugTaken, make_random_slug, make_slug, make_spare_slug, require_unreserved
from app.extensions import db
from app.features.categories import service as categories
from app.features.products import keys, ledger
from app.features.products.models import (
    AMOUNTS,
    DEFAULTS,
    KEYS,
    REFUSALS,
    UNIQUE_SLUG,
    Product,
    ProductStatus,
    SkuTaken,
    TooPrecise,
    free_slug,
    has_any_tag,
    has_tag,
    is_in_stock,
    new_row,
    too_precise_amounts,
)
from app.features.products.search import MAX_SIMILAR, can_compare, find_similar_words, find_words
from app.security.identity import Identity
from app.security.permissions import Permission


def _has_status(statuses: tuple[str, ...]) -> ColumnElement[bool]:
    # Nearly every product is active, and SQLite takes an equality for rare: it would sort them all rather than scan the
    # order's own index. What is said as a negation it cannot look up.
    if ProductStatus.ACTIVE in statuses:
        others = [other for other in ProductStatus if other not in statuses]
        return Product.status.not_in(others) if others else true()
    return Product.status == statuses[0] if len(statuses) == 1 else Product.status.in_(statuses)


def _fallback() -> Listing | None:
    if not can_compare():
        return None
    return replace(LISTING, search=find_similar_words, fallback=None, max_similar=MAX_SIMILAR)


LISTING = Listing(
    filters={
        "id": OneOf(Product.id),
        "category_id": OneOf(Product.category_id),
        "below": OneOf(Product.category_id, categories.is_at_or_below, categories.is_at_or_below_any),
        "brand_id": OneOf(Product.brand_id),
        "min_price": Compare(Product.price, ge),
        "max_price": Compare(Product.price, le),
        "in_stock": is_in_stock,
        "status": _has_status,
        "currency": OneOf(Product.currency),
        "sku": OneOf(Product.sku),
        "slug": OneOf(Product.slug),
        "gtin": OneOf(KEYS["gtin"].column),
        "external_id": OneOf(Product.external_id),
        "tag": OneOf(Product.tags, has_tag, has_any_tag, item=Text()),
        "created_since": Compare(Product.created_at, ge),
        "updated_since": Compare(Product.updated_at, ge),
    },
    sorts={
        "created_at": Product.created_at,
        "updated_at": Product.updated_at,
        "name": Product.name,
        "price": Product.price,
        "stock": Product.stock,
        "sku": Product.sku,
        "id": Product.id,
    },
    tie_breaker=Product.id,
    search=find_words,
    is_ranked=True,
    fallback=_fallback,
)


_LIVING = select(Product).where(Product.deleted_at.is_(None))
_ACTIVE = _LIVING.where(_has_status((ProductStatus.ACTIVE,)))

#: Any other constraint is refused where the references are known.
_SKU_ALONE = {"uq_products_sku": SkuTaken}

_NEXT_ID = {
    "postgresql": text("SELECT nextval('products_id_seq')"),
    # SQLite has one writer at a time, so no other takes this id.
    "sqlite": text("SELECT coalesce(max(seq), 0) + 1 FROM sqlite_sequence WHERE name = 'products'"),
}


def visible_to(identity: Identity) -> Select[Product]:
    """The living products; only those who may write products see drafts and archived ones."""
    return _LIVING if identity.can(Permission.PRODUCTS_WRITE) else _ACTIVE


def filed_below(category_id: int, *, identity: Identity) -> Select[Product]:
    """The products of a category and of everything below it."""
    categories.read_category(category_id, identity=identity)
    return visible_to(identity).where(categories.is_at_or_below(Product.category_id, category_id))


def read_product(product_id: int, *, identity: Identity) -> Any:
    """What there is to read of one product that ``identity`` may see."""
    return find_row(visible_to(identity), Product.id, product_id)


def get_product(product_id: int, *, identity: Identity, lock: bool = False) -> Product:
    """One product that ``identity`` may see."""
    product: Product = get_row(visible_to(identity), Product.id, product_id, lock=lock)
    return product


def read_product_by_key(key: str, value: str, *, identity: Identity) -> Any:
    """What there is to read of the product with this key, if ``identity`` may see it.

    Raises ``NotFound``, and ``Moved`` for a slug that the product had before.
    """
    return read_by_key(visible_to(identity), KEYS, key, value)


def get_product_by_key(key: str, value: str, *, identity: Identity, lock: bool = False) -> Product:
    """The product with this key, to be changed; raises what `read_product_by_key` raises."""
    product: Product = get_by_key(visible_to(identity), KEYS, key, value, lock=lock)
    return product


def create_product(**members: Any) -> Any:
    """Add a product, and return what answers have of it.

    Without a sku it gets one made from its id, without a slug one made from its name; what it has in stock is its first
    receipt. Raises the refusal of a key that a living product has, such as ``SkuTaken``, and before that ``TooPrecise``
    for an amount that its currency cannot have, or the refusal of an unknown reference, such as ``CategoryUnknown``.
    """
    _require_exact(members)
    with refusing(REFUSALS, references=stated_references(Product, members)):
        return _create(members)


def put_product_by_key(
    key: str,
    value: str,
    members: dict[str, Any],
    *,
    identity: Identity,
    require: Callable[[Product | None], None],
) -> tuple[Any, bool]:
    """Replace the product with this key, or create it; what answers have of it, and whether it is new.

    ``members`` state the key; ``require`` checks the preconditions of the request against the product, or None where
    there is none. Of several requests at once one creates the product, and the others replace it. Raises
    ``KeyDiffers``, and what `create_product`, `replace_product` and `read_product_by_key` raise, but ``NotFound``.
    """
    require_same(KEYS, key, value, members[key])

    def create() -> Any:
        _require_exact(members)
        require_references(stated_references(Product, members))
        with refusing(REFUSALS):
            return _create(members)

    return upsert_by_key(
        find=lambda: get_product_by_key(key, value, identity=identity, lock=True),
        create=create,
        # As it was written: the path may have a GTIN with other zeros before it.
        replace=lambda product: replace_product(product, **{**members, key: getattr(product, key)}),
        require=require,
    )


def replace_product(product: Product, *, attributes: dict[str, Any], **members: Any) -> Product:
    """Replace everything that clients may write; a sku or slug stays unless given, and stock changes by movements only.

    Raises what `create_product` raises, and ``TooManyAttributes``.
    """
    _assign(product, members)
    product.replace_attributes(attributes)
    _save(product)
    return product


def update_product(product: Product, *, attributes: dict[str, Any] | None = None, **members: Any) -> Product:
    """Change what is given; attributes are merged as RFC 7396 does. Raises what `replace_product` raises."""
    _assign(product, members)
    if attributes is not None:
        product.merge_attributes(attributes)
    _save(product)
    return product


def delete_product(product: Product) -> None:
    """Take a product out of the catalogue; its keys can be used again."""
    product.delete()


def restore_product(product_id: int) -> Product:
    """Bring a deleted product back, unless another has one of its keys; one that is not deleted stays as it is.

    Where its slug belongs to another product by now, it gets a new one: no client could change it beforehand.
    """
    product: Product = get_row(select(Product), Product.id, product_id, lock=True)
    if product.deleted_at is not None:
        slug = product.slug
        try:
            with db.session.begin_nested():
                _restore(product, keys.free_slug_for(product))
        except SlugTaken:
            # Another request has taken it at the same moment.
            _restore(product, make_random_slug(slug))
    return product


def _restore(product: Product, slug: str) -> None:
    product.restore()
    product.slug = slug
    save(product, REFUSALS)


def _save(product: Product) -> None:
    is_renamed = inspect(product).attrs.slug.history.has_changes()
    save(product, REFUSALS)
    if is_renamed:
        require_unreserved(product, _LIVING)


def _assign(product: Product, members: dict[str, Any]) -> None:
    _require_exact(members, {name: getattr(product, name) for name in (*AMOUNTS, CURRENCY)})
    for name, value in members.items():
        setattr(product, name, value)


def _require_exact(members: dict[str, Any], there: dict[str, Any] | None = None) -> None:
    if wrong := too_precise_amounts(members, there):
        raise TooPrecise.at(*wrong)


def _create(members: dict[str, Any]) -> Any:
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
    base = make_slug(members["name"], "product")
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
