"""The categories table and its refusals."""

from collections.abc import Mapping

from sqlalchemy import CheckConstraint, Index, String, Text, event
from sqlalchemy.orm import Mapped, mapped_column

from app.core.audit import UNAUDITED
from app.core.changelog import Published
from app.core.errors import Conflict, Invalid
from app.core.keys import ExternalIdTaken, Key
from app.core.model import Keyed, Stamped, Versioned, big_integer, ordered_text
from app.core.references import refers_to, refusals_of_references
from app.core.slugs import MAX_SLUG_LENGTH, Slugged, SlugTaken
from app.core.text import fold
from app.extensions import Model


class CategoryInUse(Conflict):
    """Products or categories are in this category; move them first. Deleted products count: restore and move them."""


class CategoryUnknown(Invalid):
    """There is no category with this id."""

    pointer = "/category_id"


class CategoryCycle(Conflict):
    """A category cannot be moved below itself; choose a parent outside its branch."""


class ParentUnknown(Invalid):
    """There is no category with this id to be the parent."""

    pointer = "/parent_id"


class Category(Keyed, Stamped, Versioned, Slugged, Published, Model):
    """A node of the tree; without a parent it is a root. Slugs are unique in the whole tree."""

    __tablename__ = "categories"
    audited_as = "category"
    __table_args__ = (
        CheckConstraint("parent_id <> id", name="not_its_own_parent"),
        {"sqlite_autoincrement": True},
    )

    name: Mapped[str] = mapped_column(ordered_text(120))
    slug: Mapped[str] = mapped_column(ordered_text(MAX_SLUG_LENGTH), unique=True)
    external_id: Mapped[str | None] = mapped_column(String(128))
    parent_id: Mapped[int | None] = mapped_column(big_integer, refers_to("categories.id", unknown=ParentUnknown))
    search_text: Mapped[str] = mapped_column(Text, info=UNAUDITED)


@event.listens_for(Category, "before_insert")
@event.listens_for(Category, "before_update")
def _update_search_text(_mapper: object, _connection: object, category: Category) -> None:
    category.search_text = fold(f"{category.name} {category.slug}")


Index("uq_categories_external_id", Category.external_id, unique=True)
Index("ix_categories_name_id", Category.name, Category.id)
Index("ix_categories_created_at_id", Category.created_at, Category.id)
Index("ix_categories_updated_at_id", Category.updated_at, Category.id)
Index("ix_categories_parent_id_name_id", Category.parent_id, Category.name, Category.id)

#: The keys by which others know a category.
KEYS: Mapping[str, Key] = {
    "slug": Key(column=Category.slug, taken=SlugTaken),
    "external_id": Key(column=Category.external_id, taken=ExternalIdTaken),
}

#: The refusal that stands for each violated constraint when a category is inserted or updated.
REFUSALS: dict[str, type[Conflict | Invalid]] = {
    **{f"uq_categories_{name}": key.taken for name, key in KEYS.items()},
    "ck_categories_not_its_own_parent": CategoryCycle,
    **refusals_of_references(Category),
}
