"""How products are listed: which are shown to whom, and what a list is filtered and sorted by."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from operator import ge, le
from typing import Any

from sqlalchemy import ColumnElement, Select, Text, and_, func, literal, or_, select, true
from sqlalchemy.orm import aliased

from app.core.fastsql import find_row
from app.core.listing import Compare, Listing, OneOf, Together
from app.core.membership import ValueList, is_one_of
from app.core.model import big_integer
from app.features.categories import service as categories
from app.features.product_types import service as product_types
from app.features.product_types.rules import find_rules
from app.features.products.filtering import FILTER, has_any_tag, has_tag, has_values, resolve, rows_with
from app.features.products.models import KEYS, Product, ProductKind, ProductStatus, is_in_stock
from app.features.products.refused import is_valid
from app.features.products.search import MAX_SIMILAR, can_compare, find_similar_words, find_words
from app.security.identity import Identity
from app.security.permissions import Permission


class ListedKind(StrEnum):
    """The kinds of products that a list shows; those that are sold are the single ones and the variants."""

    SINGLE = "single"
    PARENT = "parent"
    VARIANT = "variant"
    SELLABLE = "sellable"


#: What a list shows unless it is filtered by kind.
LISTED = (ListedKind.PARENT, ListedKind.SINGLE)


def _has_status(statuses: tuple[str, ...]) -> ColumnElement[bool]:
    # Nearly every product is active, and SQLite takes an equality for rare: it would sort them all rather than scan the
    # order's own index. What is said as a negation it cannot look up.
    if ProductStatus.ACTIVE in statuses:
        others = [other for other in ProductStatus if other not in statuses]
        return Product.status.not_in(others) if others else true()
    return Product.status == statuses[0] if len(statuses) == 1 else Product.status.in_(statuses)


def _fallback() -> Listing | None:
    return _similar_to(LISTING)


def _fallback_of_variants() -> Listing | None:
    return _similar_to(VARIANTS)


def _similar_to(listing: Listing) -> Listing | None:
    if not can_compare():
        return None
    return replace(listing, search=find_similar_words, fallback=None, max_similar=MAX_SIMILAR)


def _is_of_kind(kinds: tuple[str, ...]) -> ColumnElement[bool]:
    shown = _kinds_among(kinds)
    # As the indexes say it.
    if shown == {ProductKind.SINGLE, ProductKind.PARENT}:
        return Product.parent_id.is_(None)
    if shown == {ProductKind.VARIANT}:
        return Product.parent_id.is_not(None)
    return Product.kind.in_(sorted(shown)) if len(shown) < len(ProductKind) else true()


def _is_complete(wanted: bool) -> ColumnElement[bool]:
    return Product.missing.is_(None) if wanted else Product.missing.is_not(None)


def _kinds_among(kinds: Sequence[str]) -> set[str]:
    """The kinds of rows that the values of the filter mean."""
    sellable = {ProductKind.SINGLE, ProductKind.VARIANT} if ListedKind.SELLABLE in kinds else set()
    return {ProductKind(kind) for kind in kinds if kind != ListedKind.SELLABLE} | sellable


#: What a shopper chooses a product by: one row that is sold must meet all of these that are stated.
_OF_SELLABLE: Mapping[str, Callable[[Any, Any], ColumnElement[bool]]] = {
    "min_price": lambda of, least: of.price >= least,
    "max_price": lambda of, most: of.price <= most,
    "in_stock": lambda of, wanted: is_in_stock(wanted, of),
}


#: The filters of which one row must meet all.
_TOGETHER = (*_OF_SELLABLE, FILTER)


def met_by(of: Any, filters: Mapping[str, Any]) -> list[ColumnElement[bool]]:
    """The conditions of those of the filters that a row which is sold must meet; ``of`` is the model or an alias.

    But for those by attributes, whose rows are found by the index of values.
    """
    return [make(of, filters[name]) for name, make in _OF_SELLABLE.items() if name in filters]


def shows_parents(filters: Mapping[str, Any]) -> bool:
    """Whether a list with these filters shows parents, of which one variant must meet those that `_TOGETHER` names."""
    return ProductKind.PARENT in _kinds_among(filters.get("kind", LISTED))


def asks_for_variants(filters: Mapping[str, Any]) -> bool:
    """Whether any of the filters is one that a row which is sold must meet, and parents are listed."""
    return not filters.keys().isdisjoint(_TOGETHER) and shows_parents(filters)


def find_matching_of(parent_ids: Collection[int], filters: Mapping[str, Any]) -> Select[int, int, Any]:
    """The ids of parents, and those and the images of their active variants that meet the filters, in their order."""
    of_these = is_one_of(Product.parent_id, literal(sorted(parent_ids), ValueList(big_integer)))
    found = _matching(Product, filters).where(of_these).order_by(Product.parent_id, Product.position, Product.id)
    return found.with_only_columns(Product.parent_id, Product.id, Product.image)


def _matching(of: Any, filters: Mapping[str, Any]) -> Select[int]:
    """The active variants that meet the filters; ``of`` is the model or an alias."""
    return select(of.id).where(*is_active_and_meets(of, filters))


def is_active_and_meets(of: Any, filters: Mapping[str, Any]) -> list[ColumnElement[bool]]:
    """The conditions that a variant counts for its parent; ``of`` is the model or an alias."""
    is_active = (of.deleted_at.is_(None), of.status == ProductStatus.ACTIVE)
    return [*is_active, *met_by(of, filters), *has_values(of.id, filters.get(FILTER, ()))]


def _is_met_by_one(filters: Mapping[str, Any]) -> ColumnElement[bool]:
    """Whether a row, or of a parent one of its variants, meets all of the filters that `met_by` reads."""
    kinds = _kinds_among(filters.get("kind", LISTED))
    own = and_(true(), *met_by(Product, filters))
    if FILTER in filters:
        return _is_found(filters, kinds, own)
    if not shows_parents(filters):
        return own
    stated = {name: value for name, value in filters.items() if name in _OF_SELLABLE}
    rolled_up = [condition for one in stated.items() if (condition := _rolled_up(*one)) is not None]
    if len(stated) == len(rolled_up) == 1:
        return rolled_up[0]
    variant = aliased(Product)
    is_matching = _matching(variant, filters).where(variant.parent_id == Product.id).exists()
    # What the row of a parent says is not enough then, and is found by an index.
    return and_(*rolled_up, or_(and_(Product.kind != ProductKind.PARENT, own), is_matching))


def _is_found(filters: Mapping[str, Any], kinds: Collection[str], own: ColumnElement[bool]) -> ColumnElement[bool]:
    """The same where some filters are by attributes: whether the row is one for which the index of values has any."""
    table, found = rows_with(filters[FILTER])
    itself = and_(Product.id.in_(found), own)
    if ProductKind.PARENT not in kinds:
        return itself
    sold = aliased(Product)
    if conditions := met_by(sold, filters):
        found = found.join(sold, sold.id == table.c.product_id).where(*conditions)
    is_shown = Product.id.in_(found.with_only_columns(table.c.listed_id))
    if ProductKind.VARIANT not in kinds:
        return is_shown
    return or_(and_(Product.kind != ProductKind.PARENT, itself), and_(Product.kind == ProductKind.PARENT, is_shown))


def _rolled_up(name: str, value: Any) -> ColumnElement[bool] | None:
    """What the row of a parent says of whether a variant meets a filter; None where it does not say."""
    if name == "in_stock":
        return is_in_stock(value) if value is True else None
    # Without an active variant, the prices are 0.
    is_sold = or_(Product.variant_count.is_(None), Product.variant_count > 0)
    return and_(Product.price <= value if name == "max_price" else _highest_price() >= value, is_sold)


def _highest_price() -> ColumnElement[Any]:
    return func.coalesce(Product.price_max, Product.price, type_=Product.price.type)


LISTING = Listing(
    filters={
        "kind": _is_of_kind,
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
        "parent_id": OneOf(Product.parent_id),
        "type_id": OneOf(Product.type_id),
        "complete": _is_complete,
        FILTER: lambda sought: _is_met_by_one({FILTER: sought}),
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
    together=Together(_TOGETHER, _is_met_by_one),
    resolve=resolve,
)

#: The variants of one parent, in the order of their places unless another is requested.
VARIANTS = replace(LISTING, sorts={"position": Product.position, **LISTING.sorts}, fallback=_fallback_of_variants)

_LIVING = select(Product).where(Product.deleted_at.is_(None))
_ACTIVE = _LIVING.where(
    _has_status((ProductStatus.ACTIVE,)),
    or_(Product.parent_status.is_(None), Product.parent_status == ProductStatus.ACTIVE),
)


def visible_to(identity: Identity) -> Select[Product]:
    """The living products; only those who may write products see drafts and archived ones."""
    return _LIVING if identity.can(Permission.PRODUCTS_WRITE) else _ACTIVE


def filed_below(category_id: int, *, identity: Identity) -> Select[Product]:
    """The products of a category and of everything below it."""
    categories.read_category(category_id, identity=identity)
    return visible_to(identity).where(categories.is_at_or_below(Product.category_id, category_id))


def of_type(type_id: int, valid: bool | None = None, *, identity: Identity) -> Select[Product]:
    """The products of a type; all, or those alone that it would take as they are, or refuse."""
    product_types.read_product_type(type_id, identity=identity)
    rows = visible_to(identity).where(Product.type_id == type_id)
    return rows if valid is None else rows.where(is_valid(find_rules([type_id])[type_id], valid))


def variants_of(product_id: int, *, identity: Identity) -> Select[Product]:
    """The variants of a product; ``NotFound`` if ``identity`` may not see the product."""
    find_row(visible_to(identity), Product.id, product_id)
    return visible_to(identity).where(Product.parent_id == product_id)
