"""Routes of users."""

from typing import Any

from sqlalchemy import Select

from app.features.sessions import service as sessions
from app.features.sessions.models import UserSession
from app.features.sessions.schemas import SessionQuerySchema, SessionSchema
from app.features.users import service
from app.features.users.models import EmailTaken, LastAdmin, RoleNotHeld, User, UsernameTaken
from app.features.users.schemas import (
    MeUpdateSchema,
    UserCreateSchema,
    UserQuerySchema,
    UserSchema,
    UserUpdateSchema,
)
from app.security.passwords import PasswordTooCommon
from app.security.permissions import Permission
from app.web.access import current_identity
from app.web.contract import Blueprint, accepts, changes, lists, refuses, requires, returns

blueprint = Blueprint("users", __name__, url_prefix="/users", about="User accounts.")


@blueprint.get("/me")
@requires(Permission.ACCOUNT_MANAGE)
@returns(UserSchema)
def read_me() -> User:
    """Read your own account."""
    return service.get_me(identity=current_identity())


@blueprint.patch("/me")
@requires(Permission.ACCOUNT_MANAGE)
@changes(service.get_me)
@accepts(MeUpdateSchema)
@returns(UserSchema)
@refuses(UsernameTaken)
def update_me(user: User, data: dict[str, Any]) -> User:
    """Change your own account."""
    return service.update_me(user, **data)


@blueprint.get("")
@requires(Permission.USERS_READ)
@lists(UserSchema, UserQuerySchema, service.LISTING)
def list_users() -> Select[User]:
    """List accounts, active and inactive."""
    return service.visible_to(current_identity())


@blueprint.post("")
@requires(Permission.USERS_WRITE)
@accepts(UserCreateSchema)
@returns(UserSchema, status=201, location=lambda user: f"/api/v1/users/{user.id}")
@refuses(EmailTaken, UsernameTaken, PasswordTooCommon, RoleNotHeld)
def create_user(data: dict[str, Any]) -> User:
    """Create an account, with any role whose permissions you have."""
    service.require_may_govern(current_identity(), data["role"])
    return service.create_user(**data)


@blueprint.get("/<id:user_id>")
@requires(Permission.USERS_READ)
@returns(UserSchema)
def read_user(user_id: int) -> User:
    """Read an account."""
    return service.get_user(user_id, identity=current_identity())


@blueprint.patch("/<id:user_id>")
@requires(Permission.USERS_WRITE)
@changes(service.get_user)
@accepts(UserUpdateSchema)
@returns(UserSchema)
@refuses(EmailTaken, UsernameTaken, LastAdmin, RoleNotHeld)
def update_user(user: User, data: dict[str, Any]) -> User:
    """Change an account's e-mail address, username or role, or whether it is active."""
    service.require_may_govern(current_identity(), user.role, data.get("role", user.role))
    return service.update_user(user, **data)


@blueprint.delete("/<id:user_id>")
@requires(Permission.USERS_WRITE)
@changes(service.get_user)
@returns(status=204)
@refuses(LastAdmin, RoleNotHeld)
def deactivate_user(user: User) -> None:
    """Deactivate an account; its credentials are refused from the next request on."""
    service.require_may_govern(current_identity(), user.role)
    service.deactivate_user(user)


@blueprint.get("/<id:user_id>/sessions")
@requires(Permission.USERS_READ)
@lists(SessionSchema, SessionQuerySchema, sessions.LISTING)
def list_sessions_of_user(user_id: int) -> Select[UserSession]:
    """List the active sessions of an account."""
    return sessions.sessions_of(service.get_user(user_id, identity=current_identity()).id)


@blueprint.delete("/<id:user_id>/sessions")
@requires(Permission.USERS_WRITE)
@returns(status=204)
def end_sessions_of_user(user_id: int) -> None:
    """End every session of an account."""
    sessions.end_sessions(service.get_user(user_id, identity=current_identity()).id)
