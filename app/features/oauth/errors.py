"""The refusals of the endpoints of OAuth 2. Each has the name of an error of the RFCs, and no words of a request."""

from typing import NoReturn

from authlib.oauth2 import OAuth2Error

from app.core.errors import Malformed, NotFound, Refusal, Unauthenticated


class OauthUnavailable(NotFound):
    """This server issues no tokens of OAuth 2: they name its public URL (PUBLIC_URL), which is not set or not https."""


class InvalidRequest(Malformed):
    """A parameter is missing for this grant_type, malformed or repeated, or the client authenticates in two ways."""


class InvalidClient(Unauthenticated):
    """The client is unknown, its secret is wrong, revoked or missing, or it sends one and is a public app."""


class InvalidGrant(Malformed):
    """The code or token is unknown, expired, used, revoked or another's, or redirect_uri or code_verifier is wrong."""

    # What led to it stays: a code or token that was used twice has ended what it was exchanged for.
    commits = True


class UnauthorizedClient(Malformed):
    """This client may not use this grant type: API keys use client_credentials, and apps the others."""


class UnsupportedGrantType(Malformed):
    """The grant types are authorization_code, refresh_token and client_credentials."""


class UnsupportedTokenType(Malformed):
    """A token of an API key cannot be revoked alone: it expires within minutes, or ends when the key is revoked."""


class InvalidScope(Malformed):
    """A scope is unknown, or more than was allowed; or nothing is left that the person or the key may do."""


_BY_ERROR: dict[str, type[Refusal]] = {
    refusal.code(): refusal
    for refusal in (
        InvalidRequest,
        InvalidClient,
        InvalidGrant,
        UnauthorizedClient,
        UnsupportedGrantType,
        UnsupportedTokenType,
        InvalidScope,
    )
}


def refuse(error: OAuth2Error) -> NoReturn:
    """Raise the refusal for an error of Authlib."""
    raise _BY_ERROR.get(error.error, InvalidRequest) from error
