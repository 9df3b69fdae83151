"""Answers by idempotency key: a request that is sent again is answered again, and done once.

An answer is stored in the transaction of the effect that it tells of. Whichever of the two is there, the other is too,
whatever was killed meanwhile.
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
    """A request with this idempotency key is still running; send yours again after Retry-After."""

    retry_after = 1


class IdempotencyKeyReused(Invalid):
    """This idempotency key came with another request before; a new request needs a new key."""

    def __init__(self) -> None:
        super().__init__(Fault(self.sentence(), self.code(), header="Idempotency-Key"))


class StoredResponse(Model):
    """What the first request with a key was answered. A principal's key means something on one route only."""

    __tablename__ = "idempotency_keys"

    principal: Mapped[str] = mapped_column(String(32), primary_key=True)
    route: Mapped[str] = mapped_column(String(200), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    status: Mapped[int]
    headers: Mapped[dict[str, Any]] = mapped_column(json_type)
    body: Mapped[bytes] = mapped_column(LargeBinary)
    expires_at: Mapped[Moment] = mapped_column(index=True)


# By table and not by mapper, and made once: each request with a key pays for them.
_RESPONSES = StoredResponse.metadata.tables["idempotency_keys"]
_HAS_KEY = and_(*(column == bindparam(column.name) for column in _RESPONSES.primary_key))
_FIND = select(_RESPONSES).where(_HAS_KEY)
_DELETE = delete(_RESPONSES).where(_HAS_KEY)
_STORE = insert(_RESPONSES).inline()


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A request that may have been sent before: whose it is, with which key, and what tells it from another."""

    principal: str
    route: str
    key: str
    fingerprint: str


def find_response(attempt: Attempt) -> Row[Any] | None:
    """What the request was answered before; when it was not, nobody else performs it until this transaction ends.

    Refuses a key that another request was sent with (``IdempotencyKeyReused``), and one whose request is still running
    (``IdempotencyKeyInUse``): on SQLite, where one writes at a time, that one was waited for.
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
    """Keep the answer for ``lifetime`` seconds. Whoever stored another meanwhile wins: the key is unique."""
    expires_at = clock.now() + timedelta(seconds=lifetime)
    answer = {"status": status, "headers": dict(headers), "body": body, "expires_at": expires_at}
    db.session.execute(_STORE, {**vars(attempt), **answer})


def prune_responses() -> int:
    """Delete a batch of the answers that are kept no longer; their number."""
    return delete_batch(StoredResponse, StoredResponse.expires_at <= clock.now())
