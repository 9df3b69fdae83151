"""Wire shapes of sessions."""

from app.features.sessions.service import LISTING
from app.web import fields
from app.web.schemas import ListQuerySchema, Order, Schema


class SessionSchema(Schema):
    """A session: one login on one device."""

    id = fields.Integer(dump_only=True, example=12)
    device = fields.Text(max_length=200, min_length=0, note="The User-Agent header of the login.", example="curl/8.5.0")
    address = fields.Text(max_length=45, example="192.0.2.7")
    created_at = fields.Moment(dump_only=True)
    last_seen_at = fields.Moment(dump_only=True, note="Accurate to one minute.")
    expires_at = fields.Moment(dump_only=True)


class SessionQuerySchema(ListQuerySchema):
    """Sorting of sessions."""

    sort_by = fields.Choice(list(LISTING.sorts), name="SessionSort", load_default="last_seen_at")
    order = fields.Choice(Order, load_default="desc")
