"""The jobs of webhooks: one for each endpoint, which sends what waits for it, and one for each replay."""

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from flask import current_app
from sqlalchemy import select

from app.core import clock, jobs
from app.core.feed import ChangeEvent
from app.core.jobs import Claim, JobFailed
from app.core.metrics import WEBHOOK_DELIVERIES
from app.core.tracing import read_trace
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.events import service as events
from app.features.events.names import matches
from app.features.events.presentation import present_events
from app.features.users.models import User
from app.features.webhooks import dispatch, queue, service
from app.features.webhooks.models import Delivery, DisabledReason, Webhook
from app.features.webhooks.queue import Outcome
from app.features.webhooks.schemas import MessageSchema, PingSchema
from app.features.webhooks.sending import Message, new_client, send
from app.security.identity import Identity
from app.security.permissions import Role
from app.security.signatures import SecretUnreadable, decrypt
from app.web.output import to_json
from app.web.schemas import shared

#: Seconds after which the job of an endpoint lets other jobs run.
SLICE = 10.0
#: How often deliveries are taken in one transaction, which locks the endpoint, while all that are taken are skipped.
MAX_TAKES = 25
#: When the job of an endpoint looks again by itself; a source wakes it as soon as something waits.
IDLE = timedelta(days=1)


@dataclass(frozen=True)
class Batch:
    """What an endpoint is sent next, and, where that is nothing, when to look again; None where it is disabled.

    ``skipped`` is how many deliveries ended without being sent.
    """

    messages: Sequence[Message] = ()
    again_at: datetime | None = None
    skipped: int = 0


def deliver(claim: Claim) -> Generator[None, None, datetime | None]:
    """Send what waits for an endpoint until nothing is due, or for some seconds; when to go on, if it is enabled.

    The transaction that takes deliveries is committed before they are sent, and another stores what became of them. A
    worker that dies in between leaves them to the next, which sends them again under the same ids.
    """
    webhook_id, deadline = claim.payload["webhook_id"], time.monotonic() + SLICE
    with new_client() as client, ThreadPoolExecutor(queue.CONCURRENCY, thread_name_prefix="webhook") as threads:
        while True:
            with unit_of_work():
                jobs.advance(claim, claim.progress)
                batch = _next_batch(webhook_id)
            WEBHOOK_DELIVERIES.labels("skipped").inc(batch.skipped)
            if not batch.messages:
                return batch.again_at
            # In a context of its own each, which has the job for the log and the trace.
            sending = [threads.submit(copy_context().run, send, client, message) for message in batch.messages]
            outcomes = [each.result() for each in sending]
            with unit_of_work():
                jobs.advance(claim, claim.progress)
                results = _record(webhook_id, outcomes)
            for result in results:
                WEBHOOK_DELIVERIES.labels(result).inc()
            yield
            if time.monotonic() > deadline:
                return clock.now()


def replay(claim: Claim) -> Generator[None, None, None]:
    """Queue the changes of a part of the feed for an endpoint again, yielding after each batch."""
    position, until = claim.progress.get("position", claim.payload["position"]), claim.payload["until"]
    while position < until:
        try:
            with unit_of_work():
                reached = _replay_batch(claim, position, until)
        except events.CursorExpired:
            raise JobFailed("The events after this position were deleted meanwhile.") from None
        # After the commit, which keeps that it was disabled.
        if reached is None:
            raise JobFailed("The webhook is disabled.")
        position = reached
        yield


def _next_batch(webhook_id: int) -> Batch:
    found = _lock_enabled(webhook_id)
    if found is None:
        return Batch()
    webhook, role = found
    reader = service.reader_of(webhook, role)
    skipped = 0
    for _ in range(MAX_TAKES):
        deliveries = queue.take(webhook)
        if not deliveries:
            break
        messages = list(_compose(webhook, deliveries, reader))
        skipped += len(deliveries) - len(messages)
        if messages:
            return Batch(messages, skipped=skipped)
    return Batch(again_at=queue.next_due(webhook) or clock.now() + IDLE, skipped=skipped)


def _compose(webhook: Webhook, deliveries: Sequence[Delivery], reader: Identity) -> Iterator[Message]:
    """The messages of deliveries, as their reader may see the rows; what the webhook does not ask for is skipped."""
    changes = [_event_of(delivery) for delivery in deliveries if delivery.event_id is not None]
    items = {item["id"]: item for item in present_events(changes, reader) if matches(webhook.events, item["types"])}
    signing = _signing_secrets(webhook)
    for delivery in deliveries:
        item = _ping_of(delivery) if delivery.event_id is None else items.get(delivery.event_id)
        if item is None:
            queue.skip(delivery, "The webhook does not ask for it, or its owner may not see it.")
        else:
            trace = read_trace(delivery.traceparent)
            yield Message(delivery.id, delivery.message_id, webhook.url, _body_of(delivery, item), signing, trace)


def _record(webhook_id: int, outcomes: Sequence[Outcome]) -> list[str]:
    rows = select(Webhook).where(Webhook.id == webhook_id, Webhook.deleted_at.is_(None))
    webhook = db.session.scalar(queue.locked(rows))
    return [] if webhook is None else queue.record(webhook, outcomes)


def _replay_batch(claim: Claim, position: int, until: int) -> int | None:
    """Queue a batch after a position; the position after it, or None where the webhook is disabled."""
    jobs.confirm(claim, claim.progress if position == claim.payload["position"] else {"position": position})
    found = _lock_enabled(claim.payload["webhook_id"])
    if found is None:
        return None
    changes, _ = events.events_after(position, limit=dispatch.MAX_EVENTS)
    changes = [change for change in changes if change.id <= until]
    dispatch.queue_events(found[0], changes)
    position = changes[-1].id if changes else until
    jobs.advance(claim, {"position": position})
    return position


def _lock_enabled(webhook_id: int) -> tuple[Webhook, Role] | None:
    """A webhook, locked, and its owner's role; None where it is disabled. One of an inactive owner is disabled here."""
    rows = select(Webhook, User).join(User, User.id == Webhook.user_id).where(Webhook.id == webhook_id)
    found = db.session.execute(queue.locked(rows.where(Webhook.is_enabled))).one_or_none()
    if found is None:
        return None
    webhook, owner = found
    if not owner.is_active:
        queue.disable(webhook, DisabledReason.OWNER_INACTIVE)
        return None
    return webhook, Role(owner.role)


def _body_of(delivery: Delivery, item: Mapping[str, Any]) -> bytes:
    message = {**item, "timestamp": delivery.occurred_at, "merged": delivery.merged}
    if delivery.event_id is None:
        return to_json(shared(PingSchema).dump(message))
    cursor = events.sign_cursor(delivery.event_id, current_app.config["SECRET_KEYS"])
    return to_json(shared(MessageSchema).dump({**message, "cursor": cursor}))


def _event_of(delivery: Delivery) -> ChangeEvent:
    """The change as the feed has it, with the names of those for which it stands."""
    return ChangeEvent(
        id=delivery.event_id,
        created_at=delivery.occurred_at,
        type=delivery.type,
        names=delivery.types,
        resource_type=delivery.resource_type,
        resource_id=delivery.resource_id,
        row_version=delivery.row_version,
        row_live=delivery.row_live,
    )


def _ping_of(delivery: Delivery) -> dict[str, Any]:
    nothing = dict.fromkeys(("id", "resource_type", "resource_id", "version", "live", "data", "cursor"))
    return {**nothing, "type": delivery.type, "types": delivery.types, "created_at": delivery.occurred_at}


def _signing_secrets(webhook: Webhook) -> Sequence[str]:
    """The secrets that sign now; none where one cannot be decrypted."""
    keys = current_app.config["SECRET_KEYS"]
    try:
        return [decrypt(secret, keys) for secret in webhook.secrets_at(clock.now())]
    except SecretUnreadable:
        return []
