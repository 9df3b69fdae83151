"""HTML pages: templates whose values are escaped, under a policy that lets nothing but our own files run."""

from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from flask import Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from app.web.conditional import apply_if_none_match

FOLDER = Path(__file__).parent / "static"

_BASE_POLICY = {
    "default-src": "'none'",
    "style-src": "'self'",
    # Swagger UI loads its icons from data: URLs.
    "img-src": "'self' data:",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
#: A page without scripts.
STATIC_POLICY = "; ".join(f"{name} {sources}" for name, sources in _BASE_POLICY.items())
#: A page whose scripts call this API. Swagger UI sets styles through the CSSOM only, so 'unsafe-inline' is not needed.
SCRIPTED_POLICY = f"{STATIC_POLICY}; script-src 'self'; connect-src 'self'"


def render_page(template: str, values: Mapping[str, Any], *, policy: str) -> Response:
    """A page, whose ETag is that of its content."""
    body = _templates().get_template(template).render(values).encode()
    return respond(body, "text/html", policy=policy, etag=digest_of(body))


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
