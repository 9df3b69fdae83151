"""The table of API keys and its refusals."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.core.audit import UNAUDITED, Audited
from app.core.errors import Forbidden, Invalid
from app.core.model import Keyed, Moment, Stamped, Versioned, json_type
from app.extensions import Model
from app.security.api_keys import PREFIX


class ScopeNotHeld(Forbidden):
    """You, or the key's owner, lack one of these scopes; you can give others only what you may do yourself."""


class ExpiryPassed(Invalid):
    """The expiry of a key must be in the future."""

    pointer = "/expires_at"


class ApiKey(Keyed, Stamped, Versioned, Audited, Model):
    """A key of a user. Its secrets are stored as hashes; the previous one works until ``previous_until``."""

    __tablename__ = "api_keys"
    audited_as = "api_key"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(100))
    scopes: Mapped[list[str]] = mapped_column(json_type)
    secret_hash: Mapped[str] = mapped_column(String(64), info=UNAUDITED)
    last_four: Mapped[str] = mapped_column(String(4))
    previous_hash: Mapped[str | None] = mapped_column(String(64), info=UNAUDITED)
    previous_until: Mapped[Moment | None]
    expires_at: Mapped[Moment | None]
    last_used_at: Mapped[Moment | None] = mapped_column(info=UNAUDITED)
    revoked_at: Mapped[Moment | None]

    @property
    def prefix(self) -> str:
        """The public part with which the key begins."""
        return f"{PREFIX}_{self.id}_"

    @property
    def client_id(self) -> str:
        """Its name as a client of OAuth 2, such as `cat_5`; the whole key is the secret."""
        return f"{PREFIX}_{self.id}"

    def rotate(self, *, secret_hash: str, last_four: str, previous_until: datetime) -> None:
        """Give the key a new secret; the current one works until ``previous_until``."""
        self.previous_hash, self.previous_until = self.secret_hash, previous_until
        self.secret_hash, self.last_four = secret_hash, last_four


Index("ix_api_keys_user_id_id", ApiKey.user_id, ApiKey.id)
