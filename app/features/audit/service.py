"""Use cases of the audit trail."""

from sqlalchemy import ColumnElement, Select, and_, select

from app.core.audit import AuditEvent
from app.core.listing import Listing


def _is_resource(resource: str) -> ColumnElement[bool]:
    """``product`` for all of a kind, ``product/42`` for one."""
    kind, _, number = resource.partition("/")
    is_kind = AuditEvent.resource_type == kind
    return and_(is_kind, AuditEvent.resource_id == int(number)) if number else is_kind


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
    """Every event."""
    return select(AuditEvent)
