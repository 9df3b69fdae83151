"""Use cases of webhooks: endpoints, their secrets, and what was sent to them."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, select

from app.core import clock, jobs
from app.core.errors import NotFound
from app.core.jobs import Job
from app.core.listing import Listing, OneOf
from app.core.pruning import delete_batch
from app.core.tracing import traceparent_to_store
from app.extensions import db
from app.features.events import service as feed
from app.features.webhooks import queue
from app.features.webhooks.models import (
    DELIVERY_RETENTION,
    Delivery,
    DeliveryPending,
    DeliveryStatus,
    DispatchState,
    ReadNotHeld,
    Webhook,
    WebhookDisabled,
    as_row,
)
from app.security.identity import Identity
from app.security.permissions import CATALOG_READS, Permission, Role
from app.security.signatures import encrypt, make_secret

#: The kinds of jobs: one for each endpoint that sends its deliveries, and one for each replay.
DELIVER, REPLAY = "webhook", "webhook_replay"
PING = "webhook.ping"
#: The receiver of a webhook reads what it sends, so those who order it must be able to read that themselves.
READS = CATALOG_READS | {Permission.EVENTS_READ}

LISTING = Listing(
    filters={"is_enabled": Webhook.is_enabled.is_},
    sorts={"created_at": Webhook.created_at, "id": Webhook.id},
    tie_breaker=Webhook.id,
)
DELIVERIES = Listing(
    filters={
        "status": OneOf(Delivery.status),
        "type": OneOf(Delivery.type),
        "since": lambda since: Delivery.created_at >= since,
    },
    sorts={"id": Delivery.id},
    tie_breaker=Delivery.id,
)


@dataclass(frozen=True)
class NewSecret:
    """A webhook with its secret, which is shown once; what is stored is encrypted."""

    row: Webhook
    secret: str

    def __getattr__(self, name: str) -> Any:
        """Read every other attribute from the row."""
        return getattr(self.row, name)


def visible_to(_identity: Identity) -> Select[Webhook]:
    """Every webhook: all who may read webhooks see all."""
    return select(Webhook).where(Webhook.deleted_at.is_(None))


def get_webhook(webhook_id: int, *, identity: Identity, lock: bool = False) -> Webhook:
    """The webhook; ``NotFound`` if there is none. ``lock`` locks its row (FOR NO KEY UPDATE)."""
    rows = visible_to(identity).where(Webhook.id == webhook_id)
    webhook = db.session.scalar(rows.with_for_update(key_share=True) if lock else rows)
    if webhook is None:
        raise NotFound
    return webhook


def create_webhook(
    *,
    url: str,
    events: Sequence[str],
    description: str = "",
    is_enabled: bool = True,
    identity: Identity,
    keys: Sequence[str],
) -> NewSecret:
    """Create a webhook that hears of the changes from now on.

    Its deliveries hold what its owner may read at the time and, where an API key created it, what that key could.
    ``keys`` encrypt the secret. Refuses credentials that cannot read the feed (``ReadNotHeld``).
    """
    _require_reads(identity)
    secret = make_secret()
    webhook = Webhook(
        user_id=identity.user_id,
        url=url,
        events=list(events),
        description=description,
        is_enabled=is_enabled,
        scopes=sorted(identity.permissions) if identity.api_key_id else None,
        secret=encrypt(secret, keys),
        starts_after=feed.latest_position(),
    )
    db.session.add(webhook)
    db.session.flush()
    return NewSecret(webhook, secret)


def update_webhook(webhook: Webhook, *, identity: Identity, **changed: Any) -> Webhook:
    """Change a webhook, whose row must be locked.

    One that is disabled hears of the changes until then, and is sent them when it is enabled again; from then on it
    hears of the next ones. An API key that redirects it limits what it sends to what the key can read. Refuses that to
    credentials that cannot read the feed (``ReadNotHeld``).
    """
    if "url" in changed:
        _require_reads(identity)
        if identity.api_key_id:
            webhook.scopes = sorted(identity.permissions.intersection(webhook.scopes or identity.permissions))
    is_enabled = changed.get("is_enabled", webhook.is_enabled)
    if is_enabled and not webhook.is_enabled:
        _start_again(webhook)
    elif webhook.is_enabled and not is_enabled:
        webhook.stops_after = feed.latest_position()
    for name, value in changed.items():
        setattr(webhook, name, value)
    return webhook


def delete_webhook(webhook: Webhook) -> None:
    """Delete a webhook, with what waits for it and the log of its deliveries; nothing is sent from now on."""
    webhook.delete()


def rotate_secret(webhook: Webhook, *, overlap_seconds: int, keys: Sequence[str]) -> NewSecret:
    """Give a webhook, which must be locked, a new secret; the current one signs too for another ``overlap_seconds``."""
    secret = make_secret()
    webhook.rotate(encrypt(secret, keys), previous_until=clock.now() + timedelta(seconds=overlap_seconds))
    return NewSecret(webhook, secret)


def reader_of(webhook: Webhook, role: Role) -> Identity:
    """The identity that decides what deliveries hold, by the owner's role."""
    if webhook.scopes is None:
        return Identity.of_user(role=role, user_id=webhook.user_id)
    return Identity.of_delegate(role=role, user_id=webhook.user_id, scopes=webhook.scopes)


def ping(webhook: Webhook) -> Delivery:
    """Queue a message that says nothing but that the endpoint can be reached; refuses a disabled one."""
    _require_enabled(webhook)
    message = {"message_id": f"ping_{secrets.token_hex(12)}", "type": PING, "types": [PING], "occurred_at": clock.now()}
    delivery = Delivery(webhook_id=webhook.id, **message, traceparent=traceparent_to_store())
    db.session.add(delivery)
    db.session.flush()
    return delivery


def deliveries_of(webhook_id: int, *, identity: Identity) -> Select[Delivery]:
    """The deliveries of a webhook, with what was sent.

    Refuses credentials that cannot read the feed (``ReadNotHeld``).
    """
    _require_reads(identity)
    get_webhook(webhook_id, identity=identity)
    return select(Delivery).where(Delivery.webhook_id == webhook_id)


def get_delivery(webhook_id: int, delivery_id: int, *, identity: Identity) -> Delivery:
    """A delivery of a webhook; ``NotFound`` if there is none, and ``ReadNotHeld`` as `deliveries_of`."""
    delivery = db.session.scalar(deliveries_of(webhook_id, identity=identity).where(Delivery.id == delivery_id))
    if delivery is None:
        raise NotFound
    return delivery


def redeliver(webhook_id: int, delivery_id: int, *, identity: Identity) -> Delivery:
    """Queue a delivery that has ended again, under its message id and with what the resource is by then.

    Where a later change of the resource waits already, that is the one that is sent. Refuses a disabled webhook
    (``WebhookDisabled``), a delivery that has not ended (``DeliveryPending``), and ``ReadNotHeld`` as `deliveries_of`.
    """
    webhook = get_webhook(webhook_id, identity=identity, lock=True)
    delivery = get_delivery(webhook_id, delivery_id, identity=identity)
    _require_enabled(webhook)
    if delivery.status in {DeliveryStatus.PENDING, DeliveryStatus.SENDING}:
        raise DeliveryPending
    place = {"webhook_id": webhook.id, "resource_type": delivery.resource_type, "resource_id": delivery.resource_id}
    anew = {"merged": 0, "traceparent": traceparent_to_store()}
    return queue.add([{**place, **as_row(delivery), **anew}])[0]


def replay(
    webhook: Webhook, *, since: datetime | None = None, cursor: str | None = None, keys: Sequence[str]
) -> tuple[Job, int]:
    """Order that the changes after a cursor, or since a moment, are sent again; the job, and the event it begins after.

    Of several changes of one resource the last is sent. Refuses a disabled webhook (``WebhookDisabled``), an invalid
    cursor (``CursorInvalid``), and a position before the oldest event that is stored (``CursorExpired``).
    """
    _require_enabled(webhook)
    if since is not None:
        position = feed.position_since(since)
    else:
        position = feed.verify_cursor(cursor, keys) if cursor else feed.pruned_through()
        feed.events_after(position, limit=1)
    payload = {"webhook_id": webhook.id, "position": position, "until": feed.latest_position()}
    return jobs.enqueue(REPLAY, payload), position


def prune_deliveries() -> int:
    """Delete a batch of the deliveries that ended ``DELIVERY_RETENTION`` ago, or of deleted webhooks; their number."""
    deleted = select(Webhook.id).where(Webhook.deleted_at.is_not(None))
    has_ended = Delivery.finished_at < clock.now() - DELIVERY_RETENTION
    return delete_batch(Delivery, has_ended) or delete_batch(Delivery, Delivery.webhook_id.in_(deleted))


def prune_webhooks() -> int:
    """Delete a batch of the deleted webhooks that have no deliveries any more; their number."""
    has_deliveries = select(Delivery.id).where(Delivery.webhook_id == Webhook.id).exists()
    return delete_batch(Webhook, Webhook.deleted_at.is_not(None), ~has_deliveries)


def _start_again(webhook: Webhook) -> None:
    queued = db.session.scalar(select(DispatchState.position)) or 0
    # Otherwise something that happened before it was disabled is yet to be queued: what happened since is queued too.
    if webhook.stops_after is None or webhook.stops_after <= queued:
        webhook.starts_after = max(webhook.starts_after, feed.latest_position())
    webhook.disabled_reason, webhook.stops_after = None, None
    webhook.failures, webhook.failing_since, webhook.paused_until = 0, None, None
    queue.try_anew(webhook)


def _require_enabled(webhook: Webhook) -> None:
    if not webhook.is_enabled:
        raise WebhookDisabled


def _require_reads(identity: Identity) -> None:
    if not identity.permissions >= READS:
        raise ReadNotHeld
