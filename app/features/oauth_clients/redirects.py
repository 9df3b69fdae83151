"""Redirect URIs of OAuth clients: where a browser may be sent with an authorization code (RFC 9700 section 2.1)."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from app.web import fields

#: The characters of RFC 3986; none of them ends a header or an attribute of HTML.
CHARACTERS = r"^[A-Za-z0-9:/?#\[\]@!$&'()*+,;=%._~-]+$"
#: RFC 8252 section 8.3: a name such as localhost may resolve to somewhere else.
LOOPBACK = frozenset({"127.0.0.1", "::1"})
_is_private_scheme = re.compile(r"[a-z][a-z0-9+-]*(\.[a-z0-9+-]+)+").fullmatch


class RedirectUri(fields.Text):
    """A redirect URI: https, http on this machine by address, or a private-use scheme such as `com.example.app`."""

    default_error_messages = {
        "not_a_uri": "Not an absolute URI with a host or, of an app's own scheme, a path.",
        "redirect_insecure": "Neither https, nor http on 127.0.0.1 or [::1], nor a scheme with a dot (RFC 8252).",
        "redirect_has_fragment": "A redirect URI has no fragment (RFC 6749 section 3.1.2).",
        "redirect_has_user": "A redirect URI has no user and no password.",
        "redirect_has_wildcard": "A redirect URI is compared character by character, so it has no wildcard.",
    }

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=2000, pattern=CHARACTERS, schema={"format": "uri"}, **options)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str:
        uri = super()._deserialize(value)
        for fault in _faults_of(uri):
            raise self.make_error(fault)
        return uri


def _faults_of(uri: str) -> Iterator[str]:
    try:
        parts = urlsplit(uri)
        # Parsed when it is read; one past 65535 is none.
        host, _ = parts.hostname, parts.port
    except ValueError:
        yield "not_a_uri"
        return
    if "#" in uri:
        yield "redirect_has_fragment"
    if "*" in uri:
        yield "redirect_has_wildcard"
    if "@" in parts.netloc:
        yield "redirect_has_user"
    is_web = parts.scheme in {"https", "http"}
    if not (host or (parts.path and not is_web)):
        yield "not_a_uri"
    if (parts.scheme == "http" and host not in LOOPBACK) or not (is_web or _is_private_scheme(parts.scheme)):
        yield "redirect_insecure"
