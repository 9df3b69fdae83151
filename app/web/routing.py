"""Path parameters: an id is 1 to 2^63-1 in decimal digits, a key any text, a name of the settings a short word.

Any other path matches no route (404).
"""

from flask import Flask
from werkzeug.exceptions import NotFound
from werkzeug.routing import BaseConverter

from app.core.model import MAX_ID


class IdConverter(BaseConverter):
    """``<id:product_id>``: a positive 64-bit integer without sign or leading zeros."""

    regex = "[1-9][0-9]{0,18}"

    def to_python(self, value: str) -> int:
        """The number; raises ``NotFound`` above 2^63-1."""
        number = int(value)
        if number > MAX_ID:
            # Not ValidationError: Werkzeug would respond with 405 and the methods of the rules that it tried before.
            raise NotFound
        return number


class ValueConverter(BaseConverter):
    """``<value:value>`` at the end of a path: the value of a key, percent-encoded, with slashes or without.

    WSGI decodes the path before it is matched, so an encoded slash is one like any other.
    """

    regex = r"[^\x00-\x1f\x7f]+"
    part_isolating = False


class NameConverter(BaseConverter):
    """``<name:provider>``: a name of the settings, of lower-case letters, digits and hyphens."""

    # Beside providers, the path has an operation of its own.
    regex = r"(?!exchange\Z)[a-z0-9-]{1,32}"


def init_app(app: Flask) -> None:
    """Register the converters, and make //double//slashes a 404: Werkzeug would redirect to the request's Host."""
    app.url_map.converters |= {"id": IdConverter, "name": NameConverter, "value": ValueConverter}
    app.url_map.merge_slashes = False
