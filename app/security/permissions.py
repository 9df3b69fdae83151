"""The whole access policy: what can be permitted, the roles, and which role may do what."""

from enum import StrEnum


class Permission(StrEnum):
    """A kind of thing that may be done."""

    ACCOUNT_MANAGE = "account:manage"
    USERS_READ = "users:read"
    USERS_WRITE = "users:write"
    AUDIT_READ = "audit:read"
    EVENTS_READ = "events:read"
    CATEGORIES_READ = "categories:read"
    CATEGORIES_WRITE = "categories:write"
    CATEGORIES_DELETE = "categories:delete"
    PRODUCTS_READ = "products:read"
    PRODUCTS_WRITE = "products:write"
    PRODUCTS_DELETE = "products:delete"
    STOCK_READ = "stock:read"
    STOCK_WRITE = "stock:write"


class Role(StrEnum):
    """What a person is here to do."""

    USER = "user"
    EDITOR = "editor"
    ADMIN = "admin"


#: Reading the catalogue; anybody may when CATALOG_PUBLIC_READ is on.
CATALOG_READS = frozenset({Permission.CATEGORIES_READ, Permission.PRODUCTS_READ})

#: What a person does as themselves. No API key can: a key neither logs in nor makes keys.
PERSONAL = frozenset({Permission.ACCOUNT_MANAGE})

#: What an API key can be limited to.
SCOPES = [permission for permission in Permission if permission not in PERSONAL]

_USER = CATALOG_READS | {Permission.ACCOUNT_MANAGE, Permission.EVENTS_READ}
_EDITOR = _USER | {
    Permission.CATEGORIES_WRITE,
    Permission.PRODUCTS_WRITE,
    Permission.STOCK_READ,
    Permission.STOCK_WRITE,
}

GRANTS: dict[Role, frozenset[Permission]] = {
    Role.USER: _USER,
    Role.EDITOR: _EDITOR,
    Role.ADMIN: frozenset(Permission),
}


def roles_with(permission: Permission) -> list[Role]:
    """The roles that hold ``permission``, the least of them first."""
    return [role for role in Role if permission in GRANTS[role]]
