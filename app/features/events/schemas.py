"""Wire shapes of the change feed."""

from collections.abc import Mapping
from typing import Any

import marshmallow as ma

from app.web import fields
from app.web.resources import ResourceName, ResourceRow
from app.web.schemas import QuerySchema, Schema


class ChangeEventSchema(Schema):
    """Something that changed, and what it is now.

    `data` is the row as it is when the feed is read, and null when it is gone; its version may already be a later one.
    What you may not see arrives as `product.hidden`, say, with the id alone.
    """

    id = fields.Integer(dump_only=True, example=1001)
    created_at = fields.Moment(dump_only=True)
    type = fields.Text(most=64, pattern=r"^[a-z]+\.[a-z_]+$", example="product.updated")
    resource_type = ResourceName(most=32, example="product")
    resource_id = fields.Integer(example=42)
    version = fields.Integer(dump_only=True, allow_none=True, note="The row's version after the change.", example=3)
    data = ResourceRow(allow_none=True)


class FeedMetaSchema(Schema):
    """Whether there is more, and where to go on, now or later."""

    per_page = fields.Integer(example=100)
    has_more = fields.Boolean(example=False)
    next_cursor = fields.Text(most=200, example="MTAwMQ.c2ln")


class FeedLinksSchema(Schema):
    """Where to go on."""

    next = fields.Text(most=500, example="/api/v1/events?cursor=MTAwMQ.c2ln")


class FeedSchema(Schema):
    """Events in the order in which they were committed."""

    items = fields.Nested(ChangeEventSchema, many=True)
    meta = fields.Nested(FeedMetaSchema)
    links = fields.Nested(FeedLinksSchema)


class FeedQuerySchema(QuerySchema):
    """Where to read on."""

    cursor = fields.Text(
        least=0,
        most=200,
        pattern=r"^[A-Za-z0-9._-]*$",
        load_default="",
        note="From `meta.next_cursor`; empty starts with the oldest event that is kept.",
    )
    from_ = fields.Choice(
        ["now"],
        data_key="from",
        attribute="from",
        note="No events, but the cursor to take before reading the whole catalogue for the first time.",
    )
    per_page = fields.QueryInteger(least=1, most=1000, load_default=100, note="How many events to read.")

    @ma.validates_schema
    def _refuse_cursor_with_from(self, data: Mapping[str, Any], **_: Any) -> None:
        if data.get("cursor") and "from" in data:
            raise ma.ValidationError([fields.Message("cursor_and_from", "Give either a cursor or from=now.")], "from")
