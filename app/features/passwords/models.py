"""The refusals of changing and resetting passwords."""

from app.core.errors import Invalid


class CurrentPasswordWrong(Invalid):
    """This is not your current password."""

    commits = True

    pointer = "/current_password"


class ResetTokenInvalid(Invalid):
    """This token is not valid, was used, or is older than 30 minutes."""

    pointer = "/token"
