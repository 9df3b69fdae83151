"""Use cases of jobs: look for them, retry and cancel them.

``tasks`` says what to do at the end of each kind of job, and whether one can be retried; `api.tasks` has the table.
"""

from collections.abc import Mapping

from sqlalchemy import Select, select

from app.core import jobs
from app.core.audit import record_event
from app.core.constraints import refusing
from app.core.errors import NotFound
from app.core.jobs import Job, JobStatus, Task
from app.core.listing import Listing, OneOf
from app.extensions import db
from app.features.jobs.models import (
    JobEnded,
    JobKindUnknown,
    JobNotEnded,
    JobNotRetriable,
    JobReplaced,
    JobSucceeded,
)

LISTING = Listing(
    filters={"status": OneOf(Job.status), "kind": OneOf(Job.kind)},
    sorts={"created_at": Job.created_at, "id": Job.id},
    tie_breaker=Job.id,
)


def all_jobs() -> Select[Job]:
    """Every job that is stored."""
    return select(Job)


def get_job(job_id: int) -> Job:
    """One job."""
    job = db.session.scalar(all_jobs().where(Job.id == job_id))
    if job is None:
        raise NotFound
    return job


def retry_job(job: Job, tasks: Mapping[str, Task]) -> Job:
    """Queue a job that failed or was cancelled anew, with all its attempts; it goes on where its progress ends.

    Refuses one that has not ended or has succeeded, whose task says that it cannot be retried, and whose key another
    job has taken over.
    """
    task = _task_of(job, tasks)
    if job.status == JobStatus.SUCCEEDED:
        raise JobSucceeded
    if job.status in jobs.OPEN:
        raise JobNotEnded
    if reason := task.retry_refusal(job.id):
        raise JobNotRetriable(reason=reason)
    with refusing({"uq_jobs_key": JobReplaced}):
        if not jobs.restart(job.id):
            raise JobNotEnded  # a retry at the same time was first
    return _changed(job, "job.retried")


def cancel_job(job: Job, tasks: Mapping[str, Task]) -> Job:
    """Stop a job: at once where it waits, and else before its next step, of which nothing stays.

    What its task does at the end of a job is done. Periodic work is queued for its next slot. Refuses a job that has
    ended.
    """
    task = _task_of(job, tasks)
    if not jobs.cancel(job.id):
        raise JobEnded
    jobs.after_end(job.id, job.kind, task)
    return _changed(job, "job.cancelled")


def _task_of(job: Job, tasks: Mapping[str, Task]) -> Task:
    if job.kind not in tasks:
        raise JobKindUnknown
    return tasks[job.kind]


def _changed(job: Job, action: str) -> Job:
    record_event(action, resource_type="job", resource_id=job.id)
    db.session.refresh(job)
    return job
