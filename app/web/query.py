"""The strict door of query strings: UTF-8 in percent-encoding, and each name once."""

import re
from urllib.parse import unquote_to_bytes

from flask import request

from app.core.errors import Fault, Invalid, Malformed

_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class QueryMalformed(Malformed):
    """The query string is not UTF-8 in percent-encoding (RFC 3986 section 2.1)."""


def read_query() -> dict[str, str]:
    """The parameters of the request. Refuses what Werkzeug would replace or drop in silence (400, 422)."""
    raw = request.query_string
    if not raw.isascii() or _BAD_ESCAPE.search(raw) or not _is_utf8(unquote_to_bytes(raw)):
        raise QueryMalformed
    repeated = [name for name, values in request.args.lists() if len(values) > 1]
    if repeated:
        raise Invalid(*(Fault("Given more than once.", "repeated", parameter=name) for name in repeated))
    return request.args.to_dict()


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
