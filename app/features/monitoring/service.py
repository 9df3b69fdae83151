"""What the database says of queues, workers, endpoints, pictures and accounts, in six statements.

Each reads a part of an index, and counts MAX_COUNTED rows at most: a million jobs that have ended, or pictures that are
ready, cost nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    Select,
    String,
    and_,
    bindparam,
    case,
    func,
    literal_column,
    null,
    select,
    text,
    type_coerce,
    union,
    union_all,
)
from sqlalchemy.sql.elements import ColumnElement

from app.core import clock
from app.core.breaker import breaker
from app.core.changelog import LogRow
from app.core.feed import CatalogueState, ChangeEvent
from app.core.jobs import OPEN, Job, JobStatus
from app.core.model import UtcDateTime
from app.core.transactions import roll_back_at_end, run, unit_of_work
from app.core.workers import SILENT_SECONDS, WORKER_RETENTION, WorkerKind, WorkerProcess
from app.extensions import db
from app.features.auth.guard import FAILURE_WINDOW
from app.features.auth.models import (
    MAX_FAILURES_PER_ACCOUNT,
    MAX_FAILURES_PER_NETWORK,
    LoginFailures,
    NetworkLoginFailures,
)
from app.features.media.models import UNREADY, Asset
from app.features.webhooks.models import Delivery, DeliveryStatus, DispatchState, Webhook

#: Of open jobs, of failed ones, and of pictures that are not ready.
MAX_COUNTED = 10_000
#: The longest that PostgreSQL may take for one of the statements.
STATEMENT_TIMEOUT = "500ms"


@dataclass(frozen=True, kw_only=True)
class Queues:
    """What waits, what runs and what has failed; ages are in seconds."""

    #: By kind and status.
    jobs: Mapping[tuple[str, str], int] = field(default_factory=dict)
    #: By kind: how long the oldest has been due, 0 where none is.
    oldest_due: Mapping[str, float] = field(default_factory=dict)
    #: By kind: those that are there, and those that died within a day.
    workers: Mapping[str, int] = field(default_factory=dict)
    silent_workers: Mapping[str, int] = field(default_factory=dict)
    #: By kind: the age of the latest heartbeat.
    last_seen: Mapping[str, float] = field(default_factory=dict)
    #: By state: enabled, paused, disabled.
    webhooks: Mapping[str, int] = field(default_factory=dict)
    #: The age of the oldest change that is not queued for the endpoints, and since when a message has been due.
    feed_lag: float = 0
    delivery_lag: float = 0
    #: By status.
    media: Mapping[str, int] = field(default_factory=dict)
    blocked_accounts: int = 0


def read_queues() -> Queues:
    """All of it; raises SQLAlchemy's errors, and those of the breaker."""
    is_postgresql = db.engine.dialect.name == "postgresql"
    # A transaction on PostgreSQL, where a timeout can be for it alone; on SQLite it would be the one writer's.
    with unit_of_work(reading=not is_postgresql, guard=breaker):
        roll_back_at_end()
        if is_postgresql:
            run(text(f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'"))
        now = clock.now()
        states = {row.state: row for row in run(webhooks_by_state(now))}
        enabled = states.get("enabled")
        return Queues(
            **_read_jobs(now),
            **_read_workers(now),
            webhooks={state: row.number for state, row in states.items()},
            delivery_lag=_age(None if enabled is None else enabled.oldest, now),
            feed_lag=_read_feed_lag([row.starts for row in states.values() if row.starts is not None], now),
            media={row.status: row.number for row in run(media_by_status())},
            blocked_accounts=run(blocked_accounts(now)).scalar_one(),
        )


def jobs_by_kind() -> Select[*tuple[Any, ...]]:
    """The open and the failed jobs by kind and status, and when the first of each was due."""
    columns = (Job.kind, Job.status, Job.due_at)
    due = select(*columns).where(Job.status.in_(_literally("open", *sorted(OPEN))))
    failed = select(*columns).where(Job.status == _literally("failed", JobStatus.FAILED))
    # The oldest are counted: of too many, those that have been due for longest.
    first = due.order_by(Job.due_at, Job.id).limit(MAX_COUNTED).subquery()
    last = failed.order_by(Job.status.desc(), Job.id.desc()).limit(MAX_COUNTED).subquery()
    found = union_all(select(first), select(last)).subquery()
    number, oldest = func.count().label("number"), func.min(type_coerce(found.c.due_at, UtcDateTime())).label("oldest")
    return select(found.c.kind, found.c.status, number, oldest).group_by(found.c.kind, found.c.status)


def workers_by_kind(now: datetime) -> Select[*tuple[Any, ...]]:
    """How many workers of each kind are there, how many died, and when one was last there."""
    is_there = WorkerProcess.seen_at >= now - timedelta(seconds=SILENT_SECONDS)
    return (
        select(
            WorkerProcess.kind,
            func.sum(case((is_there, 1), else_=0)).label("running"),
            func.sum(case((is_there, 0), else_=1)).label("silent"),
            func.max(WorkerProcess.seen_at).label("seen_at"),
        )
        .where(WorkerProcess.seen_at > now - WORKER_RETENTION)
        .group_by(WorkerProcess.kind)
    )


def webhooks_by_state(now: datetime) -> Select[*tuple[Any, ...]]:
    """How many endpoints there are of each state, since when a message is due, and from which event on they hear."""
    is_paused = Webhook.paused_until > now
    waiting = (
        select(Delivery.due_at)
        .where(
            Delivery.webhook_id == Webhook.id,
            Delivery.status == _literally("pending", DeliveryStatus.PENDING),
        )
        .order_by(Delivery.due_at, Delivery.id)
        .limit(1)
        .correlate(Webhook)
        .scalar_subquery()
    )
    state = case((Webhook.is_enabled.is_(False), "disabled"), (is_paused, "paused"), else_="enabled").label("state")
    starts = case((Webhook.is_enabled, Webhook.starts_after), else_=null()).label("starts")
    each = select(state, waiting.label("due_at"), starts).where(Webhook.deleted_at.is_(None)).subquery()
    return select(
        each.c.state,
        func.count().label("number"),
        func.min(type_coerce(each.c.due_at, UtcDateTime())).label("oldest"),
        func.min(each.c.starts).label("starts"),
    ).group_by(each.c.state)


def unqueued_changes(starts_after: int) -> Select[*tuple[Any, ...]]:
    """When the first change was made that is not queued for the endpoints: in the feed, and not yet in it."""
    position = func.coalesce(select(DispatchState.position).scalar_subquery(), 0)
    in_feed = _first(ChangeEvent, and_(ChangeEvent.id > position, ChangeEvent.id > starts_after))
    if db.engine.dialect.name != "postgresql":
        return select(in_feed.label("in_feed"), type_coerce(null(), UtcDateTime()).label("in_log"))
    numbered = func.coalesce(select(CatalogueState.log_id).scalar_subquery(), 0)
    return select(in_feed.label("in_feed"), _first(LogRow, LogRow.id > numbered).label("in_log"))


def media_by_status() -> Select[*tuple[Any, ...]]:
    """The pictures that are not ready, by status."""
    unready = select(Asset.status).where(Asset.status.in_(_literally("unready", *UNREADY))).limit(MAX_COUNTED)
    found = unready.subquery()
    return select(found.c.status, func.count().label("number")).group_by(found.c.status)


def blocked_accounts(now: datetime) -> Select[*tuple[Any, ...]]:
    """How many accounts refuse logins, from one network or from all that they do not know."""
    since = now - FAILURE_WINDOW
    blocked = union(
        *(
            select(model.account).where(model.failures >= literal_column(str(most)), model.first_at > since)
            for model, most in (
                (LoginFailures, MAX_FAILURES_PER_ACCOUNT),
                (NetworkLoginFailures, MAX_FAILURES_PER_NETWORK),
            )
        )
    ).subquery()
    return select(func.count()).select_from(blocked)


def _read_jobs(now: datetime) -> dict[str, Any]:
    rows = run(jobs_by_kind()).all()
    oldest: dict[str, float] = {}
    for row in rows:
        if row.status in OPEN:
            oldest[row.kind] = max(oldest.get(row.kind, 0), _age(row.oldest, now))
    return {"jobs": {(row.kind, row.status): row.number for row in rows}, "oldest_due": oldest}


def _read_workers(now: datetime) -> dict[str, Any]:
    rows = run(workers_by_kind(now)).all()
    none: dict[str, int] = {kind.value: 0 for kind in WorkerKind}
    return {
        "workers": none | {row.kind: row.running for row in rows},
        "silent_workers": none | {row.kind: row.silent for row in rows},
        "last_seen": {row.kind: _age(row.seen_at, now) for row in rows},
    }


def _read_feed_lag(starts: list[int], now: datetime) -> float:
    """The age of the oldest change that waits for an endpoint; 0 where none hears of changes."""
    if not starts:
        return 0
    row = run(unqueued_changes(min(starts))).one()
    return max(_age(row.in_feed, now), _age(row.in_log, now))


def _age(moment: datetime | None, now: datetime) -> float:
    return 0 if moment is None else max(0, (now - moment).total_seconds())


def _first(model: type[ChangeEvent | LogRow], condition: ColumnElement[bool]) -> ColumnElement[Any]:
    rows = select(model.created_at).where(condition).order_by(model.id).limit(1)
    return type_coerce(rows.scalar_subquery(), UtcDateTime())


def _literally(name: str, *values: str) -> Any:
    """A parameter that stands in the text of the statement: SQLite uses a partial index for its own condition alone."""
    if len(values) == 1:
        return bindparam(name, values[0], String(), literal_execute=True)
    return bindparam(name, list(values), String(), expanding=True, literal_execute=True)
