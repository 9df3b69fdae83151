"""Routes of sessions."""

from sqlalchemy import Select

from app.features.sessions import service
from app.features.sessions.models import UserSession
from app.features.sessions.schemas import SessionQuerySchema, SessionSchema
from app.security.permissions import Permission
from app.web.access import current_identity
from app.web.contract import Blueprint, lists, requires, returns

blueprint = Blueprint("sessions", __name__, url_prefix="/auth/sessions", about="Your active logins.")


@blueprint.get("")
@requires(Permission.ACCOUNT_MANAGE)
@lists(SessionSchema, SessionQuerySchema, service.LISTING)
def list_sessions() -> Select[UserSession]:
    """List your active sessions."""
    return service.sessions_of(current_identity().user_id or 0)


@blueprint.delete("")
@requires(Permission.ACCOUNT_MANAGE)
@returns(status=204)
def end_all_sessions() -> None:
    """End all of your sessions, this one included."""
    service.end_sessions(current_identity().user_id or 0)


@blueprint.delete("/<id:session_id>")
@requires(Permission.ACCOUNT_MANAGE)
@returns(status=204)
def end_session(session_id: int) -> None:
    """End one of your sessions; administrators can end any user's."""
    service.end_session(session_id, identity=current_identity())
