"""What a transaction changed: recorded at each flush until it commits, and then stored in one statement.

The audit trail has every change of a row that is `Audited`, the log of changes every one that is `Published`, without
a line in any use case. The change feed and the response caches follow the log. Nothing of it is read within the
transaction, so it is stored just before its COMMIT.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any

import orjson
from sqlalchemy import Column, Connection, event, inspect
from sqlalchemy.orm import InstanceState, Mapper, Session, UOWTransaction

from app.core import clock
from app.core.audit import Audited, AuditEvent, record_event
from app.core.changelog import Change, LogRow, Published, Row, record_in_log
from app.core.feed import ChangeEvent
from app.core.money import CURRENCY, amount_text
from app.core.recorder import recorder_of
from app.core.tracing import traceparent_to_store

_TRAIL = AuditEvent.metadata.tables["audit_events"]
_LOG = LogRow.metadata.tables["change_log"]
_FEED = ChangeEvent.metadata.tables["change_events"]
_MEMBERS = ", ".join(column.name for column in _TRAIL.c if not column.primary_key)

# The changes are one parameter, however many they are, and so is the trail. Each change gets its id while this
# transaction has the lock of its row.
_STORE_TRAIL = f"""
    INSERT INTO audit_events ({_MEMBERS})
    SELECT {_MEMBERS} FROM jsonb_to_recordset(CAST(%(trail)s AS jsonb))
        AS event (created_at timestamptz, actor_id bigint, session_id bigint, api_key_id bigint, request_id text,
                 address text, action text, resource_type text, resource_id bigint, before jsonb, after jsonb)
"""  # noqa: S608 -- names of columns
_STORE_BOTH = f"""
    WITH trail AS ({_STORE_TRAIL})
    INSERT INTO change_log
        (xid, created_at, traceparent, type, names, resource_type, resource_id, row_version, row_live, members, scopes)
    SELECT CAST(CAST(pg_current_xact_id() AS text) AS bigint), %(now)s, CAST(%(traceparent)s AS text), change.*
    FROM jsonb_to_recordset(CAST(%(changes)s AS jsonb))
        AS change (type text, names jsonb, resource_type text, resource_id bigint, row_version bigint,
                   row_live bigint, members jsonb, scopes jsonb)
"""  # noqa: S608 -- the statement above


@dataclass(frozen=True)
class RowChange:
    """What a flush does to one audited row: created, updated, deleted or restored.

    ``before`` and ``after`` have the audited members, and are None where none of these changed. ``members`` are the
    names of all columns that changed, derived ones too; None where the row came or went.
    """

    row: Audited
    verb: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    members: Sequence[str] | None


def record_creation(model: type[Published], row: Any) -> None:
    """Record that ``row``, which has the audited members of the model, was inserted past the mapper."""
    members = audited_members(inspect(model))
    record_write(model, before=None, after={name: getattr(row, name) for name in members}, members=members)


def record_write(
    model: type[Published],
    *,
    before: Row | None,
    after: Row,
    members: Collection[str],
    kind: str | None = None,
) -> None:
    """Record in the audit trail and in the log that a statement past the mapper wrote a row.

    ``before`` and ``after`` are the row by its columns; without ``before`` it was created. ``members`` are the columns
    that were written, of which the trail has the audited ones; where ``deleted_at`` is among them, the row was deleted
    or restored. ``kind`` is the type of the event in the log, unless it is the action in the trail.
    """
    audited = set(audited_members(inspect(model)))
    shown = [
        None
        if row is None
        else _plain_members({name: row[name] for name in members if name in audited}, row.get(CURRENCY))
        for row in (before, after)
    ]
    verb = "created" if before is None else _verb_of(shown[1])
    action = f"{model.audited_as}.{verb}"
    record_event(action, resource_type=model.audited_as, resource_id=after["id"], before=shown[0], after=shown[1])
    record_in_log(
        model,
        kind or action,
        after["id"],
        version=after["version"],
        live=after.get("live"),
        members=members if verb == "updated" else None,
        before=before,
        after=after,
    )


@cache
def audited_members(mapper: Mapper[Any]) -> Sequence[str]:
    """The members of a model that the trail has: all but derived and secret ones, and those that no column stores."""
    stored = {each.key: each.columns[0] for each in mapper.column_attrs if isinstance(each.columns[0], Column)}
    return [name for name, column in stored.items() if column.info.get("audited", True)]


@event.listens_for(Session, "after_flush")
def _record(session: Session, _context: UOWTransaction) -> None:
    for change in _row_changes(session):
        kind, row = change.row.audited_as, change.row
        action = f"{kind}.{change.verb}"
        if change.before or change.after:
            record_event(action, resource_type=kind, resource_id=row.id, before=change.before, after=change.after)
        if isinstance(row, Published):
            live, (before, after) = getattr(row, "live", None), _states(change)
            record_in_log(
                type(row),
                action,
                row.id,
                version=row.version,
                live=live,
                members=change.members,
                before=before,
                after=after,
            )


def _states(change: RowChange) -> tuple[Row | None, Row | None]:
    """The columns of a row before and after the flush; None where there was, or is, no such row."""
    state: InstanceState[Any] = inspect(change.row)
    after = {each.key: getattr(change.row, each.key) for each in state.mapper.column_attrs}
    if change.verb == "created":
        return None, after
    histories = {name: state.attrs[name].history for name in after if name in state.committed_state}
    before = after | {name: history.deleted[0] for name, history in histories.items() if history.deleted}
    is_gone = change.verb == "deleted" and change.after is None
    return before, None if is_gone else after


def _row_changes(session: Session) -> Iterator[RowChange]:
    yield from (_arrival_or_departure(row, "created") for row in session.new if isinstance(row, Audited))
    for row in session.dirty:
        if isinstance(row, Audited) and (changed := _changed_columns(inspect(row))):
            yield _update(row, changed)
    yield from (_arrival_or_departure(row, "deleted") for row in session.deleted if isinstance(row, Audited))


def _arrival_or_departure(row: Audited, verb: str) -> RowChange:
    state: InstanceState[Any] = inspect(row)
    currency = state.dict.get(CURRENCY)
    members = {name: _plain(state.dict.get(name), currency) for name in audited_members(state.mapper)}
    before, after = (None, members) if verb == "created" else (members, None)
    return RowChange(row, verb, before, after, None)


def _update(row: Audited, changed: Sequence[str]) -> RowChange:
    state: InstanceState[Any] = inspect(row)
    audited = set(audited_members(state.mapper))
    before, after = _changed_members(state, [name for name in changed if name in audited])
    verb = _verb_of(after)
    return RowChange(row, verb, before, after, changed if verb == "updated" else None)


def _verb_of(after: Mapping[str, Any] | None) -> str:
    """The verb in the trail: a soft deletion is an UPDATE, and recorded as deleted."""
    if not after or "deleted_at" not in after:
        return "updated"
    return "restored" if after["deleted_at"] is None else "deleted"


def _changed_columns(state: InstanceState[Any]) -> Sequence[str]:
    """The columns of a mapped row that this flush changes, derived ones too."""
    written = (each.key for each in state.mapper.column_attrs if each.key in state.committed_state)
    return [name for name in written if state.attrs[name].history.has_changes()]


def _changed_members(
    state: InstanceState[Any], names: Sequence[str]
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    histories = {name: state.attrs[name].history for name in names}
    before = {name: history.deleted[0] if history.deleted else None for name, history in histories.items()}
    after = {name: history.added[0] if history.added else None for name, history in histories.items()}
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
    trail, changes = recorder.trail, recorder.log
    if not trail and not changes:
        return
    recorder.trail, recorder.log = [], []
    connection = session.connection()
    store = _store_in_postgresql if connection.dialect.name == "postgresql" else _store_in_sqlite
    store(connection, trail, changes, clock.now())


def _store_in_postgresql(
    connection: Connection, trail: Sequence[dict[str, Any]], changes: Sequence[Change], now: datetime
) -> None:
    # A member that is left out becomes NULL; a null would become JSON's.
    values: dict[str, Any] = {"trail": _json_of(trail)}
    if changes:
        values |= {"now": now, "traceparent": traceparent_to_store()}
        values |= {"changes": _json_of([vars(change) for change in changes])}
    connection.exec_driver_sql(_STORE_BOTH if changes else _STORE_TRAIL, values)


def _json_of(rows: Sequence[Mapping[str, Any]]) -> str:
    return orjson.dumps([{name: value for name, value in row.items() if value is not None} for row in rows]).decode()


def _store_in_sqlite(
    connection: Connection, trail: Sequence[dict[str, Any]], changes: Sequence[Change], now: datetime
) -> None:
    if trail:
        connection.execute(_TRAIL.insert(), trail)
    if changes:
        rows = [change.row(now, traceparent_to_store()) for change in changes]
        connection.execute(_LOG.insert(), rows)
        names = _FEED.columns.keys() & rows[0].keys()
        connection.execute(_FEED.insert(), [{name: row[name] for name in names} for row in rows])
