"""The response of an operation."""

import flask
from werkzeug.datastructures import Headers
from werkzeug.http import remove_entity_headers


class Response(flask.Response):
    """A response with all its headers: Werkzeug would copy them once more, to make good what is never wrong here."""

    def get_wsgi_headers(self, environ: dict[str, object]) -> Headers:
        """The headers as they are sent. What has a body has had its length since it was given it."""
        if self.status_code == 204:
            return super().get_wsgi_headers(environ)
        if self.status_code == 304:
            remove_entity_headers(self.headers)
        return self.headers
