"""Calls of what is deprecated: their responses say so in headers, and a metric counts who still makes them.

What a request uses is read off the request, so a cached, stored or rolled-back response says it as a new one does.
"""

import threading
from collections.abc import Iterator
from urllib.parse import parse_qsl

from flask import Flask, Response, current_app, g, request

from app.core.metrics import DEPRECATED_CALLS
from app.security.identity import Identity
from app.web.access import current_identity
from app.web.body import Body
from app.web.deprecated_members import states
from app.web.deprecation import headers_of
from app.web.operation import ITSELF, Operation, operation_of

#: Each process counts the calls of so many API keys under their ids, and those of all others together.
MAX_COUNTED_KEYS = 1000


class CountedKeys:
    """The ids of the API keys that have a label of their own in the metric. Threads may use it at once."""

    def __init__(self, max_keys: int = MAX_COUNTED_KEYS) -> None:
        self._max_keys = max_keys
        self._labels: dict[int, str] = {}
        self._lock = threading.Lock()

    def label_of(self, key_id: int | None) -> str:
        """The label of a key: its id, or "other" once there are too many; empty for a caller without a key."""
        if key_id is None:
            return ""
        with self._lock:
            if len(self._labels) >= self._max_keys:
                return self._labels.get(key_id, "other")
            return self._labels.setdefault(key_id, str(key_id))


_counted_keys = CountedKeys()


def init_app(app: Flask) -> None:
    """Mark and count the calls of what is deprecated. Call this when every route is there: without one it is free."""
    if any(operation_of(view).deprecations for view in app.view_functions.values()):
        app.after_request(_mark)


def note_body(operation: Operation, body: Body) -> None:
    """Note which deprecated members and fields the body of the request at hand states."""
    if operation.deprecations:
        members = operation.deprecated_members.items()
        stated = [item for item, (path, _) in members if states(body.value, path)]
        g.deprecated_in_body = stated, tuple(body.fields)


def _mark(response: Response) -> Response:
    # None where no route fits; and a browser asks with OPTIONS before each call, which is none by itself.
    if request.endpoint is None or request.method == "OPTIONS":
        return response
    operation = operation_of(current_app.view_functions[request.endpoint])
    items = list(dict.fromkeys(_used(operation))) if operation.deprecations else []
    if items:
        headers = headers_of([operation.deprecations[item] for item in items])
        # A list has links to its pages already.
        links = [*response.headers.getlist("Link"), headers["Link"]]
        response.headers.update({**headers, "Link": ", ".join(links)})
        _count(operation, items, current_identity())
    return response


def _used(operation: Operation) -> Iterator[str]:
    """What the request at hand uses that is deprecated."""
    if ITSELF in operation.deprecations:
        yield ITSELF
    members, names = g.get("deprecated_in_body", ((), ()))
    yield from members
    names = [*names, *(name for name, _ in parse_qsl(request.query_string.decode("latin-1"), keep_blank_values=True))]
    # A parameter may be one of a group, which is deprecated as a whole.
    for item in (f"query.{stated}" for name in names for stated in (name, name.partition(".")[0])):
        if item in operation.deprecations:
            yield item


def _count(operation: Operation, items: list[str], identity: Identity) -> None:
    principal = "api_key" if identity.api_key_id else "user" if identity.user_id else "anonymous"
    key = _counted_keys.label_of(identity.api_key_id)
    for item in items:
        DEPRECATED_CALLS.labels(operation.name, item, principal, key).inc()
