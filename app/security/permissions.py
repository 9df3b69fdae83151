"""The whole access policy: the permissions, the roles, and which role grants what."""

from enum import StrEnum


class Permission(StrEnum):
    """A kind of operation that a role can grant."""

    ACCOUNT_MANAGE = "account:manage"
    USERS_READ = "users:read"
    USERS_WRITE = "users:write"
    AUDIT_READ = "audit:read"
    JOBS_READ = "jobs:read"
    JOBS_WRITE = "jobs:write"
    EVENTS_READ = "events:read"
    BRANDS_READ = "brands:read"
    BRANDS_WRITE = "brands:write"
    BRANDS_DELETE = "brands:delete"
    CATEGORIES_READ = "categories:read"
    CATEGORIES_WRITE = "categories:write"
    CATEGORIES_DELETE = "categories:delete"
    PRODUCTS_READ = "products:read"
    PRODUCTS_WRITE = "products:write"
    PRODUCTS_DELETE = "products:delete"
    MEDIA_READ = "media:read"
    MEDIA_WRITE = "media:write"
    MEDIA_DELETE = "media:delete"
    TYPES_READ = "types:read"
    TYPES_WRITE = "types:write"
    TYPES_DELETE = "types:delete"
    STOCK_READ = "stock:read"
    STOCK_WRITE = "stock:write"
    SEARCH_TERMS_READ = "search-terms:read"
    WEBHOOKS_READ = "webhooks:read"
    WEBHOOKS_WRITE = "webhooks:write"
    OAUTH_CLIENTS_READ = "oauth-clients:read"
    OAUTH_CLIENTS_WRITE = "oauth-clients:write"


class Role(StrEnum):
    """A user's role; each grants all that the one before it does."""

    USER = "user"
    EDITOR = "editor"
    ADMIN = "admin"


#: Reads of the catalogue, which need no credentials while CATALOG_PUBLIC_READ is on.
CATALOG_READS = frozenset(
    {
        Permission.BRANDS_READ,
        Permission.CATEGORIES_READ,
        Permission.PRODUCTS_READ,
        Permission.TYPES_READ,
    }
)

#: Only a logged-in user has these; an API key never has, because a key must not manage its owner's account or keys.
PERSONAL = frozenset({Permission.ACCOUNT_MANAGE})

#: The permissions that an API key can have.
SCOPES = [permission for permission in Permission if permission not in PERSONAL]

_USER = CATALOG_READS | {Permission.ACCOUNT_MANAGE, Permission.EVENTS_READ}
_EDITOR = _USER | {
    Permission.BRANDS_WRITE,
    Permission.CATEGORIES_WRITE,
    Permission.PRODUCTS_WRITE,
    Permission.MEDIA_READ,
    Permission.MEDIA_WRITE,
    Permission.TYPES_WRITE,
    Permission.STOCK_READ,
    Permission.STOCK_WRITE,
    Permission.SEARCH_TERMS_READ,
}

GRANTS: dict[Role, frozenset[Permission]] = {
    Role.USER: _USER,
    Role.EDITOR: _EDITOR,
    Role.ADMIN: frozenset(Permission),
}


def roles_with(permission: Permission) -> list[Role]:
    """The roles that grant ``permission``, in ascending order."""
    return [role for role in Role if permission in GRANTS[role]]
