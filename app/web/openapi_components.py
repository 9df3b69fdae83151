"""The components of the OpenAPI document that every operation shares: problems, credentials, headers, parameters."""

from typing import Any

from apispec import APISpec

from app.security.permissions import MEANINGS
from app.web import cookies, dry_runs
from app.web.operation import Operation

_STRING = {"type": "string"}
HEADERS: dict[str, tuple[str, dict[str, Any]]] = {
    dry_runs.HEADER: (
        "This was a dry run: nothing of it is stored; of an import, only the order and a report.",
        {**_STRING, "const": "true"},
    ),
    "ETag": (
        'The version of the row: `"version"`, or `"version.live"` if it has both counters. A dry run has none.',
        _STRING,
    ),
    "Events-Cursor": (
        "For those who may read events: the cursor of `GET /events` from which a copy of this response goes on.",
        {**_STRING, "maxLength": 200, "pattern": r"^[A-Za-z0-9._-]+$"},
    ),
    "Idempotency-Replayed": (
        "The response is the stored one of an earlier request with this Idempotency-Key.",
        {**_STRING, "const": "true"},
    ),
    "Location": ("The path of the created resource; of a redirect, where to go on.", _STRING),
    "Link": ("The links of the envelope (RFC 8288), and where something is deprecated, the page about it.", _STRING),
    "Deprecation": (
        "Since when the operation, or what the request uses of it, is deprecated (RFC 9745): seconds since 1970.",
        {**_STRING, "pattern": "^@-?[0-9]+$"},
    ),
    "Sunset": ("When it may stop working (RFC 8594).", _STRING),
    "X-Request-ID": (
        "The request's id: the one that was sent, if it is valid, or a new one.",
        {**_STRING, "pattern": "^[A-Za-z0-9._-]{8,64}$"},
    ),
    "X-Process-Time": ("Seconds that the server needed.", {**_STRING, "pattern": "^[0-9]+[.][0-9]+$"}),
    "RateLimit-Policy": ("The tightest limit: its quota, and its window in seconds.", _STRING),
    "RateLimit": ("What is left of the quota, and seconds until its window ends.", _STRING),
    "Retry-After": ("Seconds to wait.", {**_STRING, "pattern": "^[0-9]+$"}),
    "WWW-Authenticate": ("How to authenticate (RFC 6750, or RFC 7617 for clients of OAuth 2).", _STRING),
    "Sec-WebSocket-Protocol": ("The subprotocol that is spoken, of those that were offered.", _STRING),
    "API-Version": ("The version of the API that served the request.", {**_STRING, "pattern": "^[0-9]+$"}),
}
#: Headers that a response may lack: a list of one page has no links, limits can be off, few responses are replayed or
#: those of a dry run, and these have no ETag; not everyone may read events, or uses what is deprecated. Every other
#: header is present wherever it is described.
OPTIONAL_HEADERS = frozenset(
    {
        dry_runs.HEADER,
        "Deprecation",
        "ETag",
        "Events-Cursor",
        "Idempotency-Replayed",
        "Link",
        "RateLimit-Policy",
        "RateLimit",
        "Sec-WebSocket-Protocol",
        "Sunset",
    }
)
#: What a response has, beside a Link, where the request uses something deprecated.
DEPRECATION_HEADERS = ("Deprecation", "Sunset")

_TAG = r'(W/)?"[!#-~]*"'
_EXAMPLES = {**_STRING, "examples": ["*", '"1"']}
PARAMETERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "If-Match": (
        "header",
        "The ETag that was read, or * for any version.",
        {**_EXAMPLES, "maxLength": 4096, "pattern": rf"^(\*|{_TAG}( *, *{_TAG})*)$"},
    ),
    "Idempotency-Key": (
        "header",
        "A unique name for this request: a retry with it is not processed again, but gets the stored response.",
        {**_STRING, "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$", "examples": ["8e03978e-40d5-43dd-bc93"]},
    ),
    dry_runs.PARAMETER: (
        "query",
        (
            "Whether to check and answer the request as always, but to store nothing of it: a dry run."
            " Of an import, the order and its report are stored."
        ),
        {"type": "boolean", "default": False},
    ),
    "Last-Event-ID": (
        "header",
        "The id of the last block that was processed. It takes precedence over `cursor`.",
        {**_STRING, "maxLength": 200, "examples": ["MTAwMQ.c2ln"]},
    ),
    "If-None-Match": ("header", "The ETag of the stored representation: 304 while it is current.", _EXAMPLES),
}


def add_components(spec: APISpec, *, is_deprecating: bool) -> None:
    """Add the components to a document; those of deprecations where it has any."""
    _add_security_schemes(spec)
    for name, (note, schema) in HEADERS.items():
        if name in DEPRECATION_HEADERS and not is_deprecating:
            continue
        described = {"description": note, "schema": schema}
        spec.components.header(name, described if name in OPTIONAL_HEADERS else {**described, "required": True})
    for name, (place, note, schema) in PARAMETERS.items():
        parameter = {"name": name, "description": note, "schema": schema, "required": name == "If-Match"}
        if parameter["required"]:
            parameter["example"] = schema["examples"][0]
        spec.components.parameter(name, place, parameter)


#: What people see in a browser.
PAGE = {"text/html": {"schema": _STRING}}

#: The scheme of tokens for which a client has asked by OAuth 2, and that of the client itself.
OAUTH, CLIENT = "oauth2", "client"
#: Where they are asked for. The server that the document comes from has them.
AUTHORIZE_PATH, TOKEN_PATH = "/api/v1/oauth/authorize", "/api/v1/oauth/token"


def deprecation_headers(operation: Operation) -> dict[str, Any]:
    """References to the headers that every response of an operation may have because of what is deprecated of it."""
    return refer_to_headers(*DEPRECATION_HEADERS, "Link") if operation.deprecations else {}


def refer_to_headers(*names: str) -> dict[str, Any]:
    """References to headers of responses, by their names."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _add_security_schemes(spec: APISpec) -> None:
    """Add the credentials in the order in which the documentation page asks for them: the ones of every day first."""
    token = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
    for scheme, note, described in (
        ("bearer", "The access token of a login.", token),
        ("apiKey", "An API key. Beside a token, the token's rights count: see above.", _named("header", "X-API-Key")),
        (OAUTH, "An access token of OAuth 2: that of an API key, or of an app that acts for a person.", _oauth()),
        ("refresh", "The refresh token; valid for one exchange.", token),
        ("refreshCookie", "The refresh token of a login that requested the cookie.", _named("cookie", cookies.NAME)),
        ("csrf", "The csrf_token that was issued with the cookie.", _named("header", "X-CSRF-Token")),
        (
            CLIENT,
            "A client of OAuth 2, by `client_id` and `client_secret`, which can be in the form instead.",
            {"type": "http", "scheme": "basic"},
        ),
    ):
        spec.components.security_scheme(scheme, {**described, "description": note})


def _oauth() -> dict[str, Any]:
    scopes = {permission.value: meaning for permission, meaning in MEANINGS.items()}
    return {
        "type": "oauth2",
        "flows": {
            "authorizationCode": {
                "authorizationUrl": AUTHORIZE_PATH,
                "tokenUrl": TOKEN_PATH,
                "refreshUrl": TOKEN_PATH,
                "scopes": scopes,
            },
            "clientCredentials": {"tokenUrl": TOKEN_PATH, "scopes": scopes},
        },
    }


def _named(place: str, name: str) -> dict[str, str]:
    return {"type": "apiKey", "in": place, "name": name}
