"""The tables of sessions and of their refresh tokens, and the refusals of logging in."""

from datetime import datetime

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from app.core import clock
from app.core.errors import Forbidden, Unauthenticated
from app.core.model import Keyed, Moment, big_integer
from app.extensions import Model


class LoginFailed(Unauthenticated):
    """The e-mail address and password do not fit, or the account is not active."""


class SessionEnded(Unauthenticated):
    """This session has ended; log in again."""


class RefreshTokenUsed(Unauthenticated):
    """This refresh token was used already; use its successor, or log in again."""


class RefreshTokenReused(Unauthenticated):
    """This refresh token was used again long after its exchange, so its session was ended; log in again."""

    commits = True


class RegistrationClosed(Forbidden):
    """Accounts are made by administrators here."""


class UserSession(Keyed, Model):
    """One login. Tokens name it, and die with it."""

    __tablename__ = "sessions"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    device: Mapped[str] = mapped_column(String(200))
    address: Mapped[str] = mapped_column(String(45))
    created_at: Mapped[Moment] = mapped_column(default=clock.now)
    last_seen_at: Mapped[Moment] = mapped_column(default=clock.now)
    expires_at: Mapped[Moment]
    revoked_at: Mapped[Moment | None]

    def revoke(self) -> None:
        """End this session: its tokens are refused from the next request on."""
        self.revoked_at = self.revoked_at or clock.now()


class RefreshToken(Model):
    """A refresh token, by its ``jti``. The row of a used one stays: a second use of it betrays a theft."""

    __tablename__ = "refresh_tokens"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    session_id: Mapped[int] = mapped_column(big_integer, ForeignKey("sessions.id", ondelete="CASCADE"), index=True)
    issued_at: Mapped[Moment]
    expires_at: Mapped[Moment]
    used_at: Mapped[Moment | None]
    successor_id: Mapped[str | None] = mapped_column(String(36))

    def was_used_since(self, moment: datetime) -> bool:
        """Whether the one exchange of this token happened at ``moment`` or later."""
        return self.used_at is not None and self.used_at >= moment
