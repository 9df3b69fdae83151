"""The response of an operation."""

import flask
from werkzeug.datastructures import Headers


class Response(flask.Response):
    """A response with all its headers: Werkzeug would copy them once more, to make good what is never wrong here."""

    def get_wsgi_headers(self, environ: dict[str, object]) -> Headers:
        """The headers as they are sent. What has a body has had its length since it was given it."""
        if self.status_code == 204:
            return super().get_wsgi_headers(environ)
        if self.status_code == 304:
            # What an operation says of the content, which this is without (RFC 9110 section 15.4.5).
            self.headers.remove("Content-Type")
            self.headers.remove("Content-Length")
        return self.headers
