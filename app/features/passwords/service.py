"""Use cases of changing and resetting passwords."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from itsdangerous import BadData, URLSafeTimedSerializer
from sqlalchemy import select

from app.core import jobs
from app.core.audit import record_event
from app.core.transactions import release_connection
from app.extensions import db
from app.features.api_keys import service as api_keys
from app.features.auth import guard
from app.features.auth import service as auth
from app.features.identities import service as identities
from app.features.passwords.models import CurrentPasswordWrong, ResetTokenInvalid
from app.features.sessions import service as sessions
from app.features.users import service as users
from app.features.users.models import User
from app.security.identity import Identity
from app.security.passwords import hash_password, require_uncommon, verify_password

#: The validity of a reset token; `ResetTokenInvalid` and the mail state it too.
RESET_TOKEN_SECONDS = 30 * 60
#: The kind of the job that mails a reset token.
KIND = "password_reset"
#: With the backoff of jobs, the last attempt begins 12 to 24 minutes after the first: servers that use greylisting ask
#: for a retry after some minutes, and a restart of the mail server takes as long.
MAX_MAIL_ATTEMPTS = 12


#: Stands for the id and epoch of an account: none has the id 0.
_NO_ACCOUNT = (0, 0)


@dataclass(frozen=True)
class Reset:
    """A reset token and the address to mail it to."""

    email: str
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
    """Change the password of the authenticated user, end all of their sessions, and open a new one.

    Refuses a common new password (``PasswordTooCommon``), and a current one that is wrong or that another request has
    replaced meanwhile (``CurrentPasswordWrong``). A wrong one counts as a failed login (``TooManyFailures``).
    """
    require_uncommon(new_password, pointer="/new_password")
    user = users.get_me(identity=identity)
    email, current_hash, epoch = user.email, user.password_hash, user.epoch
    guard.require_few_failures(email, address)
    release_connection()
    is_correct = verify_password(current_password, current_hash)
    reaches_limit = guard.count_attempt(email, address)
    if not is_correct:
        auth.record_failure(identity.user_id, reaches_limit=reaches_limit)
        raise CurrentPasswordWrong
    # Undoes the count, which is all that was written, and releases its lock before the new password is hashed.
    db.session.rollback()
    new_hash = hash_password(new_password)
    locked = _lock_user(identity.user_id or 0, epoch)
    if locked is None:
        # Another request changed the account meanwhile, so this may no longer be its current password.
        raise CurrentPasswordWrong
    _replace_password(locked, new_hash, "password.changed")
    return auth.start_session(locked, device=device, address=address, lifetimes=lifetimes)


def request_reset(*, email: str) -> None:
    """Enqueue the job that mails a reset token to the active account with this address.

    The job holds neither token nor address: it names the account at its epoch. An address without an account, and an
    inactive account, execute the same statements and enqueue a job that sends nothing, so that the duration reveals
    nothing.
    """
    user = db.session.execute(select(User.id, User.epoch).where(User.email == email.lower())).one_or_none()
    record_event("password.reset_requested", resource_type="user", resource_id=user.id if user else None)
    user_id, epoch = user or _NO_ACCOUNT
    jobs.enqueue(KIND, {"user_id": user_id, "epoch": epoch}, max_attempts=MAX_MAIL_ATTEMPTS)


def sign_requested(*, user_id: int, epoch: int, keys: Sequence[str]) -> Reset | None:
    """A reset token for a requested reset, valid from now on, signed with the last of ``keys`` and not stored.

    None if the account is inactive or has changed since ``epoch``, or if there was none.
    """
    rows = select(User.email).where(User.id == user_id, User.epoch == epoch, User.is_active)
    email = db.session.scalar(rows)
    return None if email is None else Reset(email, sign_reset(user_id, epoch, email, keys=keys))


def confirm_reset(*, token: str, new_password: str, keys: Sequence[str]) -> None:
    """Set a new password with a reset token signed by any of ``keys``.

    The token works once and only while the account is unchanged (else ``ResetTokenInvalid``): it is bound to the
    address that it was mailed to, and to the account's epoch, which this and every change of the password, ``email`` or
    ``is_active`` increments. The first one of an account that was registered unlinks its identities and revokes its API
    keys, because its owner may not be the one who registered it.
    """
    require_uncommon(new_password, pointer="/new_password")
    try:
        user_id, epoch, mailed_to = _reset_signer(keys).loads(token, max_age=RESET_TOKEN_SECONDS)
    except (BadData, ValueError, TypeError):
        raise ResetTokenInvalid from None
    new_hash = hash_password(new_password)
    user = _lock_user(user_id, epoch)
    if user is None or _digest(user.email) != mailed_to:
        raise ResetTokenInvalid
    _replace_password(user, new_hash, "password.reset")
    if not user.email_verified:
        # After the sessions have ended, so that none of them can add an identity or a key meanwhile.
        _take_over(user)


def sign_reset(user_id: int, epoch: int, email: str, *, keys: Sequence[str]) -> str:
    """The reset token of an account at this epoch and address."""
    return str(_reset_signer(keys).dumps([user_id, epoch, _digest(email)]))


def _lock_user(user_id: int, epoch: int) -> User | None:
    """The active user, locked; None if the account is inactive or has changed since ``epoch``."""
    rows = select(User).where(User.id == user_id, User.epoch == epoch, User.is_active)
    return db.session.scalar(rows.with_for_update(key_share=True).execution_options(populate_existing=True))


def _take_over(user: User) -> None:
    """Give an account to the owner of its address, who has only now shown to be that.

    Another person may have registered it with their address, to wait for them to use it, and what they left themselves
    to come in by would outlast their password ("account pre-hijacking", Sudhodanan and Paverd 2022).
    """
    identities.unlink_all(user.id)
    api_keys.revoke_all(user.id)
    user.email_verified = True


def _replace_password(user: User, new_hash: str, action: str) -> None:
    user.set_password(new_hash)
    db.session.flush()
    sessions.end_sessions(user.id)
    record_event(action, resource_type="user", resource_id=user.id, actor_id=user.id)


def _reset_signer(keys: Sequence[str]) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(list(keys), salt="password-reset")


def _digest(email: str) -> str:
    # The epoch alone is not enough: an address that is changed in SQL, past the mapper, does not increment it.
    return hashlib.sha256(email.encode()).hexdigest()[:16]
