"""Wire shapes of logging in."""

from typing import Any

from app.features.users.schemas import USERNAME, Password
from app.web import fields
from app.web.schemas import BodySchema, Schema


class KnownEmail(fields.Text):
    """The address of an account in any of its spellings; what is no address belongs to nobody, which is not told."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str:
        text = super()._deserialize(value)
        return fields.normalized_email(text) or text


class RegisterSchema(BodySchema):
    """A new account."""

    email = fields.Email(required=True, example="carol@example.com")
    username = fields.Text(required=True, **USERNAME)
    password = Password(required=True, example="correct horse battery")


class LoginSchema(BodySchema):
    """Credentials of a person."""

    email = KnownEmail(required=True, most=254, example="alice@example.com")
    password = Password(required=True, least=1, example="correct horse battery")
    refresh_token_in = fields.Choice(
        ["body", "cookie"],
        load_default="body",
        note="Where the refresh token goes: `cookie` keeps it from a web page's scripts.",
    )


class TokenPairSchema(Schema):
    """An access token for requests, and a refresh token to get the next pair with.

    A web client that asked for the cookie finds `refresh_token` null, and a `csrf_token` to send as `X-CSRF-Token` with
    each refresh.
    """

    access_token = fields.Text(most=4096, required=True, example="eyJhbGciOiJIUzI1NiJ9.eyJ0eXBlIjoiYWNjZXNzIn0.c2ln")
    refresh_token = fields.Text(
        most=4096, required=True, allow_none=True, example="eyJhbGciOiJIUzI1NiJ9.eyJ0eXBlIjoicmVmcmVzaCJ9.c2ln"
    )
    csrf_token = fields.Text(most=64, schema={"x-optional": True}, note="With the cookie only.", example="0f" * 32)
    token_type = fields.Choice(["Bearer"], required=True, example="Bearer")
    expires_in = fields.Integer(required=True, note="The access token's life in seconds.", example=900)
