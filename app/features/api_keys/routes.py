"""Routes of API keys."""

from typing import Any

from sqlalchemy import Select

from app.features.api_keys import service
from app.features.api_keys.models import ApiKey, ExpiryPassed, ScopeNotHeld
from app.features.api_keys.schemas import (
    ApiKeyCreateSchema,
    ApiKeyQuerySchema,
    ApiKeyRotateSchema,
    ApiKeySchema,
    ApiKeyUpdateSchema,
    NewApiKeySchema,
)
from app.features.sessions.models import SessionEnded
from app.security.permissions import Permission
from app.web.access import current_identity
from app.web.contract import Blueprint, accepts, changes, lists, refuses, requires, returns

blueprint = Blueprint("api_keys", __name__, url_prefix="/api-keys", about="The credentials of programs.")


@blueprint.get("")
@requires(Permission.ACCOUNT_MANAGE)
@lists(ApiKeySchema, ApiKeyQuerySchema, service.LISTING)
def list_api_keys() -> Select[ApiKey]:
    """List your keys; administrators see the keys of all users."""
    return service.visible_to(current_identity())


@blueprint.post("")
@requires(Permission.ACCOUNT_MANAGE)
@accepts(ApiKeyCreateSchema)
@returns(NewApiKeySchema, status=201, location=lambda key: f"/api/v1/api-keys/{key.id}")
@refuses(ScopeNotHeld, ExpiryPassed, SessionEnded)
def create_api_key(data: dict[str, Any]) -> service.NewKey:
    """Create a key; this response is the only one that contains its secret."""
    return service.create_key(**data, identity=current_identity())


@blueprint.get("/<id:key_id>")
@requires(Permission.ACCOUNT_MANAGE)
@returns(ApiKeySchema)
def read_api_key(key_id: int) -> ApiKey:
    """Read a key, without its secret."""
    return service.get_key(key_id, identity=current_identity())


@blueprint.patch("/<id:key_id>")
@requires(Permission.ACCOUNT_MANAGE)
@changes(service.get_key)
@accepts(ApiKeyUpdateSchema)
@returns(ApiKeySchema)
@refuses(ScopeNotHeld, ExpiryPassed)
def update_api_key(key: ApiKey, data: dict[str, Any]) -> ApiKey:
    """Change a key's name, scopes or expiry."""
    return service.update_key(key, identity=current_identity(), **data)


@blueprint.delete("/<id:key_id>")
@requires(Permission.ACCOUNT_MANAGE)
@changes(service.get_key)
@returns(status=204)
def revoke_api_key(key: ApiKey) -> None:
    """Revoke a key; it is refused from the next request on."""
    service.revoke_key(key)


@blueprint.post("/<id:key_id>/rotate")
@requires(Permission.ACCOUNT_MANAGE)
@accepts(ApiKeyRotateSchema)
@returns(NewApiKeySchema, status=201, location=lambda key: f"/api/v1/api-keys/{key.id}")
def rotate_api_key(key_id: int, data: dict[str, Any]) -> service.NewKey:
    """Give a key a new secret; the current one keeps working for `overlap_seconds`."""
    key = service.get_key(key_id, identity=current_identity(), lock=True)
    return service.rotate_key(key, **data)
