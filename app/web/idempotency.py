"""Idempotency-Key: a POST that a client retries, because it saw no response, is processed once."""

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
from app.core.idempotency import Attempt, IdempotencyKeyInUse, IdempotencyKeyReused, find_response, store_response
from app.security.identity import Identity
from app.web import dry_runs
from app.web.access import Access
from app.web.body import Body
from app.web.schemas import shared

#: The headers of a response that are stored with it.
_STORED_HEADERS = ("Content-Type", "ETag", "Location", dry_runs.HEADER)


class IdempotencyKeyMalformed(Malformed):
    """An Idempotency-Key is 1 to 255 printable ASCII characters."""


#: What is refused where an operation takes a key.
REFUSALS = (IdempotencyKeyMalformed, IdempotencyKeyInUse, IdempotencyKeyReused)


def takes_key(rule: Rule, access: Access) -> bool:
    """Whether an operation honours Idempotency-Key: every POST that needs a permission, except below /auth.

    There the whole response is a secret, which must not be stored, and a second login does no harm.
    """
    return "POST" in (rule.methods or ()) and access.permission is not None and "/auth/" not in rule.rule


def read_key() -> str | None:
    """The request's Idempotency-Key, or None when it is missing; refuses a malformed one (400)."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not re.fullmatch(r"[ -~]{1,255}", key):
        raise IdempotencyKeyMalformed
    return key


def respond_once(
    key: str, respond: Callable[[], Response], identity: Identity, body: Body, schema: type[ma.Schema] | None
) -> Response:
    """The response of ``respond``, or the stored one of an earlier request with this key.

    ``schema`` says which members are secret: they are stored as null. Only successes are stored: a refusal is an
    exception, which rolls everything back, so that a retry is processed again.
    """
    attempt = Attempt(
        principal=_principal_of(identity),
        route=f"{request.method} {request.url_rule}",
        key=key,
        fingerprint=_fingerprint(body.fingerprint()),
    )
    stored = find_response(attempt)
    if stored is not None:
        return _replay(stored)
    response = respond()
    store_response(
        attempt,
        status=response.status_code,
        headers={name: response.headers[name] for name in _STORED_HEADERS if name in response.headers},
        body=_without_secrets(response.get_data(), schema),
        lifetime=current_app.config["IDEMPOTENCY_TTL"],
    )
    return response


def _principal_of(identity: Identity) -> str:
    """Whose keys these are: an app must not get the responses to requests of the person, nor of another app."""
    if identity.client_id is not None:
        return f"grant:{identity.session_id}"
    return f"key:{identity.api_key_id}" if identity.api_key_id else f"user:{identity.user_id}"


def _fingerprint(content: bytes) -> str:
    target = orjson.dumps([request.path, request.query_string.decode("latin-1")])
    return hashlib.sha256(target + content).hexdigest()


def _replay(stored: Row[Any]) -> Response:
    response = Response(stored.body, status=stored.status)
    response.headers.remove("Content-Type")
    response.headers.extend({**stored.headers, "Idempotency-Replayed": "true"})
    return response


def _without_secrets(content: bytes, schema: type[ma.Schema] | None) -> bytes:
    fields = shared(schema).fields if schema else {}
    secrets = [name for name, field in fields.items() if field.metadata.get("x-secret")]
    return orjson.dumps(orjson.loads(content) | dict.fromkeys(secrets)) if secrets else content
