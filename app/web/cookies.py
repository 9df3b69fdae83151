"""The refresh token as a cookie, for web clients: out of the reach of scripts, and of other sites' requests.

The cookie goes to /api/v1/auth alone, and with requests of pages of the same site: SameSite looks at scheme and
registrable domain, and at neither port nor subdomain. Those of another origin need CORS_ORIGINS too. A request with the
cookie must also carry `X-CSRF-Token`, the signature of the token's id: another site can neither read nor make it.
"""

import hashlib

from flask import Flask, Request, Response, current_app, request
from flask.sessions import SessionInterface, SessionMixin
from itsdangerous import Signer

from app.core.errors import Forbidden

NAME = "catalog_refresh"
PATH = "/api/v1/auth"


class CsrfTokenWrong(Forbidden):
    """A request with the refresh cookie needs the X-CSRF-Token that came with it."""


class NoCookieSession(SessionInterface):
    """Flask's own session, a signed cookie that is looked for at each request: there is none here."""

    def open_session(self, _app: Flask, _request: Request) -> None:
        """Read no cookie."""

    def save_session(self, _app: Flask, _session: SessionMixin, _response: Response) -> None:
        """Set no cookie; not called for a session that was not opened."""


def init_app(app: Flask) -> None:
    """Do without Flask's session."""
    app.session_interface = NoCookieSession()


def read_refresh_cookie() -> str | None:
    """The refresh token in the request's cookie."""
    return request.cookies.get(NAME)


def set_refresh_cookie(response: Response, token: str) -> None:
    """Hand out the refresh token as a cookie."""
    response.set_cookie(
        NAME,
        token,
        max_age=current_app.config["REFRESH_TOKEN_TTL"],
        path=PATH,
        httponly=True,
        # Browsers count http://localhost as secure.
        secure=True,
        samesite="Strict",
    )


def drop_refresh_cookie(response: Response) -> None:
    """Take the cookie back."""
    response.delete_cookie(NAME, path=PATH, httponly=True, secure=True, samesite="Strict")


def csrf_token(token_id: str) -> str:
    """What must come with the cookie of the refresh token with this id."""
    return _signer().get_signature(token_id).decode()


def require_csrf_token(token_id: str) -> None:
    """Refuse a request that has the cookie and not its companion."""
    if not _signer().verify_signature(token_id, request.headers.get("X-CSRF-Token", "")):
        raise CsrfTokenWrong


def _signer() -> Signer:
    return Signer(current_app.config["SECRET_KEYS"], salt="csrf", digest_method=hashlib.sha256)
