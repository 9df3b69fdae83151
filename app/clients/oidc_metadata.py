"""What an identity provider publishes of itself: its discovery document (OpenID Connect Discovery 1.0)."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from authlib.oidc.discovery import OpenIDProviderMetadata

from app.clients.oidc_settings import Provider, is_loopback

#: How we can authenticate with the token endpoint, the first that it takes.
AUTHENTICATIONS = ("client_secret_basic", "client_secret_post")


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """The endpoints of a provider, and what it takes and promises."""

    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None
    authentication: str
    algorithms: frozenset[str]
    #: Whether each of its authorization responses names its issuer (RFC 9207).
    promises_issuer: bool


def read_metadata(document: Any, provider: Provider) -> Metadata:
    """The metadata in a discovery document; raises ``ValueError`` for one that is wrong, or of another issuer."""
    if not isinstance(document, dict) or document.get("issuer") != provider.issuer:
        # Discovery section 4.3: exactly the issuer that was asked, or an attacker's document could pass for it.
        raise ValueError("its issuer is not the one of OIDC_PROVIDERS")
    described = OpenIDProviderMetadata(document)
    described.validate_authorization_endpoint()
    described.validate_token_endpoint()
    described.validate_jwks_uri()
    endpoint = document.get("userinfo_endpoint")
    return Metadata(
        authorization_endpoint=_endpoint(document.get("authorization_endpoint"), provider),
        token_endpoint=_endpoint(document.get("token_endpoint"), provider),
        jwks_uri=_endpoint(document.get("jwks_uri"), provider),
        userinfo_endpoint=_endpoint(endpoint, provider) if endpoint else None,
        authentication=_authentication(described.token_endpoint_auth_methods_supported),
        algorithms=frozenset(map(str, document.get("id_token_signing_alg_values_supported", ["RS256"]))),
        promises_issuer=document.get("authorization_response_iss_parameter_supported") is True,
    )


def _endpoint(url: Any, provider: Provider) -> str:
    parts = urlsplit(str(url))
    is_secure = parts.scheme == "https" or (
        provider.is_local and parts.scheme == "http" and is_loopback(parts.hostname or "")
    )
    # A port past 65535 raises ValueError where it is read.
    if not is_secure or not parts.hostname or parts.port == 0 or parts.fragment or not str(url).isprintable():
        raise ValueError("an endpoint of it is not https")
    return str(url)


def _authentication(supported: Any) -> str:
    for name in AUTHENTICATIONS:
        if name in supported:
            return name
    raise ValueError(f"it takes none of {', '.join(AUTHENTICATIONS)}")
