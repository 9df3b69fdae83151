"""Identity: who is asking."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from app.security.permissions import GRANTS, PERSONAL, Permission, Role


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who is asking, as the database knows them at this request. Somebody anonymous has no user."""

    permissions: frozenset[Permission]
    user_id: int | None = None
    session_id: int | None = None
    api_key_id: int | None = None
    role: Role | None = None
    #: Whether what is stored of the credential's last use is a minute old.
    is_unseen: bool = False
    #: The catalogue's version when this was read, in the same statement; what is read afterwards is as new or newer.
    catalogue_version: int | None = None

    @classmethod
    def of_user(cls, *, role: Role, **known: Any) -> "Identity":
        """A person who logged in."""
        return cls(permissions=GRANTS[role], role=role, **known)

    @classmethod
    def of_key(cls, *, role: Role, scopes: Iterable[str], **known: Any) -> "Identity":
        """An API key: what its owner's role allows now, and its scopes allow, and a person alone may not."""
        permissions = (GRANTS[role] & {Permission(scope) for scope in scopes}) - PERSONAL
        return cls(permissions=permissions, role=role, **known)

    def can(self, permission: Permission) -> bool:
        """Whether this identity may do this kind of thing."""
        return permission in self.permissions


ANONYMOUS = Identity(permissions=frozenset())
