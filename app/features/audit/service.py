"""Use cases of the audit trail."""

from sqlalchemy import ColumnElement, Select, and_, or_, select

from app.core.audit import AuditEvent
from app.core.listing import Listing, OneOf


def _is_one_of(resources: tuple[str, ...]) -> ColumnElement[bool]:
    return or_(*map(_is_resource, resources))


def _is_resource(resource: str) -> ColumnElement[bool]:
    """The condition for ``product``, every resource of a type, or ``product/42``, one resource."""
    name, _, number = resource.partition("/")
    has_type = AuditEvent.resource_type == name
    return and_(has_type, AuditEvent.resource_id == int(number)) if number else has_type


LISTING = Listing(
    filters={
        "actor": OneOf(AuditEvent.actor_id),
        "action": OneOf(AuditEvent.action),
        "resource": _is_one_of,
        "since": lambda since: AuditEvent.created_at >= since,
    },
    sorts={"id": AuditEvent.id, "created_at": AuditEvent.created_at},
    tie_breaker=AuditEvent.id,
)


def all_events() -> Select[AuditEvent]:
    """Every audit event."""
    return select(AuditEvent)
