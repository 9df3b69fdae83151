"""The users table and its refusals."""

from sqlalchemy import CheckConstraint, Index, String, Text, event, func, inspect
from sqlalchemy.orm import Mapped, mapped_column

from app.core.audit import UNAUDITED, Audited
from app.core.errors import Conflict, Forbidden
from app.core.model import Keyed, Stamped, Versioned
from app.core.text import fold
from app.extensions import Model
from app.security.permissions import Role


class EmailTaken(Conflict):
    """An account with this e-mail address exists."""


class UsernameTaken(Conflict):
    """This username is taken."""


class RoleNotHeld(Forbidden):
    """You cannot give, change or take a role that can do more than you can."""


class LastAdmin(Conflict):
    """This would leave no active administrator."""


class User(Keyed, Stamped, Versioned, Audited, Model):
    """A person with an account. The e-mail address is stored in lower case."""

    __tablename__ = "users"
    audited_as = "user"
    __table_args__ = (
        CheckConstraint(f"role IN ({', '.join(repr(role.value) for role in Role)})", name="role"),
        CheckConstraint("email = lower(email)", name="email_lower"),
        {"sqlite_autoincrement": True},
    )

    email: Mapped[str] = mapped_column(String(254), unique=True)
    username: Mapped[str] = mapped_column(String(32))
    password_hash: Mapped[str] = mapped_column(String(255), info=UNAUDITED)
    role: Mapped[Role] = mapped_column(String(16), default=Role.USER)
    is_active: Mapped[bool] = mapped_column(default=True)
    #: Counted up by each change of the password, the address or the activity; a reset token is bound to it.
    epoch: Mapped[int] = mapped_column(default=0, info=UNAUDITED)
    search_text: Mapped[str] = mapped_column(Text, info=UNAUDITED)

    def set_password(self, password_hash: str) -> None:
        """Replace the password; every reset token that was sent is void."""
        self.password_hash = password_hash
        self.epoch += 1


@event.listens_for(User, "before_insert")
@event.listens_for(User, "before_update")
def _keep_search_text(_mapper: object, _connection: object, user: User) -> None:
    user.search_text = fold(f"{user.username} {user.email}")


@event.listens_for(User, "before_update")
def _void_reset_tokens(_mapper: object, _connection: object, user: User) -> None:
    # Counted here and not by each use case, so that a change back does not make a token good again.
    columns = inspect(user).attrs
    if columns.email.history.has_changes() or columns.is_active.history.has_changes():
        user.epoch += 1


Index("ix_users_created_at_id", User.created_at, User.id)
Index("ix_users_username_id", User.username, User.id)
Index("uq_users_username", func.lower(User.username), unique=True)

#: What a violated constraint of this table means.
REFUSALS = {"uq_users_email": EmailTaken, "uq_users_username": UsernameTaken}
