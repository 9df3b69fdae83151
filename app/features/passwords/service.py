"""Use cases of changing and resetting passwords."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from itsdangerous import BadData, URLSafeTimedSerializer
from sqlalchemy import select

from app.core.audit import record_event
from app.core.transactions import release_connection
from app.extensions import db
from app.features.auth import guard
from app.features.auth import service as auth
from app.features.passwords.models import CurrentPasswordWrong, ResetTokenInvalid
from app.features.sessions import service as sessions
from app.features.users import service as users
from app.features.users.models import User
from app.security.identity import Identity
from app.security.passwords import hash_password, require_uncommon, verify_password

RESET_TOKEN_LIFE = 30 * 60


@dataclass(frozen=True)
class Reset:
    """A reset token, and where to send it: nowhere, with a token that opens nothing, for who has no active account."""

    email: str | None
    token: str


def change_password(
    *,
    identity: Identity,
    current_password: str,
    new_password: str,
    device: str,
    address: str,
    lifetimes: auth.Lifetimes,
) -> auth.TokenPair:
    """Change one's own password: every session ends, and a new one is opened for whoever asked."""
    require_uncommon(new_password, pointer="/new_password")
    user = users.get_me(identity=identity)
    email, present_hash, epoch = user.email, user.password_hash, user.epoch
    guard.require_few_failures(email, address)
    release_connection()
    is_right = verify_password(current_password, present_hash)
    is_last = guard.count_attempt(email, address)
    if not is_right:
        auth.record_failure(identity.user_id, is_last=is_last)
        raise CurrentPasswordWrong
    # Takes the count back, which is all that was written, and its lock is not held while the next password is hashed.
    db.session.rollback()
    new_hash = hash_password(new_password)
    locked = _lock(identity.user_id or 0, epoch)
    if locked is None:
        # Another request was faster: what was the password is none any more.
        raise CurrentPasswordWrong
    _replace(locked, new_hash, "password.changed")
    return auth.start_session(locked, device=device, address=address, lifetimes=lifetimes)


def request_reset(*, email: str, keys: Sequence[str]) -> Reset:
    """A reset token for the active account of this address. It is signed, with the last of ``keys``, and not stored.

    The same is done for an address that nobody has and for a closed account, so that the time does not tell.
    """
    columns = User.id, User.epoch, User.email, User.is_active
    user = db.session.execute(select(*columns).where(User.email == email.lower())).one_or_none()
    record_event("password.reset_requested", resource_type="user", resource_id=user.id if user else None)
    if user is None or not user.is_active:
        return Reset(None, sign_reset(0, 0, email, keys=keys))
    return Reset(user.email, sign_reset(user.id, user.epoch, user.email, keys=keys))


def confirm_reset(*, token: str, new_password: str, keys: Sequence[str]) -> None:
    """Set a new password with a reset token signed by any of ``keys``.

    The token works once and while nothing has changed since: it is bound to the account's epoch, which this and every
    change of the password, the address or the activity counts up, and to the address that it was mailed to
    (``ResetTokenInvalid``).
    """
    require_uncommon(new_password, pointer="/new_password")
    try:
        user_id, epoch, mailed_to = _reset_signer(keys).loads(token, max_age=RESET_TOKEN_LIFE)
    except (BadData, ValueError, TypeError):
        raise ResetTokenInvalid from None
    new_hash = hash_password(new_password)
    user = _lock(user_id, epoch)
    if user is None or _digest(user.email) != mailed_to:
        raise ResetTokenInvalid
    _replace(user, new_hash, "password.reset")


def sign_reset(user_id: int, epoch: int, email: str, *, keys: Sequence[str]) -> str:
    """The reset token of an account at this epoch and address."""
    return str(_reset_signer(keys).dumps([user_id, epoch, _digest(email)]))


def _lock(user_id: int, epoch: int) -> User | None:
    """The active user, locked, unless the password, the address or the activity was changed since ``epoch``."""
    rows = select(User).where(User.id == user_id, User.epoch == epoch, User.is_active)
    return db.session.scalar(rows.with_for_update(key_share=True).execution_options(populate_existing=True))


def _replace(user: User, new_hash: str, action: str) -> None:
    user.set_password(new_hash)
    db.session.flush()
    sessions.end_sessions(user.id)
    record_event(action, resource_type="user", resource_id=user.id, actor_id=user.id)


def _reset_signer(keys: Sequence[str]) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(list(keys), salt="password-reset")


def _digest(email: str) -> str:
    # Addresses that are changed past the mapper, by hand, count no epoch up.
    return hashlib.sha256(email.encode()).hexdigest()[:16]
