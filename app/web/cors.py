"""Which browsers' scripts may read the answers: those of the exact origins in CORS_ORIGINS.

They may send the refresh cookie as well, which is why no origin is a pattern.
"""

from collections.abc import Sequence

from flask import Flask, Response

from app.extensions import cors

#: What scripts may read beside the few headers that they always may.
EXPOSED_HEADERS = [
    "API-Version",
    "Content-Disposition",
    "Deprecation",
    "ETag",
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


def init_app(app: Flask, *, origins: Sequence[str]) -> None:
    """Answer preflights, and let scripts of ``origins`` read every answer, errors too, and use the refresh cookie."""
    if origins:
        app.after_request(_vary)
        # Left to itself, the library tells all origins to whoever names none.
        cors.init_app(
            app,
            origins=list(origins),
            expose_headers=EXPOSED_HEADERS,
            supports_credentials=True,
            max_age=600,
            always_send=False,
        )


def _vary(response: Response) -> Response:
    # Also where nothing was allowed: a cache must not hand that answer to an origin that may read it.
    response.vary.add("Origin")
    return response
