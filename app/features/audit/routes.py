"""Routes of the audit trail."""

from sqlalchemy import Select

from app.core.audit import AuditEvent
from app.features.audit import service
from app.features.audit.schemas import AuditEventSchema, AuditQuerySchema
from app.security.permissions import Permission
from app.web.contract import Blueprint, lists, requires

blueprint = Blueprint("audit", __name__, url_prefix="/audit-events", about="The audit trail.")


@blueprint.get("")
@requires(Permission.AUDIT_READ)
@lists(AuditEventSchema, AuditQuerySchema, service.LISTING)
def list_audit_events() -> Select[AuditEvent]:
    """List audit events: who did what to which resource."""
    return service.all_events()
