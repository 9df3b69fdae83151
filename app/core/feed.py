"""The change feed: what became of the rows of the catalogue, numbered in the order of the commits.

A transaction that changes the catalogue raises the version in the one row of `catalogue_state` just before it commits,
and then stores its events. The row stays locked until the commit is done, so no event can appear behind one with a
greater id: who reads on from an id misses nothing (decision 18). The version changes with every committed write, and
with nothing else; kept answers rely on that (decision 20).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import orjson
from sqlalchemy import CheckConstraint, Index, String, bindparam, event, func, select, text
from sqlalchemy.dialects import sqlite
from sqlalchemy.orm import Mapped, Session, SessionTransaction, UOWTransaction, mapped_column

from app.core import clock
from app.core.audit import Audited, deeds
from app.core.model import Keyed, Moment, big_integer
from app.core.prepared import Prepared
from app.extensions import Model, db

_CHANGES = "changes to the catalogue"
_SAVEPOINTS = "how many changes there were at each savepoint"


class CatalogueState(Model):
    """One row: the catalogue's version, which each transaction that changes it raises, and the last forgotten event."""

    __tablename__ = "catalogue_state"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[int] = mapped_column(big_integer, default=0)
    pruned_through: Mapped[int] = mapped_column(big_integer, default=0)


class ChangeEvent(Keyed, Model):
    """One change of one row; ``row_version`` is the row's version after it."""

    __tablename__ = "change_events"

    created_at: Mapped[Moment]
    type: Mapped[str] = mapped_column(String(64))
    resource_type: Mapped[str] = mapped_column(String(32))
    resource_id: Mapped[int] = mapped_column(big_integer)
    row_version: Mapped[int] = mapped_column(big_integer)


Index("ix_change_events_created_at_id", ChangeEvent.created_at, ChangeEvent.id)

# Made once, since each write pays for them. On PostgreSQL one statement does both: the events are joined to the counted
# row, so that none gets its id before that row is locked. They are one parameter, however many they are: an import's
# thousand are stored while everybody else waits for the row.
_COUNT_AND_STORE = Prepared(
    text("""
    WITH counted AS (
        INSERT INTO catalogue_state (id, version, pruned_through) VALUES (1, :least, 0)
        ON CONFLICT (id) DO UPDATE SET version = greatest(catalogue_state.version + 1, excluded.version)
        RETURNING id
    )
    INSERT INTO change_events (created_at, type, resource_type, resource_id, row_version)
    SELECT :now, change.*
    FROM counted, jsonb_to_recordset(CAST(:changes AS jsonb))
        AS change (type text, resource_type text, resource_id bigint, row_version bigint)
""")
)
_COUNT = sqlite.insert(CatalogueState).values(id=1, version=bindparam("least"), pruned_through=0)
_COUNT = _COUNT.on_conflict_do_update(
    index_elements=["id"], set_={"version": func.max(CatalogueState.version + 1, _COUNT.excluded.version)}
)
_STORE = ChangeEvent.metadata.tables["change_events"].insert()


#: The catalogue's version, for a statement that reads it together with something else; 0 before the first change.
CATALOGUE_VERSION = func.coalesce(select(CatalogueState.version).scalar_subquery(), 0)


@dataclass(frozen=True)
class Change:
    """What became of a row: ``product.updated``, say."""

    type: str
    resource_type: str
    resource_id: int
    row_version: int


class Published(Audited):
    """Every change of a row of such a model is an event as well, under the name that the audit trail has for it."""

    version: Mapped[int]


def publish(changes: Iterable[Change]) -> None:
    """Make events of changes that no mapper sees, in the transaction that makes them."""
    db.session.info.setdefault(_CHANGES, []).extend(changes)


@event.listens_for(Session, "after_flush")
def _publish_flushed(session: Session, context: UOWTransaction) -> None:
    session.info.setdefault(_CHANGES, []).extend(
        Change(f"{deed.row.audited_as}.{deed.verb}", deed.row.audited_as, deed.row.id, deed.row.version)
        for deed in deeds(session, context)
        if isinstance(deed.row, Published)
    )


@event.listens_for(Session, "before_commit")
def _store_changes(session: Session) -> None:
    if session.in_nested_transaction():
        return
    session.flush()
    changes: list[Change] = session.info.pop(_CHANGES, [])
    if not changes:
        return
    connection, now = session.connection(), clock.now()
    # No version comes twice, not even after a backup was restored: what a cache has under one would be something else.
    least = int(now.timestamp() * 1_000_000)
    if connection.dialect.name == "postgresql":
        told = {"least": least, "now": now, "changes": orjson.dumps(changes).decode()}
        # Everybody else who writes waits for the row from here to the end.
        _COUNT_AND_STORE.all(told, commits=True)
    else:
        connection.execute(_COUNT, {"least": least})
        connection.execute(_STORE, [{"created_at": now, **vars(change)} for change in changes])


@event.listens_for(Session, "after_transaction_create")
def _mark_savepoint(session: Session, transaction: SessionTransaction) -> None:
    if transaction.nested:
        marks = session.info.setdefault(_SAVEPOINTS, {})
        marks[transaction] = len(session.info.get(_CHANGES, ()))


@event.listens_for(Session, "after_soft_rollback")
def _forget_since_savepoint(session: Session, transaction: SessionTransaction) -> None:
    mark = session.info.get(_SAVEPOINTS, {}).get(transaction)
    if mark is not None:
        del session.info.get(_CHANGES, [])[mark:]


@event.listens_for(Session, "after_transaction_end")
def _forget_changes(session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is None:
        session.info.pop(_CHANGES, None)
        session.info.pop(_SAVEPOINTS, None)
