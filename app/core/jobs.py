"""Background jobs: a table of work that survives its workers.

A job is enqueued in the transaction of the change that needs it, and claimed by one UPDATE, which leases it. Its worker
stores the progress in the transaction of each step, which renews the lease and proves that it is still held: a worker
that was taken for dead, or whose job was cancelled, has that whole step rolled back. A job whose worker died is claimed
again when the lease has expired, and resumes where its progress ends.

A job may have a key, and then it is the only open one with that key. A lasting job is one row forever: whenever its
task returns a moment, it is queued again for then. A periodic job is queued again for its next slot, however it ends.
"""

import random
import secrets
from collections.abc import Callable, Collection, Generator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import structlog
from sqlalchemy import CheckConstraint, ColumnElement, Index, Select, String, Text, case, func, or_, select, update
from sqlalchemy.orm import Mapped, mapped_column

from app.core import clock, tracing
from app.core.model import Keyed, Moment, json_type
from app.core.pruning import delete_batch
from app.core.upserts import insert_into, insert_unless_there
from app.extensions import Model, db

#: Seconds without progress after which another worker may claim the job.
LEASE_SECONDS = 60
MAX_ATTEMPTS = 5
#: In seconds.
MAX_RETRY_DELAY = 300
MAX_KEY_LENGTH = 64
#: How long a job is stored after it has ended.
JOB_RETENTION = timedelta(days=30)
#: The mark on a session that has made a job due: after the commit, `clients.broker` notifies the workers.
ENQUEUED = "job_enqueued"
#: The channel of PostgreSQL's NOTIFY on which a commit with a due job wakes the workers.
CHANNEL = "catalog_jobs"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class JobStatus(StrEnum):
    """Where a job is in its life; the last three are its end."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


#: The statuses of a job that has not ended.
OPEN = frozenset({JobStatus.QUEUED, JobStatus.RUNNING})


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
    #: What it is called among the open jobs.
    key: Mapped[str | None] = mapped_column(String(MAX_KEY_LENGTH))
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
    #: When its latest run began, and when that ended. A job that is queued again keeps both until it runs.
    started_at: Mapped[Moment | None]
    finished_at: Mapped[Moment | None]
    #: The request that has enqueued it, and its trace, where it was traced; None for every later run of a lasting job.
    traceparent: Mapped[str | None] = mapped_column(String(tracing.TRACEPARENT_LENGTH))
    request_id: Mapped[str | None] = mapped_column(String(64))


JOBS = Job.metadata.tables["jobs"]
#: Whether a job has not ended.
IS_OPEN = Job.status.in_(sorted(OPEN))
Index("ix_jobs_due_at_id", Job.due_at, Job.id, postgresql_where=IS_OPEN, sqlite_where=IS_OPEN)
Index("ix_jobs_created_at_id", Job.created_at, Job.id)
Index("ix_jobs_kind_id", Job.kind, Job.id)
Index("ix_jobs_status_id", Job.status, Job.id)
Index("uq_jobs_key", Job.key, unique=True, postgresql_where=IS_OPEN, sqlite_where=IS_OPEN)


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
    traceparent: str | None = None
    request_id: str | None = None

    @property
    def is_last(self) -> bool:
        """Whether there is no attempt after this one."""
        return self.attempts >= self.max_attempts


@dataclass(frozen=True)
class Task:
    """What a kind of job does.

    ``run`` yields after each step that it has committed, where another worker can resume it. Where it returns a moment
    the job is not ended but queued again for then, with all its attempts and its progress (a lasting job). ``end`` gets
    the job's id in the transaction that ends the job, with whatever status, to delete what the job needed.

    ``retry_refusal`` says in a sentence why the ended job with an id cannot be queued anew; None where it can.

    With ``every`` the work is periodic: all workers together have one job of this kind, which is due at each multiple
    of that period since 1970-01-01 UTC. A slot that begins before the run of an earlier one has ended is left out.

    A run that is stopped or dies after a step begins again with the progress of that step, also after its last one. So
    what must be done once is done in the transaction that stores in the progress that it is done. The next run of a
    lasting or periodic job has that progress too.
    """

    run: Callable[[Claim], Generator[None, None, datetime | None]]
    end: Callable[[int], None] = lambda _: None
    every: timedelta | None = None
    retry_refusal: Callable[[int], str | None] = lambda _: None

    def next_slot(self) -> datetime | None:
        """When periodic work is due next, after now; None for other work."""
        return None if self.every is None else _EPOCH + ((clock.now() - _EPOCH) // self.every + 1) * self.every


def enqueue(
    kind: str,
    payload: dict[str, Any],
    *,
    key: str | None = None,
    due_at: datetime | None = None,
    max_attempts: int = MAX_ATTEMPTS,
) -> Job:
    """Add a job, which runs once the caller's transaction is committed, but not before ``due_at``.

    Where an open job has the ``key``, of at most 64 characters, that job is returned and nothing changes; of several
    transactions at once, one adds it and the others get it. The job returned may just be running, and then it may have
    read already what the caller has changed: a task whose work comes from other tables needs a source that looks again.

    The job remembers the request and the trace at hand, unless it is due later: then it is periodic, and of no request.
    """
    if key is not None and not 0 < len(key) <= MAX_KEY_LENGTH:
        raise ValueError(f"a key has 1 to {MAX_KEY_LENGTH} characters")
    values = {"kind": kind, "payload": payload, "max_attempts": max_attempts}
    values |= _cause() if due_at is None else {"due_at": due_at}
    if key is None:
        job = Job(**values)
        db.session.add(job)
        db.session.flush()
    else:
        job, is_new = _insert_or_find({**values, "key": key})
        if not is_new:
            return job
    if job.due_at <= clock.now():
        _notify_workers()
    return job


def enqueue_all(kind: str, payloads: Mapping[str, dict[str, Any]], *, max_attempts: int = MAX_ATTEMPTS) -> None:
    """Add jobs that are due at once, by their keys, as `enqueue` does; the same few statements however many."""
    now = clock.now()
    always = {"kind": kind, "status": JobStatus.QUEUED, "attempts": 0, "max_attempts": max_attempts, "progress": {}}
    always |= _cause()
    # In one order, so that two transactions do not wait for each other at the unique index.
    rows = [
        {**always, "key": key, "payload": payload, "due_at": now, "created_at": now}
        for key, payload in sorted(payloads.items())
    ]
    if insert_unless_there(JOBS, rows) is not None:
        _notify_workers()


def enqueue_periodic(kind: str, task: Task) -> None:
    """Queue periodic work for its next slot, unless it is queued or running; other work is left as it is."""
    if (slot := task.next_slot()) is not None:
        enqueue(kind, {}, key=periodic_key(kind), due_at=slot)


def periodic_key(kind: str) -> str:
    """The key of the one open job of a kind of periodic work."""
    return f"every:{kind}"


def wake(job_ids: Collection[int] | Select[int]) -> int:
    """Make those of these jobs due now that are queued for later; their number.

    A job that waits for its retry waits on, and one that is running is not woken: what wakes lasting jobs calls this
    again for as long as there is work. Where there is none, this writes nothing; on SQLite it waits for the one writer
    all the same, so read first whether there is anything to wake.
    """
    now = clock.now()
    waits = (Job.status == JobStatus.QUEUED, Job.attempts == 0, Job.due_at > now)
    woken = db.session.scalars(
        update(Job).where(Job.id.in_(job_ids), *waits).values(due_at=now).returning(Job.id)
    ).all()
    if woken:
        _notify_workers()
    return len(woken)


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
        "started_at": case((or_(Job.started_at.is_(None), Job.finished_at.is_not(None)), now), else_=Job.started_at),
        "finished_at": None,
    }
    described = (Job.id, Job.kind, Job.payload, Job.created_at, Job.traceparent, Job.request_id)
    columns = (*described, Job.progress, Job.attempts, Job.max_attempts)
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
        traceparent=row.traceparent,
        request_id=row.request_id,
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


def renew(claims: Collection[Claim]) -> None:
    """Renew those of these leases that are still held. One whose step is just being committed is skipped."""
    due_at = clock.now() + timedelta(seconds=min(claim.seconds for claim in claims))
    held = (Job.id.in_([claim.job_id for claim in claims]), Job.lease.in_([claim.lease for claim in claims]))
    free = select(Job.id).where(*held).with_for_update(skip_locked=True)
    renewal = update(Job).where(Job.id.in_(free)).values(due_at=due_at)
    db.session.execute(renewal.execution_options(synchronize_session=False))


def finish(claim: Claim) -> None:
    """End a job that is complete. Raises ``LeaseLost``."""
    _change(claim, _ended(JobStatus.SUCCEEDED))


def queue_again(claim: Claim, due_at: datetime) -> None:
    """End this run of a lasting or periodic job, and queue it for its next. Raises ``LeaseLost``."""
    # What comes next was caused by no request.
    anew = {"attempts": 0, "error": None, "traceparent": None, "request_id": None}
    _change(claim, {**_queued(due_at), **anew, "finished_at": clock.now()})


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
    ended = update(Job).where(Job.id == job_id, IS_OPEN).values(_ended(JobStatus.CANCELLED)).returning(Job.id)
    return db.session.scalar(ended) is not None


def restart(job_id: int) -> bool:
    """Queue a job that failed or was cancelled anew, with all its attempts and its progress; false for any other.

    Raises ``IntegrityError`` (uq_jobs_key) where another open job has its key.
    """
    has_not_succeeded = Job.status.in_([JobStatus.FAILED, JobStatus.CANCELLED])
    anew = {**_queued(clock.now()), "attempts": 0, "error": None, "started_at": None, "finished_at": None}
    anew |= _cause()
    restarted = update(Job).where(Job.id == job_id, has_not_succeeded).values(anew).returning(Job.id)
    if db.session.scalar(restarted) is None:
        return False
    _notify_workers()
    return True


def after_end(job_id: int, kind: str, task: Task) -> None:
    """What belongs to the end of a job, in the transaction that has ended it with whatever status."""
    task.end(job_id)
    enqueue_periodic(kind, task)


def ended(before: datetime) -> Select[int]:
    """The ids of the jobs that ended before a moment."""
    return select(Job.id).where(_ended_before(before))


def prune_jobs(*, before: datetime) -> int:
    """Delete a batch of the jobs that ended before a moment; their number. Delete what refers to them first."""
    return delete_batch(Job, _ended_before(before))


def _insert_or_find(values: dict[str, Any]) -> tuple[Job, bool]:
    """The open job with the key of these values, and whether it was just inserted."""
    insertion = insert_into(Job).values(values).on_conflict_do_nothing().returning(Job.id)
    while True:
        job_id = db.session.scalar(insertion)
        is_open = Job.id == job_id if job_id is not None else (Job.key == values["key"]) & IS_OPEN
        # What is in the session may be of before the other transaction's commit.
        fresh = select(Job).where(is_open).execution_options(populate_existing=True)
        if (job := db.session.scalar(fresh)) is not None:
            return job, job_id is not None
        # The job in the way has ended between the two statements.


def _notify_workers() -> None:
    """Wake the workers when this transaction commits: by NOTIFY, and by the broker's message."""
    db.session.info[ENQUEUED] = True
    if db.engine.dialect.name == "postgresql":
        db.session.execute(select(func.pg_notify(CHANNEL, "")))


def _cause() -> dict[str, Any]:
    """The request and the trace at hand. A job that enqueues another one logs its own request, which goes on there."""
    request_id = structlog.contextvars.get_contextvars().get("request_id")
    return {"traceparent": tracing.traceparent_to_store(), "request_id": request_id}


def _ended_before(moment: datetime) -> ColumnElement[bool]:
    return (Job.finished_at < moment) & ~IS_OPEN


def _is_due(kinds: Collection[str], now: datetime) -> ColumnElement[bool]:
    return Job.kind.in_(kinds) & IS_OPEN & (Job.due_at <= now)


def _queued(due_at: datetime) -> dict[str, Any]:
    return {"status": JobStatus.QUEUED, "lease": None, "due_at": due_at}


def _ended(status: JobStatus, error: str | None = None) -> dict[str, Any]:
    return {"status": status, "lease": None, "error": error, "finished_at": clock.now()}


def _change(claim: Claim, values: dict[str, Any]) -> None:
    is_held = (Job.id == claim.job_id, Job.lease == claim.lease)
    if db.session.scalar(update(Job).where(*is_held).values(values).returning(Job.id)) is None:
        raise LeaseLost
