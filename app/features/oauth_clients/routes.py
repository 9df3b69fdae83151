"""Routes of OAuth clients."""

from typing import Any

from sqlalchemy import Select

from app.features.api_keys.models import ScopeNotHeld
from app.features.oauth_clients import service
from app.features.oauth_clients.models import OAuthClient, PublicClientHasNoSecret
from app.features.oauth_clients.schemas import (
    NewOAuthClientSchema,
    OAuthClientCreateSchema,
    OAuthClientQuerySchema,
    OAuthClientRotateSchema,
    OAuthClientSchema,
    OAuthClientUpdateSchema,
)
from app.security.permissions import Permission
from app.web.access import current_identity
from app.web.contract import Blueprint, accepts, changes, lists, refuses, requires, returns

blueprint = Blueprint(
    "oauth_clients", __name__, url_prefix="/oauth/clients", about="Apps of third parties that people let act for them."
)


def _location(client: service.NewClient) -> str:
    return f"/api/v1/oauth/clients/{client.id}"


@blueprint.get("")
@requires(Permission.OAUTH_CLIENTS_READ)
@lists(OAuthClientSchema, OAuthClientQuerySchema, service.LISTING)
def list_oauth_clients() -> Select[OAuthClient]:
    """List the clients."""
    return service.visible_to(current_identity())


@blueprint.post("")
@requires(Permission.OAUTH_CLIENTS_WRITE)
@accepts(OAuthClientCreateSchema)
@returns(NewOAuthClientSchema, status=201, location=_location)
@refuses(ScopeNotHeld)
def create_oauth_client(data: dict[str, Any]) -> service.NewClient:
    """Register a client; this response is the only one that contains its secret."""
    return service.create_client(**data, identity=current_identity())


@blueprint.get("/<id:client_id>")
@requires(Permission.OAUTH_CLIENTS_READ)
@returns(OAuthClientSchema)
def read_oauth_client(client_id: int) -> OAuthClient:
    """Read a client, without its secret."""
    return service.get_client(client_id, identity=current_identity())


@blueprint.patch("/<id:client_id>")
@requires(Permission.OAUTH_CLIENTS_WRITE)
@changes(service.get_client)
@accepts(OAuthClientUpdateSchema)
@returns(OAuthClientSchema)
@refuses(ScopeNotHeld)
def update_oauth_client(client: OAuthClient, data: dict[str, Any]) -> OAuthClient:
    """Change a client's name, redirect URIs or scopes."""
    return service.update_client(client, identity=current_identity(), **data)


@blueprint.delete("/<id:client_id>")
@requires(Permission.OAUTH_CLIENTS_WRITE)
@changes(service.get_client)
@returns(status=204)
def delete_oauth_client(client: OAuthClient) -> None:
    """Delete a client, and with it everything that people have let it do."""
    service.delete_client(client)


@blueprint.post("/<id:client_id>/rotate")
@requires(Permission.OAUTH_CLIENTS_WRITE)
@accepts(OAuthClientRotateSchema)
@returns(NewOAuthClientSchema, status=201, location=_location)
@refuses(PublicClientHasNoSecret, ScopeNotHeld)
def rotate_oauth_client(client_id: int, data: dict[str, Any]) -> service.NewClient:
    """Give a client a new secret; the current one keeps working for `overlap_seconds`."""
    client = service.get_client(client_id, identity=current_identity(), lock=True)
    return service.rotate_secret(client, identity=current_identity(), **data)
