"""The users table and its refusals."""

from sqlalchemy import CheckConstraint, Index, String, func
from sqlalchemy.orm import Mapped, mapped_column

from app.core.errors import Conflict
from app.core.model import Keyed, Stamped, Versioned
from app.extensions import Model
from app.security.permissions import Role


class EmailTaken(Conflict):
    """An account with this e-mail address exists."""


class UsernameTaken(Conflict):
    """This username is taken."""


class User(Keyed, Stamped, Versioned, Model):
    """A person with an account. The e-mail address is stored in lower case."""

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint(f"role IN ({', '.join(repr(role.value) for role in Role)})", name="role"),
        CheckConstraint("email = lower(email)", name="email_lower"),
        {"sqlite_autoincrement": True},
    )

    email: Mapped[str] = mapped_column(String(254), unique=True)
    username: Mapped[str] = mapped_column(String(32))
    password_hash: Mapped[str] = mapped_column(String(255))
    role: Mapped[Role] = mapped_column(String(16), default=Role.USER)
    is_active: Mapped[bool] = mapped_column(default=True)


Index("uq_users_username", func.lower(User.username), unique=True)

#: What a violated constraint of this table means.
REFUSALS = {"uq_users_email": EmailTaken, "uq_users_username": UsernameTaken}
