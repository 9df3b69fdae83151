"""The refusals of changing and resetting passwords."""

from app.core.errors import Invalid


class CurrentPasswordWrong(Invalid):
    """This is not your current password."""

    commits = True
    pointer = "/current_password"


class ResetTokenInvalid(Invalid):
    """This token is invalid, used, older than 30 minutes, or the account has changed since; request another."""

    pointer = "/token"
