"""The page on which people let apps act for them, as HTML without scripts."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from flask import Response, request, url_for

from app.clients.oidc import current_providers
from app.core.errors import Refusal
from app.features.identities.providers import FAILURES
from app.features.oauth.authorization import AuthorizationRequest
from app.features.users.models import User
from app.security.identity import Identity
from app.security.permissions import MEANINGS, Permission
from app.web import docs, page_forms, pages
from app.web.cookies import LOGIN_PATH

_URI_CHARACTERS = "/?:@!$&'()*+,;=%-._~"
#: The status of the form to log in when it is shown again.
LOGIN_FAILED = 401


def show_login(asked: AuthorizationRequest, *, email: str, fault: type[Refusal] | None = None) -> Response:
    """The form to log in, and a link for each identity provider; with what was wrong with the login before."""
    values = {
        "email": email,
        "fault": fault.sentence() if fault else "",
        "providers": _providers(),
        # A login with a provider that fails leads back here with a code in the fragment, which no server can read.
        "failures": {failure.code(): failure.sentence() for failure in FAILURES},
    }
    return _show("login", asked, values, session_id=None, status=LOGIN_FAILED if fault else 200)


def show_consent(asked: AuthorizationRequest, user: User, identity: Identity) -> Response:
    """Who asks, for what, and as whom the reader is logged in, with the choice to allow or deny."""
    granted = grantable(asked, identity)
    values = {
        "username": user.username,
        "email": user.email,
        "granted": [MEANINGS[scope] for scope in granted],
        "withheld": [MEANINGS[scope] for scope in asked.scopes if scope not in granted],
    }
    return _show("consent", asked, values, session_id=identity.session_id)


def grantable(asked: AuthorizationRequest, identity: Identity) -> list[Permission]:
    """What the reader can let the app do: what it asks for and their role allows."""
    return [scope for scope in asked.scopes if identity.can(scope)]


def require_own_form(token: str, *, session_id: int | None) -> None:
    """Refuse a form that is not from this page as it was shown for this request and this login (``FormNotOurs``)."""
    page_forms.require_own_form(token, _subject(session_id))


def here() -> str:
    """The page with the request at hand, as a path of the characters of RFC 3986; browsers send others unescaped."""
    return quote(_address("read_authorization_page"), safe=_URI_CHARACTERS)


def lead_to(uri: str) -> Response:
    """Lead the browser on, so that no cache stores where, and no other site learns of this URL."""
    return pages.protect(pages.see_other(uri))


def _show(
    name: str, asked: AuthorizationRequest, values: Mapping[str, Any], *, session_id: int | None, status: int = 200
) -> Response:
    browser = page_forms.browser_id()
    shared = {
        "version": docs.version(),
        "client_name": asked.client.name,
        "client_id": asked.client.client_id,
        "destination": asked.destination,
        "is_local": asked.is_local,
        "csrf_token": page_forms.form_token(browser, _subject(session_id)),
        "log_in": _address("log_in_on_page"),
        "log_out": _address("log_out_of_page"),
        "decide": _address("decide_on_authorization"),
    }
    policy = pages.form_policy(asked.redirect_uri)
    response = pages.render_private_page(f"oauth/{name}.html", {**shared, **values}, policy=policy, status=status)
    page_forms.remember_browser(response, browser, path=LOGIN_PATH)
    return response


def _address(view: str) -> str:
    """The path of a view of the page with the query of the request at hand, which each view validates again."""
    return f"{url_for(f'.{view}', _external=False)}?{request.query_string.decode('ascii')}"


def _subject(session_id: int | None) -> str:
    """What a form is about: a login, and the request as it is in the URL."""
    return f"{session_id or 0}.{hashlib.sha256(request.query_string).hexdigest()}"


def _providers() -> Sequence[Mapping[str, str]]:
    """The titles of identity providers, and the paths that lead there and back here."""
    prefix, back = url_for(".read_authorization_page", _external=False), quote(here(), safe="")
    api = prefix.removesuffix("/oauth/authorize")
    return [
        {"title": client.provider.title, "path": f"{api}/auth/oidc/{name}?return_to={back}"}
        for name, client in current_providers().items()
    ]
