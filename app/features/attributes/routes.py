"""Routes of attributes."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Select

from app.core.keys import CannotChange, KeyDiffers
from app.features.attributes import service
from app.features.attributes.models import (
    KEYS,
    REFUSALS,
    Attribute,
    AttributeInUse,
    ChoicesMissing,
    ChoicesUnexpected,
)
from app.features.attributes.schemas import (
    AttributeCreateSchema,
    AttributeQuerySchema,
    AttributeReplaceSchema,
    AttributeSchema,
    AttributeUpdateSchema,
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
    "attributes", __name__, url_prefix="/attributes", about="What can be said of products, and with which values."
)

#: What a read can embed in an attribute.
INCLUDES: Mapping[str, Embedding] = {
    "links": Links(
        {
            "self": Link("attributes.read_attribute"),
            "edit": Link("attributes.update_attribute"),
            "delete": Link("attributes.delete_attribute"),
        }
    ),
}

_WRONG_CHOICES = (ChoicesMissing, ChoicesUnexpected)


@blueprint.get("")
@requires(Permission.TYPES_READ)
@lists(AttributeSchema, AttributeQuerySchema, service.LISTING, includes=INCLUDES)
def list_attributes() -> Select[Attribute]:
    """List attributes."""
    return service.visible_to(current_identity())


@blueprint.post("")
@requires(Permission.TYPES_WRITE)
@accepts(AttributeCreateSchema)
@returns(AttributeSchema, status=201, location=lambda attribute: f"/api/v1/attributes/{attribute.id}")
@refuses(*_WRONG_CHOICES, *REFUSALS.values())
def create_attribute(data: dict[str, Any]) -> Attribute:
    """Create an attribute."""
    return service.create_attribute(**data)


@blueprint.get("/<id:attribute_id>")
@requires(Permission.TYPES_READ)
@returns(AttributeSchema, includes=INCLUDES)
def read_attribute(attribute_id: int) -> Any:
    """Read an attribute."""
    return service.read_attribute(attribute_id, identity=current_identity())


@blueprint.put("/<id:attribute_id>")
@requires(Permission.TYPES_WRITE)
@changes(service.get_attribute)
@accepts(AttributeReplaceSchema)
@returns(AttributeSchema)
@refuses(CannotChange, *_WRONG_CHOICES)
def replace_attribute(attribute: Attribute, data: dict[str, Any]) -> Attribute:
    """Replace an attribute; the values that products have stay as they are."""
    return service.update_attribute(attribute, **data)


@blueprint.patch("/<id:attribute_id>")
@requires(Permission.TYPES_WRITE)
@changes(service.get_attribute)
@accepts(AttributeUpdateSchema)
@returns(AttributeSchema)
@refuses(CannotChange, *_WRONG_CHOICES)
def update_attribute(attribute: Attribute, data: dict[str, Any]) -> Attribute:
    """Change some members of an attribute; the values that products have stay as they are."""
    return service.update_attribute(attribute, **data)


@blueprint.delete("/<id:attribute_id>")
@requires(Permission.TYPES_DELETE)
@changes(service.get_attribute)
@returns(status=204)
@refuses(AttributeInUse)
def delete_attribute(attribute: Attribute) -> None:
    """Delete an attribute that no product type lists, and that no product is found by."""
    service.delete_attribute(attribute)


BY_KEY = path_by_key(KEYS)


@blueprint.get(BY_KEY)
@requires(Permission.TYPES_READ)
@by_key(KEYS)
@returns(AttributeSchema, includes=INCLUDES)
def read_attribute_by_key(key: str, value: str) -> Any:
    """Read an attribute by its code."""
    return service.read_attribute_by_key(key, value, identity=current_identity())


@blueprint.put(BY_KEY)
@requires(Permission.TYPES_WRITE)
@by_key(KEYS)
@upserts
@accepts(AttributeReplaceSchema)
@returns(AttributeSchema, status=201, location=lambda attribute: f"/api/v1/attributes/{attribute.id}")
@refuses(KeyDiffers, CannotChange, *_WRONG_CHOICES, *REFUSALS.values())
def put_attribute_by_key(key: str, value: str, data: dict[str, Any], require: Require) -> tuple[Attribute, bool]:
    """Create an attribute under a code, or replace it; it needs no precondition."""
    return service.put_attribute_by_key(key, value, data, identity=current_identity(), require=require)


@blueprint.patch(BY_KEY)
@requires(Permission.TYPES_WRITE)
@by_key(KEYS)
@changes(service.get_attribute_by_key)
@accepts(AttributeUpdateSchema)
@returns(AttributeSchema)
@refuses(CannotChange, *_WRONG_CHOICES)
def update_attribute_by_key(attribute: Attribute, data: dict[str, Any]) -> Attribute:
    """Change some members of an attribute that is named by its code."""
    return service.update_attribute(attribute, **data)


@blueprint.delete(BY_KEY)
@requires(Permission.TYPES_DELETE)
@by_key(KEYS)
@changes(service.get_attribute_by_key)
@returns(status=204)
@refuses(AttributeInUse)
def delete_attribute_by_key(attribute: Attribute) -> None:
    """Delete an attribute that is named by its code, that no product type lists, and that no product is found by."""
    service.delete_attribute(attribute)
