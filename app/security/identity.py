"""Identity: who is asking."""

from dataclasses import dataclass

from app.security.permissions import GRANTS, Permission, Role


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who is asking, as the database knows them at this request. Somebody anonymous has no user."""

    permissions: frozenset[Permission]
    user_id: int | None = None
    session_id: int | None = None
    role: Role | None = None

    @classmethod
    def of_user(cls, *, user_id: int, role: Role, session_id: int) -> "Identity":
        """A person who logged in."""
        return cls(permissions=GRANTS[role], user_id=user_id, role=role, session_id=session_id)

    def can(self, permission: Permission) -> bool:
        """Whether this identity may do this kind of thing."""
        return permission in self.permissions


ANONYMOUS = Identity(permissions=frozenset())
