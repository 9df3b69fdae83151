"""The tables of sessions and of their refresh tokens, and their refusals."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.core import clock
from app.core.errors import Unauthenticated
from app.core.model import Keyed, Moment, big_integer, nullable_json_type
from app.extensions import Model


class SessionEnded(Unauthenticated):
    """This session has ended; log in again."""


class RefreshTokenUsed(Unauthenticated):
    """This refresh token was already used; use the one that replaced it, or log in again."""


class RefreshTokenReused(Unauthenticated):
    """This refresh token was used again too long after its exchange, so its session was ended; log in again."""

    commits = True


class UserSession(Keyed, Model):
    """One login of a person, or what a person has let an app do: then it has a client and scopes, and is a grant."""

    __tablename__ = "sessions"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    device: Mapped[str] = mapped_column(String(200))
    address: Mapped[str] = mapped_column(String(45))
    created_at: Mapped[Moment] = mapped_column(default=clock.now)
    last_seen_at: Mapped[Moment] = mapped_column(default=clock.now)
    expires_at: Mapped[Moment]
    revoked_at: Mapped[Moment | None]
    client_id: Mapped[int | None] = mapped_column(
        big_integer, ForeignKey("oauth_clients.id", ondelete="CASCADE"), index=True
    )
    scopes: Mapped[list[str] | None] = mapped_column(nullable_json_type)
    #: An OAuthClient, of a feature that this one does not know.
    client: Mapped[Any] = relationship("OAuthClient", lazy="raise")
    #: The identity that logged in, and the name of the session at its provider (`sid`).
    identity_id: Mapped[int | None] = mapped_column(
        big_integer, ForeignKey("identities.id", ondelete="SET NULL"), index=True
    )
    provider_session: Mapped[str | None] = mapped_column(String(255))


Index("ix_sessions_user_id_id", UserSession.user_id, UserSession.id)
# A provider may end a session by this name alone; most have none.
_named = UserSession.provider_session.is_not(None)
Index("ix_sessions_provider_session", UserSession.provider_session, postgresql_where=_named, sqlite_where=_named)


class SessionNetwork(Model):
    """A network from which an account opened or refreshed a session, and when it last did."""

    __tablename__ = "session_networks"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    network: Mapped[str] = mapped_column(String(45), primary_key=True)
    seen_at: Mapped[Moment] = mapped_column(index=True)


class RefreshToken(Model):
    """A refresh token; its id is the token's ``jti``.

    The row of a used token stays, because its second use reveals a theft (RFC 9700 section 4.14.2).
    """

    __tablename__ = "refresh_tokens"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    session_id: Mapped[int] = mapped_column(big_integer, ForeignKey("sessions.id", ondelete="CASCADE"), index=True)
    issued_at: Mapped[Moment]
    expires_at: Mapped[Moment]
    used_at: Mapped[Moment | None]
    successor_id: Mapped[str | None] = mapped_column(String(36))

    def was_used_since(self, moment: datetime) -> bool:
        """Whether this token was exchanged at ``moment`` or later."""
        return self.used_at is not None and self.used_at >= moment
