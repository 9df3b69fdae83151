"""Routes of registering, logging in, refreshing and logging out."""

from typing import Any

from flask import current_app, request

from app.features.auth import service
from app.features.auth.models import (
    LoginFailed,
    RefreshTokenReused,
    RefreshTokenUsed,
    RegistrationClosed,
    SessionEnded,
)
from app.features.auth.schemas import LoginSchema, RegisterSchema, TokenPairSchema
from app.features.users import service as users
from app.features.users.models import EmailTaken, User, UsernameTaken
from app.features.users.schemas import UserSchema
from app.security.permissions import Permission
from app.web.access import current_claims, current_identity
from app.web.contract import (
    Blueprint,
    accepts,
    limited,
    public,
    refuses,
    requires,
    requires_refresh_token,
    returns,
)

blueprint = Blueprint("auth", __name__, url_prefix="/auth")


@blueprint.post("/register")
@public
@limited("RATE_LIMIT_LOGIN")
@accepts(RegisterSchema)
@returns(UserSchema, status=201, location=lambda _: "/api/v1/users/me")
@refuses(EmailTaken, UsernameTaken, RegistrationClosed)
def register(data: dict[str, Any]) -> User:
    """Make an account for yourself, with the role user."""
    if not current_app.config["REGISTRATION_OPEN"]:
        raise RegistrationClosed
    return users.create_user(**data)


@blueprint.post("/login")
@public
@limited("RATE_LIMIT_LOGIN")
@accepts(LoginSchema)
@returns(TokenPairSchema)
@refuses(LoginFailed)
def log_in(data: dict[str, Any]) -> service.TokenPair:
    """Open a session with your e-mail address and password."""
    device, address = request.headers.get("User-Agent", ""), request.remote_addr or ""
    return service.log_in(**data, device=device, address=address, lifetimes=_lifetimes())


@blueprint.post("/refresh")
@requires_refresh_token
@returns(TokenPairSchema)
@refuses(SessionEnded, RefreshTokenUsed, RefreshTokenReused)
def refresh() -> service.TokenPair:
    """Exchange your refresh token, sent as the bearer token, for a new pair; it works once."""
    return service.refresh(current_claims(), _lifetimes())


@blueprint.post("/logout")
@requires(Permission.ACCOUNT_MANAGE)
@returns(status=204)
def log_out() -> None:
    """End this session; its access and refresh tokens are refused from now on."""
    service.log_out(current_identity())


def _lifetimes() -> service.Lifetimes:
    config = current_app.config
    return service.Lifetimes(
        access=config["ACCESS_TOKEN_TTL"], refresh=config["REFRESH_TOKEN_TTL"], grace=config["REFRESH_GRACE"]
    )
