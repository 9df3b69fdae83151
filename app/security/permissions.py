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

#: What each scope allows, for people who are asked whether they let an app do it.
MEANINGS: dict[Permission, str] = {
    Permission.USERS_READ: "See all accounts, with their e-mail addresses and roles.",
    Permission.USERS_WRITE: "Create, change and deactivate accounts, and end their sessions.",
    Permission.AUDIT_READ: "See who has done what.",
    Permission.JOBS_READ: "See background jobs.",
    Permission.JOBS_WRITE: "Retry and cancel background jobs.",
    Permission.EVENTS_READ: "Follow the changes of the catalogue.",
    Permission.BRANDS_READ: "See brands.",
    Permission.BRANDS_WRITE: "Create and change brands.",
    Permission.BRANDS_DELETE: "Delete brands.",
    Permission.CATEGORIES_READ: "See categories.",
    Permission.CATEGORIES_WRITE: "Create and change categories.",
    Permission.CATEGORIES_DELETE: "Delete categories.",
    Permission.PRODUCTS_READ: "See products.",
    Permission.PRODUCTS_WRITE: "Create and change products and their prices, and import and export them.",
    Permission.PRODUCTS_DELETE: "Delete products and restore them.",
    Permission.MEDIA_READ: "See all pictures, also those of no product.",
    Permission.MEDIA_WRITE: "Add pictures and give them to products.",
    Permission.MEDIA_DELETE: "Delete pictures.",
    Permission.TYPES_READ: "See product types and attributes.",
    Permission.TYPES_WRITE: "Create and change product types and attributes.",
    Permission.TYPES_DELETE: "Delete product types and attributes.",
    Permission.STOCK_READ: "See stock movements and holds.",
    Permission.STOCK_WRITE: "Change the stock and hold products for orders.",
    Permission.SEARCH_TERMS_READ: "See what is searched for.",
    Permission.WEBHOOKS_READ: "See webhooks and their deliveries.",
    Permission.WEBHOOKS_WRITE: "Create, change and delete webhooks, which send the changes of the catalogue elsewhere.",
    Permission.OAUTH_CLIENTS_READ: "See the apps that people can let act for them.",
    Permission.OAUTH_CLIENTS_WRITE: "Register, change and delete apps that people can let act for them.",
}

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
