"""The table of authorization codes."""

from authlib.oauth2.rfc6749 import AuthorizationCodeMixin
from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from app.core.model import Moment, big_integer, json_type
from app.extensions import Model


class AuthorizationCode(AuthorizationCodeMixin, Model):
    """What a person has let an app do, until the app exchanges the code for tokens, once; the row has its hash.

    The row of a used code stays until it expires, because its second use reveals a theft (RFC 6749 section 4.1.2).
    """

    __tablename__ = "authorization_codes"

    code_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    client_id: Mapped[int] = mapped_column(big_integer, ForeignKey("oauth_clients.id", ondelete="CASCADE"), index=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    redirect_uri: Mapped[str] = mapped_column(String(2000))
    scopes: Mapped[list[str]] = mapped_column(json_type)
    code_challenge: Mapped[str] = mapped_column(String(128))
    expires_at: Mapped[Moment] = mapped_column(index=True)
    used_at: Mapped[Moment | None]
    #: The session that it was exchanged for, which a second use ends.
    session_id: Mapped[int | None] = mapped_column(
        big_integer, ForeignKey("sessions.id", ondelete="SET NULL"), index=True
    )

    def get_redirect_uri(self) -> str:
        """Where the code was sent, which the exchange repeats."""
        return self.redirect_uri

    def get_scope(self) -> str:
        """What the person has agreed to."""
        return " ".join(self.scopes)
