"""Use cases of product types."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import ge
from typing import Any

from sqlalchemy import Select, delete, select

from app.core.constraints import delete_row, save
from app.core.fastsql import find_row
from app.core.keys import get_by_key, get_row, read_by_key, require_same, require_unchanged, upsert_by_key
from app.core.listing import Compare, Listing, OneOf, contains_words
from app.core.membership import among
from app.extensions import db
from app.features.attributes.models import Attribute, AttributeType, AttributeUnknown
from app.features.product_types.models import (
    FIXED,
    KEYS,
    REFUSALS,
    ListedAttribute,
    OptionNotSingle,
    ProductType,
    ProductTypeInUse,
)
from app.security.identity import Identity

Listed = Sequence[Mapping[str, Any]]

LISTING = Listing(
    filters={
        "id": OneOf(ProductType.id),
        "code": OneOf(ProductType.code),
        "created_since": Compare(ProductType.created_at, ge),
        "updated_since": Compare(ProductType.updated_at, ge),
    },
    sorts={
        "label": ProductType.label,
        "code": ProductType.code,
        "created_at": ProductType.created_at,
        "updated_at": ProductType.updated_at,
        "id": ProductType.id,
    },
    tie_breaker=ProductType.id,
    search=contains_words(ProductType.search_text),
)

# One object for all requests, because compiled statements are cached by it.
_ALL = select(ProductType)


def visible_to(_identity: Identity) -> Select[ProductType]:
    """Every product type: the permission to read types covers all of them."""
    return _ALL


def read_product_type(type_id: int, *, identity: Identity) -> Any:
    """The product type, if ``identity`` may see it, as a row for a read; else ``NotFound``."""
    return find_row(visible_to(identity), ProductType.id, type_id)


def get_product_type(type_id: int, *, identity: Identity, lock: bool = False) -> ProductType:
    """The product type, if ``identity`` may see it; else ``NotFound``. ``lock`` locks its row (FOR NO KEY UPDATE)."""
    product_type: ProductType = get_row(visible_to(identity), ProductType.id, type_id, lock=lock)
    return product_type


def read_product_type_by_key(key: str, value: str, *, identity: Identity) -> Any:
    """The product type with this key, as a row for a read; else ``NotFound``."""
    return read_by_key(visible_to(identity), KEYS, key, value)


def get_product_type_by_key(key: str, value: str, *, identity: Identity, lock: bool = False) -> ProductType:
    """The product type with this key, to be changed; else ``NotFound``."""
    product_type: ProductType = get_by_key(visible_to(identity), KEYS, key, value, lock=lock)
    return product_type


def create_product_type(*, attributes: Listed = (), **members: Any) -> ProductType:
    """Create a product type; ``attributes`` has a ``code``, ``required`` and ``is_option`` each, in its order.

    Refuses an unknown code (``AttributeUnknown``), an option of several values (``OptionNotSingle``) and a code that
    another product type has (``ProductTypeCodeTaken``).
    """
    ids = _lock_listed(attributes)
    product_type = ProductType(attributes=_in_places(attributes), **members)
    save(product_type, REFUSALS)
    _refer(product_type, ids)
    return product_type


def put_product_type_by_key(
    key: str,
    value: str,
    members: dict[str, Any],
    *,
    identity: Identity,
    require: Callable[[ProductType | None], None],
) -> tuple[ProductType, bool]:
    """Replace the type with this key, or create it; the type, and whether it is new.

    ``members`` state the key; ``require`` checks the preconditions of the request against the type, or None where
    there is none. Raises ``KeyDiffers``, and what `create_product_type` and `update_product_type` raise.
    """
    require_same(KEYS, key, value, members[key])
    return upsert_by_key(
        find=lambda: get_product_type_by_key(key, value, identity=identity, lock=True),
        create=lambda: create_product_type(**members),
        replace=lambda product_type: update_product_type(product_type, **members),
        require=require,
    )


def update_product_type(product_type: ProductType, **changed: Any) -> ProductType:
    """Change a product type's label or attributes; its products stay as they are.

    Refuses another code (``CannotChange``), and attributes that `create_product_type` refuses.
    """
    require_unchanged(product_type, changed, FIXED)
    ids = None
    if "attributes" in changed:
        ids = _lock_listed(changed["attributes"])
        changed["attributes"] = _in_places(changed["attributes"])
    for name, value in changed.items():
        setattr(product_type, name, value)
    save(product_type, REFUSALS)
    if ids is not None:
        _refer(product_type, ids)
    return product_type


def delete_product_type(product_type: ProductType) -> None:
    """Delete a product type; refuses one that products are of, deleted ones included (``ProductTypeInUse``)."""
    delete_row(product_type, in_use=ProductTypeInUse)


def _lock_listed(listed: Listed) -> set[int]:
    """The ids of the listed attributes, whose rows are locked against deletion until the transaction ends.

    Raises ``AttributeUnknown`` and ``OptionNotSingle``.
    """
    rows = select(Attribute.id, Attribute.code, Attribute.type)
    codes = sorted(each["code"] for each in listed)
    locked = rows.where(among(Attribute.code, codes)).with_for_update(read=True, key_share=True)
    found = {row.code: row for row in db.session.execute(locked)} if codes else {}
    if unknown := [place for place, each in enumerate(listed) if each["code"] not in found]:
        raise AttributeUnknown.at(*(f"attributes/{place}/code" for place in unknown))
    options = {place: found[each["code"]] for place, each in enumerate(listed) if each["is_option"]}
    if several := [place for place, row in options.items() if row.type == AttributeType.CHOICES]:
        raise OptionNotSingle.at(*(f"attributes/{place}/is_option" for place in several))
    return {row.id for row in found.values()}


def _in_places(listed: Listed) -> list[dict[str, Any]]:
    return [
        {"code": each["code"], "position": place, "required": each["required"], "is_option": each["is_option"]}
        for place, each in enumerate(listed)
    ]


def _refer(product_type: ProductType, attribute_ids: Iterable[int]) -> None:
    """Keep that a type lists these attributes and no others."""
    of_type = ListedAttribute.type_id == product_type.id
    before = set(db.session.scalars(select(ListedAttribute.attribute_id).where(of_type)))
    after = set(attribute_ids)
    if gone := before - after:
        db.session.execute(delete(ListedAttribute).where(of_type, ListedAttribute.attribute_id.in_(gone)))
    db.session.add_all(ListedAttribute(type_id=product_type.id, attribute_id=each) for each in sorted(after - before))
    db.session.flush()
