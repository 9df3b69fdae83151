"""Numbers for the change feed: what is committed is copied from the log into the feed, by the next reader.

Each statement numbers what has become visible since the last one, in the order of the log's ids, and notes the
snapshot in which it read the log. Of two that begin at once, the second waits for the first, finds that the state it
has read is gone, and does nothing. Only readers wait here, and only for each other (decision 41).
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ARRAY, BigInteger, Text, bindparam, select, text

from app.core import clock
from app.core.changelog import position_in
from app.core.feed import CatalogueState, require_state
from app.core.transactions import connection, run, write_apart

#: Changes that one statement numbers, beside those that were committed late; some tens of milliseconds.
BATCH = 5000
#: How often a reader begins again. Each time, another reader has numbered a batch, or this one has.
ATTEMPTS = 3

_COPIED = "id, created_at, type, names, resource_type, resource_id, row_version, row_live, traceparent"
# Each is one range of an index. Before the last change that is numbered there may be those of transactions that were
# running in the snapshot of the state, or that began between it and the transaction that numbered.
_DUE = (
    "id > :last",
    "id > :floor AND id <= :last AND xid >= :xmax AND xid < :xid",
    "id > :floor AND id <= :last AND xid = ANY (:running)",
)
_IS_DUE = " OR ".join(f"EXISTS (SELECT FROM change_log WHERE {rows})" for rows in _DUE)
_NEW, *_LATE = (f"SELECT {_COPIED} FROM change_log WHERE {rows}" for rows in _DUE)  # noqa: S608 -- the above

_PARAMETERS = (
    bindparam("last", type_=BigInteger),
    bindparam("floor", type_=BigInteger),
    bindparam("xmax", type_=BigInteger),
    bindparam("xid", type_=BigInteger),
    bindparam("running", type_=ARRAY(BigInteger)),
)
_ASK = text(f"SELECT {_IS_DUE}").bindparams(*_PARAMETERS)
# Rows of transactions that this server is yet to number come from another, of which the database is a copy.
_NUMBER = text(f"""
    WITH due AS (({_NEW} ORDER BY id LIMIT :batch) UNION ALL {" UNION ALL ".join(_LATE)}),
    claimed AS (
        UPDATE catalogue_state SET
            log_id = greatest(log_id, (SELECT max(id) FROM due)),
            log_floor = CASE
                WHEN here.xmax < :xmax
                THEN (SELECT coalesce(max(id), log_floor) FROM change_log WHERE xid >= here.xmax)
                ELSE log_floor
            END,
            log_snapshot = here.snapshot,
            log_xid = CAST(CAST(pg_current_xact_id() AS text) AS bigint),
            version = greatest(version + 1, :version)
        FROM (
            SELECT CAST(pg_current_snapshot() AS text) AS snapshot,
                CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS bigint) AS xmax
        ) AS here
        WHERE catalogue_state.id = 1 AND log_id = :last AND log_snapshot IS NOT DISTINCT FROM :snapshot
        RETURNING catalogue_state.id
    )
    INSERT INTO change_events (created_at, type, names, resource_type, resource_id, row_version, row_live, traceparent)
    SELECT due.created_at, due.type, due.names, due.resource_type, due.resource_id, due.row_version, due.row_live,
        due.traceparent
    FROM claimed CROSS JOIN due ORDER BY due.id
""").bindparams(*_PARAMETERS, bindparam("snapshot", type_=Text))  # noqa: S608 -- the above


def number_changes() -> bool:
    """Number what is committed, a batch or a few; whether some is left.

    What was committed before the call has its number after it, unless some is left. This writes in a transaction of its
    own, where there is anything to number, and leaves that of the caller as it is. SQLite's changes have their numbers
    from the beginning.
    """
    if connection().dialect.name != "postgresql":
        return False
    for _ in range(ATTEMPTS):
        state = _read_state()
        if not run(_ASK, {name: state[name] for name in ("last", "floor", "xmax", "xid", "running")}).scalar_one():
            return False
        write_apart(_NUMBER, {**state, "batch": BATCH, "version": int(clock.now().timestamp() * 1_000_000)})
    return True


def _read_state() -> Mapping[str, Any]:
    table = CatalogueState.metadata.tables[CatalogueState.__tablename__]
    row = run(select(table)).one_or_none()
    if row is None:
        write_apart(require_state())
        return _read_state()
    position = position_in(row.log_snapshot or "", row.log_id)
    return {
        "last": row.log_id,
        "floor": row.log_floor,
        "snapshot": row.log_snapshot,
        "xmax": position.xmax,
        "xid": row.log_xid,
        "running": list(position.running),
    }
