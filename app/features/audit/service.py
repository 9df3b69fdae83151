"""Use cases of the audit trail."""

from sqlalchemy import ColumnElement, Select, and_, select

from app.core.audit import AuditEvent
from app.core.listing import Listing


def _is_resource(resource: str) -> ColumnElement[bool]:
    """The condition for ``product``, every resource of a type, or ``product/42``, one resource."""
    name, _, number = resource.partition("/")
    has_type = AuditEvent.resource_type == name
    return and_(has_type, AuditEvent.resource_id == int(number)) if number else has_type


LISTING = Listing(
    filters={
        "actor": lambda user_id: AuditEvent.actor_id == user_id,
        "action": lambda action: AuditEvent.action == action,
        "resource": _is_resource,
        "since": lambda since: AuditEvent.created_at >= since,
    },
    sorts={"id": AuditEvent.id, "created_at": AuditEvent.created_at},
    tie_breaker=AuditEvent.id,
)


def all_events() -> Select[AuditEvent]:
    """Every audit event."""
    return select(AuditEvent)
