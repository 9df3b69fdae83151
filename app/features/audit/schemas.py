"""Wire shapes of audit events."""

from app.features.audit.service import LISTING
from app.web import fields
from app.web.schemas import ListQuerySchema, Schema


class AuditEventSchema(Schema):
    """An action: who did it, with which credential, to which resource. `before` and `after` contain no secrets."""

    id = fields.Integer(dump_only=True, example=1001)
    created_at = fields.Moment(dump_only=True)
    actor_id = fields.Integer(allow_none=True, note="The user; null for commands and failed logins.", example=1)
    session_id = fields.Integer(allow_none=True, example=12)
    api_key_id = fields.Integer(allow_none=True, example=5)
    action = fields.Text(max_length=64, pattern=r"^[a-z_]+\.[a-z_]+$", example="product.updated")
    resource_type = fields.Text(max_length=32, example="product")
    resource_id = fields.Integer(allow_none=True, example=42)
    before = fields.Anything(
        allow_none=True, note="The members that changed, before the action.", example={"price": "10.00"}
    )
    after = fields.Anything(
        allow_none=True, note="The members that changed, after the action.", example={"price": "12.50"}
    )
    request_id = fields.Text(max_length=64, allow_none=True, example="3f2a8c1e5b7d4960")
    address = fields.Text(max_length=45, allow_none=True, example="192.0.2.7")


class AuditQuerySchema(ListQuerySchema):
    """Filters and sorting of audit events; by default the newest first."""

    sort_by = fields.Choice(list(LISTING.sorts), load_default="id")
    order = fields.Choice(["asc", "desc"], load_default="desc")
    actor = fields.Values(fields.QueryInteger(), note="The id of a user.")
    action = fields.Values(fields.Text(max_length=64, pattern=r"^[a-z_]+\.[a-z_]+$"))
    resource = fields.Values(
        fields.Text(max_length=64, pattern=r"^[a-z_]{1,32}(/[1-9][0-9]{0,17})?$"),
        note="A resource type, such as product, or one resource, such as product/42.",
    )
    since = fields.Moment(note="At this time or later.")
