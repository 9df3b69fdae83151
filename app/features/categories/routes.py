"""Routes of categories."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Select

from app.core.keys import ExternalIdTaken, KeyDiffers
from app.core.slugs import SlugTaken
from app.features.categories import service
from app.features.categories.models import KEYS, Category, CategoryCycle, CategoryInUse, ParentUnknown
from app.features.categories.schemas import (
    CategoryCreateSchema,
    CategoryQuerySchema,
    CategorySchema,
    CategoryUpdateSchema,
)
from app.security.permissions import Permission
from app.web.access import current_identity
from app.web.contract import (
    Blueprint,
    Require,
    accepts,
    by_key,
    changes,
    lists,
    path_by_key,
    refuses,
    requires,
    returns,
    upserts,
)
from app.web.includes import Embedding, Include
from app.web.resource_links import Link, Links

blueprint = Blueprint("categories", __name__, url_prefix="/categories", about="The category tree of the products.")

#: What a read can embed in a category.
INCLUDES: Mapping[str, Embedding] = {
    "parent": Include("parent_id", Category),
    "links": Links(
        {
            "self": Link("categories.read_category"),
            "parent": Link("categories.read_category", "parent_id"),
            "products": Link("category_products.list_products_below"),
            "edit": Link("categories.update_category"),
            "delete": Link("categories.delete_category"),
        }
    ),
}


@blueprint.get("")
@requires(Permission.CATEGORIES_READ)
@lists(CategorySchema, CategoryQuerySchema, service.LISTING, includes=INCLUDES)
def list_categories() -> Select[Category]:
    """List categories."""
    return service.visible_to(current_identity())


@blueprint.post("")
@requires(Permission.CATEGORIES_WRITE)
@accepts(CategoryCreateSchema)
@returns(CategorySchema, status=201, location=lambda category: f"/api/v1/categories/{category.id}")
@refuses(SlugTaken, ExternalIdTaken, ParentUnknown)
def create_category(data: dict[str, Any]) -> Category:
    """Create a category."""
    return service.create_category(**data)


@blueprint.get("/<id:category_id>")
@requires(Permission.CATEGORIES_READ)
@returns(CategorySchema, includes=INCLUDES)
def read_category(category_id: int) -> Any:
    """Read a category."""
    return service.read_category(category_id, identity=current_identity())


@blueprint.put("/<id:category_id>")
@requires(Permission.CATEGORIES_WRITE)
@changes(service.get_category)
@accepts(CategoryCreateSchema)
@returns(CategorySchema)
@refuses(SlugTaken, ExternalIdTaken, ParentUnknown, CategoryCycle)
def replace_category(category: Category, data: dict[str, Any]) -> Category:
    """Replace a category; without a slug in the body, it keeps its slug."""
    return service.update_category(category, **data)


@blueprint.patch("/<id:category_id>")
@requires(Permission.CATEGORIES_WRITE)
@changes(service.get_category)
@accepts(CategoryUpdateSchema)
@returns(CategorySchema)
@refuses(SlugTaken, ExternalIdTaken, ParentUnknown, CategoryCycle)
def update_category(category: Category, data: dict[str, Any]) -> Category:
    """Change some members of a category; a new parent moves it in the tree."""
    return service.update_category(category, **data)


@blueprint.delete("/<id:category_id>")
@requires(Permission.CATEGORIES_DELETE)
@changes(service.get_category)
@returns(status=204)
@refuses(CategoryInUse)
def delete_category(category: Category) -> None:
    """Delete an empty category: without products, deleted ones included, and without child categories."""
    service.delete_category(category)


BY_KEY = path_by_key(KEYS)


@blueprint.get(BY_KEY)
@requires(Permission.CATEGORIES_READ)
@by_key(KEYS)
@returns(CategorySchema, includes=INCLUDES)
def read_category_by_key(key: str, value: str) -> Any:
    """Read a category by a key that others know."""
    return service.read_category_by_key(key, value, identity=current_identity())


@blueprint.put(BY_KEY)
@requires(Permission.CATEGORIES_WRITE)
@by_key(KEYS)
@upserts
@accepts(CategoryCreateSchema)
@returns(CategorySchema, status=201, location=lambda category: f"/api/v1/categories/{category.id}")
@refuses(KeyDiffers, SlugTaken, ExternalIdTaken, ParentUnknown, CategoryCycle)
def put_category_by_key(key: str, value: str, data: dict[str, Any], require: Require) -> tuple[Category, bool]:
    """Create a category under a key of your own, or replace it; it needs no precondition."""
    return service.put_category_by_key(key, value, data, identity=current_identity(), require=require)


@blueprint.patch(BY_KEY)
@requires(Permission.CATEGORIES_WRITE)
@by_key(KEYS)
@changes(service.get_category_by_key)
@accepts(CategoryUpdateSchema)
@returns(CategorySchema)
@refuses(SlugTaken, ExternalIdTaken, ParentUnknown, CategoryCycle)
def update_category_by_key(category: Category, data: dict[str, Any]) -> Category:
    """Change some members of a category that is named by a key."""
    return service.update_category(category, **data)


@blueprint.delete(BY_KEY)
@requires(Permission.CATEGORIES_DELETE)
@by_key(KEYS)
@changes(service.get_category_by_key)
@returns(status=204)
@refuses(CategoryInUse)
def delete_category_by_key(category: Category) -> None:
    """Delete an empty category that is named by a key."""
    service.delete_category(category)
