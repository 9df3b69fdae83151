"""Routes of brands."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Select

from app.core.keys import KeyDiffers
from app.features.brands import service
from app.features.brands.models import KEYS, REFUSALS, Brand, BrandInUse
from app.features.brands.schemas import BrandCreateSchema, BrandQuerySchema, BrandSchema, BrandUpdateSchema
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
from app.web.includes import Embedding
from app.web.resource_links import Link, Links

blueprint = Blueprint("brands", __name__, url_prefix="/brands", about="Who makes what is for sale.")

#: What a read can embed in a brand.
INCLUDES: Mapping[str, Embedding] = {
    "links": Links(
        {
            "self": Link("brands.read_brand"),
            "products": Link("products.list_products", parameter="brand_id"),
            "edit": Link("brands.update_brand"),
            "delete": Link("brands.delete_brand"),
        }
    ),
}


@blueprint.get("")
@requires(Permission.BRANDS_READ)
@lists(BrandSchema, BrandQuerySchema, service.LISTING, includes=INCLUDES)
def list_brands() -> Select[Brand]:
    """List brands."""
    return service.visible_to(current_identity())


@blueprint.post("")
@requires(Permission.BRANDS_WRITE)
@accepts(BrandCreateSchema)
@returns(BrandSchema, status=201, location=lambda brand: f"/api/v1/brands/{brand.id}")
@refuses(*REFUSALS.values())
def create_brand(data: dict[str, Any]) -> Brand:
    """Create a brand."""
    return service.create_brand(**data)


@blueprint.get("/<id:brand_id>")
@requires(Permission.BRANDS_READ)
@returns(BrandSchema, includes=INCLUDES)
def read_brand(brand_id: int) -> Any:
    """Read a brand."""
    return service.read_brand(brand_id, identity=current_identity())


@blueprint.put("/<id:brand_id>")
@requires(Permission.BRANDS_WRITE)
@changes(service.get_brand)
@accepts(BrandCreateSchema)
@returns(BrandSchema)
@refuses(*REFUSALS.values())
def replace_brand(brand: Brand, data: dict[str, Any]) -> Brand:
    """Replace a brand; without a slug in the body, it keeps its slug."""
    return service.update_brand(brand, **data)


@blueprint.patch("/<id:brand_id>")
@requires(Permission.BRANDS_WRITE)
@changes(service.get_brand)
@accepts(BrandUpdateSchema)
@returns(BrandSchema)
@refuses(*REFUSALS.values())
def update_brand(brand: Brand, data: dict[str, Any]) -> Brand:
    """Change some members of a brand."""
    return service.update_brand(brand, **data)


@blueprint.delete("/<id:brand_id>")
@requires(Permission.BRANDS_DELETE)
@changes(service.get_brand)
@returns(status=204)
@refuses(BrandInUse)
def delete_brand(brand: Brand) -> None:
    """Delete a brand that no product refers to, deleted ones included."""
    service.delete_brand(brand)


BY_KEY = path_by_key(KEYS)


@blueprint.get(BY_KEY)
@requires(Permission.BRANDS_READ)
@by_key(KEYS)
@returns(BrandSchema, includes=INCLUDES)
def read_brand_by_key(key: str, value: str) -> Any:
    """Read a brand by a key that others know."""
    return service.read_brand_by_key(key, value, identity=current_identity())


@blueprint.put(BY_KEY)
@requires(Permission.BRANDS_WRITE)
@by_key(KEYS)
@upserts
@accepts(BrandCreateSchema)
@returns(BrandSchema, status=201, location=lambda brand: f"/api/v1/brands/{brand.id}")
@refuses(KeyDiffers, *REFUSALS.values())
def put_brand_by_key(key: str, value: str, data: dict[str, Any], require: Require) -> tuple[Brand, bool]:
    """Create a brand under a key of your own, or replace it; it needs no precondition."""
    return service.put_brand_by_key(key, value, data, identity=current_identity(), require=require)


@blueprint.patch(BY_KEY)
@requires(Permission.BRANDS_WRITE)
@by_key(KEYS)
@changes(service.get_brand_by_key)
@accepts(BrandUpdateSchema)
@returns(BrandSchema)
@refuses(*REFUSALS.values())
def update_brand_by_key(brand: Brand, data: dict[str, Any]) -> Brand:
    """Change some members of a brand that is named by a key."""
    return service.update_brand(brand, **data)


@blueprint.delete(BY_KEY)
@requires(Permission.BRANDS_DELETE)
@by_key(KEYS)
@changes(service.get_brand_by_key)
@returns(status=204)
@refuses(BrandInUse)
def delete_brand_by_key(brand: Brand) -> None:
    """Delete a brand that is named by a key and that no product refers to."""
    service.delete_brand(brand)
