"""Routes of users."""

from typing import Any

from app.features.users import service
from app.features.users.models import User, UsernameTaken
from app.features.users.schemas import MeUpdateSchema, UserSchema
from app.security.permissions import Permission
from app.web.access import current_identity
from app.web.contract import Blueprint, accepts, changes, refuses, requires, returns

blueprint = Blueprint("users", __name__, url_prefix="/users")


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
