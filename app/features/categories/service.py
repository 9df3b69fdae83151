"""Use cases of categories."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import ge
from typing import Any

from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.orm import aliased

from app.core.constraints import delete_row, refusing
from app.core.fastsql import find_row
from app.core.keys import get_by_key, get_row, read_by_key, require_same, upsert_by_key
from app.core.listing import Compare, Listing, OneOf, contains_words
from app.core.locks import advisory_lock
from app.core.membership import is_found_by, is_one_of
from app.core.slugs import find_reserved, require_unreserved, save_with_made_slug
from app.extensions import db
from app.features.categories.models import (
    KEYS,
    REFUSALS,
    Category,
    CategoryCycle,
    CategoryInUse,
    ParentUnknown,
)
from app.security.identity import Identity


@dataclass(frozen=True)
class Node:
    """A category to import; the slug identifies it, and ``parent`` is the slug of its parent or None for a root."""

    slug: str
    name: str
    parent: str | None


def is_at_or_below(column: Any, category_id: Any) -> ColumnElement[bool]:
    """The condition that ``column`` refers to a category or to one of its descendants."""
    return _is_below(column, Category.id == category_id)


def is_at_or_below_any(column: Any, category_ids: Any) -> ColumnElement[bool]:
    """The condition that ``column`` refers to one of several categories, a `ValueList`, or to a descendant of one."""
    return _is_below(column, is_one_of(Category.id, category_ids))


def _is_below(column: Any, is_root: ColumnElement[bool]) -> ColumnElement[bool]:
    # Without a name, because a statement can have several.
    below = select(Category.id).where(is_root).cte(recursive=True)
    # UNION, and not UNION ALL: a category below two of the roots counts once, and its descendants are read once.
    below = below.union(select(Category.id).join(below, Category.parent_id == below.c.id))
    return is_found_by(column, select(below.c.id).scalar_subquery())


LISTING = Listing(
    filters={
        "id": OneOf(Category.id),
        "parent_id": OneOf(Category.parent_id),
        "below": OneOf(Category.id, is_at_or_below, is_at_or_below_any),
        "slug": OneOf(Category.slug),
        "external_id": OneOf(Category.external_id),
        "created_since": Compare(Category.created_at, ge),
        "updated_since": Compare(Category.updated_at, ge),
    },
    sorts={
        "name": Category.name,
        "slug": Category.slug,
        "created_at": Category.created_at,
        "updated_at": Category.updated_at,
        "id": Category.id,
    },
    tie_breaker=Category.id,
    search=contains_words(Category.search_text),
    parent=Category.parent_id,
)


# One object for all requests, because compiled statements are cached by it.
_ALL = select(Category)


def visible_to(_identity: Identity) -> Select[Category]:
    """Every category: the permission to read categories covers all of them."""
    return _ALL


def read_category(category_id: int, *, identity: Identity) -> Any:
    """The category, if ``identity`` may see it, as a row for a read; else ``NotFound``."""
    return find_row(visible_to(identity), Category.id, category_id)


def get_category(category_id: int, *, identity: Identity, lock: bool = False) -> Category:
    """The category, if ``identity`` may see it; else ``NotFound``. ``lock`` locks its row (FOR NO KEY UPDATE)."""
    category: Category = get_row(visible_to(identity), Category.id, category_id, lock=lock)
    return category


def read_category_by_key(key: str, value: str, *, identity: Identity) -> Any:
    """The category with this key, as a row for a read.

    Raises ``NotFound``, and ``Moved`` for a slug that the category had before.
    """
    return read_by_key(visible_to(identity), KEYS, key, value)


def get_category_by_key(key: str, value: str, *, identity: Identity, lock: bool = False) -> Category:
    """The category with this key, to be changed; raises what `read_category_by_key` raises."""
    category: Category = get_by_key(visible_to(identity), KEYS, key, value, lock=lock)
    return category


def create_category(*, name: str, slug: str | None = None, parent_id: int | None = None, **members: Any) -> Category:
    """Create a category; without a slug it gets a free one that is made from its name.

    Refuses a slug or an external id that another category has (``SlugTaken``, ``ExternalIdTaken``) and an unknown
    parent (``ParentUnknown``).
    """
    category = Category(name=name, parent_id=parent_id, **members)
    _require_parent(category, parent_id)
    if slug is None:
        save_with_made_slug(category, _ALL, REFUSALS, fallback="category")
        return category
    category.slug = slug
    with refusing(REFUSALS):
        db.session.add(category)
    require_unreserved(category, _ALL)
    return category


def put_category_by_key(
    key: str,
    value: str,
    members: dict[str, Any],
    *,
    identity: Identity,
    require: Callable[[Category | None], None],
) -> tuple[Category, bool]:
    """Replace the category with this key, or create it; the category, and whether it is new.

    ``members`` state the key; ``require`` checks the preconditions of the request against the category, or None where
    there is none. Raises ``KeyDiffers``, and what `create_category` and `update_category` raise.
    """
    require_same(KEYS, key, value, members[key])
    return upsert_by_key(
        find=lambda: get_category_by_key(key, value, identity=identity, lock=True),
        create=lambda: create_category(**members),
        replace=lambda category: update_category(category, **members),
        require=require,
    )


def update_category(category: Category, **changed: Any) -> Category:
    """Change a category's name, slug, external id or parent.

    Refuses a slug or an external id that another category has (``SlugTaken``, ``ExternalIdTaken``), an unknown parent
    (``ParentUnknown``), and a move below itself (``CategoryCycle``).
    """
    parent_id = changed.get("parent_id", category.parent_id)
    if parent_id != category.parent_id:
        _require_parent(category, parent_id)
    before = category.slug
    with refusing(REFUSALS):
        for name, value in changed.items():
            setattr(category, name, value)
    if category.slug != before:
        require_unreserved(category, _ALL)
    return category


def delete_category(category: Category) -> None:
    """Delete a category; refuses one that products or other categories refer to (``CategoryInUse``)."""
    delete_row(category, in_use=CategoryInUse)


def upsert_tree(nodes: Sequence[Node]) -> tuple[int, int]:
    """Create the categories whose slug is new, rename and move the others; the numbers of created and of changed ones.

    A slug that a category had before identifies it as well. A parent must come before its children in ``nodes``, which
    excludes cycles among them.
    """
    advisory_lock("category-tree")
    # The whole tree in one statement, because it is small.
    by_id = {category.id: category for category in db.session.scalars(select(Category))}
    former = find_reserved(_ALL, {node.slug for node in nodes})
    by_slug = {slug: by_id[category_id] for slug, category_id in former.items()}
    by_slug |= {category.slug: category for category in by_id.values()}
    created = changed = 0
    for level in _levels(nodes):
        for node in level:
            parent_id = by_slug[node.parent].id if node.parent else None
            category = by_slug.get(node.slug)
            if category is None:
                by_slug[node.slug] = Category(name=node.name, slug=node.slug, parent_id=parent_id)
                db.session.add(by_slug[node.slug])
                created += 1
            elif (category.name, category.parent_id) != (node.name, parent_id):
                category.name, category.parent_id = node.name, parent_id
                changed += 1
        db.session.flush()
    return created, changed


def _levels(nodes: Sequence[Node]) -> list[list[Node]]:
    """The nodes by depth, roots first: one flush per level gives parents their ids before their children need them."""
    depths: dict[str | None, int] = {None: -1}
    levels: list[list[Node]] = []
    for node in nodes:
        depth = depths[node.slug] = depths[node.parent] + 1
        if depth == len(levels):
            levels.append([])
        levels[depth].append(node)
    return levels


def _require_parent(category: Category, parent_id: int | None) -> None:
    if parent_id is None:
        return
    # Two concurrent moves can be valid each by itself and form a cycle together.
    advisory_lock("category-tree")
    ancestors = _ancestor_ids(parent_id)
    if not ancestors:
        raise ParentUnknown
    if category.id in ancestors:
        raise CategoryCycle


def _ancestor_ids(category_id: int) -> set[int]:
    """The ids of a category and its ancestors; empty if there is no such category."""
    above = select(Category.id, Category.parent_id).where(Category.id == category_id).cte("above", recursive=True)
    parent = aliased(Category)
    above = above.union(select(parent.id, parent.parent_id).join(above, parent.id == above.c.parent_id))
    return set(db.session.scalars(select(above.c.id)))
