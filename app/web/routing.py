"""Path parameters: an id is 1 to 2^63-1 in plain digits; anything else is no address of ours (404)."""

from flask import Flask
from werkzeug.exceptions import NotFound
from werkzeug.routing import BaseConverter

from app.core.model import MAX_ID


class IdConverter(BaseConverter):
    """``<id:product_id>``: a positive 64-bit integer without sign or leading zeros."""

    regex = "[1-9][0-9]{0,18}"

    def to_python(self, value: str) -> int:
        """The number, unless it does not fit 64 bits."""
        number = int(value)
        if number > MAX_ID:
            # After a ValidationError, Werkzeug would answer 405 with the methods of the rules that it tried before.
            raise NotFound
        return number


def init_app(app: Flask) -> None:
    """Register the converter, and answer //double//slashes with 404 and not with a redirect to the Host that came."""
    app.url_map.converters["id"] = IdConverter
    app.url_map.merge_slashes = False
