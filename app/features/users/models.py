"""The users table and its refusals."""

from sqlalchemy import CheckConstraint, Index, String, Text, event, false, func, inspect
from sqlalchemy.orm import Mapped, mapped_column

from app.core.audit import UNAUDITED, Audited
from app.core.errors import Conflict, Forbidden
from app.core.model import Keyed, Stamped, Versioned
from app.core.text import fold
from app.extensions import Model
from app.security.permissions import Role


class EmailTaken(Conflict):
    """An account with this e-mail address exists; use another address."""


class UsernameTaken(Conflict):
    """This username is taken; choose another."""


class RoleNotHeld(Forbidden):
    """You cannot assign, change or revoke a role that has permissions which you do not have."""


class LastAdmin(Conflict):
    """This would leave no active administrator; make another user an administrator first."""


class User(Keyed, Stamped, Versioned, Audited, Model):
    """A user account. The e-mail address is stored in lower case."""

    __tablename__ = "users"
    audited_as = "user"
    __table_args__ = (
        CheckConstraint(f"role IN ({', '.join(repr(role.value) for role in Role)})", name="role"),
        CheckConstraint("email = lower(email)", name="email_lower"),
        {"sqlite_autoincrement": True},
    )

    email: Mapped[str] = mapped_column(String(254), unique=True)
    username: Mapped[str] = mapped_column(String(50))
    #: Whether the address is known to be its owner's: an administrator stated it, a mail to it was answered, or a
    #: trusted provider says so. Not where someone registered, who may have stated another person's address.
    email_verified: Mapped[bool] = mapped_column(default=False, server_default=false())
    #: Empty where the account has no password: an identity provider lets its owner in.
    password_hash: Mapped[str] = mapped_column(String(255), info=UNAUDITED)
    role: Mapped[Role] = mapped_column(String(16), default=Role.USER)
    is_active: Mapped[bool] = mapped_column(default=True)
    #: Incremented by each change of the password, ``email`` or ``is_active``; a reset token is valid for one epoch.
    epoch: Mapped[int] = mapped_column(default=0, info=UNAUDITED)
    search_text: Mapped[str] = mapped_column(Text, info=UNAUDITED)

    def set_password(self, password_hash: str) -> None:
        """Replace the password hash, which invalidates every reset token that was sent."""
        self.password_hash = password_hash
        self.epoch += 1


@event.listens_for(User, "before_insert")
@event.listens_for(User, "before_update")
def _update_search_text(_mapper: object, _connection: object, user: User) -> None:
    user.search_text = fold(f"{user.username} {user.email}")


@event.listens_for(User, "before_update")
def _invalidate_reset_tokens(_mapper: object, _connection: object, user: User) -> None:
    # A counter and not a comparison of values, so that a change back does not make a token valid again; and here rather
    # than in each use case, so that none can omit it.
    columns = inspect(user).attrs
    if columns.email.history.has_changes() or columns.is_active.history.has_changes():
        user.epoch += 1


Index("ix_users_created_at_id", User.created_at, User.id)
Index("ix_users_username_id", User.username, User.id)
Index("uq_users_username", func.lower(User.username), unique=True)

#: The refusal that stands for each violated constraint of this table.
REFUSALS = {"uq_users_email": EmailTaken, "uq_users_username": UsernameTaken}
