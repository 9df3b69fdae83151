"""Wire shapes of logging in."""

from typing import Any

from app.features.users.schemas import USERNAME
from app.security.passwords import LONGEST, SHORTEST
from app.web import fields
from app.web.schemas import BodySchema, Schema


class Password(fields.Text):
    """A password: any characters, bounded in bytes of UTF-8."""

    default_error_messages = {"too_many_bytes": f"Longer than {LONGEST} bytes in UTF-8."}

    def __init__(self, *, least: int, **options: Any) -> None:
        schema = {"format": "password", "writeOnly": True}
        super().__init__(least=least, most=LONGEST, pattern=r"^[^\u0000]*$", schema=schema, **options)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str:
        text = super()._deserialize(value)
        if len(text.encode()) > LONGEST:
            raise self.make_error("too_many_bytes")
        return text


class KnownEmail(fields.Text):
    """The address of an account in any of its spellings; what is no address belongs to nobody, which is not told."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str:
        text = super()._deserialize(value)
        return fields.normalized_email(text) or text


class RegisterSchema(BodySchema):
    """A new account."""

    email = fields.Email(required=True, example="carol@example.com")
    username = fields.Text(required=True, **USERNAME)
    password = Password(required=True, least=SHORTEST, example="correct horse battery")


class LoginSchema(BodySchema):
    """Credentials of a person."""

    email = KnownEmail(required=True, most=254, example="alice@example.com")
    password = Password(required=True, least=1, example="correct horse battery")


class TokenPairSchema(Schema):
    """An access token for requests, and a refresh token to get the next pair with."""

    access_token = fields.Text(most=4096, required=True, example="eyJhbGciOiJIUzI1NiJ9.eyJ0eXBlIjoiYWNjZXNzIn0.c2ln")
    refresh_token = fields.Text(most=4096, required=True, example="eyJhbGciOiJIUzI1NiJ9.eyJ0eXBlIjoicmVmcmVzaCJ9.c2ln")
    token_type = fields.Choice(["Bearer"], required=True, example="Bearer")
    expires_in = fields.Integer(required=True, note="The access token's life in seconds.", example=900)
