"""Wire shapes of webhooks, their deliveries, and the messages that are sent."""

from collections.abc import Mapping
from typing import Any

import marshmallow as ma

from app.features.events.filters import ChangeFilter
from app.features.events.schemas import ChangeEventSchema
from app.features.webhooks.models import DeliveryStatus, DisabledReason
from app.features.webhooks.service import DELIVERIES, LISTING, PING
from app.web import fields
from app.web.schemas import BodySchema, ListQuerySchema, Order, Schema

URL: dict[str, Any] = {
    "max_length": 2000,
    "pattern": r"^https?://[^\s/?#@\\\u0000-\u0020\u007f]+([/?][^\s#\u0000-\u0020\u007f]*)?$",
    "schema": {"format": "uri"},
    "example": "https://shop.example/hooks/catalog",
    "note": "Where messages are sent by POST: `https`, a public host, and neither user name nor fragment.",
}
DESCRIPTION: dict[str, Any] = {"max_length": 200, "min_length": 0, "pattern": fields.LINES, "example": "Search index"}
MAX_EVENTS = 50


def _events(**options: Any) -> fields.Items:
    return fields.Items(
        ChangeFilter(), min_items=1, max_items=MAX_EVENTS, example=["product.*", "price.changed"], **options
    )


class WebhookSchema(Schema):
    """An endpoint of yours, to which changes of the catalogue are sent, without its secret."""

    id = fields.Integer(dump_only=True, example=4)
    user_id = fields.Integer(dump_only=True, note="Its owner: messages hold what this account may read.", example=1)
    url = fields.Text(**URL)
    description = fields.Text(**DESCRIPTION)
    events = _events()
    is_enabled = fields.Boolean(example=False)
    disabled_reason = fields.Choice(
        DisabledReason,
        allow_none=True,
        dump_only=True,
        example="gone",
        note="Why the server disabled it: the endpoint answered 410 (`gone`), it failed for three days (`failing`), or "
        "its owner was deactivated. Null if a client did.",
    )
    previous_until = fields.Moment(
        dump_only=True, allow_none=True, note="Until when messages are signed with the previous secret as well."
    )
    failures = fields.Integer(
        minimum=0, dump_only=True, note="Attempts that failed since the last that succeeded.", example=0
    )
    failing_since = fields.Moment(dump_only=True, allow_none=True)
    paused_until = fields.Moment(
        dump_only=True, allow_none=True, note="After failures, or as the endpoint asked by Retry-After."
    )
    created_at = fields.Moment(dump_only=True)
    updated_at = fields.Moment(dump_only=True)
    version = fields.Integer(dump_only=True, example=1)


class NewWebhookSchema(WebhookSchema):
    """A webhook with its secret, which is shown only once."""

    secret = fields.Text(
        max_length=100,
        dump_only=True,
        secret=True,
        note="Verifies the signatures of messages (Standard Webhooks). Save it: it is not shown again.",
        example="whsec_...",
    )


class WebhookCreateSchema(BodySchema):
    """A new webhook."""

    url = fields.Text(required=True, **URL)
    events = _events(required=True)
    description = fields.Text(load_default="", **DESCRIPTION)
    is_enabled = fields.Boolean(load_default=True, example=True)


class WebhookUpdateSchema(BodySchema):
    """What changes of a webhook."""

    url = fields.Text(**URL)
    events = _events()
    description = fields.Text(**DESCRIPTION)
    is_enabled = fields.Boolean(note="Enabled again, it hears of the changes from then on.", example=True)


class SecretRotateSchema(BodySchema):
    """How long messages are signed with the current secret beside the new one."""

    overlap_seconds = fields.Integer(minimum=0, maximum=7 * 24 * 3600, load_default=24 * 3600, example=3600)


class WebhookQuerySchema(ListQuerySchema):
    """Filters and sorting of webhooks."""

    sort_by = fields.Choice(list(LISTING.sorts), name="WebhookSort", load_default="created_at")
    order = fields.Choice(Order, load_default="desc")
    is_enabled = fields.QueryBoolean()


class DeliverySchema(Schema):
    """A message for an endpoint, and what became of its last attempt. Bodies are shortened."""

    id = fields.Integer(dump_only=True, example=901)
    webhook_id = fields.Integer(dump_only=True, example=4)
    message_id = fields.Text(
        max_length=64, dump_only=True, note="Sent as `webhook-id`; the same on every attempt.", example="evt_1001"
    )
    event_id = fields.Integer(allow_none=True, dump_only=True, note="In the feed; null for a ping.", example=1001)
    type = fields.Text(max_length=64, dump_only=True, example="product.updated")
    types = fields.Items(
        fields.Text(max_length=64), max_items=100, dump_only=True, example=["product.updated", "price.changed"]
    )
    resource_type = fields.Text(max_length=32, allow_none=True, dump_only=True, example="product")
    resource_id = fields.Integer(allow_none=True, dump_only=True, example=42)
    merged = fields.Integer(
        minimum=0, dump_only=True, note="Earlier changes of the resource that this message stands for.", example=0
    )
    status = fields.Choice(
        DeliveryStatus,
        dump_only=True,
        note="`dead` was given up after three days, `skipped` was not needed, as `error` says.",
        example="delivered",
    )
    attempts = fields.Integer(minimum=0, dump_only=True, example=1)
    next_attempt_at = fields.Moment(dump_only=True, allow_none=True, note="Null if there is none.")
    attempted_at = fields.Moment(dump_only=True, allow_none=True)
    response_status = fields.Integer(
        minimum=100, maximum=999, allow_none=True, dump_only=True, note="Null without an answer.", example=204
    )
    latency_ms = fields.Integer(minimum=0, allow_none=True, dump_only=True, example=87)
    error = fields.Text(max_length=500, allow_none=True, dump_only=True, example="The endpoint did not answer in time.")
    request_body = fields.Prose(
        max_length=20_000, allow_none=True, dump_only=True, example='{"id":1001,"type":"product.updated"}'
    )
    response_body = fields.Prose(max_length=5000, allow_none=True, dump_only=True, example="thank you")
    created_at = fields.Moment(dump_only=True)
    finished_at = fields.Moment(dump_only=True, allow_none=True)


class DeliveryQuerySchema(ListQuerySchema):
    """Filters of deliveries; the newest first."""

    sort_by = fields.Choice(list(DELIVERIES.sorts), name="DeliverySort", load_default="id")
    order = fields.Choice(Order, load_default="desc")
    status = fields.Values(fields.Choice(DeliveryStatus))
    type = fields.Values(fields.Text(max_length=64, pattern=r"^[a-z_]+\.[a-z_]+$"))
    since = fields.Moment(note="Created at this time or later.")


class ReplayCreateSchema(BodySchema):
    """From where to send again: a cursor of the feed, or a time."""

    since = fields.Moment(note="The changes at this time or later.")
    cursor = fields.Text(
        min_length=0,
        max_length=200,
        pattern=r"^[A-Za-z0-9._-]*$",
        note="The changes after it, as in GET /events; empty for all that are stored.",
        example="",
    )

    NOT_IN_EXAMPLE = ("since",)

    @ma.validates_schema
    def _require_one(self, data: Mapping[str, Any], **_: Any) -> None:
        if len(data) != 1:
            raise ma.ValidationError([fields.Message("since_or_cursor", "Send either `since` or `cursor`.")])


class ReplaySchema(Schema):
    """A replay, which runs in the background."""

    job_id = fields.Integer(dump_only=True, example=77)
    after = fields.Integer(minimum=0, dump_only=True, note="The id of the event after which it begins.", example=1000)


class MessageSchema(ChangeEventSchema):
    """A change, sent to the endpoint of a webhook: the item of the change feed, and what Standard Webhooks asks for.

    `types` has the names of the `merged` earlier changes as well. `cursor` continues the feed after this change.
    """

    timestamp = fields.Moment(dump_only=True, note="When it happened.")
    cursor = fields.Text(max_length=200, dump_only=True, example="MTAwMQ.c2ln")
    merged = fields.Integer(
        minimum=0, dump_only=True, note="Earlier changes of the resource that it stands for.", example=0
    )


def _null() -> fields.Field:
    return fields.Field(dump_only=True, schema={"type": "null", "examples": [None]})


class PingSchema(Schema):
    """A ping, sent to the endpoint of a webhook on request: it shows that messages arrive.

    It has the members of a message about a change, and null for what it has not.
    """

    id = _null()
    created_at = fields.Moment(dump_only=True)
    type = fields.Choice([PING], dump_only=True, example=PING)
    types = fields.Items(fields.Text(max_length=64), max_items=1, dump_only=True, example=[PING])
    resource_type = _null()
    resource_id = _null()
    version = _null()
    live = _null()
    data = _null()
    timestamp = fields.Moment(dump_only=True, note="When it was requested.")
    cursor = _null()
    merged = fields.Integer(minimum=0, maximum=0, dump_only=True, example=0)
