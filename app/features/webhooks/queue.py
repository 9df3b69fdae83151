"""The queue of an endpoint: what waits, what is taken to be sent, and what became of it.

Each function is called in a transaction that has locked the endpoint's row, so that none of two at once is lost.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVarTuple

import structlog
from sqlalchemy import Select, select, update

from app.core import clock
from app.extensions import db
from app.features.webhooks.models import (
    MAX_FAILURES,
    MAX_RETRY_AFTER,
    Delivery,
    DeliveryStatus,
    DisabledReason,
    Webhook,
    as_row,
    delay_after,
    has_given_up,
    pause_after,
)

#: Deliveries that are sent to one endpoint at the same time, each for another resource.
CONCURRENCY = 4
#: What is kept of a request and of its answer, in characters.
MAX_REQUEST_TEXT, MAX_RESPONSE_TEXT = 16_384, 4096

WEBHOOKS = Webhook.metadata.tables["webhooks"]

Columns = TypeVarTuple("Columns")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one attempt: the answer's status, or else what was wrong; ``retry_after`` in seconds."""

    delivery_id: int
    status: int | None = None
    latency_ms: int | None = None
    error: str | None = None
    request_text: str | None = None
    response_text: str | None = None
    retry_after: float | None = None

    @property
    def is_success(self) -> bool:
        """Whether the endpoint has taken it: any 2xx, as the specification says."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def is_gone(self) -> bool:
        """Whether the endpoint wants no more."""
        return self.status == 410


def locked(rows: Select[*Columns]) -> Select[*Columns]:
    """A query of endpoints that locks their rows (FOR NO KEY UPDATE) and reads what the database has by then.

    Without the second, a row that the session has from a transaction before would stay as it was.
    """
    return rows.with_for_update(of=Webhook, key_share=True).execution_options(populate_existing=True)


def add(rows: Iterable[dict[str, Any]]) -> list[Delivery]:
    """Queue deliveries, each as the columns that say what it is about; the deliveries that will be sent.

    Where a change of the same resource waits for the same endpoint already, both become one: the later of them.
    """
    rows = list(rows)
    waiting = _find_pending(rows)
    queued = []
    for row in rows:
        place = row["webhook_id"], row["resource_type"], row["resource_id"]
        delivery = waiting.get(place)
        if delivery is None:
            delivery = Delivery(**row)
            db.session.add(delivery)
            if row["resource_id"] is not None:
                waiting[place] = delivery
        else:
            _merge(delivery, row)
        queued.append(delivery)
    db.session.flush()
    return queued


def take(webhook: Webhook) -> list[Delivery]:
    """The deliveries to send now, marked as being sent.

    They are a few for different resources, and one while the endpoint fails. What a worker that died was sending waits
    again first: whether it arrived is unknown.
    """
    now = clock.now()
    for delivery in _find(webhook, DeliveryStatus.SENDING):
        _put_back(delivery, due_at=now)
    if webhook.paused_until is not None and webhook.paused_until > now:
        return []
    number = CONCURRENCY if webhook.failures < MAX_FAILURES else 1
    due = _pending_of(webhook).where(Delivery.due_at <= now).limit(number)
    deliveries = _load(due)
    for delivery in deliveries:
        delivery.status, delivery.attempted_at = DeliveryStatus.SENDING, now
        delivery.tried_since = delivery.tried_since or now
        delivery.attempts += 1
    db.session.flush()
    return deliveries


def next_due(webhook: Webhook) -> datetime | None:
    """When the endpoint can be sent something next; None if nothing waits."""
    first = db.session.scalar(_pending_of(webhook).with_only_columns(Delivery.due_at).limit(1))
    if first is None:
        return None
    return first if webhook.paused_until is None else max(first, webhook.paused_until)


def skip(delivery: Delivery, reason: str) -> None:
    """End a delivery that is not to be sent."""
    delivery.status, delivery.error, delivery.finished_at = DeliveryStatus.SKIPPED, reason, clock.now()
    db.session.flush()


def record(webhook: Webhook, outcomes: Sequence[Outcome]) -> list[str]:
    """Store what became of the deliveries that were taken, and draw the conclusions for the endpoint.

    The result is what became of each, to be counted after the commit: succeeded, retried, gone or failed.
    """
    results = []
    sent = {delivery.id: delivery for delivery in _find(webhook, DeliveryStatus.SENDING)}
    state = _State(webhook.failures, webhook.failing_since, webhook.paused_until)
    for outcome in outcomes:
        # A delivery that another worker has put back meanwhile is that worker's.
        if delivery := sent.get(outcome.delivery_id):
            state.count(outcome)
            results.append(_conclude(delivery, outcome))
    _store(webhook, state)
    if any(outcome.is_gone for outcome in outcomes):
        disable(webhook, DisabledReason.GONE)
    elif has_given_up(state.failing_since, clock.now()):
        disable(webhook, DisabledReason.FAILING)
    return results


def try_anew(webhook: Webhook) -> None:
    """Give what waits for an endpoint all its time again."""
    waits = (Delivery.webhook_id == webhook.id, Delivery.status == DeliveryStatus.PENDING)
    was_tried = Delivery.tried_since.is_not(None)
    db.session.execute(update(Delivery).where(*waits, was_tried).values(tried_since=None, due_at=clock.now()))


def disable(webhook: Webhook, reason: DisabledReason) -> None:
    """Disable an endpoint; what waits for it stays until it is enabled again. The audit trail has it."""
    webhook.is_enabled, webhook.disabled_reason = False, reason
    db.session.flush()
    log.warning("webhook_disabled", webhook_id=webhook.id, reason=reason.value)


@dataclass
class _State:
    """How an endpoint has been doing."""

    failures: int
    failing_since: datetime | None
    paused_until: datetime | None

    def count(self, outcome: Outcome) -> None:
        now = clock.now()
        if outcome.is_success:
            self.failures, self.failing_since, self.paused_until = 0, None, None
            return
        self.failures += 1
        self.failing_since = self.failing_since or now
        pause = max(pause_after(self.failures), timedelta(seconds=_seconds_asked_for(outcome)))
        if pause:
            self.paused_until = max(self.paused_until or now, now + pause)


def _seconds_asked_for(outcome: Outcome) -> float:
    """For how many seconds the endpoint asked to be left alone."""
    return min(outcome.retry_after or 0, MAX_RETRY_AFTER)


def _store(webhook: Webhook, state: _State) -> None:
    # Not through the mapper: this is no change by a client, and raises the second counter only.
    values = {"failures": state.failures, "failing_since": state.failing_since, "paused_until": state.paused_until}
    if all(getattr(webhook, name) == value for name, value in values.items()):
        return
    beside = {"live": WEBHOOKS.c.live + 1, "updated_at": WEBHOOKS.c.updated_at}
    db.session.execute(update(WEBHOOKS).where(WEBHOOKS.c.id == webhook.id).values(**values, **beside))
    db.session.refresh(webhook, [*values, "live"])


def _conclude(delivery: Delivery, outcome: Outcome) -> str:
    """Store what became of one delivery; the word for it."""
    _note(delivery, outcome)
    if outcome.is_success:
        delivery.status, delivery.finished_at = DeliveryStatus.DELIVERED, clock.now()
        return "succeeded"
    if outcome.is_gone or has_given_up(delivery.tried_since, clock.now()):
        delivery.status, delivery.finished_at = DeliveryStatus.DEAD, clock.now()
        return "gone" if outcome.is_gone else "failed"
    pause = max(delay_after(delivery.attempts), timedelta(seconds=_seconds_asked_for(outcome)))
    _put_back(delivery, due_at=clock.now() + pause)
    return "retried"


def _note(delivery: Delivery, outcome: Outcome) -> None:
    delivery.response_status, delivery.latency_ms, delivery.error = outcome.status, outcome.latency_ms, outcome.error
    delivery.request_body = _excerpt(outcome.request_text, MAX_REQUEST_TEXT)
    delivery.response_body = _excerpt(outcome.response_text, MAX_RESPONSE_TEXT)


def _excerpt(text: str | None, max_length: int) -> str | None:
    # PostgreSQL takes no NUL.
    return None if text is None else text.replace("\0", "\ufffd")[:max_length]


def _put_back(delivery: Delivery, *, due_at: datetime) -> None:
    """Let a delivery that was not taken wait again, or a later one of its resource stand for it."""
    place = {"webhook_id": delivery.webhook_id, **_resource_of(delivery)}
    later = _find_pending([place]).get((delivery.webhook_id, delivery.resource_type, delivery.resource_id))
    if later is None:
        delivery.status, delivery.due_at = DeliveryStatus.PENDING, due_at
    else:
        _merge(later, as_row(delivery))
        later.due_at = max(later.due_at, due_at)
        later.attempts = delivery.attempts
        skip(delivery, delivery.error or "A later change of the resource is sent in its place.")
    db.session.flush()


def _merge(waiting: Delivery, row: dict[str, Any]) -> None:
    """Make one of a delivery that waits and another change of its resource."""
    if waiting.event_id == row["event_id"]:
        return
    is_later = row["event_id"] > (waiting.event_id or 0)
    first, second = (row["types"], waiting.types) if is_later else (waiting.types, row["types"])
    merged = waiting.merged + row.get("merged", 0) + 1
    if is_later:
        for name, value in row.items():
            setattr(waiting, name, value)
        waiting.due_at, waiting.tried_since = clock.now(), None
    waiting.types, waiting.merged = [*first, *(name for name in second if name not in first)], merged


def _resource_of(delivery: Delivery) -> dict[str, Any]:
    return {"resource_type": delivery.resource_type, "resource_id": delivery.resource_id}


def _find_pending(rows: Sequence[dict[str, Any]]) -> dict[tuple[int, str | None, int | None], Delivery]:
    """What waits for the endpoints and resources of these rows, by both; pings are not among it."""
    endpoints = {row["webhook_id"] for row in rows}
    resources = {row["resource_id"] for row in rows if row["resource_id"] is not None}
    if not resources:
        return {}
    is_asked = (Delivery.webhook_id.in_(endpoints), Delivery.resource_id.in_(resources))
    found = select(Delivery).where(Delivery.status == DeliveryStatus.PENDING, *is_asked)
    return {(row.webhook_id, row.resource_type, row.resource_id): row for row in _load(found)}


def _find(webhook: Webhook, status: DeliveryStatus) -> list[Delivery]:
    rows = select(Delivery).where(Delivery.webhook_id == webhook.id, Delivery.status == status)
    return _load(rows.order_by(Delivery.id))


def _load(rows: Select[Delivery]) -> list[Delivery]:
    """Deliveries as the database has them: the session may have them from a transaction before. All are flushed."""
    return list(db.session.scalars(rows.execution_options(populate_existing=True)))


def _pending_of(webhook: Webhook) -> Select[Delivery]:
    rows = select(Delivery).where(Delivery.webhook_id == webhook.id, Delivery.status == DeliveryStatus.PENDING)
    return rows.order_by(Delivery.due_at, Delivery.id)
