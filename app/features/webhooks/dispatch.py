"""What is new in the change feed, queued for the endpoints that want to hear of it.

Every worker looks about once a second. Of several at once one goes on, whose transaction compares and sets the position
up to which deliveries were made: so each event is queued exactly once, together with that position.
"""

import time
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import structlog
from sqlalchemy import ColumnElement, Select, exists, or_, select, update

from app.core import clock, jobs
from app.core.feed import ChangeEvent
from app.core.jobs import Job, JobStatus
from app.core.transactions import unit_of_work
from app.core.upserts import insert_into
from app.extensions import db
from app.features.events import service as events
from app.features.events.names import matches
from app.features.events.service import CursorExpired
from app.features.users.models import User
from app.features.webhooks import queue
from app.features.webhooks.models import Delivery, DeliveryStatus, DisabledReason, DispatchState, Webhook
from app.features.webhooks.service import DELIVER

#: Events that one transaction looks at, and deliveries that it queues at most: it holds the lock of every endpoint.
MAX_EVENTS, MAX_DELIVERIES = 500, 500
#: Seconds after which a look begins no other transaction: until it is over, its worker begins no job.
MAX_SECONDS = 1.0

log = structlog.get_logger(__name__)


def look_for_work() -> None:
    """Queue what is new for each endpoint, and see to it that the job of each runs that has something to send.

    Of very much that is new it queues a part, for about a second; the next look goes on.
    """
    ends = time.monotonic() + MAX_SECONDS
    while _dispatch() and time.monotonic() < ends:
        pass
    _ensure_jobs()
    _wake_jobs()


def queue_events(webhook: Webhook, changes: Iterable[ChangeEvent]) -> None:
    """Queue those of the changes that an endpoint wants to hear of; the caller has locked its row."""
    queue.add(_row_of(webhook, change) for change in changes if matches(webhook.events, change.types))


def _dispatch() -> bool:
    """Queue a batch of what is new; whether there is more."""
    with unit_of_work(reading=True):
        before, endpoints = _read_position()
        if before is None:
            return False
        try:
            changes, has_more = events.events_after(before, limit=min(MAX_EVENTS, MAX_DELIVERIES // endpoints + 1))
        except CursorExpired:
            changes, has_more = [], True
        after = changes[-1].id if changes else events.pruned_through()
    if after <= before:
        return False
    if not changes:
        log.error("webhook_events_lost", after=before, through=after)
    with unit_of_work():
        # After the events were read: an endpoint that is not here was created, or enabled, after all of them.
        if _advance(before, after):
            _queue_for_all(changes, before)
    return has_more


def _read_position() -> tuple[int | None, int]:
    """The event after which changes are to be queued, None without an endpoint; and the number of endpoints.

    None of the endpoints hears of what was before it started.
    """
    position = db.session.scalar(select(DispatchState.position)) or 0
    starts = db.session.scalars(select(Webhook.starts_after).where(_hears_after(position))).all()
    return (max(position, min(starts)), len(starts)) if starts else (None, 0)


def _hears_after(position: int) -> ColumnElement[bool]:
    """Whether an endpoint hears of events after a position: one that is disabled, of those until then."""
    return or_(Webhook.is_enabled, Webhook.stops_after > position)


def _advance(before: int, after: int) -> bool:
    """Set the position; whether no other worker did so since it was read."""
    db.session.execute(insert_into(DispatchState).values(id=1, position=0).on_conflict_do_nothing())
    is_unchanged = DispatchState.position <= before
    moved = update(DispatchState).where(is_unchanged).values(position=after).returning(DispatchState.id)
    return db.session.scalar(moved) is not None


def _queue_for_all(changes: Sequence[ChangeEvent], before: int) -> None:
    rows = select(Webhook, User.is_active).join(User, User.id == Webhook.user_id).where(_hears_after(before))
    for webhook, is_active in db.session.execute(queue.locked(rows.order_by(Webhook.id))).all():
        if is_active:
            queue_events(webhook, (change for change in changes if webhook.hears_of(change.id)))
        elif webhook.is_enabled:
            queue.disable(webhook, DisabledReason.OWNER_INACTIVE)


def _row_of(webhook: Webhook, change: ChangeEvent) -> dict[str, Any]:
    return {
        "webhook_id": webhook.id,
        "message_id": f"evt_{change.id}",
        "event_id": change.id,
        "resource_type": change.resource_type,
        "resource_id": change.resource_id,
        "row_version": change.row_version,
        "row_live": change.row_live,
        "type": change.type,
        "types": list(change.types),
        "merged": 0,
        "occurred_at": change.created_at,
        "traceparent": change.traceparent,
    }


def _ensure_jobs() -> None:
    """Make the job of each endpoint that is enabled and has none."""
    is_open = exists().where(Job.id == Webhook.job_id, Job.status.in_([JobStatus.QUEUED, JobStatus.RUNNING]))
    rows = select(Webhook.id).where(Webhook.is_enabled, ~is_open)
    with unit_of_work(reading=True):
        missing = db.session.scalars(rows).all()
    table = Webhook.metadata.tables["webhooks"]
    for webhook_id in missing:
        with unit_of_work():
            # The job before the webhook, as its own steps lock them: one order of locks, so no deadlock. For one that
            # was disabled meanwhile, the job ends at once.
            job = jobs.enqueue(DELIVER, {"webhook_id": webhook_id}, key=f"webhook:{webhook_id}")
            values = {"job_id": job.id, "updated_at": table.c.updated_at}
            is_enabled = (table.c.id == webhook_id, table.c.is_enabled)
            db.session.execute(update(table).where(*is_enabled).values(**values))


def _wake_jobs() -> None:
    """Let the jobs run that wait although their endpoints have something to send."""
    now = clock.now()
    parked = _jobs_with_work().where(Job.status == JobStatus.QUEUED, Job.due_at > now)
    with unit_of_work(reading=True):
        ids: Collection[int] = db.session.scalars(parked).all()
    if ids:
        with unit_of_work():
            jobs.wake(ids)


def _jobs_with_work() -> Select[int]:
    now = clock.now()
    is_due = (Delivery.status == DeliveryStatus.PENDING, Delivery.due_at <= now)
    has_due = exists().where(Delivery.webhook_id == Webhook.id, *is_due)
    may_send = (Webhook.paused_until.is_(None)) | (Webhook.paused_until <= now)
    return select(Job.id).join(Webhook, Webhook.job_id == Job.id).where(Webhook.is_enabled, has_due, may_send)
