"""Query strings: percent-encoded UTF-8, in which a name is repeated only where its parameter takes several values."""

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote_to_bytes

from app.core.errors import Fault, Invalid, Malformed

#: Each parameter by its name: a text, or the texts of one that may be repeated.
Parameters = Mapping[str, str | Sequence[str]]

_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True)
class Others:
    """The names of all parameters but these: a protocol ignores them, however often each comes."""

    names: Container[str]

    def __contains__(self, name: object) -> bool:
        """Whether a parameter of this name is ignored."""
        return name not in self.names


class QueryMalformed(Malformed):
    """The query string is not percent-encoded UTF-8 (RFC 3986 section 2.1)."""


def read_query(raw: bytes, repeatable: Container[str] = ()) -> Parameters:
    """The parameters of a query string, by name; those that are ``repeatable`` are lists of texts.

    Refuses a malformed encoding (400) and another name that is repeated (422), which Werkzeug would silently replace
    and drop.
    """
    if not raw.isascii() or _BAD_ESCAPE.search(raw) or not _is_utf8(unquote_to_bytes(raw)):
        raise QueryMalformed
    texts: dict[str, list[str]] = {}
    for name, text in parse_qsl(raw.decode(), keep_blank_values=True):
        texts.setdefault(name, []).append(text)
    repeated = [name for name, given in texts.items() if len(given) > 1 and name not in repeatable]
    if repeated:
        raise Invalid(*(Fault("Given more than once.", "repeated", parameter=name) for name in repeated))
    return {name: given if name in repeatable else given[0] for name, given in texts.items()}


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
