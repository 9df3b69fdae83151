"""Routes of registration, login, refresh and logout."""

from dataclasses import replace
from typing import Any

import orjson
from flask import Response, current_app, request

from app.features.auth import service
from app.features.auth.models import LoginFailed, RegistrationClosed, TooManyFailures
from app.features.auth.schemas import LoginSchema, RegisterSchema, TokenPairSchema
from app.features.sessions import service as sessions
from app.features.sessions.models import RefreshTokenReused, RefreshTokenUsed, SessionEnded
from app.features.users import service as users
from app.features.users.models import EmailTaken, User, UsernameTaken
from app.features.users.schemas import UserSchema
from app.security.passwords import HashingBusy, PasswordTooCommon
from app.security.permissions import Permission
from app.web import cookies
from app.web.access import current_claims, current_identity
from app.web.contract import (
    Blueprint,
    accepts,
    limited,
    public,
    refuses,
    requires,
    requires_refresh_token,
    returns,
)
from app.web.cookies import CsrfTokenWrong
from app.web.schemas import shared

blueprint = Blueprint("auth", __name__, url_prefix="/auth", about="Registration, login and logout.")


@blueprint.post("/register")
@public
@limited("RATE_LIMIT_LOGIN")
@accepts(RegisterSchema, is_small=True)
@returns(UserSchema, status=201, location=lambda _: "/api/v1/users/me")
@refuses(EmailTaken, UsernameTaken, PasswordTooCommon, RegistrationClosed, HashingBusy)
def register(data: dict[str, Any]) -> User:
    """Create an account for yourself, with the role user."""
    if not current_app.config["REGISTRATION_OPEN"]:
        raise RegistrationClosed
    # Anyone can state any address here.
    return users.create_user(**data, email_verified=False)


@blueprint.post("/login")
@public
@limited("RATE_LIMIT_LOGIN")
@accepts(LoginSchema, is_small=True)
@returns(TokenPairSchema)
@refuses(LoginFailed, TooManyFailures, HashingBusy)
def log_in(data: dict[str, Any]) -> Response:
    """Open a session with your e-mail address and password."""
    in_cookie = data.pop("refresh_token_in") == "cookie"
    pair = service.log_in(**data, **client(), lifetimes=lifetimes())
    return make_pair_response(pair, in_cookie=in_cookie)


@blueprint.post("/refresh")
@requires_refresh_token
@returns(TokenPairSchema)
@refuses(SessionEnded, RefreshTokenUsed, RefreshTokenReused, CsrfTokenWrong)
def refresh() -> Response:
    """Exchange your refresh token, which works once, for a new pair.

    Send it as the bearer token or as the cookie; the cookie requires `X-CSRF-Token`.
    """
    claims = current_claims()
    in_cookie = "Authorization" not in request.headers
    if in_cookie:
        cookies.require_csrf_token(claims.token_id)
    pair = service.refresh(claims, address=client()["address"], lifetimes=lifetimes())
    return make_pair_response(pair, in_cookie=in_cookie)


@blueprint.post("/logout")
@requires(Permission.ACCOUNT_MANAGE)
@returns(status=204)
def log_out() -> Response:
    """End this session; its access and refresh tokens are refused from the next request on."""
    identity = current_identity()
    sessions.end_session(identity.session_id or 0, identity=identity)
    response = Response(status=204)
    del response.headers["Content-Type"]
    if cookies.read_refresh_cookie():
        cookies.delete_refresh_cookie(response)
    return response


def make_pair_response(pair: service.TokenPair, *, in_cookie: bool) -> Response:
    """A response with the pair in the body, or with its refresh token in a cookie and a CSRF token in the body."""
    body = shared(TokenPairSchema).dump(pair)
    if in_cookie:
        body |= {"refresh_token": None, "csrf_token": cookies.csrf_token(pair.refresh_token_id)}
    response = Response(orjson.dumps(body), mimetype="application/json")
    if in_cookie:
        cookies.set_refresh_cookie(response, pair.refresh_token)
    return response


def client() -> dict[str, str]:
    """The device (the User-Agent header) and IP address of the request, which a session stores."""
    return {"device": request.headers.get("User-Agent", ""), "address": request.remote_addr or ""}


def lifetimes() -> service.Lifetimes:
    """The configured lifetimes of tokens."""
    config = current_app.config
    return service.Lifetimes(
        access=config["ACCESS_TOKEN_TTL"], refresh=config["REFRESH_TOKEN_TTL"], grace=config["REFRESH_GRACE"]
    )


def page_lifetimes() -> service.Lifetimes:
    """Those of a login on the page on which people let apps act for them."""
    return replace(lifetimes(), refresh=int(cookies.LOGIN_LIFETIME.total_seconds()))
