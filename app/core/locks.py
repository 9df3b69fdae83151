"""Advisory locks: one transaction at a time for a subject that is no row."""

import hashlib

from sqlalchemy import func, select

from app.extensions import db


def advisory_lock(subject: str) -> None:
    """Let one transaction at a time go on from here with ``subject``, until it ends.

    PostgreSQL takes a transaction-scoped advisory lock; on SQLite a writer is alone already.
    """
    if db.engine.dialect.name == "postgresql":
        db.session.execute(select(func.pg_advisory_xact_lock(_number_of(subject))))


def try_advisory_lock(subject: str) -> bool:
    """Take a turn with ``subject``, as `advisory_lock` does, but without waiting; whether it was to be had."""
    if db.engine.dialect.name != "postgresql":
        return True
    return bool(db.session.scalar(select(func.pg_try_advisory_xact_lock(_number_of(subject)))))


def _number_of(subject: str) -> int:
    return int.from_bytes(hashlib.sha256(subject.encode()).digest()[:8], signed=True)
