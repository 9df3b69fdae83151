"""Grants: what people have let apps do. Each is a session with a client and scopes (`sessions.models.UserSession`)."""

from dataclasses import dataclass

from sqlalchemy import select

from app.extensions import db
from app.features.sessions import service as sessions
from app.features.sessions.models import RefreshToken, UserSession
from app.features.users.models import User
from app.security.permissions import Role
from app.security.tokens import Claims


@dataclass(frozen=True)
class Grant:
    """A grant for which tokens are issued, and its new refresh token."""

    user_id: int
    role: Role
    session: UserSession
    token: RefreshToken


def find_active_user(user_id: int) -> User | None:
    """The user, if active."""
    return db.session.scalar(select(User).where(User.id == user_id, User.is_active))


def find_session(claims: Claims) -> UserSession | None:
    """The live session of a refresh token, if an app owns it: the tokens of a person's own login are none of OAuth."""
    rows = sessions.grants_of(claims.user_id).where(UserSession.id == claims.session_id)
    return db.session.scalar(rows)
