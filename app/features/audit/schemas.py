"""Wire shapes of audit events."""

from collections.abc import Mapping
from inspect import get_annotations
from typing import Any, get_args, get_origin

import marshmallow as ma
from sqlalchemy import JSON, Boolean, Integer, String, inspect
from sqlalchemy.types import TypeEngine

from app.core.audit import Audited
from app.core.changes import audited_members
from app.core.model import Money, UtcDateTime
from app.extensions import Model
from app.features.audit.service import LISTING
from app.web import fields
from app.web.kinds import Kind, OfKind, Refer
from app.web.schemas import ListQuerySchema, Order, Schema

#: The JSON Schema of a column's values in the trail, by the type of the column.
_TYPES: Mapping[type[TypeEngine[Any]], Mapping[str, Any]] = {
    Boolean: {"type": ["boolean", "null"]},
    Integer: {"type": ["integer", "null"], "format": "int64"},
    String: {"type": ["string", "null"]},
    UtcDateTime: {"type": ["string", "null"], "format": "date-time"},
    Money: {"type": ["string", "null"], "format": "decimal"},
}
_LIST: Mapping[str, Any] = {"type": ["array", "null"], "items": {"type": "string"}}
_OBJECT: Mapping[str, Any] = {"type": ["object", "null"], "additionalProperties": True}
_OBJECTS: Mapping[str, Any] = {"type": ["array", "null"], "items": {"type": "object", "additionalProperties": True}}
#: Of a column that has an object in some rows and a list of texts in others.
_ANY: Mapping[str, Any] = {**_LIST, "type": ["array", "object", "null"], "additionalProperties": True}


class MembersSchema(Schema):
    """Members of a row. The trail keeps what a row had at the time, so that there may be others."""

    class Meta:
        """Allow other members."""

        unknown = ma.INCLUDE


class AuditedMembers(OfKind):
    """Some members of a row of the kind that the event names; for responses."""

    def schemas(self, refer: Refer) -> Mapping[str, dict[str, Any]]:
        """The columns of each audited model that the trail has, none of them required."""
        return {
            model.audited_as: refer(_members_of(model))
            for model in (mapper.class_ for mapper in Model.registry.mappers)
            if issubclass(model, Audited)
        }


def _members_of(model: type[Any]) -> type[ma.Schema]:
    columns = inspect(model).columns
    members: dict[str, ma.fields.Field[Any]] = {
        name: fields.Field(dump_only=True, schema={**_schema_of(model, name, columns[name].type), "x-optional": True})
        for name in audited_members(inspect(model))
    }
    return MembersSchema.from_dict(members, name=f"{model.__name__}MembersSchema")


def _schema_of(model: type[Any], name: str, column_type: TypeEngine[Any]) -> Mapping[str, Any]:
    if not isinstance(column_type, JSON):
        return next(schema for kind, schema in _TYPES.items() if isinstance(column_type, kind))
    [annotation] = get_args(get_annotations(model)[name])
    if annotation is Any:
        return _ANY
    if get_origin(annotation) is not list:
        return _OBJECT
    return _LIST if get_args(annotation) == (str,) else _OBJECTS


class AuditEventSchema(Schema):
    """An action: who did it, with which credential, to which resource. `before` and `after` contain no secrets."""

    id = fields.Integer(dump_only=True, example=1001)
    created_at = fields.Moment(dump_only=True)
    actor_id = fields.Integer(allow_none=True, note="The user; null for commands and failed logins.", example=1)
    session_id = fields.Integer(allow_none=True, example=12)
    api_key_id = fields.Integer(allow_none=True, example=5)
    action = fields.Text(max_length=64, pattern=r"^[a-z_]+\.[a-z_]+$", example="product.updated")
    resource_type = Kind(max_length=32, example="product")
    resource_id = fields.Integer(allow_none=True, example=42)
    before = AuditedMembers(
        allow_none=True, note="The members that changed, before the action.", example={"price": "10.00"}
    )
    after = AuditedMembers(
        allow_none=True, note="The members that changed, after the action.", example={"price": "12.50"}
    )
    request_id = fields.Text(max_length=64, allow_none=True, example="3f2a8c1e5b7d4960")
    address = fields.Text(max_length=45, allow_none=True, example="192.0.2.7")


class AuditQuerySchema(ListQuerySchema):
    """Filters and sorting of audit events; by default the newest first."""

    sort_by = fields.Choice(list(LISTING.sorts), name="AuditSort", load_default="id")
    order = fields.Choice(Order, load_default="desc")
    actor = fields.Values(fields.QueryInteger(), note="The id of a user.")
    action = fields.Values(fields.Text(max_length=64, pattern=r"^[a-z_]+\.[a-z_]+$"))
    resource = fields.Values(
        fields.Text(max_length=64, pattern=r"^[a-z_]{1,32}(/[1-9][0-9]{0,17})?$"),
        note="A resource type, such as product, or one resource, such as product/42.",
    )
    since = fields.Moment(note="At this time or later.")
