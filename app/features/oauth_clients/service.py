"""Use cases of OAuth clients."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Select, select

from app.core import clock
from app.core.audit import record_event
from app.core.errors import NotFound
from app.core.listing import Listing
from app.extensions import db
from app.features.api_keys.models import ScopeNotHeld
from app.features.oauth_clients.models import ClientType, OAuthClient, PublicClientHasNoSecret
from app.features.sessions import service as sessions
from app.security.api_keys import CLIENT_PREFIX, format_key, hash_secret, make_secret
from app.security.identity import Identity
from app.security.permissions import Permission

LISTING = Listing(
    sorts={"created_at": OAuthClient.created_at, "name": OAuthClient.name, "id": OAuthClient.id},
    tie_breaker=OAuthClient.id,
)

_ALL = select(OAuthClient)


@dataclass(frozen=True)
class NewClient:
    """A client with its secret, which is shown once and not stored; a public one has none."""

    row: OAuthClient
    client_secret: str | None

    def __getattr__(self, name: str) -> Any:
        """Read every other attribute from the row."""
        return getattr(self.row, name)


def visible_to(_identity: Identity) -> Select[OAuthClient]:
    """Every client: all who may read clients see all."""
    return _ALL


def get_client(client_id: int, *, identity: Identity, lock: bool = False) -> OAuthClient:
    """The client, or ``NotFound``. ``lock`` locks its row (FOR UPDATE)."""
    rows = visible_to(identity).where(OAuthClient.id == client_id)
    client = db.session.scalar(rows.with_for_update() if lock else rows)
    if client is None:
        raise NotFound
    return client


def create_client(*, scopes: Iterable[str], identity: Identity, **members: Any) -> NewClient:
    """Register a client; a confidential one gets a secret.

    Refuses scopes that ``identity`` lacks (``ScopeNotHeld``).
    """
    _require_held(scopes, identity)
    client = OAuthClient(scopes=sorted(scopes), **members)
    secret = make_secret() if client.type == ClientType.CONFIDENTIAL else None
    if secret is not None:
        client.secret_hash, client.last_four = hash_secret(secret), secret[-4:]
    db.session.add(client)
    db.session.flush()
    return NewClient(client, format_key(client.id, secret, prefix=CLIENT_PREFIX) if secret else None)


def update_client(client: OAuthClient, *, identity: Identity, **changed: Any) -> OAuthClient:
    """Change a client's name, redirect URIs or scopes, from the next request on.

    Grants keep the scopes that people have agreed to, but only those that the client has can be used.
    ``ScopeNotHeld`` where ``identity`` lacks a scope that is added; or, with a new redirect URI, any scope of the
    client, because what people let the client do would go there.
    """
    if not {*changed.get("redirect_uris", ())} <= {*client.redirect_uris}:
        _require_held(client.scopes, identity)
    if "scopes" in changed:
        # Scopes that the client has already may stay.
        _require_held({*changed["scopes"]} - {*client.scopes}, identity)
        changed["scopes"] = sorted(changed["scopes"])
    for member, value in changed.items():
        setattr(client, member, value)
    return client


def rotate_secret(client: OAuthClient, *, identity: Identity, overlap_seconds: int) -> NewClient:
    """Give a confidential client a new secret; the current one works for another ``overlap_seconds``.

    Refuses a public one (``PublicClientHasNoSecret``), and one with scopes that ``identity`` lacks (``ScopeNotHeld``).
    """
    _require_held(client.scopes, identity)
    if client.type != ClientType.CONFIDENTIAL:
        raise PublicClientHasNoSecret
    secret = make_secret()
    until = clock.now() + timedelta(seconds=overlap_seconds)
    client.rotate(secret_hash=hash_secret(secret), last_four=secret[-4:], previous_until=until)
    return NewClient(client, format_key(client.id, secret, prefix=CLIENT_PREFIX))


def delete_client(client: OAuthClient) -> None:
    """Delete a client, and with it what people have let it do; its tokens are refused from the next request on."""
    ended = sessions.end_grants_to(client.id)
    record_event(
        "oauth_client.grants_ended", resource_type="oauth_client", resource_id=client.id, after={"grants": ended}
    )
    db.session.delete(client)


def _require_held(scopes: Iterable[str], identity: Identity) -> None:
    if not {Permission(scope) for scope in scopes} <= identity.permissions:
        raise ScopeNotHeld
