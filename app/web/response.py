"""The response of an operation."""

from collections.abc import Iterable
from typing import Any

import flask
from werkzeug.datastructures import Headers


class Response(flask.Response):
    """A response that is ready: its headers are all there, and its content is bytes.

    Werkzeug would copy the headers, to make good what is never wrong here, and wrap the content twice.
    """

    def get_app_iter(self, environ: dict[str, Any]) -> Iterable[bytes]:
        """The content as it is sent."""
        if self.status_code not in {200, 304} or environ["REQUEST_METHOD"] == "HEAD" or self._on_close:
            return super().get_app_iter(environ)
        content: Iterable[Any] = self.response if self.status_code == 200 else ()
        return content

    def get_wsgi_headers(self, environ: dict[str, Any]) -> Headers:
        """The headers as they are sent. What has a body has had its length since it was given it."""
        if self.status_code == 204:
            return super().get_wsgi_headers(environ)
        if self.status_code == 304:
            # What an operation says of the content, which this is without (RFC 9110 section 15.4.5).
            self.headers.remove("Content-Type")
            self.headers.remove("Content-Length")
        return self.headers
