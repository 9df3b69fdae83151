"""Routes of changing and resetting passwords."""

from typing import Any

from flask import Response, current_app

from app.features.auth.models import TooManyFailures
from app.features.auth.routes import client, lifetimes, make_pair_response
from app.features.auth.schemas import TokenPairSchema
from app.features.passwords import service
from app.features.passwords.models import CurrentPasswordWrong, ResetTokenInvalid
from app.features.passwords.schemas import PasswordChangeSchema, ResetConfirmSchema, ResetRequestSchema
from app.security.passwords import HashingBusy, PasswordTooCommon
from app.security.permissions import Permission
from app.web import cookies
from app.web.access import current_identity
from app.web.contract import Blueprint, accepts, limited, public, refuses, requires, returns

blueprint = Blueprint("passwords", __name__, url_prefix="/auth", about="Changing and resetting passwords.")


@blueprint.post("/password")
@requires(Permission.ACCOUNT_MANAGE)
@limited("RATE_LIMIT_LOGIN")
@accepts(PasswordChangeSchema, is_small=True)
@returns(TokenPairSchema)
@refuses(CurrentPasswordWrong, PasswordTooCommon, TooManyFailures, HashingBusy)
def change_password(data: dict[str, Any]) -> Response:
    """Change your password; this ends all of your sessions and opens a new one."""
    pair = service.change_password(identity=current_identity(), **data, **client(), lifetimes=lifetimes())
    return make_pair_response(pair, in_cookie=cookies.read_refresh_cookie() is not None)


@blueprint.post("/password-reset")
@public
@limited("RATE_LIMIT_LOGIN")
@accepts(ResetRequestSchema, is_small=True)
@returns(status=202)
def request_password_reset(data: dict[str, Any]) -> None:
    """Request a mail with a reset token; the response does not reveal whether the address has an account."""
    service.request_reset(**data)


@blueprint.post("/password-reset/confirm")
@public
@limited("RATE_LIMIT_LOGIN")
@accepts(ResetConfirmSchema, is_small=True)
@returns(status=204)
@refuses(ResetTokenInvalid, PasswordTooCommon, HashingBusy)
def confirm_password_reset(data: dict[str, Any]) -> None:
    """Set a new password with the token from the mail; this ends all sessions of the account.

    The first reset of an account that was registered also unlinks its identities and revokes its API keys: the owner of
    the address may not be the one who registered it.
    """
    service.confirm_reset(**data, keys=current_app.config["SECRET_KEYS"])
