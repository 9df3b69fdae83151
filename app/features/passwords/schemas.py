"""Wire shapes of changing and resetting passwords."""

from app.features.auth.schemas import KnownEmail
from app.features.users.schemas import Password
from app.web import fields
from app.web.schemas import BodySchema


class PasswordChangeSchema(BodySchema):
    """The current password and the new one."""

    current_password = Password(required=True, min_length=1, example="correct horse battery")
    new_password = Password(required=True, example="staple battery horse")


class ResetRequestSchema(BodySchema):
    """The e-mail address of the account whose password is to be reset."""

    email = KnownEmail(required=True, max_length=254, example="alice@example.com")


class ResetConfirmSchema(BodySchema):
    """The token from the mail, and the new password."""

    token = fields.Text(required=True, max_length=500, pattern=r"^[A-Za-z0-9._-]+$", example="WzEsMF0.aSIm4A.x7Yk")
    new_password = Password(required=True, example="staple battery horse")
