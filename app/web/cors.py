"""CORS: scripts of the exact origins in CORS_ORIGINS may read responses; in development, those of this machine too.

Their requests may carry the refresh cookie, which is why a setting cannot name a pattern of origins.
"""

import re
from collections.abc import Sequence

from flask import Flask, Response

from app.extensions import cors

#: The response headers that scripts may read beside the CORS-safelisted ones.
EXPOSED_HEADERS = [
    "API-Version",
    "Content-Disposition",
    "Deprecation",
    "Dry-Run",
    "ETag",
    "Events-Cursor",
    "Idempotency-Replayed",
    "Link",
    "Location",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "Sunset",
    "X-Process-Time",
    "X-Request-ID",
]


def init_app(app: Flask, *, origins: Sequence[str | re.Pattern[str]]) -> None:
    """Answer preflights, and let scripts of ``origins`` read all responses, errors too, and send the refresh cookie."""
    if origins:
        app.after_request(_vary)
        # always_send is off: by default Flask-CORS sends the allowed origins even without an Origin in the request.
        cors.init_app(
            app,
            origins=list(origins),
            expose_headers=EXPOSED_HEADERS,
            supports_credentials=True,
            max_age=600,
            always_send=False,
        )


def _vary(response: Response) -> Response:
    # Flask-CORS sets it only where it allows the origin; without it on every response, a cache could serve one without
    # CORS headers to an origin that may read it.
    response.vary.add("Origin")
    return response
