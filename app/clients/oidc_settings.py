"""The setting OIDC_PROVIDERS: the identity providers that people can log in with, and how far each is trusted."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from app.security.permissions import Role

#: In the path of the callback, which is registered with the provider.
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?", re.ASCII)
#: What has a path of its own where the name of a provider would be.
_RESERVED = frozenset({"exchange"})
_TEXT = re.compile(r"[\x21-\x7e]+", re.ASCII)
#: RFC 6749 section 3.3.
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+", re.ASCII)
#: What a provider has in the setting.
MEMBERS = frozenset(
    {
        *("issuer", "client_id", "client_secret", "client_secret_file", "title", "scopes"),
        *("trusted", "creates_accounts", "role_claim", "roles"),
    }
)
_ODD = frozenset("?#@\\")
#: Of the column that identities have.
MAX_ISSUER_LENGTH = 255
DEFAULT_SCOPES = ("openid", "email", "profile")


@dataclass(frozen=True, kw_only=True)
class Provider:
    """An identity provider: an issuer of ID tokens (OpenID Connect), and our registration with it."""

    name: str
    #: What a button says.
    title: str
    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    scopes: tuple[str, ...] = DEFAULT_SCOPES
    #: Whether an e-mail address that it calls verified may lead to an account that it was not linked to.
    trusted: bool = False
    #: Whether a first login makes an account; None is what REGISTRATION_OPEN says. Only a trusted one does.
    creates_accounts: bool | None = None
    #: The claim whose values ``roles`` maps to roles; without one, no provider decides on a role.
    role_claim: str | None = None
    roles: Mapping[str, Role] = field(default_factory=dict)

    @property
    def is_local(self) -> bool:
        """Whether its issuer is plain HTTP, which only loopback may be."""
        return self.issuer.startswith("http:")


def parse_providers(text: str) -> Mapping[str, Provider]:
    """The providers by name, from a JSON object or the path of a file that has it, with or without an @ before it.

    Raises ``ValueError``, whose message names members and never a value.
    """
    content: str | bytes = text
    if not text.lstrip().startswith("{"):
        content = _read_file(text.removeprefix("@"), "must be a JSON object, or the path of a file with one")
    try:
        described = orjson.loads(content)
    except ValueError:
        raise ValueError("must be a JSON object") from None
    if not isinstance(described, dict):
        raise ValueError("must be a JSON object")  # noqa: TRY004 -- the settings know ValueError alone
    providers = {name: _provider(name, members) for name, members in described.items()}
    if len({provider.issuer for provider in providers.values()}) < len(providers):
        # An account is known by issuer and subject: two providers of one issuer would be one another's.
        raise ValueError("must name each issuer once")
    return providers


def is_loopback(host: str) -> bool:
    """Whether a host is a loopback address, or localhost."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _provider(name: str, members: object) -> Provider:
    if not _NAME.fullmatch(name) or name in _RESERVED:
        raise ValueError("must have names of lower-case letters, digits and hyphens, and none may be exchange")
    if not isinstance(members, dict) or not members.keys() <= MEMBERS:
        raise ValueError(f"must have objects of these members: {', '.join(sorted(MEMBERS))}")
    roles = _roles(members.get("roles"))
    role_claim = _text(members, "role_claim", optional=True)
    if bool(roles) != bool(role_claim):
        raise ValueError("must have role_claim and roles together")
    return Provider(
        name=name,
        title=_title(members.get("title", name.replace("-", " ").title())),
        issuer=_issuer(members.get("issuer")),
        client_id=_text(members, "client_id"),
        client_secret=_secret(members),
        scopes=_scopes(members.get("scopes", list(DEFAULT_SCOPES))),
        trusted=bool(_boolean(members, "trusted")),
        creates_accounts=_boolean(members, "creates_accounts"),
        role_claim=role_claim or None,
        roles=roles,
    )


def _issuer(value: object) -> str:
    # OpenID Connect Discovery 1.0 section 3: neither query nor fragment.
    if not isinstance(value, str) or not _TEXT.fullmatch(value) or len(value) > MAX_ISSUER_LENGTH or set(value) & _ODD:
        raise ValueError("must have an issuer that is a URL without user information, query and fragment")
    try:
        parts = urlsplit(value)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError("must have an issuer that is a URL") from None
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        raise ValueError("must have an issuer that is https, or http on this machine")
    if not host or port == 0:
        raise ValueError("must have an issuer that is a URL with a host")
    return value


def _secret(members: Mapping[str, Any]) -> str:
    if ("client_secret" in members) == ("client_secret_file" in members):
        raise ValueError("must have one of client_secret and client_secret_file")
    if "client_secret" in members:
        return _text(members, "client_secret")
    path = _text(members, "client_secret_file")
    secret = _read_file(path, "must have a client_secret_file that is readable").decode("ascii", "replace").strip()
    return _text({"client_secret_file": secret}, "client_secret_file")


def _read_file(path: str, message: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError):
        raise ValueError(message) from None


def _text(members: Mapping[str, Any], name: str, *, optional: bool = False) -> str:
    value = members.get(name)
    if value is None and optional:
        return ""
    if not isinstance(value, str) or not _TEXT.fullmatch(value) or len(value) > 1000:
        raise ValueError(f"must have a {name} of visible ASCII characters")
    return value


def _title(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable() or len(value) > 80:
        raise ValueError("must have a title of at most 80 characters")
    return value


def _boolean(members: Mapping[str, Any], name: str) -> bool | None:
    value = members.get(name)
    if value is not None and not isinstance(value, bool):
        raise ValueError(f"must have true or false as {name}")
    return value


def _scopes(value: object) -> tuple[str, ...]:
    scopes = value.split() if isinstance(value, str) else value
    if not isinstance(scopes, list) or not all(isinstance(scope, str) and _SCOPE.fullmatch(scope) for scope in scopes):
        raise ValueError("must have scopes that are a list of names")
    if "openid" not in scopes:
        raise ValueError("must have openid among the scopes")
    return tuple(scopes)


def _roles(value: object) -> dict[str, Role]:
    roles = value if value is not None else {}
    if not isinstance(roles, dict) or not set(map(str, roles.values())) <= set(Role):
        raise ValueError(f"must have roles that map values of the claim to one of {', '.join(Role)}")
    return {claimed: Role(role) for claimed, role in roles.items()}
