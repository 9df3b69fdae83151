"""The change feed: what happened to the rows of the catalogue, numbered in an order that readers can go on from.

The log of changes is not in the order of the commits (`core.changelog`). So what is committed is numbered afterwards,
by the next reader: `features.events.numbering` copies what has become visible in the log since the last time, in the
order of the log, under ascending ids. A reader that goes on from an id misses nothing, and no writer waits for another
(decision 41). On SQLite, where the log is in the order of the commits, a transaction stores its events itself.
"""

from sqlalchemy import CheckConstraint, Index, Insert, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.core.model import Keyed, Moment, big_integer, nullable_json_type
from app.core.tracing import TRACEPARENT_LENGTH
from app.core.upserts import insert_into
from app.extensions import Model


class CatalogueState(Model):
    """One row: how far the log is numbered, and the last pruned event.

    ``log_id`` is the id of the last row of the log that is numbered, and ``log_snapshot`` the snapshot (a
    ``pg_snapshot``) in which the log was read: what was not visible in it is to be numbered still, if it is of a
    transaction that began before ``log_xid``, the one that numbered. Up to ``log_floor`` everything is numbered,
    whatever the numbers of its transactions say: they are another server's, from which the database was moved here.
    Events that were recorded before ``pruned_before`` may be pruned. ``version`` is for processes of the release
    before.
    """

    __tablename__ = "catalogue_state"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[int] = mapped_column(big_integer, default=0)
    pruned_through: Mapped[int] = mapped_column(big_integer, default=0)
    pruned_before: Mapped[Moment | None]
    log_id: Mapped[int] = mapped_column(big_integer, default=0, server_default="0")
    log_floor: Mapped[int] = mapped_column(big_integer, default=0, server_default="0")
    log_snapshot: Mapped[str | None] = mapped_column(Text)
    log_xid: Mapped[int] = mapped_column(big_integer, default=0, server_default="0")


def require_state() -> Insert:
    """The statement that makes the row of `CatalogueState`, if it is not there."""
    return insert_into(CatalogueState).values(id=1).on_conflict_do_nothing()


class ChangeEvent(Keyed, Model):
    """One change of one row; ``row_version`` and ``row_live`` are the row's counters after it."""

    __tablename__ = "change_events"

    created_at: Mapped[Moment]
    type: Mapped[str] = mapped_column(String(64))
    #: All names of the change, the type first; None where a process of the release before has recorded it.
    names: Mapped[list[str] | None] = mapped_column(nullable_json_type)
    resource_type: Mapped[str] = mapped_column(String(32))
    resource_id: Mapped[int] = mapped_column(big_integer)
    row_version: Mapped[int] = mapped_column(big_integer)
    #: None for a row that has no such counter.
    row_live: Mapped[int | None] = mapped_column(big_integer)
    #: The trace that the change was made in, where it was traced.
    traceparent: Mapped[str | None] = mapped_column(String(TRACEPARENT_LENGTH))

    @property
    def types(self) -> list[str]:
        """All names of the change, of which ``type`` is the first."""
        return self.names or [self.type]


Index("ix_change_events_created_at_id", ChangeEvent.created_at, ChangeEvent.id)
