"""The brands table and its refusals."""

from collections.abc import Mapping

from sqlalchemy import Index, String, Text, event
from sqlalchemy.orm import Mapped, mapped_column

from app.core.audit import UNAUDITED
from app.core.changelog import Published
from app.core.errors import Conflict, Invalid
from app.core.keys import ExternalIdTaken, Key
from app.core.model import Keyed, Stamped, Versioned, ordered_text
from app.core.slugs import MAX_SLUG_LENGTH, Slugged, SlugTaken
from app.core.text import fold, words
from app.extensions import Model


class BrandNameTaken(Conflict):
    """Another brand has this name."""


class BrandInUse(Conflict):
    """Products are of this brand; give them another first. Deleted products count: restore and change them."""


class BrandUnknown(Invalid):
    """There is no brand with this id."""

    pointer = "/brand_id"


class Brand(Keyed, Stamped, Versioned, Slugged, Published, Model):
    """A maker of products, under whose name they are sold.

    ``search_text`` is what a search for brands reads, ``name_words`` what one for products reads; the listener below
    updates both.
    """

    __tablename__ = "brands"
    audited_as = "brand"

    name: Mapped[str] = mapped_column(ordered_text(120), unique=True)
    slug: Mapped[str] = mapped_column(ordered_text(MAX_SLUG_LENGTH), unique=True)
    website: Mapped[str | None] = mapped_column(String(500))
    external_id: Mapped[str | None] = mapped_column(String(128), unique=True)
    search_text: Mapped[str] = mapped_column(Text, info=UNAUDITED)
    #: The words of the name, each with a blank before and after it.
    name_words: Mapped[str] = mapped_column(Text, info=UNAUDITED)


@event.listens_for(Brand, "before_insert")
@event.listens_for(Brand, "before_update")
def _update_words(_mapper: object, _connection: object, brand: Brand) -> None:
    brand.search_text = fold(f"{brand.name} {brand.slug}")
    brand.name_words = f" {' '.join(words(brand.name))} "


Index("ix_brands_created_at_id", Brand.created_at, Brand.id)
Index("ix_brands_updated_at_id", Brand.updated_at, Brand.id)

#: The keys by which others know a brand.
KEYS: Mapping[str, Key] = {
    "slug": Key(column=Brand.slug, taken=SlugTaken),
    "external_id": Key(column=Brand.external_id, taken=ExternalIdTaken),
}

#: The refusal that stands for each violated constraint when a brand is inserted or updated.
REFUSALS: dict[str, type[Conflict]] = {
    "uq_brands_name": BrandNameTaken,
    **{f"uq_brands_{name}": key.taken for name, key in KEYS.items()},
}
