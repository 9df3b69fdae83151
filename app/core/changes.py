"""What a transaction changed: recorded at each flush until it commits, and then stored in one statement.

The audit trail has every change of a row that is `Audited`, the change feed every one that is `Published`, without a
line in any use case. Neither is read within the transaction, so both are stored just before its COMMIT, and the row
that numbers the feed is locked no longer than that takes (decision 18).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, event, func, inspect
from sqlalchemy.dialects import sqlite
from sqlalchemy.orm import InstanceState, Mapper, Session, UOWTransaction

from app.core import clock
from app.core.audit import Audited, AuditEvent, record_event
from app.core.feed import CatalogueState, ChangeEvent, PendingEvent, Published, publish
from app.core.money import CURRENCY, amount_text
from app.core.recorder import recorder_of

_TRAIL = AuditEvent.metadata.tables["audit_events"]
_FEED = ChangeEvent.metadata.tables["change_events"]
_MEMBERS = ", ".join(column.name for column in _TRAIL.c if not column.primary_key)

# The events are joined to the counted row, so that none gets its id before that row is locked. They are one parameter,
# however many they are, and so is the trail: while an import's thousand are stored, other writers wait for the lock.
_STORE_TRAIL = f"""
    INSERT INTO audit_events ({_MEMBERS})
    SELECT {_MEMBERS} FROM jsonb_to_recordset(CAST(%(trail)s AS jsonb))
        AS event (created_at timestamptz, actor_id bigint, session_id bigint, api_key_id bigint, request_id text,
                 address text, action text, resource_type text, resource_id bigint, before jsonb, after jsonb)
"""  # noqa: S608 -- names of columns
_STORE_BOTH = f"""
    WITH trail AS ({_STORE_TRAIL}),
    counted AS (
        INSERT INTO catalogue_state (id, version, pruned_through) VALUES (1, %(least)s, 0)
        ON CONFLICT (id) DO UPDATE SET version = greatest(catalogue_state.version + 1, excluded.version)
        RETURNING id
    )
    INSERT INTO change_events (created_at, type, resource_type, resource_id, row_version, row_live)
    SELECT %(now)s, change.*
    FROM counted, jsonb_to_recordset(CAST(%(changes)s AS jsonb))
        AS change (type text, resource_type text, resource_id bigint, row_version bigint, row_live bigint)
"""  # noqa: S608 -- the statement above

_COUNT = sqlite.insert(CatalogueState).values(id=1, version=bindparam("least"), pruned_through=0)
_COUNT = _COUNT.on_conflict_do_update(
    index_elements=["id"], set_={"version": func.max(CatalogueState.version + 1, _COUNT.excluded.version)}
)


@dataclass(frozen=True)
class RowChange:
    """What a flush does to one audited row: created, updated, deleted or restored."""

    row: Audited
    verb: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


def record_creation(model: type[Published], row: Any) -> None:
    """Record that ``row``, which has the audited members of the model, was inserted past the mapper."""
    currency = getattr(row, CURRENCY, None)
    after = {name: _plain(getattr(row, name), currency) for name in audited_members(inspect(model))}
    record_event(f"{model.audited_as}.created", resource_type=model.audited_as, resource_id=row.id, after=after)
    publish([_event(f"{model.audited_as}.created", model.audited_as, row)])


def record_bulk_write(
    model: type[Published],
    row_id: int,
    verb: str,
    *,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    currency: str | None = None,
) -> None:
    """Record in the audit trail that a statement past the mapper wrote a row; with its members before and after.

    ``currency`` is that of the amounts, unless the members state it. The caller publishes the event of the change feed.
    """
    kind, names = model.audited_as, set(audited_members(inspect(model)))
    shown = [
        _plain_members({name: values[name] for name in values if name in names}, values.get(CURRENCY, currency))
        for values in (before, after)
    ]
    record_event(f"{kind}.{verb}", resource_type=kind, resource_id=row_id, before=shown[0], after=shown[1])


@cache
def audited_members(mapper: Mapper[Any]) -> Sequence[str]:
    """The members of a model that the trail has: all but derived and secret ones."""
    return [each.key for each in mapper.column_attrs if each.columns[0].info.get("audited", True)]


@event.listens_for(Session, "after_flush")
def _record(session: Session, _context: UOWTransaction) -> None:
    for change in _row_changes(session):
        kind, row = change.row.audited_as, change.row
        action = f"{kind}.{change.verb}"
        record_event(action, resource_type=kind, resource_id=row.id, before=change.before, after=change.after)
        if isinstance(row, Published):
            publish([_event(action, kind, row)])


def _event(action: str, kind: str, row: Any) -> PendingEvent:
    return PendingEvent(action, kind, row.id, row.version, getattr(row, "live", None))


def _row_changes(session: Session) -> Iterator[RowChange]:
    for verb, instances in (("created", session.new), ("updated", session.dirty), ("deleted", session.deleted)):
        for instance in instances:
            if isinstance(instance, Audited):
                before, after = _difference(inspect(instance), verb)
                if before or after:
                    yield RowChange(instance, _verb(verb, after), before, after)


def _verb(verb: str, after: dict[str, Any] | None) -> str:
    """The verb in the trail: a soft deletion is an UPDATE, and recorded as deleted."""
    if verb != "updated" or not after or "deleted_at" not in after:
        return verb
    return "restored" if after["deleted_at"] is None else "deleted"


def _difference(state: InstanceState[Any], verb: str) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    names = audited_members(state.mapper)
    if verb == "updated":
        return _changed_members(state, [name for name in names if name in state.committed_state])
    members = {name: _plain(state.dict.get(name), state.dict.get(CURRENCY)) for name in names}
    return (None, members) if verb == "created" else (members, None)


def _changed_members(
    state: InstanceState[Any], names: Sequence[str]
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    before, after = {}, {}
    for name in names:
        history = state.attrs[name].history
        if history.has_changes():
            before[name] = history.deleted[0] if history.deleted else None
            after[name] = history.added[0] if history.added else None
    currency = state.dict.get(CURRENCY)
    return _plain_members(before, before.get(CURRENCY, currency)), _plain_members(after, currency)


def _plain_members(members: dict[str, Any], currency: str | None) -> dict[str, Any] | None:
    return {name: _plain(value, currency) for name, value in members.items()} or None


def _plain(value: Any, currency: str | None) -> Any:
    """A value as the trail has it: moments and amounts as text, the latter as answers have it."""
    if isinstance(value, datetime):
        return value.isoformat()
    return amount_text(value, currency) if isinstance(value, Decimal) else value


@event.listens_for(Session, "before_commit")
def _store(session: Session) -> None:
    if session.in_nested_transaction():
        return
    session.flush()
    recorder = recorder_of(session)
    trail, changes = recorder.trail, recorder.feed
    if not trail and not changes:
        return
    recorder.trail, recorder.feed = [], []
    # At least the microseconds since 1970: caches need versions that are never reused, even after a backup is restored.
    now = clock.now()
    version = {"least": int(now.timestamp() * 1_000_000)}
    connection = session.connection()
    store = _store_in_postgresql if connection.dialect.name == "postgresql" else _store_in_sqlite
    store(connection, trail, changes, now, version)


def _store_in_postgresql(
    connection: Connection,
    trail: Sequence[dict[str, Any]],
    changes: Sequence[PendingEvent],
    now: datetime,
    version: dict[str, int],
) -> None:
    # A member that is left out becomes NULL; a null would become JSON's.
    stated = [{name: value for name, value in row.items() if value is not None} for row in trail]
    values: dict[str, Any] = {"trail": orjson.dumps(stated).decode()}
    if changes:
        values |= {**version, "now": now, "changes": orjson.dumps(changes).decode()}
    connection.exec_driver_sql(_STORE_BOTH if changes else _STORE_TRAIL, values)


def _store_in_sqlite(
    connection: Connection,
    trail: Sequence[dict[str, Any]],
    changes: Sequence[PendingEvent],
    now: datetime,
    version: dict[str, int],
) -> None:
    if trail:
        connection.execute(_TRAIL.insert(), trail)
    if changes:
        connection.execute(_COUNT, version)
        connection.execute(_FEED.insert(), [{"created_at": now, **vars(change)} for change in changes])
