"""Query strings: percent-encoded UTF-8 with each name once, or refused."""

import re
from collections import Counter
from urllib.parse import parse_qsl, unquote_to_bytes

from app.core.errors import Fault, Invalid, Malformed

_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class QueryMalformed(Malformed):
    """The query string is not percent-encoded UTF-8 (RFC 3986 section 2.1)."""


def read_query(raw: bytes) -> dict[str, str]:
    """The parameters of a query string, by name.

    Refuses a malformed encoding (400) and a repeated name (422), which Werkzeug would silently replace and drop.
    """
    if not raw.isascii() or _BAD_ESCAPE.search(raw) or not _is_utf8(unquote_to_bytes(raw)):
        raise QueryMalformed
    pairs = parse_qsl(raw.decode(), keep_blank_values=True)
    repeated = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    if repeated:
        raise Invalid(*(Fault("Given more than once.", "repeated", parameter=name) for name in repeated))
    return dict(pairs)


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
