"""What identity providers are asked, in the half of a request before its transaction (`@awaits` of the routes)."""

import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from authlib.oauth2.rfc7636 import create_s256_code_challenge
from flask import current_app

from app.clients.oidc import IdTokenInvalid, LoginRefused, ProviderClient, ProviderUnavailable, current_providers
from app.clients.oidc_tokens import LogoutToken, Person
from app.core.errors import NotFound, Refusal
from app.features.identities import service
from app.features.identities.attempts import Attempt, read_attempt, require_return_to
from app.features.identities.models import EmailUnverified, IdentityTaken, IdentityUnknown, IssuerMismatch, LoginDenied
from app.features.sessions.models import SessionEnded
from app.web.access import current_identity
from app.web.fields import normalized_email

#: What ends an attempt without a login; its code is what the browser is led back with.
FAILURES = (
    *(LoginDenied, LoginRefused, IssuerMismatch, IdTokenInvalid, ProviderUnavailable),
    *(EmailUnverified, IdentityUnknown, IdentityTaken, SessionEnded),
)


def begin_login(provider: str, query: dict[str, Any]) -> tuple[Attempt, str]:
    """The attempt, and where the browser goes for it."""
    require_return_to(query["return_to"], parameter="return_to")
    attempt = Attempt(provider=provider, return_to=query["return_to"], code_challenge=query.get("code_challenge"))
    return attempt, _authorization_url(attempt)


def begin_linking(provider: str, data: dict[str, Any]) -> tuple[Attempt, str]:
    """The attempt of the authenticated user, and where the browser goes for it."""
    require_return_to(data["return_to"], pointer="/return_to")
    identity = current_identity()
    links = (identity.user_id or 0, identity.session_id or 0)
    attempt = Attempt(provider=provider, return_to=data["return_to"], links=links)
    return attempt, _authorization_url(attempt)


def redeem_response(provider: str, query: dict[str, Any]) -> tuple[Attempt, Person | Refusal]:
    """The attempt that the provider responds to, and who has logged in there, or why there is no login."""
    found = _find_client(provider)
    attempt = read_attempt(provider, query.get("state"))
    try:
        return attempt, _redeem(found, attempt, query)
    except FAILURES as refusal:
        return attempt, refusal


def read_logout_token(provider: str, data: dict[str, Any]) -> LogoutToken:
    """What the provider says has ended."""
    return _find_client(provider).read_logout_token(data["logout_token"])


def policy_of(provider: str) -> service.Policy:
    """What the settings let a provider do; ``NotFound`` where there is none of this name."""
    found = _find_client(provider).provider
    creates = current_app.config["REGISTRATION_OPEN"] if found.creates_accounts is None else found.creates_accounts
    return service.Policy(trusted=found.trusted, creates_accounts=creates)


def _redeem(found: ProviderClient, attempt: Attempt, query: Mapping[str, Any]) -> Person:
    if not found.is_issuer(query.get("iss")):
        raise IssuerMismatch
    if query.get("error") == "access_denied":
        raise LoginDenied
    if "error" in query or "code" not in query:
        raise LoginRefused
    person = found.redeem(
        query["code"],
        redirect_uri=_redirect_uri(attempt.provider),
        nonce=attempt.nonce,
        code_verifier=attempt.code_verifier,
    )
    return replace(person, email=_address(person))


def _address(person: Person) -> str | None:
    """The address of a person as accounts have it; None where it is none.

    It is none where its characters are others that only look alike: in an address, the Kelvin sign is no K, but
    normalizing would make it one, and so lead to the account of another person.
    """
    spelled = person.email or ""
    return normalized_email(spelled) if unicodedata.is_normalized("NFKC", spelled) else None


def _authorization_url(attempt: Attempt) -> str:
    return _find_client(attempt.provider).authorization_url(
        redirect_uri=_redirect_uri(attempt.provider),
        state=attempt.state,
        nonce=attempt.nonce,
        code_challenge=create_s256_code_challenge(attempt.code_verifier),
    )


def _find_client(provider: str) -> ProviderClient:
    found = current_providers().get(provider)
    if found is None:
        raise NotFound
    return found


def _redirect_uri(provider: str) -> str:
    return f"{current_app.config['ISSUER']}/api/v1/auth/oidc/{provider}/callback"
