"""Routes of jobs."""

from collections.abc import Callable, Mapping

from flask import Flask, current_app
from sqlalchemy import Select

from app.core.jobs import Job, Task
from app.features.jobs import service
from app.features.jobs.models import (
    JobEnded,
    JobKindUnknown,
    JobNotEnded,
    JobNotRetriable,
    JobReplaced,
    JobSucceeded,
)
from app.features.jobs.schemas import JobQuerySchema, JobSchema
from app.security.permissions import Permission
from app.web.contract import Blueprint, lists, refuses, requires, returns

blueprint = Blueprint("jobs", __name__, url_prefix="/jobs", about="What runs in the background.")


def init_app(app: Flask, *, find_tasks: Callable[[], Mapping[str, Task]]) -> None:
    """Register what finds the tasks, by the kind of job that they run, when one is retried or cancelled."""
    app.extensions["find_tasks"] = find_tasks


@blueprint.get("")
@requires(Permission.JOBS_READ)
@lists(JobSchema, JobQuerySchema, service.LISTING)
def list_jobs() -> Select[Job]:
    """List background jobs; one that has ended is stored for 30 days."""
    return service.all_jobs()


@blueprint.get("/<id:job_id>")
@requires(Permission.JOBS_READ)
@returns(JobSchema)
def read_job(job_id: int) -> Job:
    """Read a job."""
    return service.get_job(job_id)


@blueprint.post("/<id:job_id>/retry")
@requires(Permission.JOBS_WRITE)
@returns(JobSchema)
@refuses(JobKindUnknown, JobNotEnded, JobNotRetriable, JobReplaced, JobSucceeded)
def retry_job(job_id: int) -> Job:
    """Queue a job that failed or was cancelled anew, with all its attempts; it goes on where it stopped.

    An import cannot be retried, because its file is deleted when it ends.
    """
    return service.retry_job(service.get_job(job_id), current_app.extensions["find_tasks"]())


@blueprint.post("/<id:job_id>/cancel")
@requires(Permission.JOBS_WRITE)
@returns(JobSchema)
@refuses(JobEnded, JobKindUnknown)
def cancel_job(job_id: int) -> Job:
    """Stop a job; what its finished steps have done stays. Periodic work is queued for its next time."""
    return service.cancel_job(service.get_job(job_id), current_app.extensions["find_tasks"]())
