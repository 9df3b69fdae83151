"""Background jobs: a table of work that survives its workers.

A job is enqueued in the transaction of the change that needs it, and claimed by one UPDATE, which leases it. Its worker
stores the progress in the transaction of each step, which renews the lease and proves that it is still held: a worker
that was taken for dead, or whose job was cancelled, has that whole step rolled back. A job whose worker died is claimed
again when the lease has expired, and resumes where its progress ends.
"""

import random
import secrets
from collections.abc import Callable, Collection, Generator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import CheckConstraint, ColumnElement, Index, Select, String, Text, case, select, update
from sqlalchemy.orm import Mapped, mapped_column

from app.core import clock
from app.core.model import Keyed, Moment, json_type
from app.core.pruning import delete_batch
from app.extensions import Model, db

#: Seconds without progress after which another worker may claim the job.
LEASE_SECONDS = 60
MAX_ATTEMPTS = 5
#: In seconds.
MAX_RETRY_DELAY = 300
#: How long a job is stored after it has ended.
JOB_RETENTION = timedelta(days=30)
#: The mark on a session that has enqueued a job: after the commit, `clients.broker` notifies the workers.
ENQUEUED = "job_enqueued"


class JobStatus(StrEnum):
    """Where a job is in its life; the last three are its end."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class JobFailed(Exception):
    """The job cannot succeed, however often it is retried; the message is for the user who created it."""


class TransientFailure(Exception):
    """The job may succeed later, and is retried; the message is for the user who created it."""


class LeaseLost(Exception):
    """Another worker has this job now, or it was cancelled."""


class Job(Keyed, Model):
    """One piece of work. ``due_at`` is when it may be claimed: while it runs, the end of its lease."""

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(f"status IN ({', '.join(repr(s.value) for s in JobStatus)})", name="status"),
        CheckConstraint("(status = 'running') = (lease IS NOT NULL)", name="leased_while_running"),
        {"sqlite_autoincrement": True},
    )

    kind: Mapped[str] = mapped_column(String(32))
    payload: Mapped[dict[str, Any]] = mapped_column(json_type)
    status: Mapped[JobStatus] = mapped_column(String(16), default=JobStatus.QUEUED)
    due_at: Mapped[Moment] = mapped_column(default=clock.now)
    #: A secret of the worker that holds the job.
    lease: Mapped[str | None] = mapped_column(String(32))
    #: How often it was claimed since it last made progress.
    attempts: Mapped[int] = mapped_column(default=0)
    max_attempts: Mapped[int] = mapped_column(default=MAX_ATTEMPTS)
    progress: Mapped[dict[str, Any]] = mapped_column(json_type, default=dict)
    error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[Moment] = mapped_column(default=clock.now)
    started_at: Mapped[Moment | None]
    finished_at: Mapped[Moment | None]


_IS_OPEN = Job.status.in_([JobStatus.QUEUED, JobStatus.RUNNING])
Index("ix_jobs_due_at_id", Job.due_at, Job.id, postgresql_where=_IS_OPEN, sqlite_where=_IS_OPEN)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A leased job; ``progress`` is where the worker before stopped, ``seconds`` the length of the lease."""

    job_id: int
    kind: str
    payload: dict[str, Any]
    progress: dict[str, Any]
    attempts: int
    max_attempts: int
    created_at: datetime
    lease: str
    seconds: int

    @property
    def is_last(self) -> bool:
        """Whether there is no attempt after this one."""
        return self.attempts >= self.max_attempts


@dataclass(frozen=True)
class Task:
    """What a kind of job does.

    ``run`` yields after each step that it has committed, where another worker can resume it. ``end`` gets the job's id
    in the transaction that ends the job, with whatever status, to delete what the job needed.
    """

    run: Callable[[Claim], Generator[None, None, None]]
    end: Callable[[int], None] = lambda _: None


def enqueue(kind: str, payload: dict[str, Any], *, max_attempts: int = MAX_ATTEMPTS) -> Job:
    """Add a job, which runs once the caller's transaction is committed."""
    job = Job(kind=kind, payload=payload, max_attempts=max_attempts)
    db.session.add(job)
    db.session.flush()
    db.session.info[ENQUEUED] = True
    return job


def has_due_jobs(kinds: Collection[str]) -> bool:
    """Whether a job of these kinds is due, or exhausted; a read, so that idle workers do not write."""
    return db.session.scalar(select(Job.id).where(_is_due(kinds, clock.now())).limit(1)) is not None


def claim_job(kinds: Collection[str], *, seconds: int = LEASE_SECONDS) -> Claim | None:
    """Lease the oldest due job of these kinds; None when none is due. No two workers get the same one."""
    now, lease = clock.now(), secrets.token_hex(16)
    oldest_due = (
        select(Job.id)
        .where(_is_due(kinds, now), Job.attempts < Job.max_attempts)
        .order_by(Job.due_at, Job.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .correlate(None)
        .scalar_subquery()
    )
    claimed = {
        "status": JobStatus.RUNNING,
        "lease": lease,
        "due_at": now + timedelta(seconds=seconds),
        "attempts": Job.attempts + 1,
        "started_at": case((Job.started_at.is_(None), now), else_=Job.started_at),
    }
    columns = (Job.id, Job.kind, Job.payload, Job.progress, Job.attempts, Job.max_attempts, Job.created_at)
    row = db.session.execute(update(Job).where(Job.id == oldest_due).values(claimed).returning(*columns)).one_or_none()
    if row is None:
        return None
    return Claim(
        job_id=row.id,
        kind=row.kind,
        payload=row.payload,
        progress=row.progress,
        attempts=row.attempts,
        max_attempts=row.max_attempts,
        created_at=row.created_at,
        lease=lease,
        seconds=seconds,
    )


def fail_exhausted_jobs(kinds: Collection[str]) -> list[tuple[int, str]]:
    """Fail the jobs whose worker died in their last attempt; their ids and kinds."""
    is_exhausted = (_is_due(kinds, clock.now()), Job.status == JobStatus.RUNNING, Job.attempts >= Job.max_attempts)
    ended = _ended(JobStatus.FAILED, "Every worker that tried this died.")
    failed = db.session.execute(update(Job).where(*is_exhausted).values(ended).returning(Job.id, Job.kind))
    return [(row.id, row.kind) for row in failed]


def confirm(claim: Claim, progress: dict[str, Any]) -> None:
    """Check at the beginning of a step that the lease is still held and the progress is this. Raises ``LeaseLost``.

    The progress is further on when a step was committed although its COMMIT seemed to fail.
    """
    stored = db.session.scalar(select(Job.progress).where(Job.id == claim.job_id, Job.lease == claim.lease))
    if stored != progress:
        raise LeaseLost


def advance(claim: Claim, progress: dict[str, Any]) -> None:
    """Store the progress of a job, in the transaction of the step that made it, and renew its lease.

    A job that makes progress has all its attempts again. Raises ``LeaseLost``.
    """
    due_at = clock.now() + timedelta(seconds=claim.seconds)
    _change(claim, {"progress": progress, "attempts": 1, "due_at": due_at})


def finish(claim: Claim) -> None:
    """End a job that is complete. Raises ``LeaseLost``."""
    _change(claim, _ended(JobStatus.SUCCEEDED))


def fail(claim: Claim, error: str) -> None:
    """End a job that cannot succeed. Raises ``LeaseLost``."""
    _change(claim, _ended(JobStatus.FAILED, error))


def retry(claim: Claim, error: str) -> None:
    """Retry a failed job later. Raises ``LeaseLost``.

    Exponential backoff with jitter: jobs that failed together do not come back together.
    """
    delay = min(2**claim.attempts, MAX_RETRY_DELAY) * random.uniform(0.5, 1)  # noqa: S311 -- jitter, not a secret
    _change(claim, {**_queued(clock.now() + timedelta(seconds=delay)), "error": error})


def release(claim: Claim) -> None:
    """Give a job back, because its worker is stopped; the attempt does not count. Raises ``LeaseLost``."""
    _change(claim, {**_queued(clock.now()), "attempts": Job.attempts - 1})


def cancel(job_id: int) -> bool:
    """Stop a job before its next step; false when it has ended already."""
    ended = update(Job).where(Job.id == job_id, _IS_OPEN).values(_ended(JobStatus.CANCELLED)).returning(Job.id)
    return db.session.scalar(ended) is not None


def ended(before: datetime) -> Select[int]:
    """The ids of the jobs that ended before a moment."""
    return select(Job.id).where(Job.finished_at < before)


def prune_jobs(*, before: datetime) -> int:
    """Delete a batch of the jobs that ended before a moment; their number. Delete what refers to them first."""
    return delete_batch(Job, Job.finished_at < before)


def _is_due(kinds: Collection[str], now: datetime) -> ColumnElement[bool]:
    return Job.kind.in_(kinds) & _IS_OPEN & (Job.due_at <= now)


def _queued(due_at: datetime) -> dict[str, Any]:
    return {"status": JobStatus.QUEUED, "lease": None, "due_at": due_at}


def _ended(status: JobStatus, error: str | None = None) -> dict[str, Any]:
    return {"status": status, "lease": None, "error": error, "finished_at": clock.now()}


def _change(claim: Claim, values: dict[str, Any]) -> None:
    is_held = (Job.id == claim.job_id, Job.lease == claim.lease)
    if db.session.scalar(update(Job).where(*is_held).values(values).returning(Job.id)) is None:
        raise LeaseLost
