"""Use cases of API keys."""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, bindparam, or_, select, update

from app.core import clock
from app.core.errors import NotFound
from app.core.fastsql import Prepared
from app.core.feed import CATALOGUE_VERSION
from app.core.listing import Listing
from app.extensions import db
from app.features.api_keys.models import ApiKey, ExpiryPassed, ScopeNotHeld
from app.features.users.models import User
from app.security.api_keys import ParsedKey, format_key, hash_secret, make_secret
from app.security.identity import Identity
from app.security.permissions import GRANTS, Permission, Role

LISTING = Listing(
    filters={"user_id": lambda user_id: ApiKey.user_id == user_id},
    sorts={"created_at": ApiKey.created_at, "name": ApiKey.name, "id": ApiKey.id},
    tie_breaker=ApiKey.id,
)

#: `last_used_at` is right to this.
USED_EVERY = timedelta(minutes=1)

# Made once, for every request with a key asks it.
_IDENTITY = Prepared(
    select(ApiKey.__table__, User.role, CATALOGUE_VERSION.label("catalogue_version"))
    .join(User, User.id == ApiKey.user_id)
    .where(ApiKey.id == bindparam("named_key", None), ApiKey.revoked_at.is_(None), User.is_active)
)


@dataclass(frozen=True)
class NewKey:
    """A key with its secret, which is shown once and kept nowhere."""

    row: ApiKey
    key: str

    def __getattr__(self, name: str) -> Any:
        """Everything but the secret is the row's."""
        return getattr(self.row, name)


def load_identity(parsed: ParsedKey) -> Identity | None:
    """Who a key speaks for: nobody once it is revoked, expired, rotated away, or its owner inactive."""
    key, now = _IDENTITY.one_or_none({"named_key": parsed.key_id}), clock.now()
    if key is None or (key.expires_at and key.expires_at <= now) or not _opens(key, parsed.secret_hash, now):
        return None
    return Identity.of_key(
        user_id=key.user_id,
        role=Role(key.role),
        api_key_id=key.id,
        scopes=key.scopes,
        is_unseen=key.last_used_at is None or key.last_used_at < now - USED_EVERY,
        catalogue_version=key.catalogue_version,
    )


def visible_to(identity: Identity) -> Select[ApiKey]:
    """One's own keys, or everybody's for who administers users."""
    rows = select(ApiKey).where(ApiKey.revoked_at.is_(None))
    return rows if identity.can(Permission.USERS_WRITE) else rows.where(ApiKey.user_id == identity.user_id)


def get_key(key_id: int, *, identity: Identity, lock: bool = False) -> ApiKey:
    """One key that ``identity`` may see."""
    rows = visible_to(identity).where(ApiKey.id == key_id)
    key = db.session.scalar(rows.with_for_update() if lock else rows)
    if key is None:
        raise NotFound
    return key


def create_key(*, name: str, scopes: Iterable[str], expires_at: datetime | None = None, identity: Identity) -> NewKey:
    """Make a key for whoever asks, with scopes out of what they may do themselves."""
    _require_held(scopes, identity.permissions)
    _require_future(expires_at)
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
    """Change a key's name, scopes or expiry; scopes stay within what its owner and whoever asks may do."""
    if "scopes" in changed:
        owner = db.session.scalar(select(User.role).where(User.id == key.user_id))
        _require_held(changed["scopes"], identity.permissions & GRANTS[Role(owner or Role.USER)])
        changed["scopes"] = sorted(changed["scopes"])
    _require_future(changed.get("expires_at"))
    for member, value in changed.items():
        setattr(key, member, value)
    return key


def rotate_key(key: ApiKey, *, overlap_seconds: int) -> NewKey:
    """Give a key a new secret; the old one works for ``overlap_seconds`` more."""
    secret = make_secret()
    until = clock.now() + timedelta(seconds=overlap_seconds)
    key.rotate(secret_hash=hash_secret(secret), last_four=secret[-4:], previous_until=until)
    return NewKey(key, format_key(key.id, secret))


def revoke_key(key: ApiKey) -> None:
    """Refuse a key from the next request on."""
    key.revoked_at = clock.now()


def touch_key(key_id: int) -> None:
    """Remember that a key was used, at most once a minute."""
    now = clock.now()
    is_old = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < now - USED_EVERY)
    # By table and not by mapper: being used is no change of the key, so its version and updated_at stay.
    table = ApiKey.__table__
    db.session.execute(
        update(ApiKey).where(ApiKey.id == key_id, is_old).values(last_used_at=now, updated_at=table.c.updated_at)
    )


def _opens(key: Any, secret_hash: str, now: datetime) -> bool:
    if hmac.compare_digest(key.secret_hash, secret_hash):
        return True
    overlaps = key.previous_hash is not None and key.previous_until is not None and key.previous_until > now
    return overlaps and hmac.compare_digest(key.previous_hash or "", secret_hash)


def _require_held(scopes: Iterable[str], permissions: frozenset[Permission]) -> None:
    if not {Permission(scope) for scope in scopes} <= permissions:
        raise ScopeNotHeld


def _require_future(expires_at: datetime | None) -> None:
    if expires_at is not None and expires_at <= clock.now():
        raise ExpiryPassed
