"""Wire shapes of jobs."""

from typing import Any

from app.core.jobs import JobStatus
from app.features.jobs.service import LISTING
from app.web import fields
from app.web.schemas import ListQuerySchema, Order, Schema

KIND: dict[str, Any] = {"max_length": 32, "pattern": r"^[a-z_]+$", "example": "import"}


class JobSchema(Schema):
    """A background job: how far it is in its life. What it is to do may name people, and is not shown."""

    id = fields.Integer(dump_only=True, example=3)
    kind = fields.Text(dump_only=True, **KIND)
    status = fields.Choice(JobStatus, dump_only=True, example="failed")
    attempts = fields.Integer(minimum=0, note="How often it was begun since it last made progress.", example=5)
    max_attempts = fields.Integer(minimum=1, note="After how many attempts it fails.", example=5)
    error = fields.Text(
        max_length=1000,
        allow_none=True,
        note="Why it failed, or why its last attempt did.",
        example="It failed unexpectedly (OperationalError).",
    )
    due_at = fields.Moment(
        dump_only=True, note="From when on a worker may begin it; while it runs, when another may take it over."
    )
    created_at = fields.Moment(dump_only=True)
    started_at = fields.Moment(dump_only=True, allow_none=True, note="When its latest run began.")
    finished_at = fields.Moment(
        dump_only=True, allow_none=True, note="When its latest run ended. Periodic work is queued again by then."
    )


class JobQuerySchema(ListQuerySchema):
    """Filters and sorting of jobs; by default the newest first."""

    sort_by = fields.Choice(list(LISTING.sorts), name="JobSort", load_default="id")
    order = fields.Choice(Order, load_default="desc")
    status = fields.Values(fields.Choice(JobStatus))
    kind = fields.Values(fields.Text(**KIND))
