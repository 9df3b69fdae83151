"""The log of changes: what each committed transaction changed, for those that follow it (decision 41).

A transaction appends its changes just before it commits, and waits for no other. So the ids of the log are in the order
of the commits for one row, whose lock is held meanwhile, but not for two: a transaction that commits late leaves a
change behind readers who are past its id. A follower therefore reads *by snapshot*: what is new to it are the rows
after the last that it saw, and those of the transactions that were still running then. The change feed is one
follower (`core.feed`), the response cache of each process another (`web.response_cache`).

SQLite has one writer at a time, and a log in the order of the commits.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any, NamedTuple

import orjson
from sqlalchemy import ARRAY, BigInteger, Index, String, Text, bindparam, inspect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Mapped, Mapper, mapped_column
from sqlalchemy.sql.functions import FunctionElement

from app.core.audit import Audited
from app.core.model import Keyed, Moment, big_integer, json_type, nullable_json_type
from app.core.recorder import recorder_of
from app.core.tracing import TRACEPARENT_LENGTH
from app.extensions import Model, db

#: How many changes a follower reads at once; it does not learn which, if there are more.
MAX_CHANGES = 200
#: How long the log is kept, by the clocks of those who write it.
LOG_RETENTION = timedelta(hours=1)
#: After so many seconds a follower that has not looked learns nothing of the log. What it has not seen may be pruned by
#: then; half the retention leaves the other half to clocks that differ.
MAX_AGE = LOG_RETENTION.total_seconds() / 2


#: A row by the names of its columns.
Row = Mapping[str, Any]


class LogRow(Keyed, Model):
    """One change of one row, in the log; ``row_version`` and ``row_live`` are the row's counters after it."""

    __tablename__ = "change_log"

    #: The number of the transaction (``pg_current_xact_id``); None on SQLite.
    xid: Mapped[int | None] = mapped_column(big_integer)
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
    #: The names of the columns that changed; None where the row came, or went.
    members: Mapped[list[str] | None] = mapped_column(nullable_json_type)
    #: By the name of each column that refers to a published row: the ids before and after the change.
    scopes: Mapped[dict[str, list[int]]] = mapped_column(json_type)


Index("ix_change_log_xid_id", LogRow.xid, LogRow.id)


class Announced(Audited):
    """Changes of rows of such a model are in the log and in the change feed where a use case calls `record_in_log`."""

    @classmethod
    def event_names(cls) -> Mapping[str, str]:
        """The names that changes of such rows have, each with a sentence for clients. A model states its own."""
        raise NotImplementedError

    @classmethod
    def names_of(cls, kind: str, before: Row | None, after: Row | None) -> list[str]:  # noqa: ARG003 -- for overrides
        """All names of a change of type ``kind``, which is the first of them.

        ``before`` and ``after`` are the row by its columns, those that were loaded at least: without ``before`` it was
        created, without ``after`` deleted.
        """
        return [kind]


class Published(Announced):
    """Every change of a row of such a model is in the log and in the change feed, under the name of the audit trail."""

    version: Mapped[int]

    @classmethod
    def event_names(cls) -> Mapping[str, str]:
        """The names of the changes that any row may have, and of those of rows that a reader may not see."""
        kind, noun = cls.audited_as, cls.audited_as.replace("_", " ")
        article = "an" if noun[0] in "aeiou" else "a"
        return {
            f"{kind}.created": f"The {noun} was created.",
            f"{kind}.updated": f"The {noun} was changed.",
            f"{kind}.deleted": f"The {noun} was deleted.",
            f"{kind}.hidden": f"Something became of {article} {noun} that you may not see.",
        }


@dataclass(frozen=True)
class Change:
    """A change that this transaction will append to the log as it commits: of type ``product.updated``, say."""

    type: str
    names: Sequence[str]
    resource_type: str
    resource_id: int
    row_version: int
    row_live: int | None
    members: Sequence[str] | None
    scopes: Mapping[str, Sequence[int]]

    def row(self, now: datetime, traceparent: str | None) -> dict[str, Any]:
        """The row of the log."""
        return {"created_at": now, "traceparent": traceparent, **asdict(self)}


class LoggedChange(NamedTuple):
    """A change as followers read it: ``members`` is None where the row came or went."""

    id: int
    resource: str
    resource_id: int
    members: frozenset[str] | None
    scopes: Mapping[str, Sequence[int]]


class LogPosition(NamedTuple):
    """How far a follower has read.

    ``last`` is the id of the last row that it saw, and ``moment`` when that was written: another row may have the id
    after the database was restored from a backup. ``xmax`` and ``running`` are of its snapshot: of the transactions
    from ``xmax`` on, and of the ``running`` ones, it has seen nothing. ``server`` names the run of the server and the
    table, and ``at`` is when it looked: seconds by the clock of the database, 0 if never.
    """

    last: int = 0
    moment: str = ""
    xmax: int = 0
    running: tuple[int, ...] = ()
    server: str = ""
    at: float = 0.0

    def has_seen(self, change_id: int, xid: int | None) -> bool:
        """Whether a change was visible here, by its id and the number of its transaction."""
        return change_id <= self.last and (xid is None or (xid < self.xmax and xid not in self.running))

    def is_before(self, other: "LogPosition") -> bool:
        """Whether the other has seen more; of two snapshots of one server, one has seen all that the other has."""
        return (self.xmax, -len(self.running), self.last) < (other.xmax, -len(other.running), other.last)


class LogTail(NamedTuple):
    """What `LOG_TAIL` found, and the position that it was asked from."""

    position: LogPosition
    found: str


class Follower:
    """Reads the log for one process. Its caller holds a lock while it calls `follow`; anybody may read ``position``."""

    def __init__(self) -> None:
        self.position = LogPosition()

    def follow(self, tail: LogTail) -> Sequence[LoggedChange] | None:
        """The changes that became visible after the tail's position, without those that it returned before.

        None where they are too many (`MAX_CHANGES`), or where the log may lack some of them: the position is old, its
        row was pruned, or this is another server, another table, or another run of it, which may have lost what was
        committed last. Then anything may have changed.
        """
        (server, at, snapshot), newest, *late = orjson.loads(tail.found)
        found = [*newest, *(row for rows in late for row in rows or ())]
        last, moment = newest[0][:2] if newest else (0, "")
        before, here = tail.position, position_in(snapshot, last, moment)._replace(server=server, at=at)
        if len(found) > MAX_CHANGES or not _goes_on(before, here, newest):
            self.position = here
            return None
        # Another thread may have followed the log further while this tail was read.
        rows = [row for row in found if not self.position.has_seen(row[0], row[2])]
        if not here.is_before(self.position):
            self.position = here
        return [_change_in(row) for row in sorted(rows)]


def _goes_on(before: LogPosition, here: LogPosition, newest: Sequence[Sequence[Any]]) -> bool:
    """Whether the log has everything between two positions; ``newest`` are its rows from the first on, newest first."""
    if not before.at:
        return True
    if before.server != here.server or here.at - before.at > MAX_AGE:
        return False
    return not before.last or (bool(newest) and tuple(newest[-1][:2]) == (before.last, before.moment))


def record_in_log(
    model: type[Announced],
    kind: str,
    row_id: int,
    *,
    version: int,
    live: int | None = None,
    members: Iterable[str] | None = None,
    before: Row | None,
    after: Row | None,
) -> None:
    """Record a change for the log and the change feed, appended as this transaction commits.

    ``kind`` is the type of the event, ``members`` are the columns that changed, or None where the row came or went.
    ``before`` and ``after`` are the row by its columns: those that refer to published rows, and those from which its
    model knows the other names of the change. The caller has locked the row, or made it.
    """
    states = [state for state in (before, after) if state is not None]
    scopes = {
        name: sorted({state[name] for state in states if state.get(name) is not None})
        for name in scope_columns_of(inspect(model))
    }
    changed = None if members is None else sorted(members)
    names = model.names_of(kind, before, after)
    change = Change(kind, names, model.audited_as, row_id, version, live, changed, scopes)
    recorder_of(db.session()).log.append(change)


@cache
def announced_models() -> Sequence[type[Announced]]:
    """The models whose changes are in the feed, in the order of their names in it."""
    models = {mapper.class_ for mapper in Model.registry.mappers if issubclass(mapper.class_, Announced)}
    return sorted(models, key=lambda model: model.audited_as)


@cache
def scope_columns_of(mapper: Mapper[Any]) -> Sequence[str]:
    """The columns of a model that refer to published rows, which are the scopes of its changes."""
    published = {other.local_table for other in mapper.registry.mappers if issubclass(other.class_, Published)}
    return [
        column.key for column in mapper.columns if any(key.column.table in published for key in column.foreign_keys)
    ]


class log_tail(FunctionElement[str]):  # noqa: N801 -- reads as the SQL function that it compiles to
    """What became visible in the log after a position (last, xmax, running), as the text of a JSON array; or NULL.

    Its first item has the name of the server, its clock and the snapshot. The second has the newest rows from the
    position's own on, newest first, one more than `MAX_CHANGES` at most. On PostgreSQL two lists follow of rows with
    smaller ids, whose transactions began later or were still running; null where there are too many new ones already.
    A standby has none of all this: a snapshot there does not say which transactions are running.
    """

    type = Text()
    inherit_cache = True


@compiles(log_tail, "postgresql")
def _log_tail_postgresql(element: log_tail, compiler: Any, **options: Any) -> str:
    stated, *_ = parameters = [compiler.process(clause, **options) for clause in element.clauses]
    # A subquery hides the value from the planner, which would otherwise plan each execution anew for its value: that
    # takes five times as long as the execution.
    last, xmax, running = (f"(SELECT {parameter})" for parameter in parameters)
    server = "concat(extract(epoch FROM pg_postmaster_start_time()), ' ', CAST(CAST('change_log' AS regclass) AS oid))"
    here = f"json_build_array({server}, extract(epoch FROM clock_timestamp()), CAST(pg_current_snapshot() AS text))"
    end = "CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS bigint)"
    # Each is one range of an index, whatever the statistics say: no other index has its order. The rows after `xmax`
    # are the newest and the late ones, so they are few where the newest are.
    newest = _rows_of_log(f"id >= {last} ORDER BY id DESC")
    begun_later = _rows_of_log(f"id < {last} AND xid >= {xmax} AND xid < {end} ORDER BY xid DESC, id DESC")
    of_one = f"(xid, id) < (number, {last}) AND (xid, id) >= (number, 0) ORDER BY xid DESC, id DESC"
    were_running = (
        f"SELECT change FROM unnest({running}) AS transactions (number)"  # noqa: S608 -- constants and parameters
        f" CROSS JOIN LATERAL ({_rows_of_log(of_one)}) AS rows LIMIT {MAX_CHANGES + 1}"
    )
    late = ", ".join(
        f"CASE WHEN (SELECT count(*) FROM newest) <= {MAX_CHANGES} THEN {_json_of(rows)} END"  # noqa: S608 -- constants and parameters
        for rows in (f"({begun_later}) AS late", f"({were_running}) AS late")
    )
    tail = f"(WITH newest AS MATERIALIZED ({newest}) SELECT json_build_array({here}, {_json_of('newest')}, {late}))"
    return f"CASE WHEN {stated} IS NOT NULL AND NOT pg_is_in_recovery() THEN CAST({tail} AS text) END"


def _rows_of_log(rows: str) -> str:
    columns = "json_build_array(id, CAST(created_at AS text), xid, resource_type, resource_id, members, scopes)"
    return f"SELECT {columns} AS change FROM change_log WHERE {rows} LIMIT {MAX_CHANGES + 1}"  # noqa: S608 -- constants and parameters


def _json_of(rows: str) -> str:
    return f"(SELECT coalesce(json_agg(change), '[]') FROM {rows})"  # noqa: S608 -- constants and parameters


@compiles(log_tail, "sqlite")
def _log_tail_sqlite(element: log_tail, compiler: Any, **options: Any) -> str:
    last = compiler.process(next(iter(element.clauses)), **options)
    row = "json_array(id, created_at, xid, resource_type, resource_id, json(members), json(scopes)) AS change"
    rows = f"SELECT {row} FROM change_log WHERE id >= {last} ORDER BY id DESC LIMIT {MAX_CHANGES + 1}"  # noqa: S608 -- constants
    here = "json_array('', julianday('now') * 86400, '')"
    tail = f"json_array({here}, (SELECT json_group_array(json(change)) FROM ({rows})))"  # noqa: S608 -- constants and parameters
    return f"CASE WHEN {last} IS NOT NULL THEN {tail} END"


#: What became visible after a `LogPosition`, for a statement that reads it together with something else.
LOG_TAIL = log_tail(
    bindparam("log_last", None, BigInteger),
    bindparam("log_xmax", None, BigInteger),
    bindparam("log_running", None, ARRAY(BigInteger)),
).label("log")


def values_of(position: LogPosition | None) -> dict[str, Any]:
    """The parameters of `LOG_TAIL`; without a position it reads nothing."""
    if position is None:
        return {}
    return {"log_last": position.last, "log_xmax": position.xmax, "log_running": list(position.running)}


def tail_of(position: LogPosition | None, found: str | None) -> LogTail | None:
    """What `LOG_TAIL` found after a position; None without one."""
    return None if position is None or found is None else LogTail(position, found)


def position_in(snapshot: str, last: int, moment: str = "") -> LogPosition:
    """The position after a row, in a snapshot as PostgreSQL writes it (``pg_snapshot``); SQLite has none."""
    if not snapshot:
        return LogPosition(last, moment)
    _, xmax, running = snapshot.split(":")
    return LogPosition(last, moment, int(xmax), tuple(map(int, running.split(","))) if running else ())


def _change_in(row: Sequence[Any]) -> LoggedChange:
    change_id, _, _, resource, resource_id, members, scopes = row
    return LoggedChange(change_id, resource, resource_id, None if members is None else frozenset(members), scopes)
