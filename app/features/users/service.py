"""Use cases of users."""

from typing import Any

from sqlalchemy import Select, select

from app.core.constraints import refusing
from app.core.errors import NotFound
from app.core.listing import Listing, OneOf, contains_words
from app.core.locks import advisory_lock
from app.extensions import db
from app.features.sessions import service as sessions
from app.features.users.models import REFUSALS, LastAdmin, RoleNotHeld, User
from app.security.identity import Identity
from app.security.passwords import hash_password, require_uncommon
from app.security.permissions import GRANTS, PERSONAL, Role

LISTING = Listing(
    filters={
        "role": OneOf(User.role),
        "is_active": User.is_active.is_,
    },
    sorts={"created_at": User.created_at, "username": User.username, "email": User.email, "id": User.id},
    tie_breaker=User.id,
    search=contains_words(User.search_text),
)


def visible_to(_identity: Identity) -> Select[User]:
    """Every account, active or not: the permission to read accounts covers all of them."""
    return select(User)


def get_user(user_id: int, *, identity: Identity, lock: bool = False) -> User:
    """The account, if ``identity`` may see it; else ``NotFound``. ``lock`` locks its row (FOR NO KEY UPDATE)."""
    rows = visible_to(identity).where(User.id == user_id)
    user = db.session.scalar(rows.with_for_update(key_share=True) if lock else rows)
    if user is None:
        raise NotFound
    return user


def get_me(*, identity: Identity, lock: bool = False) -> User:
    """The account of the authenticated user; ``lock`` locks its row."""
    return get_user(identity.user_id or 0, identity=identity, lock=lock)


def require_may_govern(identity: Identity, *roles: str) -> None:
    """Refuse roles with permissions that ``identity`` lacks: a key with one scope must not create administrators."""
    for role in roles:
        if not GRANTS[Role(role)] - PERSONAL <= identity.permissions:
            raise RoleNotHeld


def create_user(
    *,
    email: str,
    username: str,
    password: str,
    role: Role = Role.USER,
    is_active: bool = True,
    email_verified: bool = True,
) -> User:
    """Create an account. ``email_verified`` says whether the address is known to be its owner's.

    Refuses a common password (``PasswordTooCommon``), and an e-mail address (``EmailTaken``) or username
    (``UsernameTaken``) that is in use.
    """
    require_uncommon(password, pointer="/password")
    user = User(
        email=email.lower(),
        username=username,
        password_hash=hash_password(password),
        role=role,
        is_active=is_active,
        email_verified=email_verified,
    )
    with refusing(REFUSALS):
        db.session.add(user)
    return user


def create_user_without_password(*, email: str, username: str, role: Role) -> User:
    """Create an account that an identity provider lets its owner into, who is known to have the address.

    Refuses an e-mail address (``EmailTaken``) or username (``UsernameTaken``) that is in use.
    """
    user = User(
        email=email.lower(), username=username, password_hash="", role=role, is_active=True, email_verified=True
    )
    with refusing(REFUSALS):
        db.session.add(user)
    return user


def update_me(user: User, *, username: str | None = None) -> User:
    """Change the account of the authenticated user."""
    return update_user(user, **({} if username is None else {"username": username}))


def update_user(user: User, **changed: Any) -> User:
    """Change an account; deactivating it ends its sessions. An ``email`` is an administrator's word, and so verified.

    Refuses to leave no active administrator (``LastAdmin``), and an e-mail address (``EmailTaken``) or username
    (``UsernameTaken``) that is in use.
    """
    _require_another_admin(
        user, role=changed.get("role", user.role), is_active=changed.get("is_active", user.is_active)
    )
    with refusing(REFUSALS):
        for name, value in changed.items():
            setattr(user, name, value)
        if "email" in changed:
            user.email_verified = True
    if not user.is_active:
        sessions.end_sessions(user.id)
    return user


def deactivate_user(user: User) -> None:
    """Deactivate an account; ``NotFound`` if it is inactive. Its row stays, because the audit trail refers to it."""
    if not user.is_active:
        raise NotFound
    update_user(user, is_active=False)


def _require_another_admin(user: User, *, role: str, is_active: bool) -> None:
    if user.role != Role.ADMIN or not user.is_active or (role == Role.ADMIN and is_active):
        return
    # Without the lock, two administrators who demote each other concurrently would each still see the other as one.
    advisory_lock("last-admin")
    others = select(User.id).where(User.role == Role.ADMIN, User.is_active, User.id != user.id).limit(1)
    if db.session.scalar(others) is None:
        raise LastAdmin
