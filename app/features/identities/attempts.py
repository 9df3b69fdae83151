"""A login in progress: what the browser carries to the provider and back, in a signed cookie.

The state in it ties the response to the browser that began (RFC 6749 section 10.12), the nonce ties the ID token to it,
and the code verifier the authorization code. Nothing is stored here until the provider has answered.
"""

import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from urllib.parse import unquote

from flask import Response, current_app, request
from itsdangerous import BadData, URLSafeTimedSerializer

from app.core.errors import Fault, Invalid
from app.features.identities.models import StateInvalid
from app.web.cookies import LOGIN_PATH

NAME = "catalog_oidc"
PATH = "/api/v1/auth/oidc"
#: Seconds that a person has at the provider.
LIFETIME = 600
#: Where a login leads to that says nothing else.
DEFAULT_RETURN = "/docs"

#: A path of this server with a query, of the characters of RFC 3986. A browser takes a backslash for a slash, drops
#: tabs, and reads two slashes as a host: none of them passes.
_PATH = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2}|/(?!/))*(?:\?[A-Za-z0-9._~!$&'()*+,;=:@/?%-]*)?")
#: No login returns to a path below this one: it may redirect to another site, and a browser takes the fragment along,
#: in which the CSRF token is.
_API = "/api/"
_DOTS = re.compile(r"/(?:\.|%2e){1,2}(?:/|\?|$)", re.IGNORECASE)


class ReturnToRefused(Invalid):
    """A login returns to the path of a page of this server, or to exactly one of LOGIN_RETURN_URLS."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One login, or the linking of an identity, from its beginning to the provider's response."""

    provider: str
    return_to: str
    #: Of a native app, which gets a code for its tokens (RFC 7636); None for a browser, which gets the cookie.
    code_challenge: str | None = None
    #: The user and the session that link an identity; None for a login.
    links: tuple[int, int] | None = None
    state: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    nonce: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    code_verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48))

    @property
    def is_for_consent(self) -> bool:
        """Whether it leads to the page on which people let apps act for them, and so gets its cookie, and no other."""
        return self.return_to.partition("?")[0] == LOGIN_PATH


def require_return_to(return_to: str, **place: str) -> None:
    """Refuse a URL that could lead to another site (``ReturnToRefused``); ``place`` is where the fault is."""
    if not _is_page(return_to) and return_to not in current_app.config["LOGIN_RETURN_URLS"]:
        raise ReturnToRefused(Fault(ReturnToRefused.sentence(), ReturnToRefused.code(), **place))


def keep_attempt(response: Response, attempt: Attempt) -> None:
    """Set the cookie. Lax, because the provider, which is another site, leads the browser back."""
    response.set_cookie(
        NAME,
        _serializer().dumps(asdict(attempt)),
        max_age=LIFETIME,
        path=PATH,
        httponly=True,
        secure=True,
        samesite="Lax",
    )


def delete_attempt(response: Response) -> None:
    """Delete the cookie: an attempt has one end."""
    response.delete_cookie(NAME, path=PATH, httponly=True, secure=True, samesite="Lax")


def read_attempt(provider: str, state: str | None) -> Attempt:
    """The attempt that the browser carries; ``StateInvalid`` if it is not with this provider and of this state."""
    try:
        members = _serializer().loads(request.cookies.get(NAME, ""), max_age=LIFETIME)
        attempt = Attempt(**{**members, "links": members["links"] and tuple(members["links"])})
    except (BadData, TypeError, KeyError):
        raise StateInvalid from None
    if attempt.provider != provider or not hmac.compare_digest(attempt.state.encode(), (state or "").encode()):
        raise StateInvalid
    return attempt


def _is_page(return_to: str) -> bool:
    """Whether this is the path of a page of this server, which stays there; of the API only the page for consent."""
    if _PATH.fullmatch(return_to) is None or return_to.startswith("//") or _DOTS.search(return_to):
        return False
    path = return_to.partition("?")[0]
    # Routing decodes a path, and merges its slashes.
    return path == LOGIN_PATH or not re.sub("/+", "/", unquote(path)).startswith(_API)


def _serializer() -> URLSafeTimedSerializer:
    keys: Sequence[str] = current_app.config["SECRET_KEYS"]
    return URLSafeTimedSerializer(list(keys), salt="oidc-login")
