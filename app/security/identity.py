"""Identity: who is asking."""

from collections.abc import Iterable
from dataclasses import dataclass

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

    @classmethod
    def of_user(cls, *, user_id: int, role: Role, session_id: int, is_unseen: bool = False) -> "Identity":
        """A person who logged in."""
        return cls(permissions=GRANTS[role], user_id=user_id, role=role, session_id=session_id, is_unseen=is_unseen)

    @classmethod
    def of_key(cls, *, user_id: int, role: Role, api_key_id: int, scopes: Iterable[str], is_unseen: bool) -> "Identity":
        """An API key: what its owner's role allows now, and its scopes allow, and a person alone may not."""
        permissions = (GRANTS[role] & {Permission(scope) for scope in scopes}) - PERSONAL
        return cls(permissions=permissions, user_id=user_id, role=role, api_key_id=api_key_id, is_unseen=is_unseen)

    def can(self, permission: Permission) -> bool:
        """Whether this identity may do this kind of thing."""
        return permission in self.permissions


ANONYMOUS = Identity(permissions=frozenset())
