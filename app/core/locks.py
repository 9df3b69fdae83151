"""Advisory locks: one transaction at a time for a subject that is no row."""

import hashlib

from sqlalchemy import func, select

from app.extensions import db


def advisory_lock(subject: str) -> None:
    """Wait until no other transaction holds the lock of ``subject``, and hold it until this one ends.

    PostgreSQL takes a transaction-scoped advisory lock; on SQLite a writer is alone already.
    """
    if db.engine.dialect.name == "postgresql":
        db.session.execute(select(func.pg_advisory_xact_lock(_number_of(subject))))


def try_advisory_lock(subject: str) -> bool:
    """Take the lock of `advisory_lock` without waiting; False where another transaction holds it."""
    if db.engine.dialect.name != "postgresql":
        return True
    return bool(db.session.scalar(select(func.pg_try_advisory_xact_lock(_number_of(subject)))))


def _number_of(subject: str) -> int:
    return int.from_bytes(hashlib.sha256(subject.encode()).digest()[:8], signed=True)
