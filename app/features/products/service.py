"""Use cases of products."""

import secrets
from contextlib import suppress
from dataclasses import replace
from operator import ge, le
from typing import Any

from sqlalchemy import ColumnElement, Select, Text, select, text, true

from app.core import clock
from app.core.audit import origin
from app.core.constraints import refusing, save
from app.core.errors import NotFound
from app.core.fastsql import find_row, insert_row
from app.core.listing import Compare, Listing, OneOf
from app.core.references import stated_references
from app.extensions import db
from app.features.categories import service as categories
from app.features.products import ledger
from app.features.products.models import (
    DEFAULTS,
    REFUSALS,
    Product,
    ProductStatus,
    SkuTaken,
    has_any_tag,
    has_tag,
    new_row,
)
from app.features.products.search import MAX_SIMILAR, can_compare, has_similar_words, has_words, relevance, similarity
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
    return replace(LISTING, search=has_similar_words, relevance=similarity, fallback=None, max_similar=MAX_SIMILAR)


LISTING = Listing(
    filters={
        "id": OneOf(Product.id),
        "category_id": OneOf(Product.category_id),
        "below": OneOf(Product.category_id, categories.is_at_or_below, categories.is_at_or_below_any),
        "min_price": Compare(Product.price, ge),
        "max_price": Compare(Product.price, le),
        # A range and not an equality, for the reason above.
        "in_stock": lambda wanted: Product.stock > 0 if wanted else Product.stock <= 0,
        "status": _has_status,
        "currency": OneOf(Product.currency),
        "sku": OneOf(Product.sku),
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
    search=has_words,
    relevance=relevance,
    fallback=_fallback,
)


_LIVING = select(Product).where(Product.deleted_at.is_(None))
_ACTIVE = _LIVING.where(_has_status((ProductStatus.ACTIVE,)))

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
    categories.get_category(category_id, identity=identity)
    return visible_to(identity).where(categories.is_at_or_below(Product.category_id, category_id))


def read_product(product_id: int, *, identity: Identity) -> Any:
    """What there is to read of one product that ``identity`` may see."""
    return find_row(visible_to(identity), Product.id, product_id)


def get_product(product_id: int, *, identity: Identity, lock: bool = False) -> Product:
    """One product that ``identity`` may see."""
    rows = visible_to(identity).where(Product.id == product_id)
    product = db.session.scalar(rows.with_for_update(key_share=True) if lock else rows)
    if product is None:
        raise NotFound
    return product


def create_product(*, sku: str | None = None, **members: Any) -> Any:
    """Add a product, and return what answers have of it.

    Without a sku it gets one made from its id; what it has in stock is its first receipt. Raises ``SkuTaken`` where a
    living product has the sku, and before that the refusal of an unknown reference, such as ``CategoryUnknown``.
    """
    with refusing(REFUSALS, references=stated_references(Product, members)):
        return _insert_named_after_id(members) if sku is None else _insert({**members, "sku": sku})


def replace_product(product: Product, *, sku: str | None = None, attributes: dict[str, Any], **members: Any) -> Product:
    """Replace everything that clients may write; the sku stays unless given, and the stock changes by movements only.

    Raises what `create_product` raises, and ``TooManyAttributes``.
    """
    _assign(product, members | ({} if sku is None else {"sku": sku}))
    product.replace_attributes(attributes)
    save(product, REFUSALS)
    return product


def update_product(product: Product, *, attributes: dict[str, Any] | None = None, **members: Any) -> Product:
    """Change what is given; attributes are merged as RFC 7396 does. Raises what `replace_product` raises."""
    _assign(product, members)
    if attributes is not None:
        product.merge_attributes(attributes)
    save(product, REFUSALS)
    return product


def delete_product(product: Product) -> None:
    """Take a product out of the catalogue; its sku can be used again."""
    product.delete()


def restore_product(product_id: int) -> Product:
    """Bring a deleted product back, unless another has its sku by now; one that is not deleted stays as it is."""
    product = db.session.scalar(select(Product).where(Product.id == product_id).with_for_update(key_share=True))
    if product is None:
        raise NotFound
    product.restore()
    save(product, REFUSALS)
    return product


def _assign(product: Product, members: dict[str, Any]) -> None:
    for name, value in members.items():
        setattr(product, name, value)


def _insert_named_after_id(members: dict[str, Any]) -> Any:
    """Insert a product with the sku P-<id>, or P-<id>-<random> where another product has that one already."""
    product_id = db.session.scalar(_NEXT_ID[db.engine.dialect.name])
    for sku in (f"P-{product_id}", f"P-{product_id}-{secrets.token_hex(4)}"):
        # The savepoint keeps what the transaction did before, and lets the second name be tried.
        with suppress(SkuTaken), db.session.begin_nested(), refusing(REFUSALS):
            return _insert({**members, "sku": sku}, id=product_id)
    raise RuntimeError("a random sku was taken")


def _insert(members: dict[str, Any], **key: int) -> Any:
    values = {**new_row(members, DEFAULTS, clock.now()), **key}
    along = ledger.opening if values["stock"] else None
    return insert_row(Product, values, along=along, mover=origin.get().user_id)
