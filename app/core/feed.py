"""The change feed: what happened to the rows of the catalogue, numbered in the order of the commits.

A transaction that changes the catalogue raises the version in the one row of `catalogue_state` just before it commits,
and then stores its events. The row stays locked until the commit is done, so no event can appear behind one with a
greater id: a reader that goes on from an id misses nothing (decision 18). The version changes with every committed
write, and with nothing else; the response cache relies on that (decision 20).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import CheckConstraint, Index, String, func, select
from sqlalchemy.orm import Mapped, mapped_column

from app.core.audit import Audited
from app.core.model import Keyed, Moment, big_integer
from app.core.recorder import recorder_of
from app.extensions import Model, db


class CatalogueState(Model):
    """One row: the catalogue's version, which each transaction that changes it raises, and the last pruned event."""

    __tablename__ = "catalogue_state"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[int] = mapped_column(big_integer, default=0)
    pruned_through: Mapped[int] = mapped_column(big_integer, default=0)


class ChangeEvent(Keyed, Model):
    """One change of one row; ``row_version`` and ``row_live`` are the row's counters after it."""

    __tablename__ = "change_events"

    created_at: Mapped[Moment]
    type: Mapped[str] = mapped_column(String(64))
    resource_type: Mapped[str] = mapped_column(String(32))
    resource_id: Mapped[int] = mapped_column(big_integer)
    row_version: Mapped[int] = mapped_column(big_integer)
    #: None for a row that has no such counter.
    row_live: Mapped[int | None] = mapped_column(big_integer)


Index("ix_change_events_created_at_id", ChangeEvent.created_at, ChangeEvent.id)

#: The catalogue's version, for a statement that reads it together with something else; 0 before the first change.
CATALOGUE_VERSION = func.coalesce(select(CatalogueState.version).scalar_subquery(), 0)


@dataclass(frozen=True)
class PendingEvent:
    """An event that this transaction will store as it commits: ``product.updated``, say."""

    type: str
    resource_type: str
    resource_id: int
    row_version: int
    row_live: int | None = None


class Published(Audited):
    """Every change of a row of such a model is an event as well, under the name that the audit trail has for it."""

    version: Mapped[int]


def publish(events: Iterable[PendingEvent]) -> None:
    """Add events of changes that the mapper does not see, in the transaction that makes them."""
    recorder_of(db.session()).feed.extend(events)
