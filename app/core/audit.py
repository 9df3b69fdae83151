"""The audit trail: who did what to which resource, recorded in the transaction of the deed.

A model that mixes in `Audited` is recorded at every flush that makes, changes or deletes a row of it: nobody can forget
to. Events that are no row's change, such as a failed login, are recorded with `record_event`.
"""

from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any, ClassVar, NamedTuple

from sqlalchemy import Index, String, event, inspect
from sqlalchemy.orm import InstanceState, Mapped, Mapper, Session, UOWTransaction, mapped_column

from app.core import clock
from app.core.database import run
from app.core.model import Keyed, Moment, big_integer, json_type
from app.core.prepared import Prepared
from app.extensions import Model

#: Values that say nothing (derived) or too much (secret) carry this in their column's ``info``.
UNAUDITED = {"audited": False}


class Source(NamedTuple):
    """Where a deed comes from. Without any, it comes from the command line or a worker."""

    user_id: int | None = None
    session_id: int | None = None
    api_key_id: int | None = None
    request_id: str | None = None
    address: str | None = None


NOWHERE = Source()
source: ContextVar[Source] = ContextVar("source", default=NOWHERE)


class AuditEvent(Keyed, Model):
    """One deed. No use case changes or deletes a row of this table."""

    __tablename__ = "audit_events"

    created_at: Mapped[Moment] = mapped_column(default=clock.now)
    actor_id: Mapped[int | None] = mapped_column(big_integer)
    session_id: Mapped[int | None] = mapped_column(big_integer)
    api_key_id: Mapped[int | None] = mapped_column(big_integer)
    action: Mapped[str] = mapped_column(String(64))
    resource_type: Mapped[str] = mapped_column(String(32))
    resource_id: Mapped[int | None] = mapped_column(big_integer)
    before: Mapped[dict[str, Any] | None] = mapped_column(json_type)
    after: Mapped[dict[str, Any] | None] = mapped_column(json_type)
    request_id: Mapped[str | None] = mapped_column(String(64))
    address: Mapped[str | None] = mapped_column(String(45))


# By table and not by mapper, and made once: each write pays for this statement.
_TABLE = AuditEvent.metadata.tables["audit_events"]
_RECORD = Prepared(_TABLE.insert().inline(), takes=[column.key for column in _TABLE.c if not column.primary_key])

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
    after: dict[str, Any] | None = None,
    actor_id: int | None = None,
) -> None:
    """Record something that is no change of an audited row; ``after`` are its particulars, without secrets."""
    values = {"action": action, "resource_type": resource_type, "resource_id": resource_id, "after": after}
    _record(values | ({"actor_id": actor_id} if actor_id else {}))


def record_creation(model: type["Audited"], row: Any) -> None:
    """Record that ``row``, which has the audited members of the model, was inserted without the mapper's doing."""
    after = {name: _plain(getattr(row, name)) for name in _audited_members(inspect(model))}
    _record(
        {
            "action": f"{model.audited_as}.created",
            "resource_type": model.audited_as,
            "resource_id": row.id,
            "after": after,
        }
    )


@dataclass(frozen=True)
class Deed:
    """What a flush does to one audited row: created, updated, deleted or restored."""

    row: "Audited"
    verb: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


def deeds(session: Session, context: UOWTransaction) -> Sequence[Deed]:
    """What the flush that just ended did to audited rows; found out once, however many ask."""
    if "deeds" not in context.attributes:
        context.attributes["deeds"] = list(_deeds(session))
    told: Sequence[Deed] = context.attributes["deeds"]
    return told


def _deeds(session: Session) -> Iterator[Deed]:
    for verb, instances in (("created", session.new), ("updated", session.dirty), ("deleted", session.deleted)):
        for instance in instances:
            if isinstance(instance, Audited):
                before, after = _difference(inspect(instance), verb)
                if before or after:
                    yield Deed(instance, _told(verb, after), before, after)


@event.listens_for(Session, "after_flush")
def _record_deeds(session: Session, context: UOWTransaction) -> None:
    _record(
        *(
            {
                "action": f"{deed.row.audited_as}.{deed.verb}",
                "resource_type": deed.row.audited_as,
                "resource_id": deed.row.id,
                "before": deed.before,
                "after": deed.after,
            }
            for deed in deeds(session, context)
        )
    )


def _told(verb: str, after: dict[str, Any] | None) -> str:
    """The verb as people would tell it: to the database, soft deletion is an update like any other."""
    if verb != "updated" or not after or "deleted_at" not in after:
        return verb
    return "restored" if after["deleted_at"] is None else "deleted"


def _difference(state: InstanceState[Any], verb: str) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    names = _audited_members(state.mapper)
    if verb == "updated":
        return _changed_members(state, [name for name in names if name in state.committed_state])
    members = {name: _plain(state.dict.get(name)) for name in names}
    return (None, members) if verb == "created" else (members, None)


def _changed_members(
    state: InstanceState[Any], names: Sequence[str]
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    before, after = {}, {}
    for name in names:
        history = state.attrs[name].history
        if history.has_changes():
            before[name] = _plain(history.deleted[0] if history.deleted else None)
            after[name] = _plain(history.added[0] if history.added else None)
    return before or None, after or None


@cache
def _audited_members(mapper: Mapper[Any]) -> Sequence[str]:
    return [each.key for each in mapper.column_attrs if each.columns[0].info.get("audited", True)]


def _record(*events: dict[str, Any]) -> None:
    here = source.get()
    common = {
        "created_at": clock.now(),
        "actor_id": here.user_id,
        "session_id": here.session_id,
        "api_key_id": here.api_key_id,
        "request_id": here.request_id,
        "address": here.address,
        "resource_id": None,
        "before": None,
        "after": None,
    }
    if len(events) == 1:
        _RECORD.later(common | events[0])
    elif events:
        run(_RECORD.statement, [common | event for event in events])


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value
