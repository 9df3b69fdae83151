"""Wire shapes of users."""

from typing import Any

from app.features.users.service import LISTING
from app.security.passwords import MAX_PASSWORD_BYTES, MIN_PASSWORD_LENGTH
from app.security.permissions import Role
from app.web import fields
from app.web.schemas import BodySchema, Order, Schema, SearchQuerySchema

USERNAME: dict[str, Any] = {
    "min_length": 3,
    "max_length": 50,
    "pattern": r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
    "example": "alice",
}


class Password(fields.Text):
    """A password: any characters except NUL; the upper limit is in bytes of UTF-8."""

    default_error_messages = {"too_many_bytes": f"Longer than {MAX_PASSWORD_BYTES} bytes in UTF-8."}

    def __init__(self, *, min_length: int = MIN_PASSWORD_LENGTH, **options: Any) -> None:
        schema = {"format": "password", "writeOnly": True}
        super().__init__(
            min_length=min_length, max_length=MAX_PASSWORD_BYTES, pattern=r"^[^\u0000]*$", schema=schema, **options
        )

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str:
        text = super()._deserialize(value)
        if len(text.encode()) > MAX_PASSWORD_BYTES:
            raise self.make_error("too_many_bytes")
        return text


class UserSchema(Schema):
    """An account."""

    id = fields.Integer(dump_only=True, example=1)
    email = fields.Email(example="alice@example.com")
    email_verified = fields.Boolean(
        dump_only=True,
        note="Whether the address is known to be its owner's; only then an identity provider's login finds it.",
        example=True,
    )
    username = fields.Text(**USERNAME)
    role = fields.Choice(Role, dump_only=True, example="user")
    is_active = fields.Boolean(dump_only=True, example=True)
    created_at = fields.Moment(dump_only=True)
    updated_at = fields.Moment(dump_only=True)
    version = fields.Integer(dump_only=True, example=1)


class MeUpdateSchema(BodySchema):
    """The members of your own account that you can change."""

    username = fields.Text(**USERNAME | {"example": "alice.liddell"})


class UserCreateSchema(BodySchema):
    """A new account, created by an administrator."""

    email = fields.Email(required=True, example="dave@example.com")
    username = fields.Text(required=True, **USERNAME | {"example": "dave"})
    password = Password(required=True, example="correct horse battery")
    role = fields.Choice(Role, load_default=Role.USER)
    is_active = fields.Boolean(load_default=True)


class UserUpdateSchema(BodySchema):
    """The members of an account that administrators can change."""

    email = fields.Email(example="erin@example.com")
    username = fields.Text(**USERNAME | {"example": "erin"})
    role = fields.Choice(Role)
    is_active = fields.Boolean()


class UserQuerySchema(SearchQuerySchema):
    """Filters and sorting of accounts; `search` matches words in usernames and e-mail addresses."""

    sort_by = fields.Choice(list(LISTING.sorts), name="UserSort", load_default="created_at")
    order = fields.Choice(Order, load_default="desc")
    role = fields.Values(fields.Choice(Role))
    is_active = fields.QueryBoolean()
