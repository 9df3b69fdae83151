"""Forms of our own pages: only the page that this browser was shown can submit them, and only what it showed (CSRF).

Each form has a token: a signature of a random value in a cookie, which scripts cannot read, and of what the page was
about. Another site has neither, and another person or another request has another token.
"""

import hashlib
import re
import secrets

from flask import Response, current_app, request
from itsdangerous import Signer

from app.core.errors import Forbidden

NAME = "catalog_form"
#: A value of ours. What another site of the same domain has stored there is not stored again.
_is_ours = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII).fullmatch


class FormNotOurs(Forbidden):
    """This form is not from the page as it was shown to you, or another person has logged in since; begin again."""


def browser_id() -> str:
    """The random value in the cookie of this browser, or a new one, which `remember_browser` stores."""
    given = request.cookies.get(NAME, "")
    return given if _is_ours(given) else secrets.token_urlsafe(32)


def remember_browser(response: Response, browser: str, *, path: str) -> None:
    """Set the cookie, until the browser is closed. Not SameSite=Strict, because other sites lead to the page."""
    response.set_cookie(NAME, browser, path=path, httponly=True, secure=True, samesite="Lax")


def form_token(browser: str, subject: str) -> str:
    """The token of a form on a page about ``subject``, such as a session and what it is asked."""
    return _signer().get_signature(f"{browser}.{subject}").decode()


def require_own_form(token: str, subject: str) -> None:
    """Refuse a form that this browser did not get from us on a page about ``subject`` (``FormNotOurs``).

    Where the browser says what site the request comes from, it must be ours. A page that sends no referrer has the
    Origin null.
    """
    headers, browser = request.headers, request.cookies.get(NAME)
    is_ours = headers.get("Sec-Fetch-Site", "same-origin") == "same-origin"
    is_ours &= headers.get("Origin", "null").partition("://")[2].lower() in {"", request.host.lower()}
    # The signer compares in constant time.
    if browser is None or not is_ours or not _signer().verify_signature(f"{browser}.{subject}", token):
        raise FormNotOurs


def _signer() -> Signer:
    return Signer(current_app.config["SECRET_KEYS"], salt="form", digest_method=hashlib.sha256)
