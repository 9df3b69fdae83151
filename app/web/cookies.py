"""The refresh token as a cookie, for web clients: scripts cannot read it (HttpOnly), other sites cannot send it.

Browsers send the cookie to /api/v1/auth only, and only from pages of the same site: SameSite compares scheme and
registrable domain, and neither port nor subdomain. A page of another origin on that site needs CORS_ORIGINS too. A
request with the cookie must also carry `X-CSRF-Token`, the signature of the token's id, which another site can neither
read nor make.

The page on which people let apps act for them has a cookie of its own (decision 60).
"""

import hashlib
from datetime import timedelta

from flask import Flask, Request, Response, current_app, request
from flask.sessions import SessionInterface, SessionMixin
from itsdangerous import Signer

from app.core.errors import Forbidden

NAME = "catalog_refresh"
PATH = "/api/v1/auth"
#: The login on the page on which people let apps act for them; only that page gets its cookie.
LOGIN_NAME = "catalog_login"
LOGIN_PATH = "/api/v1/oauth/authorize"
#: How long that login lasts, if no decision ends it before.
LOGIN_LIFETIME = timedelta(minutes=15)


class CsrfTokenWrong(Forbidden):
    """A request with the refresh cookie needs the X-CSRF-Token that was issued with it."""


class NoCookieSession(SessionInterface):
    """Replaces Flask's session, which would look for a signed cookie in each request."""

    def open_session(self, _app: Flask, _request: Request) -> None:
        """No session."""

    def save_session(self, _app: Flask, _session: SessionMixin, _response: Response) -> None:
        """Required by the base class; Flask does not call it where no session was opened."""


def init_app(app: Flask) -> None:
    """Turn off Flask's session."""
    app.session_interface = NoCookieSession()


def read_refresh_cookie() -> str | None:
    """The refresh token in the request's cookie; None where there is none."""
    return request.cookies.get(NAME)


def set_refresh_cookie(response: Response, token: str) -> None:
    """Set the cookie to this refresh token, for REFRESH_TOKEN_TTL seconds."""
    response.set_cookie(
        NAME,
        token,
        max_age=current_app.config["REFRESH_TOKEN_TTL"],
        path=PATH,
        httponly=True,
        # Also in development: browsers treat http://localhost as secure.
        secure=True,
        samesite="Strict",
    )


def delete_refresh_cookie(response: Response) -> None:
    """Delete the cookie in the browser."""
    response.delete_cookie(NAME, path=PATH, httponly=True, secure=True, samesite="Strict")


def read_login_cookie() -> str | None:
    """The access token of a login on the page that asks for consent; None where there is none."""
    return request.cookies.get(LOGIN_NAME)


def set_login_cookie(response: Response, token: str) -> None:
    """Log the browser in on the page that asks for consent, until it is closed or the access token expires.

    Not SameSite=Strict, because apps of other sites lead to the page; what it is used for carries a CSRF token.
    """
    response.set_cookie(LOGIN_NAME, token, path=LOGIN_PATH, httponly=True, secure=True, samesite="Lax")


def delete_login_cookie(response: Response) -> None:
    """Delete the cookie of the page that asks for consent."""
    response.delete_cookie(LOGIN_NAME, path=LOGIN_PATH, httponly=True, secure=True, samesite="Lax")


def csrf_token(token_id: str) -> str:
    """The X-CSRF-Token for the refresh token with this id."""
    return _signer().get_signature(token_id).decode()


def require_csrf_token(token_id: str) -> None:
    """Refuse a request whose X-CSRF-Token does not fit the token in its cookie; raises `CsrfTokenWrong`."""
    if not _signer().verify_signature(token_id, request.headers.get("X-CSRF-Token", "")):
        raise CsrfTokenWrong


def _signer() -> Signer:
    return Signer(current_app.config["SECRET_KEYS"], salt="csrf", digest_method=hashlib.sha256)
