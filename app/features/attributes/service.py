"""Use cases of attributes."""

from collections.abc import Callable
from operator import ge
from typing import Any

from sqlalchemy import Select, select

from app.core import jobs
from app.core.constraints import delete_row, save
from app.core.fastsql import find_row
from app.core.keys import get_by_key, get_row, read_by_key, require_same, require_unchanged, upsert_by_key
from app.core.listing import Compare, Listing, OneOf, contains_words
from app.features.attributes.models import (
    FIXED,
    KEYS,
    REFUSALS,
    Attribute,
    AttributeInUse,
    require_choices,
)
from app.security.identity import Identity

#: The kind of the job that makes what products are found by anew.
INDEX = "attribute_index"
#: The members that decide what products are found by.
_DECISIVE = ("choices", "filterable", "searchable")

LISTING = Listing(
    filters={
        "id": OneOf(Attribute.id),
        "code": OneOf(Attribute.code),
        "type": OneOf(Attribute.type),
        "filterable": Attribute.filterable.is_,
        "created_since": Compare(Attribute.created_at, ge),
        "updated_since": Compare(Attribute.updated_at, ge),
    },
    sorts={
        "label": Attribute.label,
        "code": Attribute.code,
        "created_at": Attribute.created_at,
        "updated_at": Attribute.updated_at,
        "id": Attribute.id,
    },
    tie_breaker=Attribute.id,
    search=contains_words(Attribute.search_text),
)

# One object for all requests, because compiled statements are cached by it.
_ALL = select(Attribute)


def visible_to(_identity: Identity) -> Select[Attribute]:
    """Every attribute: the permission to read types covers all of them."""
    return _ALL


def read_attribute(attribute_id: int, *, identity: Identity) -> Any:
    """The attribute, if ``identity`` may see it, as a row for a read; else ``NotFound``."""
    return find_row(visible_to(identity), Attribute.id, attribute_id)


def get_attribute(attribute_id: int, *, identity: Identity, lock: bool = False) -> Attribute:
    """The attribute, if ``identity`` may see it; else ``NotFound``. ``lock`` locks its row (FOR NO KEY UPDATE)."""
    attribute: Attribute = get_row(visible_to(identity), Attribute.id, attribute_id, lock=lock)
    return attribute


def read_attribute_by_key(key: str, value: str, *, identity: Identity) -> Any:
    """The attribute with this key, as a row for a read; else ``NotFound``."""
    return read_by_key(visible_to(identity), KEYS, key, value)


def get_attribute_by_key(key: str, value: str, *, identity: Identity, lock: bool = False) -> Attribute:
    """The attribute with this key, to be changed; else ``NotFound``."""
    attribute: Attribute = get_by_key(visible_to(identity), KEYS, key, value, lock=lock)
    return attribute


def create_attribute(**members: Any) -> Attribute:
    """Create an attribute of the stated members: a code, a label and a type at least.

    Refuses choices that its type does not have, or needs (``ChoicesUnexpected``, ``ChoicesMissing``), and a code that
    another attribute has (``AttributeCodeTaken``).
    """
    require_choices(members["type"], members.get("choices", ()))
    attribute = Attribute(**members)
    save(attribute, REFUSALS)
    return attribute


def put_attribute_by_key(
    key: str,
    value: str,
    members: dict[str, Any],
    *,
    identity: Identity,
    require: Callable[[Attribute | None], None],
) -> tuple[Attribute, bool]:
    """Replace the attribute with this key, or create it; the attribute, and whether it is new.

    ``members`` state the key; ``require`` checks the preconditions of the request against the attribute, or None where
    there is none. Raises ``KeyDiffers``, and what `create_attribute` and `update_attribute` raise.
    """
    require_same(KEYS, key, value, members[key])
    return upsert_by_key(
        find=lambda: get_attribute_by_key(key, value, identity=identity, lock=True),
        create=lambda: create_attribute(**members),
        replace=lambda attribute: update_attribute(attribute, **members),
        require=require,
    )


def update_attribute(attribute: Attribute, **changed: Any) -> Attribute:
    """Change an attribute's label, unit, choices, or how products are found by it.

    The values that products have stay as they are. What products are found by follows in the background, soon after
    the transaction. Refuses another code or type (``CannotChange``), and choices that
    `create_attribute` refuses.
    """
    require_unchanged(attribute, changed, FIXED)
    require_choices(attribute.type, changed.get("choices", attribute.choices))
    before = [getattr(attribute, name) for name in _DECISIVE]
    for name, value in changed.items():
        setattr(attribute, name, value)
    save(attribute, REFUSALS)
    if before != [getattr(attribute, name) for name in _DECISIVE]:
        jobs.enqueue(INDEX, {"attribute_id": attribute.id})
    return attribute


def delete_attribute(attribute: Attribute) -> None:
    """Delete an attribute; refuses one that types list, or that products are filtered by (``AttributeInUse``)."""
    delete_row(attribute, in_use=AttributeInUse)
