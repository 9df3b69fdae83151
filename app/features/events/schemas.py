"""Wire shapes of the change feed."""

from collections.abc import Mapping
from typing import Any

import marshmallow as ma

from app.features.events.filters import ChangeFilter, ResourceName
from app.web import fields
from app.web.kinds import Kind
from app.web.resources import ResourceRow
from app.web.schemas import QuerySchema, Schema

NAME = r"^[a-z_]+\.[a-z_]+$"


class ChangeEventSchema(Schema):
    """A change of a resource, with the resource's current data.

    `data` is read with the feed, so it may have a later version than the event; it is null if the resource is deleted.
    For a resource that you may not see, `type` ends in `.hidden` and is the only one of `types`, and `version`, `live`
    and `data` are null; imports that you may not see are left out.
    """

    id = fields.Integer(dump_only=True, example=1001)
    created_at = fields.Moment(dump_only=True)
    type = fields.Text(max_length=64, pattern=NAME, example="product.updated")
    types = fields.Items(
        fields.Text(max_length=64, pattern=NAME),
        max_items=20,
        dump_only=True,
        note="All names of the change, `type` first; the parameter `types` has what they say.",
        example=["product.updated", "price.changed"],
    )
    resource_type = Kind(max_length=32, example="product")
    resource_id = fields.Integer(example=42)
    version = fields.Integer(dump_only=True, allow_none=True, note="The row's version after the change.", example=3)
    live = fields.Integer(
        minimum=0,
        dump_only=True,
        allow_none=True,
        note="The row's second counter after the change; null where it has none.",
        example=17,
    )
    data = ResourceRow(allow_none=True)


class LiveEventSchema(ChangeEventSchema):
    """A change, as a live stream sends it: with the cursor to continue from."""

    cursor = fields.Text(max_length=200, dump_only=True, example="MTAwMQ.c2ln")


class FeedMetaSchema(Schema):
    """Whether more events follow, also where none of this page fits the filters, and the cursor to continue from."""

    per_page = fields.Integer(example=100)
    has_more = fields.Boolean(example=False)
    next_cursor = fields.Text(max_length=200, example="MTAwMQ.c2ln")


class FeedLinksSchema(Schema):
    """The link to the next events, with every filter."""

    next = fields.Text(max_length=4000, example="/api/v1/events?cursor=MTAwMQ.c2ln")


class FeedSchema(Schema):
    """Events in the order in which they were committed; those of changes that overlapped may come in either order."""

    items = fields.Nested(ChangeEventSchema, many=True)
    meta = fields.Nested(FeedMetaSchema)
    links = fields.Nested(FeedLinksSchema)


class WantedQuerySchema(QuerySchema):
    """The events that are wanted."""

    types = fields.Values(
        ChangeFilter(),
        max_items=50,
        note="Only changes with such a name, as you see them: what is hidden from you has no other name.",
        example=["product.*", "price.changed"],
    )
    resource = fields.Values(
        ResourceName(), max_items=10, note="Only changes of such a resource.", example=["product", "category"]
    )


class FeedQuerySchema(WantedQuerySchema):
    """The position in the feed, the events that are wanted, and the size of a page."""

    cursor = fields.Text(
        min_length=0,
        max_length=200,
        pattern=r"^[A-Za-z0-9._-]*$",
        load_default="",
        note="From `meta.next_cursor`; empty starts with the oldest event that is stored.",
    )
    from_ = fields.Choice(
        ["now"],
        data_key="from",
        attribute="from",
        note=(
            "Returns no events but the latest cursor; request it before you read the whole catalogue once."
            " `GET /products/export` has a cursor of its own, in `Events-Cursor`."
        ),
    )
    per_page = fields.QueryInteger(minimum=1, maximum=1000, load_default=100, note="The maximum number of events.")

    @ma.validates_schema
    def _refuse_cursor_with_from(self, data: Mapping[str, Any], **_: Any) -> None:
        if data.get("cursor") and "from" in data:
            raise ma.ValidationError([fields.Message("cursor_and_from", "Send either a cursor or from=now.")], "from")


class StreamQuerySchema(WantedQuerySchema):
    """Where a live stream begins, and the events that are wanted."""

    cursor = fields.Text(
        min_length=0,
        max_length=200,
        pattern=r"^[A-Za-z0-9._-]*$",
        load_default="",
        note="The cursor of the last event that was processed; without one, the stream begins with the next event.",
    )
