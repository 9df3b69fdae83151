"""The identities that accounts have at providers, and the one-time codes of native apps."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.core import clock
from app.core.errors import Conflict, Invalid, Malformed, Unauthenticated
from app.core.model import Keyed, Moment, big_integer
from app.extensions import Model


class ExternalIdentity(Keyed, Model):
    """Who a user is at a provider: its issuer, and the subject, which is the same for as long as the account there."""

    __tablename__ = "identities"
    __table_args__ = (UniqueConstraint("issuer", "subject"), {"sqlite_autoincrement": True})

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    issuer: Mapped[str] = mapped_column(String(255))
    subject: Mapped[str] = mapped_column(String(255))
    #: The address there at the last login, for people to recognise it.
    email: Mapped[str | None] = mapped_column(String(254))
    created_at: Mapped[Moment] = mapped_column(default=clock.now)
    last_used_at: Mapped[Moment] = mapped_column(default=clock.now)


Index("ix_identities_user_id_id", ExternalIdentity.user_id, ExternalIdentity.id)


class LoginCode(Model):
    """A code that a native app exchanges for tokens, once: its hash, and the PKCE challenge of the app."""

    __tablename__ = "login_codes"

    code_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    identity_id: Mapped[int] = mapped_column(ForeignKey("identities.id", ondelete="CASCADE"), index=True)
    provider_session: Mapped[str | None] = mapped_column(String(255))
    code_challenge: Mapped[str] = mapped_column(String(128))
    expires_at: Mapped[Moment] = mapped_column(index=True)
    used_at: Mapped[Moment | None]
    #: The session that it was exchanged for, which a second use ends.
    session_id: Mapped[int | None] = mapped_column(
        big_integer, ForeignKey("sessions.id", ondelete="SET NULL"), index=True
    )

    def is_valid_at(self, moment: datetime) -> bool:
        """Whether it can still be exchanged."""
        return self.used_at is None and self.expires_at > moment


class StateInvalid(Malformed):
    """This browser has begun no such login within the last ten minutes; begin again."""


class LoginDenied(Unauthenticated):
    """You, or the identity provider, have denied the login; begin again, or log in another way."""


class IssuerMismatch(Unauthenticated):
    """The response is not from the identity provider that was asked (RFC 9207); begin again."""


class EmailUnverified(Unauthenticated):
    """The identity provider does not call your e-mail address verified; verify it there, or log in another way."""


class IdentityUnknown(Unauthenticated):
    """This identity leads to no account here; log in another way, and link it."""


class IdentityTaken(Conflict):
    """This identity is linked to another account; log in with it, and unlink it there first."""


class LastWayIn(Conflict):
    """Without this identity you could not log in any more; set a password or link another provider first."""


class LoginCodeInvalid(Invalid):
    """This code is unknown, used or older than a minute, or the code_verifier is another login's; begin again."""

    commits = True
    pointer = "/code"


#: The refusal that stands for each violated constraint of this table.
REFUSALS = {"uq_identities_issuer_subject": IdentityTaken}
