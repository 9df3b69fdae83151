"""The tables of webhooks, the rules of a delivery, and the refusals."""

import random
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.core import clock
from app.core.audit import UNAUDITED, Audited
from app.core.errors import Conflict, Forbidden, Invalid
from app.core.model import Keyed, Live, Moment, Stamped, Versioned, big_integer, json_type, nullable_json_type
from app.core.tracing import TRACEPARENT_LENGTH
from app.extensions import Model

#: For how long a delivery is tried, and an endpoint may fail before it is disabled.
GIVE_UP_AFTER = timedelta(days=3)
#: Seconds before the second attempt; each later one waits four times as long, `MAX_DELAY` at most.
FIRST_DELAY, MAX_DELAY = 5, 8 * 3600
#: After so many failures one after the other an endpoint is paused, and then tried with one delivery at a time.
MAX_FAILURES = 5
#: Seconds of the first pause; each later one is twice as long, `MAX_PAUSE` at most.
FIRST_PAUSE, MAX_PAUSE = 10, 3600
#: The longest time that an endpoint may ask for by Retry-After, in seconds.
MAX_RETRY_AFTER = 24 * 3600
#: How long a delivery can be read after its end.
DELIVERY_RETENTION = timedelta(days=30)


class DisabledReason(StrEnum):
    """Why the server disabled an endpoint: it answered 410, it failed for three days, or its owner is inactive."""

    GONE = "gone"
    FAILING = "failing"
    OWNER_INACTIVE = "owner_inactive"


class DeliveryStatus(StrEnum):
    """Where a delivery is in its life; the last three are its end. A dead one can be sent again."""

    PENDING = "pending"
    SENDING = "sending"
    DELIVERED = "delivered"
    DEAD = "dead"
    SKIPPED = "skipped"


class WebhookDisabled(Conflict):
    """This webhook is disabled; enable it first."""


class DeliveryPending(Conflict):
    """This delivery has not ended; it is sent when it is due."""


class UrlNotAllowed(Invalid):
    """Webhooks are not sent to this address; use https and a public host."""

    pointer = "/url"


class ReadNotHeld(Forbidden):
    """These credentials do not allow reading the change feed, which a webhook sends."""


class Webhook(Keyed, Stamped, Versioned, Live, Audited, Model):
    """An endpoint of others, to which changes of the catalogue are sent.

    What clients cannot write does not count up the version. Whatever changes the queue of a webhook locks its row
    first.
    """

    __tablename__ = "webhooks"
    audited_as = "webhook"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    url: Mapped[str] = mapped_column(String(2000))
    description: Mapped[str] = mapped_column(String(200), default="")
    #: Names of changes, and patterns of them.
    events: Mapped[list[str]] = mapped_column(json_type)
    is_enabled: Mapped[bool] = mapped_column(default=True)
    #: None where a client disabled it.
    disabled_reason: Mapped[DisabledReason | None] = mapped_column(String(16))
    #: What may be read for it: the owner's permissions, and of an API key those that were its scopes as well.
    scopes: Mapped[list[str] | None] = mapped_column(nullable_json_type, info=UNAUDITED)
    #: The secrets, encrypted; the previous one signs too until ``previous_until``.
    secret: Mapped[str] = mapped_column(Text, info=UNAUDITED)
    previous_secret: Mapped[str | None] = mapped_column(Text, info=UNAUDITED)
    previous_until: Mapped[Moment | None]
    #: The job that sends its deliveries, while it is enabled.
    job_id: Mapped[int | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"), info=UNAUDITED)
    #: It hears of the changes after this event.
    starts_after: Mapped[int] = mapped_column(big_integer, info=UNAUDITED)
    #: Where a client has disabled it: the last event until then, which may not be queued yet.
    stops_after: Mapped[int | None] = mapped_column(big_integer, info=UNAUDITED)
    #: Attempts that failed one after the other, the first of them, and until when no other is made.
    failures: Mapped[int] = mapped_column(default=0, info=UNAUDITED)
    failing_since: Mapped[Moment | None] = mapped_column(info=UNAUDITED)
    paused_until: Mapped[Moment | None] = mapped_column(info=UNAUDITED)
    deleted_at: Mapped[Moment | None]

    def delete(self) -> None:
        """Take the webhook away, and its secrets; `prune` deletes its row, after what may be very many deliveries."""
        self.is_enabled, self.stops_after, self.deleted_at = False, None, clock.now()
        self.secret, self.previous_secret = "", None

    def hears_of(self, event_id: int) -> bool:
        """Whether an event is to be queued for it."""
        ends = None if self.is_enabled else self.stops_after or 0
        return event_id > self.starts_after and (ends is None or event_id <= ends)

    def rotate(self, secret: str, *, previous_until: datetime) -> None:
        """Replace the secret, which goes on signing until ``previous_until``; both are encrypted."""
        self.previous_secret, self.previous_until = self.secret, previous_until
        self.secret = secret

    def secrets_at(self, now: datetime) -> list[str]:
        """The encrypted secrets that sign at a moment, the newest first."""
        if self.previous_secret is None or self.previous_until is None or self.previous_until <= now:
            return [self.secret]
        return [self.secret, self.previous_secret]


class Delivery(Keyed, Model):
    """A message for an endpoint: of the last of several changes of a resource, or a ping.

    ``due_at`` is when it may be sent. What was sent and answered last stands in the columns below, shortened.
    """

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        CheckConstraint(f"status IN ({', '.join(repr(s.value) for s in DeliveryStatus)})", name="status"),
        {"sqlite_autoincrement": True},
    )

    webhook_id: Mapped[int] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    #: The `webhook-id` of the specification, by which receivers recognise what they have got already.
    message_id: Mapped[str] = mapped_column(String(64))
    #: The event in the feed; a ping has none, and none of the four below.
    event_id: Mapped[int | None] = mapped_column(big_integer)
    resource_type: Mapped[str | None] = mapped_column(String(32))
    resource_id: Mapped[int | None] = mapped_column(big_integer)
    row_version: Mapped[int | None] = mapped_column(big_integer)
    row_live: Mapped[int | None] = mapped_column(big_integer)
    type: Mapped[str] = mapped_column(String(64))
    #: Every name of the change, and of the earlier ones for which it stands.
    types: Mapped[list[str]] = mapped_column(json_type)
    #: How many earlier changes of the resource it stands for.
    merged: Mapped[int] = mapped_column(default=0)
    occurred_at: Mapped[Moment]
    status: Mapped[DeliveryStatus] = mapped_column(String(16), default=DeliveryStatus.PENDING)
    due_at: Mapped[Moment] = mapped_column(default=clock.now)
    #: How often it was sent.
    attempts: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[Moment] = mapped_column(default=clock.now)
    #: Of the first attempt to send this change; a later change that takes its place begins anew.
    tried_since: Mapped[Moment | None]
    attempted_at: Mapped[Moment | None]
    finished_at: Mapped[Moment | None]
    #: Of the last attempt: the answer's status, the milliseconds until it was there, and what is wrong.
    response_status: Mapped[int | None]
    latency_ms: Mapped[int | None]
    error: Mapped[str | None] = mapped_column(Text)
    request_body: Mapped[str | None] = mapped_column(Text)
    response_body: Mapped[str | None] = mapped_column(Text)
    #: The trace of the change, where it was traced; of several changes, that of the last.
    traceparent: Mapped[str | None] = mapped_column(String(TRACEPARENT_LENGTH))

    @property
    def next_attempt_at(self) -> datetime | None:
        """When it is sent next, unless the endpoint is paused or disabled; None if it is not."""
        return self.due_at if self.status == DeliveryStatus.PENDING else None


_IS_PENDING = Delivery.status == DeliveryStatus.PENDING
_HAS_ENDED = Delivery.finished_at.is_not(None)
_IS_SENDING = Delivery.status == DeliveryStatus.SENDING

Index("ix_webhooks_user_id", Webhook.user_id)
Index("ix_webhooks_job_id", Webhook.job_id)
Index("ix_webhooks_created_at_id", Webhook.created_at, Webhook.id)
# One waits for each resource: a later change takes its place.
Index(
    "uq_webhook_deliveries_webhook_id_resource_type_resource_id",
    Delivery.webhook_id,
    Delivery.resource_type,
    Delivery.resource_id,
    unique=True,
    postgresql_where=_IS_PENDING,
    sqlite_where=_IS_PENDING,
)
Index(
    "ix_webhook_deliveries_due",
    Delivery.webhook_id,
    Delivery.due_at,
    Delivery.id,
    postgresql_where=_IS_PENDING,
    sqlite_where=_IS_PENDING,
)
Index("ix_webhook_deliveries_sending", Delivery.webhook_id, postgresql_where=_IS_SENDING, sqlite_where=_IS_SENDING)
Index("ix_webhook_deliveries_webhook_id_id", Delivery.webhook_id, Delivery.id)
Index("ix_webhook_deliveries_webhook_id_status_id", Delivery.webhook_id, Delivery.status, Delivery.id)
Index("ix_webhook_deliveries_finished_at", Delivery.finished_at, postgresql_where=_HAS_ENDED, sqlite_where=_HAS_ENDED)


class DispatchState(Model):
    """One row: up to which event of the feed deliveries were made."""

    __tablename__ = "webhook_dispatch"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    position: Mapped[int] = mapped_column(big_integer)


def delay_after(attempts: int) -> timedelta:
    """How long to wait after so many failed attempts of a delivery: 5 s, 20 s, 80 s ... 8 h, with jitter of a fifth."""
    return _with_jitter(min(FIRST_DELAY * 4 ** min(attempts - 1, 10), MAX_DELAY))


def pause_after(failures: int) -> timedelta:
    """How long to leave an endpoint alone after so many failures one after the other: 10 s, 20 s ... 1 h, or not."""
    if failures < MAX_FAILURES:
        return timedelta(0)
    return _with_jitter(min(FIRST_PAUSE * 2 ** min(failures - MAX_FAILURES, 10), MAX_PAUSE))


def _with_jitter(seconds: float) -> timedelta:
    # What failed together is not tried again together.
    return timedelta(seconds=seconds * random.uniform(0.8, 1.2))  # noqa: S311 -- jitter, not a secret


def has_given_up(since: datetime | None, now: datetime) -> bool:
    """Whether three days have passed since a moment."""
    return since is not None and now - since >= GIVE_UP_AFTER


def as_row(delivery: Delivery) -> dict[str, Any]:
    """The columns of a delivery that say what it is about."""
    names = ("event_id", "message_id", "type", "types", "merged", "occurred_at", "row_version", "row_live")
    return {name: getattr(delivery, name) for name in (*names, "traceparent")}
