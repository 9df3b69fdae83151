"""HTML pages: templates whose values are escaped, under a policy that lets nothing but our own files run."""

import re
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flask import Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from app.web.conditional import apply_if_none_match

FOLDER = Path(__file__).parent / "static"
#: What a policy can name (CSP Level 3, `host-source`), and nothing that would end a directive.
_HOST = re.compile(r"[a-z0-9.-]+", re.ASCII)

_BASE_POLICY = {
    "default-src": "'none'",
    "style-src": "'self'",
    # Swagger UI loads its icons from data: URLs.
    "img-src": "'self' data:",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}


def _policy(*, form_action: str = "'none'") -> str:
    return "; ".join(f"{name} {sources}" for name, sources in {**_BASE_POLICY, "form-action": form_action}.items())


#: A page without scripts.
STATIC_POLICY = _policy()
#: A page whose scripts call this API. Swagger UI sets styles through the CSSOM only, so 'unsafe-inline' is not needed.
SCRIPTED_POLICY = f"{STATIC_POLICY}; script-src 'self'; connect-src 'self'"


def render_page(template: str, values: Mapping[str, Any], *, policy: str) -> Response:
    """A page, whose ETag is that of its content."""
    body = _templates().get_template(template).render(values).encode()
    return respond(body, "text/html", policy=policy, etag=digest_of(body))


def render_private_page(template: str, values: Mapping[str, Any], *, policy: str, status: int = 200) -> Response:
    """A page for one reader alone: no cache stores it, no page frames it, and no other site learns its URL."""
    response = Response(_templates().get_template(template).render(values), status=status, mimetype="text/html")
    response.headers["Content-Security-Policy"] = policy
    return protect(response)


def protect(response: Response) -> Response:
    """The response, for one reader alone: no cache stores it, no page frames it, and no other site learns its URL."""
    response.headers["Cache-Control"] = "no-store"
    response.headers["Referrer-Policy"] = "no-referrer"
    # For browsers that do not know `frame-ancestors`.
    response.headers["X-Frame-Options"] = "DENY"
    return response


def see_other(uri: str) -> Response:
    """Lead the browser on with a GET, also after a form (303, RFC 9110 section 15.4.4)."""
    response = Response(status=303, headers={"Location": uri})
    del response.headers["Content-Type"]
    return response


def form_policy(leads_to: str) -> str:
    """The policy of a page without scripts whose forms are submitted to us, and may then be led on to a URI.

    Chromium applies ``form-action`` to redirects too. Without a host that the policy can name (an IPv6 address, or no
    host at all) it names the scheme.
    """
    parts = urlsplit(leads_to)
    port = f":{parts.port}" if parts.port else ""
    is_named = parts.scheme in {"http", "https"} and _HOST.fullmatch(parts.hostname or "")
    source = f"{parts.scheme}://{parts.hostname}{port}" if is_named else f"{parts.scheme}:"
    return _policy(form_action=f"'self' {source}")


def respond(body: bytes, media_type: str, *, policy: str, etag: str, cache_control: str = "no-cache") -> Response:
    """A response with headers for browsers and caches; 304 for a client that has it."""
    response = Response(body, mimetype=media_type)
    response.headers["Cache-Control"] = cache_control
    response.headers["Content-Security-Policy"] = policy
    response.set_etag(etag)
    apply_if_none_match(response)
    return response


def digest_of(*contents: bytes) -> str:
    """A short hash, for ETags and versions."""
    digest = sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()[:16]


@cache
def _templates() -> Environment:
    return Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
