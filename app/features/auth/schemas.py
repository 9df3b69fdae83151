"""Wire shapes of authentication."""

from typing import Any

from app.features.users.schemas import USERNAME, Password
from app.web import fields
from app.web.schemas import BodySchema, Schema

#: Of the member `refresh_token_in`.
REFRESH_TOKEN_PLACE: dict[str, Any] = {
    "name": "RefreshTokenPlace",
    "load_default": "body",
    "note": "Where to send the refresh token: `cookie` hides it from a web page's scripts.",
}


class KnownEmail(fields.Text):
    """The e-mail address of an account in any of its spellings, normalised.

    Text that is no address passes, and then matches no account: a fault would differ from the response to a wrong one.
    """

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str:
        text = super()._deserialize(value)
        return fields.normalized_email(text) or text


class RegisterSchema(BodySchema):
    """A new account."""

    email = fields.Email(required=True, example="carol@example.com")
    username = fields.Text(required=True, **USERNAME)
    password = Password(required=True, example="correct horse battery")


class LoginSchema(BodySchema):
    """The credentials of a user."""

    email = KnownEmail(required=True, max_length=254, example="editor@example.com")
    password = Password(required=True, min_length=1, example="demo-editor-password")
    refresh_token_in = fields.Choice(["body", "cookie"], **REFRESH_TOKEN_PLACE)


class TokenPairSchema(Schema):
    """An access token for requests, and a refresh token to exchange for the next pair.

    If the client requested the cookie, `refresh_token` is null and `csrf_token` is the `X-CSRF-Token` of the next
    refresh.
    """

    access_token = fields.Text(
        max_length=4096, required=True, example="eyJhbGciOiJIUzI1NiJ9.eyJ0eXBlIjoiYWNjZXNzIn0.c2ln"
    )
    refresh_token = fields.Text(
        max_length=4096, required=True, allow_none=True, example="eyJhbGciOiJIUzI1NiJ9.eyJ0eXBlIjoicmVmcmVzaCJ9.c2ln"
    )
    csrf_token = fields.Text(
        max_length=64, schema={"x-optional": True}, note="Only with the cookie.", example="0f" * 32
    )
    token_type = fields.Choice(["Bearer"], required=True, example="Bearer")
    expires_in = fields.Integer(required=True, note="The lifetime of the access token, in seconds.", example=900)
