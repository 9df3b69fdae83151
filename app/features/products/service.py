"""Use cases of products."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import inspect, select

from app.core import clock
from app.core.constraints import save
from app.core.errors import NotFound
from app.core.fastsql import find_row
from app.core.keys import get_by_key, get_row, read_by_key, require_same, upsert_by_key
from app.core.money import CURRENCY
from app.core.slugs import SlugTaken, require_unreserved
from app.extensions import db
from app.features.products import families, keys, pictures
from app.features.products.creation import create_row, require_exact, require_price
from app.features.products.listing import visible_to
from app.features.products.models import (
    AMOUNTS,
    KEYS,
    REFUSALS,
    NotAVariant,
    Product,
    ProductKind,
    has_key,
)
from app.features.products.values import MADE_OF
from app.features.products.variants import Stated, create_parent
from app.security.identity import Identity

Row = Mapping[Any, Any]

_LIVING = select(Product).where(Product.deleted_at.is_(None))


def read_product(product_id: int, *, identity: Identity) -> Any:
    """What there is to read of one product that ``identity`` may see."""
    return find_row(visible_to(identity), Product.id, product_id)


def get_product(product_id: int, *, identity: Identity, lock: bool = False) -> Product:
    """One product that ``identity`` may see; ``lock`` locks it, and before it its variants."""
    if not lock:
        product: Product = get_row(visible_to(identity), Product.id, product_id)
        return product
    return families.lock_family(visible_to(identity), Product.id == product_id, Product.parent_id == product_id)


def read_product_by_key(key: str, value: str, *, identity: Identity) -> Any:
    """What there is to read of the product with this key, if ``identity`` may see it.

    Raises ``NotFound``, and ``Moved`` for a slug that the product had before.
    """
    return read_by_key(visible_to(identity), KEYS, key, value)


def get_product_by_key(key: str, value: str, *, identity: Identity, lock: bool = False) -> Product:
    """The product with this key, to be changed; raises what `read_product_by_key` raises."""
    if lock:
        parents = _LIVING.with_only_columns(Product.id).where(has_key(key, value)).scalar_subquery()
        family = (visible_to(identity), has_key(key, value), Product.parent_id == parents)
        with suppress(NotFound):
            return families.lock_family(*family)
        # It is not there, or was made at this moment: then it is locked all the same.
        read_by_key(visible_to(identity), KEYS, key, value)
        return families.lock_family(*family)
    product: Product = get_by_key(visible_to(identity), KEYS, key, value)
    return product


def create_product(
    *,
    identity: Identity,
    options: list[str] | dict[str, Any] | None = None,
    position: int | None = None,
    variants: Sequence[Stated] | None = None,
    is_nested: bool = False,
    **members: Any,
) -> Any:
    """Add a product, and return what answers have of it; with ``options`` or ``variants`` it is a parent.

    Without a sku it gets one made from its id, without a slug one made from its name; what it has in stock is its first
    receipt. Raises the refusal of a key that a living product has, such as ``SkuTaken``, and before that ``TooPrecise``
    for an amount that its currency cannot have, or the refusal of an unknown reference, such as ``CategoryUnknown``;
    and what `create_parent` raises. ``is_nested`` is as in `create_row`.
    """
    if isinstance(options, dict) or position is not None:
        raise NotAVariant.at("position" if position is not None else "options")
    if options is None and variants is None:
        return create_row(members, is_nested=is_nested)
    return create_parent(options or [], variants or (), members, identity=identity, is_nested=is_nested)


def put_product_by_key(
    key: str,
    value: str,
    members: dict[str, Any],
    *,
    currency: str,
    identity: Identity,
    require: Callable[[Product | None], None],
) -> tuple[Any, bool]:
    """Replace the product with this key, or create it; what answers have of it, and whether it is new.

    ``members`` state the key, and ``currency`` stands for theirs where they have none; ``require`` checks the
    preconditions of the request against the product, or None where there is none. Of several requests at once one
    creates the product, and the others replace it. Raises ``KeyDiffers``, and what `create_product`, `replace_product`
    and `read_product_by_key` raise, but ``NotFound``.
    """
    require_same(KEYS, key, value, members[key])

    return upsert_by_key(
        find=lambda: get_product_by_key(key, value, identity=identity, lock=True),
        create=lambda: create_product(**{CURRENCY: currency, **members}, identity=identity, is_nested=True),
        # As it was written: the path may have a GTIN with other zeros before it.
        replace=lambda product: replace_product(
            product, **{CURRENCY: currency_of(product, currency), **members, key: getattr(product, key)}
        ),
        require=require,
    )


def replace_product(product: Product, *, attributes: dict[str, Any], **members: Any) -> Product:
    """Replace everything that clients may write; a sku or slug stays unless given, and stock changes by movements only.

    Raises what `update_product` raises.
    """
    if product.kind != ProductKind.PARENT:
        require_price(members)
    _assign(product, members, replaces=True)
    product.replace_attributes(attributes)
    _save(product)
    return product


def currency_of(product: Product, default: str) -> str:
    """The currency of a product whose new body states none: a variant has that of its parent."""
    return product.currency if product.kind == ProductKind.VARIANT else default


def update_product(product: Product, *, attributes: dict[str, Any] | None = None, **members: Any) -> Product:
    """Change what is given; attributes are merged as RFC 7396 does.

    What a variant has of its parent, and what a parent's row shows of its variants, may be given as it is: else it is
    refused (``MemberOfParent``, ``RolledUp``). Raises what `create_product` raises, ``TooManyAttributes``,
    ``OptionsUnfit``, ``OptionsTaken``, ``OptionsInUse`` and ``NotAVariant``.
    """
    _assign(product, members)
    if attributes is not None:
        product.merge_attributes(attributes)
    _save(product)
    return product


def delete_product(product: Product) -> None:
    """Take a product, which must be locked with its variants, out of the catalogue; its keys can be used again."""
    moment = clock.now()
    if product.kind == ProductKind.PARENT:
        families.delete_variants(product, moment)
    product.deleted_at = moment
    _save(product)


def restore_product(product_id: int) -> Product:
    """Bring a deleted product back, unless another has one of its keys; one that is not deleted stays as it is.

    With a parent come the variants that were deleted with it; of a variant it raises what `inherited_by_now` raises.
    Where the slug of one belongs to another product by now, it gets a new one: no client could change it beforehand.
    For the same reason it comes back though its type requires or refuses by now what it did not: it is unfit until it
    is next written, as products are that were there when their type changed.
    """
    product = families.lock_family(select(Product), Product.id == product_id, Product.parent_id == product_id)
    if product.deleted_at is None:
        return product
    variants = families.variants_deleted_with(product)
    try:
        with db.session.begin_nested():
            _restore(product, variants)
    except SlugTaken:
        # Another request has taken a slug at the same moment, and by now it is found.
        _restore(product, variants)
    families.roll_up([product.parent_id])
    return product


def _restore(product: Product, variants: Sequence[Row]) -> None:
    slugs = keys.free_slugs_for([families.row_of(product), *variants])
    # Before anything is set, so that the product is written once, and has one new version.
    members, parent = dict(families.inherited_by_now(product)), families.parent_of(product)
    if product.parent_id is not None:
        members["image"] = pictures.find_image_of_variant(product.id, product.parent_id)
    product.restore()
    for name, value in {**members, "slug": slugs[product.id]}.items():
        setattr(product, name, value)
    families.save_with_values(product, parent)
    families.restore_variants(product, variants, slugs)


def _save(product: Product) -> None:
    """Write a product, and what follows from it in the rows of its family."""
    changed = {each.key for each in inspect(product).attrs if each.history.has_changes()}
    if changed.isdisjoint(MADE_OF):
        save(product, REFUSALS)
    else:
        families.save_with_values(product, families.parent_of(product))
    if "slug" in changed and product.deleted_at is None:
        require_unreserved(product, _LIVING)
    if not changed:
        return
    if product.kind == ProductKind.VARIANT:
        families.roll_up([product.parent_id])
    if product.kind == ProductKind.PARENT:
        families.pass_on(product, changed)


def _assign(product: Product, members: dict[str, Any], *, replaces: bool = False) -> None:
    require_exact(members, {name: getattr(product, name) for name in (*AMOUNTS, CURRENCY)})
    for name, value in families.without_foreign(product, members, replaces=replaces).items():
        setattr(product, name, value)
