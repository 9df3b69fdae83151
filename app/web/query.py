"""The strict door of query strings: UTF-8 in percent-encoding, and each name once."""

import re
from collections import Counter
from urllib.parse import parse_qsl, unquote_to_bytes

from app.core.errors import Fault, Invalid, Malformed

_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class QueryMalformed(Malformed):
    """The query string is not UTF-8 in percent-encoding (RFC 3986 section 2.1)."""


def read_query(raw: bytes) -> dict[str, str]:
    """The parameters of a query string. Refuses what Werkzeug would replace or drop in silence (400, 422)."""
    if not raw.isascii() or _BAD_ESCAPE.search(raw) or not _is_utf8(unquote_to_bytes(raw)):
        raise QueryMalformed
    pairs = parse_qsl(raw.decode(), keep_blank_values=True)
    repeated = [name for name, times in Counter(name for name, _ in pairs).items() if times > 1]
    if repeated:
        raise Invalid(*(Fault("Given more than once.", "repeated", parameter=name) for name in repeated))
    return dict(pairs)


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
