"""Use cases of users."""

from sqlalchemy import select

from app.core.database import refusing
from app.core.errors import NotFound
from app.extensions import db
from app.features.users.models import REFUSALS, User
from app.security.identity import Identity
from app.security.passwords import hash_password
from app.security.permissions import Role


def create_user(*, email: str, username: str, password: str, role: Role = Role.USER) -> User:
    """Make an account; refuses an e-mail address (``EmailTaken``) or username (``UsernameTaken``) that is in use."""
    user = User(email=email.lower(), username=username, password_hash=hash_password(password), role=role)
    with refusing(REFUSALS):
        db.session.add(user)
    return user


def get_me(*, identity: Identity, lock: bool = False) -> User:
    """The account of whoever asks."""
    rows = select(User).where(User.id == identity.user_id)
    user = db.session.scalar(rows.with_for_update(key_share=True) if lock else rows)
    if user is None:
        raise NotFound
    return user


def update_me(user: User, *, username: str | None = None) -> User:
    """Change one's own account."""
    with refusing(REFUSALS):
        if username is not None:
            user.username = username
    return user
