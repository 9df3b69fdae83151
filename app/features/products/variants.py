"""Use cases of variants: a parent with its variants, one more of them, and a single product that becomes one.

A variant is changed, deleted and restored as any product is (`service`).
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from typing import Any

from sqlalchemy import func, or_, select

from app.core.errors import Fault, Invalid, NotFound
from app.core.keys import get_row
from app.core.money import CURRENCY
from app.extensions import db
from app.features.products import families, pictures
from app.features.products.creation import NEW, assess_new, create_row, create_together, definitions_of
from app.features.products.listing import visible_to
from app.features.products.models import (
    MAX_ATTRIBUTES,
    MAX_VARIANTS,
    PRODUCTS,
    CurrencyOfVariantDiffers,
    KeptAsItIs,
    NotAParent,
    NotSingle,
    Product,
    ProductKind,
    RolledUp,
    TooManyAttributes,
    TooManyVariants,
    VariantUnknown,
)
from app.features.products.values import Assessment, Definitions
from app.security.identity import Identity

#: The valid members of a variant that a body states, and what is wrong with the others.
Stated = tuple[Mapping[str, Any], Sequence[Fault]]


def create_parent(
    options: list[str],
    variants: Sequence[Stated],
    members: dict[str, Any],
    *,
    identity: Identity,
    is_nested: bool = False,
) -> Product:
    """Add a parent with these options, and its variants.

    Raises ``RolledUp`` for what follows from the variants, and what `create_row` and `add_variant` raise; the faults of
    a variant are at its place among the ``variants``.
    """
    if faults := [fault for _, some in variants for fault in some]:
        raise Invalid(*faults)
    _require_nothing_rolled_up(members)
    # Those that become variants, in the order in which others lock them.
    families.lock_rows(PRODUCTS.c.id, {stated["id"] for stated, _ in variants if "id" in stated})
    made = {"kind": ProductKind.PARENT, "options": options, **families.totals_of(())}
    state = _state_of(members, options)
    definitions = definitions_of([state, *({**NEW, **stated} for stated, _ in variants)])
    parent = create_row({**members, **made}, definitions=definitions, is_nested=is_nested)
    _add_all(parent, state, definitions, [stated for stated, _ in variants], identity)
    pictures.adopt({stated["id"]: parent.id for stated, _ in variants if "id" in stated})
    families.roll_up([parent.id])
    return db.session.get_one(Product, parent.id, populate_existing=True)


def find_parent(product_id: int, *, identity: Identity, **_: Any) -> Product:
    """The product that gets a variant, if ``identity`` may see it; `add_variant` locks it, after the one that joins."""
    product: Product = get_row(visible_to(identity), Product.id, product_id)
    return product


def add_variant(product: Product, stated: dict[str, Any], *, identity: Identity) -> Any:
    """Add a variant to a product; returns what answers have of the variant.

    With an ``id`` it is a single product, which keeps that, its keys, stock, holds and history, and takes of the parent
    what a variant has of it. Raises ``NotAParent``, ``TooManyVariants``, ``OptionsUnfit``, ``OptionsTaken``,
    ``VariantUnknown``, ``NotSingle``, ``CurrencyOfVariantDiffers``, ``NotFound`` where the product is gone meanwhile,
    and what `create_row` raises.
    """
    parent = _lock_with(product.id, {stated["id"]} - {product.id} if "id" in stated else set(), identity)
    if parent.kind != ProductKind.PARENT:
        raise NotAParent
    last, living = db.session.execute(
        select(func.coalesce(func.max(PRODUCTS.c.position), -1), func.count()).where(
            PRODUCTS.c.parent_id == parent.id, PRODUCTS.c.deleted_at.is_(None)
        )
    ).one()
    if living >= MAX_VARIANTS:
        raise TooManyVariants
    state = _state_of({name: getattr(parent, name) for name in ("attributes", "type_id")}, parent.options)
    variant = _add(parent, state, {"position": last + 1, **stated}, identity)
    if "id" in stated:
        pictures.adopt({stated["id"]: parent.id})
    families.roll_up([parent.id])
    return variant


def _lock_with(parent_id: int, joining: Set[int], identity: Identity) -> Product:
    """A parent, locked after its variants and those that join them, in the order in which others lock these."""
    is_of_it = or_(Product.parent_id == parent_id, Product.id.in_(joining))
    return families.lock_family(visible_to(identity), Product.id == parent_id, is_of_it)


def _require_nothing_rolled_up(members: Mapping[str, Any]) -> None:
    free = {"stock": 0, "track_stock": True}
    if wrong := [name for name, value in free.items() if members.get(name, value) != value]:
        raise RolledUp.at(*wrong)
    if "price" in members:
        raise RolledUp.at("price")


def _state_of(members: Mapping[str, Any], options: list[str]) -> Mapping[str, Any]:
    """What the attributes of variants are assessed by, of their parent."""
    return {"attributes": members.get("attributes", {}), "type_id": members.get("type_id"), "options": options}


def _add_all(
    parent: Any,
    state: Mapping[str, Any],
    definitions: Definitions,
    variants: Sequence[Mapping[str, Any]],
    identity: Identity,
) -> None:
    """Add the first variants of a parent, in their order, those that are new together."""
    new: dict[int, dict[str, Any]] = {}
    assessments: list[Assessment] = []
    for index, members in enumerate(variants):
        stated = {"position": index, **members}
        with _at(index):
            if "id" in stated:
                _add(parent, state, stated, identity)
            else:
                new[index] = _members_of(parent, stated)
                assessments.append(assess_new(new[index], state, definitions))
    indexes = [*new]
    for place in sorted(create_together([*new.values()], assessments)):
        with _at(indexes[place]):
            create_row(new[indexes[place]], state, definitions=definitions)


@contextmanager
def _at(index: int) -> Iterator[None]:
    """Point a refusal to a variant's place among others."""
    try:
        yield
    except Invalid as refusal:
        raise refusal.below(f"/variants/{index}") from refusal


def _add(parent: Any, state: Mapping[str, Any], stated: dict[str, Any], identity: Identity) -> Any:
    members = _members_of(parent, stated)
    if "id" in stated:
        return _adopt(stated, members, state, identity)
    return create_row(members, state)


def _members_of(parent: Any, stated: Mapping[str, Any]) -> dict[str, Any]:
    """The members of a variant: what it has of its parent, and what a body states."""
    options = stated.get("options")
    families.require_fitting(options, parent.options)
    if len(stated.get("attributes", ())) > MAX_ATTRIBUTES:
        raise TooManyAttributes
    member = {"options": options or {}, "kind": ProductKind.VARIANT, "parent_id": parent.id}
    return {**families.inherited_from(parent), **stated, **member}


def _adopt(stated: Mapping[str, Any], members: Mapping[str, Any], state: Mapping[str, Any], identity: Identity) -> Any:
    """Make a single product a variant with these members."""
    if others := stated.keys() - {"id", "position", "options"}:
        raise KeptAsItIs.at(*sorted(others))
    try:
        product: Product = get_row(visible_to(identity), Product.id, stated["id"], lock=True)
    except NotFound:
        raise VariantUnknown from None
    if product.kind != ProductKind.SINGLE:
        raise NotSingle
    if product.currency != members[CURRENCY]:
        raise CurrencyOfVariantDiffers
    for name, value in members.items():
        setattr(product, name, value)
    families.save_with_values(product, state)
    return product
