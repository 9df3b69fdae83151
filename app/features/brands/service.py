"""Use cases of brands."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import ge
from typing import Any

from sqlalchemy import Select, or_, select

from app.core.constraints import delete_row, save
from app.core.fastsql import find_row
from app.core.keys import get_by_key, get_row, read_by_key, require_same, upsert_by_key
from app.core.listing import Compare, Listing, OneOf, contains_words
from app.core.slugs import require_unreserved, save_with_made_slug
from app.core.transactions import run
from app.features.brands.models import KEYS, REFUSALS, Brand, BrandInUse
from app.security.identity import Identity

LISTING = Listing(
    filters={
        "id": OneOf(Brand.id),
        "slug": OneOf(Brand.slug),
        "external_id": OneOf(Brand.external_id),
        "created_since": Compare(Brand.created_at, ge),
        "updated_since": Compare(Brand.updated_at, ge),
    },
    sorts={
        "name": Brand.name,
        "slug": Brand.slug,
        "created_at": Brand.created_at,
        "updated_at": Brand.updated_at,
        "id": Brand.id,
    },
    tie_breaker=Brand.id,
    search=contains_words(Brand.search_text),
)


@dataclass(frozen=True)
class Named:
    """The ids of the brands whose name has a word that begins with a word, and of those that have it whole."""

    beginning: Sequence[int]
    whole: Sequence[int]


# One object for all requests, because compiled statements are cached by it.
_ALL = select(Brand)


def visible_to(_identity: Identity) -> Select[Brand]:
    """Every brand: the permission to read brands covers all of them."""
    return _ALL


def read_brand(brand_id: int, *, identity: Identity) -> Any:
    """The brand, if ``identity`` may see it, as a row for a read; else ``NotFound``."""
    return find_row(visible_to(identity), Brand.id, brand_id)


def get_brand(brand_id: int, *, identity: Identity, lock: bool = False) -> Brand:
    """The brand, if ``identity`` may see it; else ``NotFound``. ``lock`` locks its row (FOR NO KEY UPDATE)."""
    brand: Brand = get_row(visible_to(identity), Brand.id, brand_id, lock=lock)
    return brand


def read_brand_by_key(key: str, value: str, *, identity: Identity) -> Any:
    """The brand with this key, as a row for a read.

    Raises ``NotFound``, and ``Moved`` for a slug that the brand had before.
    """
    return read_by_key(visible_to(identity), KEYS, key, value)


def get_brand_by_key(key: str, value: str, *, identity: Identity, lock: bool = False) -> Brand:
    """The brand with this key, to be changed; raises what `read_brand_by_key` raises."""
    brand: Brand = get_by_key(visible_to(identity), KEYS, key, value, lock=lock)
    return brand


def find_named(sought: Sequence[str]) -> Sequence[Named]:
    """The brands that have each of these words, folded and without punctuation, in their names; one statement."""
    if not sought:
        return []
    # The names are in a column of their own, so that the brands that fit, and no others, come out of the database.
    begins = [Brand.name_words.contains(f" {word}", autoescape=True) for word in sought]
    has = [Brand.name_words.contains(f" {word} ", autoescape=True) for word in sought]
    found = run(select(Brand.id, *begins, *has).where(or_(*begins))).all()
    return [
        Named(
            beginning=[row[0] for row in found if row[number]],
            whole=[row[0] for row in found if row[number + len(sought)]],
        )
        for number in range(1, len(sought) + 1)
    ]


def create_brand(*, name: str, slug: str | None = None, **members: Any) -> Brand:
    """Create a brand; without a slug it gets a free one that is made from its name.

    Refuses a name, a slug or an external id that another brand has (``BrandNameTaken``, ``SlugTaken``,
    ``ExternalIdTaken``).
    """
    brand = Brand(name=name, **members)
    if slug is None:
        save_with_made_slug(brand, _ALL, REFUSALS, fallback="brand")
        return brand
    brand.slug = slug
    save(brand, REFUSALS)
    require_unreserved(brand, _ALL)
    return brand


def put_brand_by_key(
    key: str,
    value: str,
    members: dict[str, Any],
    *,
    identity: Identity,
    require: Callable[[Brand | None], None],
) -> tuple[Brand, bool]:
    """Replace the brand with this key, or create it; the brand, and whether it is new.

    ``members`` state the key; ``require`` checks the preconditions of the request against the brand, or None where
    there is none. Raises ``KeyDiffers``, and what `create_brand` and `update_brand` raise.
    """
    require_same(KEYS, key, value, members[key])
    return upsert_by_key(
        find=lambda: get_brand_by_key(key, value, identity=identity, lock=True),
        create=lambda: create_brand(**members),
        replace=lambda brand: update_brand(brand, **members),
        require=require,
    )


def update_brand(brand: Brand, **changed: Any) -> Brand:
    """Change a brand's name, slug, website or external id; refuses what `create_brand` refuses."""
    before = brand.slug
    for name, value in changed.items():
        setattr(brand, name, value)
    save(brand, REFUSALS)
    if brand.slug != before:
        require_unreserved(brand, _ALL)
    return brand


def delete_brand(brand: Brand) -> None:
    """Delete a brand; refuses one that products refer to (``BrandInUse``)."""
    delete_row(brand, in_use=BrandInUse)
