"""Routes of the page on which people let apps act for them."""

from typing import Any

from authlib.oauth2.rfc6749.errors import AccessDeniedError, OAuth2Error
from flask import Response, current_app

from app.core import clock
from app.core.errors import NotFound, Unauthenticated
from app.features.auth import service as auth
from app.features.auth.models import LoginFailed, TooManyFailures
from app.features.auth.routes import client, page_lifetimes
from app.features.oauth import codes, page
from app.features.oauth.authorization import (
    AuthorizationRequest,
    ClientUnknown,
    RedirectUriUnregistered,
    add_response,
    read_authorization_request,
)
from app.features.oauth.errors import OauthUnavailable
from app.features.oauth.schemas_page import (
    AuthorizationQuerySchema,
    DecisionFormSchema,
    PageFormSchema,
    PageLoginSchema,
)
from app.features.sessions import service as sessions
from app.features.users import service as users
from app.security.identity import Identity
from app.security.passwords import HashingBusy
from app.security.tokens import Claims, TokenKind, read_token
from app.web import cookies
from app.web.access import act_as
from app.web.contract import Blueprint, limited, public, queries, redirects, refuses, returns, shows_page, takes_form
from app.web.page_forms import FormNotOurs

#: What each view can refuse: only what must not be said to the app, because it is not known where that is.
REFUSALS = (OauthUnavailable, ClientUnknown, RedirectUriUnregistered, FormNotOurs)

blueprint = Blueprint("authorize", __name__, url_prefix="/oauth/authorize", tag="oauth")


@blueprint.get("")
@public
@shows_page
@queries(AuthorizationQuerySchema)
@returns()
@refuses(OauthUnavailable, ClientUnknown, RedirectUriUnregistered)
def read_authorization_page(query: dict[str, Any]) -> Response:
    """Ask the person whether an app may act for them: the page to which the app sends their browser.

    Only where the app or its address is unknown does the page show an error; any other is for the app, and leads to its
    address.
    """
    asked, identity = _read(query), _current_login()
    if identity is None:
        return page.show_login(asked, email=query.get("login_hint", ""))
    return page.show_consent(asked, users.get_me(identity=identity), identity)


@blueprint.post("/login")
@public
@limited("RATE_LIMIT_LOGIN")
@shows_page
@queries(AuthorizationQuerySchema)
@takes_form(PageLoginSchema)
@redirects
@refuses(*REFUSALS, LoginFailed, TooManyFailures, HashingBusy)
def log_in_on_page(query: dict[str, Any], data: dict[str, Any]) -> Response:
    """Log in on the page, for as long as it takes to decide.

    Where the credentials are wrong, the page is the response, with the status 401.
    """
    asked = _read(query)
    page.require_own_form(data["csrf_token"], session_id=None)
    try:
        pair = auth.log_in(email=data["email"], password=data["password"], **client(), lifetimes=page_lifetimes())
    except LoginFailed:
        return page.show_login(asked, email=data["email"], fault=LoginFailed)
    response = page.lead_to(page.here())
    cookies.set_login_cookie(response, pair.access_token)
    return response


@blueprint.post("/logout")
@public
@shows_page
@queries(AuthorizationQuerySchema)
@takes_form(PageFormSchema)
@redirects
@refuses(*REFUSALS)
def log_out_of_page(query: dict[str, Any], data: dict[str, Any]) -> Response:
    """Log out of the page, for another person to log in."""
    _read(query)
    identity = _current_login()
    if identity is not None:
        page.require_own_form(data["csrf_token"], session_id=identity.session_id)
        _end(identity)
    return _forget_login(page.lead_to(page.here()))


@blueprint.post("")
@public
@shows_page
@queries(AuthorizationQuerySchema)
@takes_form(DecisionFormSchema)
@redirects
@refuses(*REFUSALS)
def decide_on_authorization(query: dict[str, Any], data: dict[str, Any]) -> Response:
    """Allow what the app asks for, or deny it: leads back to the app, with a code or an error.

    Either ends the login on the page.
    """
    asked, claims, allows = _read(query), _read_login(), data["decision"] == "allow"
    if claims is None and allows:
        return page.lead_to(page.here())
    page.require_own_form(data["csrf_token"], session_id=claims.session_id if claims else None)
    identity = _identify(claims) if claims else None
    if identity is not None and not _end(identity):
        identity = None
    if claims is not None and identity is None and allows:
        return _repeat(asked, claims.user_id)
    scopes = page.grantable(asked, identity) if identity is not None and allows else []
    if claims is None or not scopes:
        return _forget_login(_answer(AccessDeniedError(redirect_uri=asked.redirect_uri, state=asked.state)))
    code = codes.issue(asked.client, claims.user_id, asked.redirect_uri, scopes, asked.code_challenge)
    return _forget_login(page.lead_to(asked.response_uri(code=code, issuer=_issuer())))


def _repeat(asked: AuthorizationRequest, user_id: int) -> Response:
    """Lead back once more, where the button was clicked twice: the browser drops the response to the first click.

    Where nothing was allowed just now, the login has ended in another way, and the page asks for one.
    """
    code = codes.repeat(asked.client, user_id, asked.redirect_uri, asked.code_challenge)
    return _forget_login(page.lead_to(asked.response_uri(code=code, issuer=_issuer()) if code else page.here()))


def _read(query: dict[str, Any]) -> AuthorizationRequest:
    """The authorization request, checked anew by each view: what the client may ask for can change in between."""
    _issuer()
    return read_authorization_request(query)


def _issuer() -> str:
    issuer: str | None = current_app.config["ISSUER"]
    if issuer is None:
        raise OauthUnavailable
    return issuer


def _answer(fault: OAuth2Error) -> Response:
    """Say to the app what was wrong, at its registered address."""
    members = {"error": fault.error, "error_description": fault.description}
    return page.lead_to(add_response(fault.redirect_uri, members, state=fault.state, issuer=_issuer()))


blueprint.register_error_handler(OAuth2Error, _answer)


def _current_login() -> Identity | None:
    """The person who is logged in on the page; the request is theirs from now on."""
    claims = _read_login()
    return _identify(claims) if claims else None


def _read_login() -> Claims | None:
    """Who has logged in on the page, though the login may have ended."""
    token = cookies.read_login_cookie()
    if token is None:
        return None
    try:
        # Of a session: an app or a key has no account of its own to give access to.
        claims = read_token(token, TokenKind.ACCESS, current_app.extensions["key_ring"])
    except Unauthenticated:
        return None
    # The lifetime of access tokens is a setting, and may be longer.
    return claims if claims.issued_at > clock.now() - cookies.LOGIN_LIFETIME else None


def _identify(claims: Claims) -> Identity | None:
    identity = auth.load_identity(claims)
    if identity is not None:
        act_as(identity)
    return identity


def _end(identity: Identity) -> bool:
    """End a login; false where another request has just done so."""
    try:
        sessions.end_session(identity.session_id or 0, identity=identity)
    except NotFound:
        return False
    return True


def _forget_login(response: Response) -> Response:
    cookies.delete_login_cookie(response)
    return response
