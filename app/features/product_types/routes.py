"""Routes of product types."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Select

from app.core.keys import CannotChange, KeyDiffers
from app.features.attributes.models import AttributeUnknown
from app.features.product_types import service
from app.features.product_types.models import (
    KEYS,
    REFUSALS,
    OptionNotSingle,
    ProductType,
    ProductTypeInUse,
)
from app.features.product_types.schemas import (
    ProductTypeCreateSchema,
    ProductTypeQuerySchema,
    ProductTypeReplaceSchema,
    ProductTypeSchema,
    ProductTypeUpdateSchema,
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
from app.web.includes import Embedding
from app.web.resource_links import Link, Links

blueprint = Blueprint(
    "product_types", __name__, url_prefix="/product-types", about="Which attributes products of a kind have."
)

#: What a read can embed in a product type.
INCLUDES: Mapping[str, Embedding] = {
    "links": Links(
        {
            "self": Link("product_types.read_product_type"),
            "edit": Link("product_types.update_product_type"),
            "delete": Link("product_types.delete_product_type"),
        }
    ),
}

_WRONG_LIST = (AttributeUnknown, OptionNotSingle)


@blueprint.get("")
@requires(Permission.TYPES_READ)
@lists(ProductTypeSchema, ProductTypeQuerySchema, service.LISTING, includes=INCLUDES)
def list_product_types() -> Select[ProductType]:
    """List product types."""
    return service.visible_to(current_identity())


@blueprint.post("")
@requires(Permission.TYPES_WRITE)
@accepts(ProductTypeCreateSchema)
@returns(ProductTypeSchema, status=201, location=lambda product_type: f"/api/v1/product-types/{product_type.id}")
@refuses(*_WRONG_LIST, *REFUSALS.values())
def create_product_type(data: dict[str, Any]) -> ProductType:
    """Create a product type."""
    return service.create_product_type(**data)


@blueprint.get("/<id:type_id>")
@requires(Permission.TYPES_READ)
@returns(ProductTypeSchema, includes=INCLUDES)
def read_product_type(type_id: int) -> Any:
    """Read a product type."""
    return service.read_product_type(type_id, identity=current_identity())


@blueprint.put("/<id:type_id>")
@requires(Permission.TYPES_WRITE)
@changes(service.get_product_type)
@accepts(ProductTypeReplaceSchema)
@returns(ProductTypeSchema)
@refuses(CannotChange, *_WRONG_LIST)
def replace_product_type(product_type: ProductType, data: dict[str, Any]) -> ProductType:
    """Replace a product type; its products stay as they are."""
    return service.update_product_type(product_type, **data)


@blueprint.patch("/<id:type_id>")
@requires(Permission.TYPES_WRITE)
@changes(service.get_product_type)
@accepts(ProductTypeUpdateSchema)
@returns(ProductTypeSchema)
@refuses(CannotChange, *_WRONG_LIST)
def update_product_type(product_type: ProductType, data: dict[str, Any]) -> ProductType:
    """Change some members of a product type; its products stay as they are."""
    return service.update_product_type(product_type, **data)


@blueprint.delete("/<id:type_id>")
@requires(Permission.TYPES_DELETE)
@changes(service.get_product_type)
@returns(status=204)
@refuses(ProductTypeInUse)
def delete_product_type(product_type: ProductType) -> None:
    """Delete a product type that no product has, deleted ones included."""
    service.delete_product_type(product_type)


BY_KEY = path_by_key(KEYS)


@blueprint.get(BY_KEY)
@requires(Permission.TYPES_READ)
@by_key(KEYS)
@returns(ProductTypeSchema, includes=INCLUDES)
def read_product_type_by_key(key: str, value: str) -> Any:
    """Read a product type by its code."""
    return service.read_product_type_by_key(key, value, identity=current_identity())


@blueprint.put(BY_KEY)
@requires(Permission.TYPES_WRITE)
@by_key(KEYS)
@upserts
@accepts(ProductTypeReplaceSchema)
@returns(ProductTypeSchema, status=201, location=lambda product_type: f"/api/v1/product-types/{product_type.id}")
@refuses(KeyDiffers, CannotChange, *_WRONG_LIST, *REFUSALS.values())
def put_product_type_by_key(key: str, value: str, data: dict[str, Any], require: Require) -> tuple[ProductType, bool]:
    """Create a product type under a code, or replace it; it needs no precondition."""
    return service.put_product_type_by_key(key, value, data, identity=current_identity(), require=require)


@blueprint.patch(BY_KEY)
@requires(Permission.TYPES_WRITE)
@by_key(KEYS)
@changes(service.get_product_type_by_key)
@accepts(ProductTypeUpdateSchema)
@returns(ProductTypeSchema)
@refuses(CannotChange, *_WRONG_LIST)
def update_product_type_by_key(product_type: ProductType, data: dict[str, Any]) -> ProductType:
    """Change some members of a product type that is named by its code."""
    return service.update_product_type(product_type, **data)


@blueprint.delete(BY_KEY)
@requires(Permission.TYPES_DELETE)
@by_key(KEYS)
@changes(service.get_product_type_by_key)
@returns(status=204)
@refuses(ProductTypeInUse)
def delete_product_type_by_key(product_type: ProductType) -> None:
    """Delete a product type that is named by its code and that no product has."""
    service.delete_product_type(product_type)
