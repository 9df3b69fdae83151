"""``flask jobs``: what runs in the background, for operators."""

from collections.abc import Sequence
from datetime import datetime

import click
from flask.cli import AppGroup, with_appcontext

from app.api.tasks import TASKS
from app.core.jobs import Job, JobStatus
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.jobs import service
from app.features.jobs.models import JobNotRetriable

group = AppGroup("jobs", help="Background jobs. What a job is to do is not shown: it may name people.")

COLUMNS = ("id", "kind", "status", "attempts", "due_at", "error")
MEMBERS = (
    "id", "kind", "key", "status", "attempts", "max_attempts", "error", "due_at", "created_at", "started_at",
    "finished_at",
)  # fmt: skip
_LONGEST = 60


@group.command("list")
@click.option("--status", type=click.Choice([status.value for status in JobStatus]), help="Those in this status alone.")
@click.option("--kind", type=click.Choice([*TASKS]), help="Those of this kind alone.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@with_appcontext
def list_jobs(status: str | None, kind: str | None, limit: int) -> None:
    """List the newest jobs, the last one first."""
    rows = service.all_jobs().order_by(Job.id.desc()).limit(limit)
    rows = rows if status is None else rows.where(Job.status == status)
    rows = rows if kind is None else rows.where(Job.kind == kind)
    with unit_of_work(reading=True):
        table = [COLUMNS, *(_texts_of(job, COLUMNS) for job in db.session.scalars(rows))]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


@group.command("show")
@click.argument("job_id", type=click.IntRange(1))
@with_appcontext
def show_job(job_id: int) -> None:
    """Show how far a job is."""
    with unit_of_work(reading=True):
        texts = _texts_of(service.get_job(job_id), MEMBERS, longest=None)
    for name, text in zip(MEMBERS, texts, strict=True):
        click.echo(f"{name}: {text}")


@group.command("retry")
@click.argument("job_id", type=click.IntRange(1))
@with_appcontext
def retry_job(job_id: int) -> None:
    """Queue a job that failed or was cancelled anew, with all its attempts."""
    try:
        with unit_of_work():
            service.retry_job(service.get_job(job_id), TASKS)
    except JobNotRetriable as refusal:
        raise click.ClickException(f"This job cannot be retried: {refusal.data['reason']}") from None
    click.echo(f"Job {job_id} is queued.")


@group.command("cancel")
@click.argument("job_id", type=click.IntRange(1))
@with_appcontext
def cancel_job(job_id: int) -> None:
    """Stop a job before its next step."""
    with unit_of_work():
        service.cancel_job(service.get_job(job_id), TASKS)
    click.echo(f"Job {job_id} is cancelled.")


def _texts_of(job: Job, members: Sequence[str], *, longest: int | None = _LONGEST) -> tuple[str, ...]:
    return tuple(_text(getattr(job, member))[:longest] for member in members)


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    return "" if value is None else " ".join(str(value).split())
