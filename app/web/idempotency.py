"""Idempotency-Key: a POST that a client sends again, because it saw no answer, is done once."""

import hashlib
import re
from collections.abc import Callable
from typing import Any

import marshmallow as ma
import orjson
from flask import Response, current_app, request
from sqlalchemy import Row
from werkzeug.routing import Rule

from app.core.errors import Malformed
from app.core.idempotency import Attempt, find_answer, store_answer
from app.security.identity import Identity
from app.web.access import Access
from app.web.schemas import shared

#: The headers of an answer that are not made anew for each.
_KEPT = ("Content-Type", "ETag", "Location")


class IdempotencyKeyMalformed(Malformed):
    """An Idempotency-Key is 1 to 255 printable ASCII characters."""


def takes_key(rule: Rule, access: Access) -> bool:
    """Whether Idempotency-Key counts: at every POST that needs a permission, but below /auth.

    There an answer is a secret as a whole, and a second login harms nobody.
    """
    return "POST" in (rule.methods or ()) and access.permission is not None and "/auth/" not in rule.rule


def once(
    perform: Callable[[], Response], identity: Identity, read: Callable[[], bytes], schema: type[ma.Schema] | None
) -> Response:
    """Perform the request, or answer as it was answered before; ``schema`` tells which members are secrets.

    What ``read`` gives tells the request's body from others.

    Only what was done is stored: a refusal is an exception, which undoes everything, and may be another the next time.
    """
    key = _read_key()
    if key is None:
        return perform()
    attempt = Attempt(
        principal=f"key:{identity.api_key_id}" if identity.api_key_id else f"user:{identity.user_id}",
        route=f"{request.method} {request.url_rule}",
        key=key,
        fingerprint=_fingerprint(read()),
    )
    stored = find_answer(attempt)
    if stored is not None:
        return _replay(stored)
    response = perform()
    store_answer(
        attempt,
        status=response.status_code,
        headers={name: response.headers[name] for name in _KEPT if name in response.headers},
        body=_without_secrets(response.get_data(), schema),
        lifetime=current_app.config["IDEMPOTENCY_TTL"],
    )
    return response


def _read_key() -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is not None and not re.fullmatch(r"[ -~]{1,255}", key):
        raise IdempotencyKeyMalformed
    return key


def _fingerprint(content: bytes) -> str:
    # The bytes as they came: whoever sends again sends the same, and no rule of JSON's equality has to be guessed.
    asked = orjson.dumps([request.path, request.query_string.decode("latin-1")])
    return hashlib.sha256(asked + content).hexdigest()


def _replay(stored: Row[Any]) -> Response:
    response = Response(stored.body, status=stored.status)
    response.headers.remove("Content-Type")
    response.headers.extend({**stored.headers, "Idempotency-Replayed": "true"})
    return response


def _without_secrets(content: bytes, schema: type[ma.Schema] | None) -> bytes:
    fields = shared(schema).fields if schema else {}
    secrets = [name for name, field in fields.items() if field.metadata.get("x-secret")]
    return orjson.dumps(orjson.loads(content) | dict.fromkeys(secrets)) if secrets else content
