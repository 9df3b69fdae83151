"""Routes of logins with identity providers (OpenID Connect): the way there, the way back, and what is linked."""

from typing import Any
from urllib.parse import urlencode

from authlib.common.urls import add_params_to_uri
from flask import Response
from sqlalchemy import Select

from app.clients.oidc import LogoutTokenInvalid, ProviderUnavailable, current_providers
from app.clients.oidc_tokens import LogoutToken, Person
from app.core.errors import Refusal
from app.features.auth.routes import client, lifetimes, make_pair_response, page_lifetimes
from app.features.auth.schemas import TokenPairSchema
from app.features.identities import service
from app.features.identities.attempts import Attempt, ReturnToRefused, delete_attempt, keep_attempt
from app.features.identities.models import ExternalIdentity, LastWayIn, LoginCodeInvalid, StateInvalid
from app.features.identities.providers import (
    FAILURES,
    begin_linking,
    begin_login,
    policy_of,
    read_logout_token,
    redeem_response,
)
from app.features.identities.schemas import (
    CallbackQuerySchema,
    ExchangeSchema,
    IdentityQuerySchema,
    IdentitySchema,
    LinkingSchema,
    LinkSchema,
    LoginQuerySchema,
    LogoutFormSchema,
    ProvidersSchema,
)
from app.security.permissions import Permission
from app.web import cookies
from app.web.access import current_identity
from app.web.contract import (
    Blueprint,
    accepts,
    answers_oauth,
    awaits,
    limited,
    lists,
    locks,
    public,
    queries,
    redirects,
    refuses,
    requires,
    returns,
    takes_form,
    writes,
)
from app.web.output import to_json
from app.web.pages import see_other

blueprint = Blueprint(
    "identities", __name__, url_prefix="/auth", about="Logging in with identity providers (OpenID Connect)."
)


@blueprint.get("/oidc")
@public
@returns(ProvidersSchema)
def list_identity_providers() -> dict[str, Any]:
    """List the identity providers that people can log in with."""
    providers = [found.provider for found in current_providers().values()]
    return {"items": [{"name": provider.name, "title": provider.title} for provider in providers]}


@blueprint.get("/oidc/<name:provider>")
@public
@limited("RATE_LIMIT_LOGIN")
@queries(LoginQuerySchema)
@awaits(begin_login)
@redirects
@refuses(ReturnToRefused, ProviderUnavailable)
def begin_oidc_login(provider: str, query: dict[str, Any], awaited: tuple[Attempt, str]) -> Response:  # noqa: ARG001 -- `begin_login` has read them
    """Lead the browser to an identity provider, to log in there.

    It comes back to `return_to`: with `#csrf_token=...` and the refresh cookie, or in the mode `code` with `?code=...`
    for `POST /auth/oidc/exchange`; or with `error=...`, which is the code of a reason.
    """
    attempt, url = awaited
    response = see_other(url)
    keep_attempt(response, attempt)
    return response


@blueprint.get("/oidc/<name:provider>/callback")
@public
@writes
@limited("RATE_LIMIT_LOGIN")
@queries(CallbackQuerySchema)
@awaits(redeem_response)
@redirects
@refuses(StateInvalid)
def end_oidc_login(provider: str, query: dict[str, Any], awaited: tuple[Attempt, Person | Refusal]) -> Response:  # noqa: ARG001 -- `redeem_response` has read it
    """Take the browser back from an identity provider, and lead it on to where its login began.

    The reasons for `error=...` are `login_denied`, `login_refused`, `issuer_mismatch`, `id_token_invalid`,
    `provider_unavailable`, `email_unverified`, `identity_unknown`, `identity_taken` and `session_ended`.
    """
    attempt, outcome = awaited
    try:
        if isinstance(outcome, Refusal):
            raise outcome
        response = _end(attempt, outcome)
    except FAILURES as refusal:
        service.record_refusal(provider, refusal.code())
        response = _lead_back(attempt, error=refusal.code())
    delete_attempt(response)
    return response


@blueprint.post("/oidc/exchange")
@public
@limited("RATE_LIMIT_LOGIN")
@accepts(ExchangeSchema, is_small=True)
@returns(TokenPairSchema)
@refuses(LoginCodeInvalid)
def exchange_login_code(data: dict[str, Any]) -> Response:
    """Exchange the code of a login in the mode `code`, once and within a minute, for tokens."""
    in_cookie = data.pop("refresh_token_in") == "cookie"
    pair = service.exchange_code(**data, **client(), lifetimes=lifetimes())
    return make_pair_response(pair, in_cookie=in_cookie)


@blueprint.post("/oidc/<name:provider>/backchannel-logout")
@public
@answers_oauth
@takes_form(LogoutFormSchema)
@awaits(read_logout_token)
@returns(status=200)
@refuses(LogoutTokenInvalid, ProviderUnavailable)
def end_sessions_by_provider(provider: str, data: dict[str, Any], awaited: LogoutToken) -> None:  # noqa: ARG001 -- `read_logout_token` has read them
    """End the sessions that an identity provider says have ended (OpenID Connect Back-Channel Logout 1.0)."""
    service.end_by_provider(awaited)


@blueprint.get("/identities")
@requires(Permission.ACCOUNT_MANAGE)
@lists(IdentitySchema, IdentityQuerySchema, service.LISTING)
def list_identities() -> Select[ExternalIdentity]:
    """List the identities that you can log in with."""
    return service.identities_of(current_identity().user_id or 0)


@blueprint.post("/oidc/<name:provider>/link")
@requires(Permission.ACCOUNT_MANAGE)
@accepts(LinkSchema, is_small=True)
@awaits(begin_linking)
@returns(LinkingSchema)
@refuses(ReturnToRefused, ProviderUnavailable)
def link_identity(provider: str, data: dict[str, Any], awaited: tuple[Attempt, str]) -> Response:  # noqa: ARG001 -- `begin_linking` has read them
    """Begin to link an identity: the browser goes to `authorization_url`, with the cookie of this response.

    It comes back to `return_to` with `#linked=...`, the provider's name, or with `#error=...`.
    """
    attempt, url = awaited
    response = Response(to_json({"authorization_url": url}), mimetype="application/json")
    keep_attempt(response, attempt)
    return response


@blueprint.delete("/identities/<id:identity_id>")
@requires(Permission.ACCOUNT_MANAGE)
@locks(service.get_identity)
@returns(status=204)
@refuses(LastWayIn)
def unlink_identity(found: ExternalIdentity) -> None:
    """Unlink an identity; this ends the sessions that it opened, but not the one that asks."""
    issuers = [other.provider.issuer for other in current_providers().values()]
    service.unlink(found, session_id=current_identity().session_id or 0, issuers=issuers)


def _end(attempt: Attempt, person: Person) -> Response:
    """Do what the attempt was for, and lead the browser back."""
    if attempt.links is not None:
        user_id, session_id = attempt.links
        service.link(person, user_id=user_id, session_id=session_id)
        return _lead_back(attempt, linked=attempt.provider)
    policy = policy_of(attempt.provider)
    if attempt.code_challenge is not None:
        return _lead_back(attempt, code=service.issue_code(person, policy, code_challenge=attempt.code_challenge))
    periods = page_lifetimes() if attempt.is_for_consent else lifetimes()
    pair = service.log_in(person, policy, **client(), lifetimes=periods)
    if attempt.is_for_consent:
        response = see_other(attempt.return_to)
        cookies.set_login_cookie(response, pair.access_token)
        return response
    response = _lead_back(attempt, csrf_token=cookies.csrf_token(pair.refresh_token_id))
    cookies.set_refresh_cookie(response, pair.refresh_token)
    return response


def _lead_back(attempt: Attempt, **outcome: str) -> Response:
    """Redirect to where the attempt began: an app reads a query, and a fragment never leaves the browser."""
    if attempt.code_challenge is not None:
        return see_other(add_params_to_uri(attempt.return_to, list(outcome.items())))
    return see_other(f"{attempt.return_to}#{urlencode(outcome)}")
