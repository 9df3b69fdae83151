"""Responses by Idempotency-Key: a request that is retried has the response of the first, and is performed once.

A response is stored in the transaction of the effect that it reports. Either both are committed or neither, whichever
process was killed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import LargeBinary, Row, String, and_, bindparam, delete, insert, select
from sqlalchemy.orm import Mapped, mapped_column

from app.core import clock
from app.core.errors import Conflict, Fault, Invalid
from app.core.locks import try_advisory_lock
from app.core.model import Moment, json_type
from app.core.pruning import delete_batch
from app.extensions import Model, db


class IdempotencyKeyInUse(Conflict):
    """A request with this idempotency key is still running; retry after the seconds of Retry-After."""

    retry_after = 1


class IdempotencyKeyReused(Invalid):
    """This idempotency key came with another request before; a new request needs a new key."""

    def __init__(self) -> None:
        super().__init__(Fault(self.sentence(), self.code(), header="Idempotency-Key"))


class StoredResponse(Model):
    """The response to the first request with a key. Keys are scoped by principal and route."""

    __tablename__ = "idempotency_keys"

    principal: Mapped[str] = mapped_column(String(32), primary_key=True)
    route: Mapped[str] = mapped_column(String(200), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    status: Mapped[int]
    headers: Mapped[dict[str, Any]] = mapped_column(json_type)
    body: Mapped[bytes] = mapped_column(LargeBinary)
    expires_at: Mapped[Moment] = mapped_column(index=True)


# By table and not by mapper, and made once, because each request with a key executes them.
_RESPONSES = StoredResponse.metadata.tables["idempotency_keys"]
_HAS_KEY = and_(*(column == bindparam(column.name) for column in _RESPONSES.primary_key))
_FIND = select(_RESPONSES).where(_HAS_KEY)
_DELETE = delete(_RESPONSES).where(_HAS_KEY)
_STORE = insert(_RESPONSES).inline()


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A request that may have been sent before: its principal, route and key, and the fingerprint of its content."""

    principal: str
    route: str
    key: str
    fingerprint: str


def find_response(attempt: Attempt) -> Row[Any] | None:
    """The stored response of the request; if there is none, the key is locked until this transaction ends.

    Refuses a key of a request with other content (``IdempotencyKeyReused``), and of one that is still running
    (``IdempotencyKeyInUse``): SQLite, which has one writer at a time, has waited for that one already.
    """
    if not try_advisory_lock(f"idempotency {attempt.principal} {attempt.route} {attempt.key}"):
        raise IdempotencyKeyInUse
    stored = db.session.execute(_FIND, vars(attempt)).one_or_none()
    if stored is None:
        return None
    if stored.expires_at <= clock.now():
        db.session.execute(_DELETE, vars(attempt))
        return None
    if stored.fingerprint != attempt.fingerprint:
        raise IdempotencyKeyReused
    return stored


def store_response(attempt: Attempt, *, status: int, headers: Mapping[str, str], body: bytes, lifetime: int) -> None:
    """Store the response for ``lifetime`` seconds. Raises ``IntegrityError`` where the key was stored meanwhile."""
    expires_at = clock.now() + timedelta(seconds=lifetime)
    response = {"status": status, "headers": dict(headers), "body": body, "expires_at": expires_at}
    db.session.execute(_STORE, {**vars(attempt), **response})


def prune_responses() -> int:
    """Delete a batch of the expired responses; their number."""
    return delete_batch(StoredResponse, StoredResponse.expires_at <= clock.now())
