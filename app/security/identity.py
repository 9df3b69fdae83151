"""Identity: the principal of a request and its permissions."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from app.core.changelog import LogTail
from app.security.permissions import GRANTS, PERSONAL, Permission, Role


@dataclass(frozen=True, kw_only=True)
class Identity:
    """The principal of a request, as the database has it at this request; an anonymous one has no user."""

    permissions: frozenset[Permission]
    user_id: int | None = None
    session_id: int | None = None
    api_key_id: int | None = None
    #: The OAuth client that acts for the user, where the session is what the user has let it do.
    client_id: int | None = None
    role: Role | None = None
    #: Whether the stored last use of the credential is at least a minute old.
    is_unseen: bool = False
    #: What the log of changes had for this process, read by the same statement; what is read afterwards is at least as
    #: new. None where the request does not ask.
    log: LogTail | None = None

    @classmethod
    def of_user(cls, *, role: Role, **known: Any) -> "Identity":
        """The identity of a user who logged in: all that the role grants."""
        return cls(permissions=GRANTS[role], role=role, **known)

    @classmethod
    def of_delegate(cls, *, role: Role, scopes: Iterable[str], **known: Any) -> "Identity":
        """The identity of an API key, or of an app that acts for a person.

        It has what the person's role and the scopes both grant, except personal permissions.
        """
        permissions = (GRANTS[role] & {Permission(scope) for scope in scopes}) - PERSONAL
        return cls(permissions=permissions, role=role, **known)

    def can(self, permission: Permission) -> bool:
        """Whether this identity has a permission."""
        return permission in self.permissions


ANONYMOUS = Identity(permissions=frozenset())
