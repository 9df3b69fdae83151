"""Responses that are sent as they are: Werkzeug would have sent the same."""

from typing import Any

import flask
import pytest
from werkzeug.test import create_environ

from app.web.response import Response


def sent(made: flask.Response, method: str) -> tuple[list[bytes], str, list[tuple[str, str]]]:
    """What a server is given: the content, the status, the headers in whatever order."""
    content, status, headers = made.get_wsgi_response(create_environ("/", method=method))
    return list(content), status, sorted(headers)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("status", [200, 201, 202, 204, 304, 404, 409, 503])
@pytest.mark.parametrize("content", [b"", b"{}", "é".encode() * 50_000], ids=["none", "some", "much"])
def test_are_those_of_werkzeug(method: str, status: int, content: bytes) -> None:
    given: dict[str, Any] = {
        "response": b"" if status in {204, 304} else content,
        "status": status,
        "content_type": "application/json",
        "headers": {"ETag": '"1"', "Link": '</?page=2>; rel="next"', "Location": "/api/v1/products/1", "X": "é"},
    }

    assert sent(Response(**given), method) == sent(flask.Response(**given), method)


def test_call_whom_they_are_to_call_when_they_are_sent() -> None:
    called = []
    response = Response(b"{}")
    response.call_on_close(lambda: called.append("once"))

    content, _, _ = response.get_wsgi_response(create_environ("/"))
    assert list(content) == [b"{}"]
    content.close()  # type: ignore[attr-defined]  # what WSGI servers do where there is one
    assert called == ["once"]
