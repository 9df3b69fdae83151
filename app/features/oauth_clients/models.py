"""The table of OAuth clients and its refusals."""

import hmac
from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, String
from sqlalchemy.orm import Mapped, mapped_column

from app.core.audit import UNAUDITED, Audited
from app.core.errors import Conflict
from app.core.model import Keyed, Moment, Stamped, Versioned, json_type
from app.extensions import Model
from app.security.tokens import APP_PREFIX


class PublicClientHasNoSecret(Conflict):
    """A public client has no secret that could be rotated."""


class ClientType(StrEnum):
    """Whether a client can keep a secret (RFC 6749 section 2.1): a server can, a page or an app on a phone cannot."""

    CONFIDENTIAL = "confidential"
    PUBLIC = "public"


class OAuthClient(Keyed, Stamped, Versioned, Audited, Model):
    """An app of a third party. Its secrets are stored as hashes; the previous one works until ``previous_until``."""

    __tablename__ = "oauth_clients"
    audited_as = "oauth_client"
    __table_args__ = (
        CheckConstraint("type IN ('confidential', 'public')", name="type"),
        CheckConstraint("(type = 'confidential') = (secret_hash IS NOT NULL)", name="secret"),
        {"sqlite_autoincrement": True},
    )

    name: Mapped[str] = mapped_column(String(100))
    type: Mapped[ClientType] = mapped_column(String(16))
    redirect_uris: Mapped[list[str]] = mapped_column(json_type)
    #: The most that it may ask for.
    scopes: Mapped[list[str]] = mapped_column(json_type)
    secret_hash: Mapped[str | None] = mapped_column(String(64), info=UNAUDITED)
    last_four: Mapped[str | None] = mapped_column(String(4))
    previous_hash: Mapped[str | None] = mapped_column(String(64), info=UNAUDITED)
    previous_until: Mapped[Moment | None]

    @property
    def client_id(self) -> str:
        """Its public name in requests, such as `app_12`."""
        return f"{APP_PREFIX}_{self.id}"

    def rotate(self, *, secret_hash: str, last_four: str, previous_until: datetime) -> None:
        """Give the client a new secret; the current one works until ``previous_until``."""
        self.previous_hash, self.previous_until = self.secret_hash, previous_until
        self.secret_hash, self.last_four = secret_hash, last_four

    def accepts(self, secret_hash: str, now: datetime) -> bool:
        """Whether this is the hash of its secret, or of the previous one during the overlap."""
        secrets = [self.secret_hash]
        if self.previous_until is not None and self.previous_until > now:
            secrets.append(self.previous_hash)
        return any(hmac.compare_digest(secret or "", secret_hash) for secret in secrets)
