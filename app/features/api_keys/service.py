"""Use cases of API keys."""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, bindparam, or_, select, update

from app.core import clock
from app.core.changelog import LOG_TAIL, LogPosition, tail_of, values_of
from app.core.errors import NotFound
from app.core.fastsql import Prepared
from app.core.listing import Listing, OneOf
from app.extensions import db
from app.features.api_keys.models import ApiKey, ExpiryPassed, ScopeNotHeld
from app.features.sessions import service as sessions
from app.features.users.models import User
from app.security.api_keys import ParsedKey, fingerprint_of, format_key, hash_secret, make_secret
from app.security.identity import Identity
from app.security.permissions import GRANTS, Permission, Role
from app.security.tokens import KeyClaims

LISTING = Listing(
    filters={"user_id": OneOf(ApiKey.user_id)},
    sorts={"created_at": ApiKey.created_at, "name": ApiKey.name, "id": ApiKey.id},
    tie_breaker=ApiKey.id,
)

#: The accuracy of `last_used_at`, which saves an UPDATE per request.
LAST_USED_RESOLUTION = timedelta(minutes=1)

# Compiled once, because every request with a key executes it.
_IDENTITY = Prepared(
    select(ApiKey.__table__, User.role, LOG_TAIL)
    .join(User, User.id == ApiKey.user_id)
    .where(ApiKey.id == bindparam("named_key", None), ApiKey.revoked_at.is_(None), User.is_active)
)


@dataclass(frozen=True)
class NewKey:
    """A key with its secret, which is shown once and not stored."""

    row: ApiKey
    key: str

    def __getattr__(self, name: str) -> Any:
        """Read every other attribute from the row."""
        return getattr(self.row, name)


def load_identity(named: ParsedKey | KeyClaims, position: LogPosition | None = None) -> Identity | None:
    """The identity of a key; None if the key is revoked or expired, its secret is wrong, or its owner is inactive.

    A token of the key has those of its scopes that the token names, and works for as long as the secret that it was
    issued for. With a position the identity has what the log of changes has after it.
    """
    key, now = find_valid(named, position), clock.now()
    if key is None:
        return None
    return Identity.of_delegate(
        user_id=key.user_id,
        role=Role(key.role),
        api_key_id=key.id,
        scopes=named.scopes.intersection(key.scopes) if isinstance(named, KeyClaims) else key.scopes,
        is_unseen=key.last_used_at is None or key.last_used_at < now - LAST_USED_RESOLUTION,
        log=tail_of(position, key.log),
    )


def find_valid(named: ParsedKey | KeyClaims, position: LogPosition | None = None) -> Any:
    """The columns of a key and its owner's `role`; None where `load_identity` finds no identity."""
    key, now = _IDENTITY.one_or_none({"named_key": named.key_id} | values_of(position)), clock.now()
    if key is None or (key.expires_at and key.expires_at <= now) or not _accepts(key, named, now):
        return None
    return key


def visible_to(identity: Identity) -> Select[ApiKey]:
    """The keys of the user that ``identity`` names, or of all users with the permission ``users:write``."""
    rows = select(ApiKey).where(ApiKey.revoked_at.is_(None))
    return rows if identity.can(Permission.USERS_WRITE) else rows.where(ApiKey.user_id == identity.user_id)


def get_key(key_id: int, *, identity: Identity, lock: bool = False) -> ApiKey:
    """The key, if ``identity`` may see it; else ``NotFound``. ``lock`` locks its row (FOR UPDATE)."""
    rows = visible_to(identity).where(ApiKey.id == key_id)
    key = db.session.scalar(rows.with_for_update() if lock else rows)
    if key is None:
        raise NotFound
    return key


def create_key(*, name: str, scopes: Iterable[str], expires_at: datetime | None = None, identity: Identity) -> NewKey:
    """Create a key of the authenticated user.

    Refuses scopes that ``identity`` lacks (``ScopeNotHeld``), an expiry in the past (``ExpiryPassed``), and a session
    that has ended meanwhile (``SessionEnded``).
    """
    _require_held(scopes, identity.permissions)
    _require_future(expires_at)
    if identity.session_id is not None:
        sessions.require_live(identity.session_id)
    secret = make_secret()
    row = ApiKey(
        user_id=identity.user_id,
        name=name,
        scopes=sorted(scopes),
        secret_hash=hash_secret(secret),
        last_four=secret[-4:],
        expires_at=expires_at,
    )
    db.session.add(row)
    db.session.flush()
    return NewKey(row, format_key(row.id, secret))


def update_key(key: ApiKey, *, identity: Identity, **changed: Any) -> ApiKey:
    """Change a key's name, scopes or expiry.

    Refuses scopes that ``identity`` or the key's owner lacks (``ScopeNotHeld``) and an expiry in the past
    (``ExpiryPassed``).
    """
    if "scopes" in changed:
        owner = db.session.scalar(select(User.role).where(User.id == key.user_id))
        _require_held(changed["scopes"], identity.permissions & GRANTS[Role(owner or Role.USER)])
        changed["scopes"] = sorted(changed["scopes"])
    _require_future(changed.get("expires_at"))
    for member, value in changed.items():
        setattr(key, member, value)
    return key


def rotate_key(key: ApiKey, *, overlap_seconds: int) -> NewKey:
    """Give a key a new secret; the current one works for another ``overlap_seconds``."""
    secret = make_secret()
    until = clock.now() + timedelta(seconds=overlap_seconds)
    key.rotate(secret_hash=hash_secret(secret), last_four=secret[-4:], previous_until=until)
    return NewKey(key, format_key(key.id, secret))


def revoke_key(key: ApiKey) -> None:
    """Revoke a key; it is refused from the next request on."""
    key.revoked_at = clock.now()


def revoke_all(user_id: int) -> None:
    """Revoke every key of a user."""
    for key in db.session.scalars(select(ApiKey).where(ApiKey.user_id == user_id, ApiKey.revoked_at.is_(None))):
        revoke_key(key)


def touch_key(key_id: int) -> None:
    """Set when a key was last used, unless that is less than ``LAST_USED_RESOLUTION`` ago."""
    now = clock.now()
    is_old = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < now - LAST_USED_RESOLUTION)
    # Not through the mapper, which would increment the version: a use is no change of the key. The explicit updated_at
    # overrides the column's `onupdate`.
    table = ApiKey.__table__
    db.session.execute(
        update(ApiKey).where(ApiKey.id == key_id, is_old).values(last_used_at=now, updated_at=table.c.updated_at)
    )


def _accepts(key: Any, named: ParsedKey | KeyClaims, now: datetime) -> bool:
    """Whether this is the key's secret, or the previous one during the overlap; or a token that was issued for it."""
    secrets = [key.secret_hash]
    if key.previous_hash is not None and key.previous_until is not None and key.previous_until > now:
        secrets.append(key.previous_hash)
    if isinstance(named, KeyClaims):
        return any(hmac.compare_digest(fingerprint_of(secret), named.fingerprint) for secret in secrets)
    return any(hmac.compare_digest(secret, named.secret_hash) for secret in secrets)


def _require_held(scopes: Iterable[str], permissions: frozenset[Permission]) -> None:
    if not {Permission(scope) for scope in scopes} <= permissions:
        raise ScopeNotHeld


def _require_future(expires_at: datetime | None) -> None:
    if expires_at is not None and expires_at <= clock.now():
        raise ExpiryPassed
