"""The audit trail: who did what to which resource, recorded in the transaction that did it.

A model that mixes in `Audited` is recorded at every flush that inserts, updates or deletes a row of it, so that no use
case has to. Events that are no row's change, such as a failed login, are recorded with `record_event`.
"""

from contextvars import ContextVar
from typing import Any, ClassVar, NamedTuple

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.core import clock
from app.core.model import Keyed, Moment, big_integer, nullable_json_type
from app.core.recorder import recorder_of
from app.extensions import Model, db

#: For the ``info`` of columns that are derived or secret: neither trail nor responses have them.
UNAUDITED = {"audited": False}
#: For those that are derived, and answers have all the same.
SHOWN_UNAUDITED = {"audited": False, "shown": True}


class Origin(NamedTuple):
    """Where an action comes from. Without a user, it comes from the command line or a worker."""

    user_id: int | None = None
    session_id: int | None = None
    api_key_id: int | None = None
    request_id: str | None = None
    address: str | None = None


NO_ORIGIN = Origin()
origin: ContextVar[Origin] = ContextVar("origin", default=NO_ORIGIN)


class AuditEvent(Keyed, Model):
    """One action. The table is append-only: no use case changes or deletes a row."""

    __tablename__ = "audit_events"

    created_at: Mapped[Moment] = mapped_column(default=clock.now)
    actor_id: Mapped[int | None] = mapped_column(big_integer)
    session_id: Mapped[int | None] = mapped_column(big_integer)
    api_key_id: Mapped[int | None] = mapped_column(big_integer)
    action: Mapped[str] = mapped_column(String(64))
    resource_type: Mapped[str] = mapped_column(String(32))
    resource_id: Mapped[int | None] = mapped_column(big_integer)
    before: Mapped[dict[str, Any] | None] = mapped_column(nullable_json_type)
    after: Mapped[dict[str, Any] | None] = mapped_column(nullable_json_type)
    request_id: Mapped[str | None] = mapped_column(String(64))
    address: Mapped[str | None] = mapped_column(String(45))


Index("ix_audit_events_actor_id_id", AuditEvent.actor_id, AuditEvent.id)
Index("ix_audit_events_action_id", AuditEvent.action, AuditEvent.id)
Index("ix_audit_events_resource_type_resource_id_id", AuditEvent.resource_type, AuditEvent.resource_id, AuditEvent.id)
Index("ix_audit_events_created_at_id", AuditEvent.created_at, AuditEvent.id)


class Audited:
    """Every change of a row is recorded. ``audited_as`` is the resource's name, in the singular."""

    audited_as: ClassVar[str]
    id: Mapped[int]


def record_event(
    action: str,
    *,
    resource_type: str,
    resource_id: int | None = None,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    actor_id: int | None = None,
) -> None:
    """Record an action, stored as this commits. ``before`` and ``after`` are members of the resource, none secret."""
    here = origin.get()
    recorder_of(db.session()).trail.append(
        {
            "created_at": clock.now(),
            "actor_id": actor_id or here.user_id,
            "session_id": here.session_id,
            "api_key_id": here.api_key_id,
            "request_id": here.request_id,
            "address": here.address,
            "action": action,
            "resource_type": resource_type,
            "resource_id": resource_id,
            "before": before,
            "after": after,
        }
    )
