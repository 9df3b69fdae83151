"""Wire shapes of users."""

from typing import Any

from app.security.permissions import Role
from app.web import fields
from app.web.schemas import BodySchema, Schema

USERNAME: dict[str, Any] = {"least": 3, "most": 32, "pattern": r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", "example": "alice"}


class UserSchema(Schema):
    """An account."""

    id = fields.Integer(dump_only=True, example=1)
    email = fields.Email(example="alice@example.com")
    username = fields.Text(**USERNAME)
    role = fields.Choice(list(Role), dump_only=True, example="user")
    is_active = fields.Boolean(dump_only=True, example=True)
    created_at = fields.Moment(dump_only=True)
    updated_at = fields.Moment(dump_only=True)
    version = fields.Integer(dump_only=True, example=1)


class MeUpdateSchema(BodySchema):
    """What people may change of their own account."""

    username = fields.Text(**USERNAME)
