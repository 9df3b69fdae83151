"""What a server depends on, and whether it is there: looked at every few seconds at most, however many ask.

Without its database, or on the schema of another release, a server is not ready. Whatever else is missing makes it
degraded: requests are served, some with less than usual.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial

from flask import Flask
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from app.clients.object_store import ObjectStore, StoreUnavailable
from app.core import clock
from app.core.breaker import breaker
from app.core.errors import Unavailable
from app.core.probes import Probe, Sight
from app.core.sqlstates import Meaning, meaning_of
from app.core.transactions import begin_without_waiting, roll_back_at_end, run, unit_of_work
from app.core.workers import SILENT_SECONDS, WorkerProcess
from app.extensions import db
from app.web import limits
from app.web.counters import FallbackWindows
from app.web.migrations import newest_revision

#: Seconds for which is believed what was seen: of the database, which decides, and of everything else.
DATABASE_AGE, OTHER_AGE = 1.0, 5.0
#: Seconds that a request waits for what hangs. All are looked at together.
TIMEOUT = 2.0
#: And for what would only degrade the server, where something is known of it from before.
PATIENCE = 0.25

# A standby and a demoted primary are read-only.
_IS_READ_ONLY = text("SELECT current_setting('transaction_read_only') = 'on'")
_REVISION = text("SELECT version_num FROM alembic_version")


class CheckName(StrEnum):
    """What is checked."""

    DATABASE = "database"
    MIGRATIONS = "migrations"
    WORKER = "worker"
    REDIS = "redis"
    MEDIA_STORE = "media_store"


class CheckStatus(StrEnum):
    """How it is: whether it is there, or missed, or missed so much that no request can be served."""

    OK = "ok"
    DEGRADED = "degraded"
    FAILED = "failed"


class CheckReason(StrEnum):
    """What is wrong."""

    UNAVAILABLE = "unavailable"
    TIMEOUT = "timeout"
    READ_ONLY = "read_only"
    OTHER_SCHEMA = "other_schema"
    NO_WORKER = "no_worker"
    WORKER_SILENT = "worker_silent"


@dataclass(frozen=True)
class Seen:
    """What a look at one thing has found: what is wrong, if anything, and when it was last there, if not now."""

    reason: CheckReason | None = None
    last_seen_at: datetime | None = None


@dataclass(frozen=True)
class Check:
    """How something is; ``age_seconds`` is since it was seen so, or since the last heartbeat of a worker."""

    name: CheckName
    status: CheckStatus
    reason: CheckReason | None
    age_seconds: int
    milliseconds: int


#: What one look finds out; it leaves out what it cannot see.
Look = Callable[[], Mapping[CheckName, Seen]]
REQUIRED = frozenset({CheckName.DATABASE, CheckName.MIGRATIONS})


class Readiness:
    """What an application depends on; thread-safe."""

    def __init__(self, looks: Mapping[CheckName, Look]) -> None:
        self._probes = {
            name: Probe(look, max_age=DATABASE_AGE, timeout=TIMEOUT)
            if name in REQUIRED
            else Probe(look, max_age=OTHER_AGE, timeout=TIMEOUT, patience=PATIENCE)
            for name, look in looks.items()
        }

    def check(self) -> Sequence[Check]:
        """How each is; what hangs is waited for `TIMEOUT` seconds in all."""
        for probe in self._probes.values():
            probe.begin()
        return [check for name, probe in self._probes.items() for check in _checks_of(name, probe.read())]


def init_app(app: Flask) -> None:
    """Register what this application depends on, as it is set up."""
    store: ObjectStore = app.extensions["media_store"]
    looks: dict[CheckName, Look] = {
        CheckName.DATABASE: partial(_look_at_database, app),
        CheckName.WORKER: partial(_look_for_workers, app),
        CheckName.MEDIA_STORE: partial(_look_at_media_store, store),
    }
    if (windows := limits.redis_windows(app)) is not None:
        looks[CheckName.REDIS] = partial(_look_at_redis, windows)
    app.extensions["readiness"] = Readiness(looks)


def status_of(checks: Sequence[Check]) -> CheckStatus:
    """How it is altogether: as the worst of them."""
    return max((check.status for check in checks), key=list(CheckStatus).index)


def _checks_of(name: CheckName, sight: Sight[Mapping[CheckName, Seen]] | None) -> Iterator[Check]:
    if sight is None:
        yield _check(name, Seen(CheckReason.TIMEOUT), age=0, seconds=TIMEOUT)
        return
    for one, seen in sight.value.items():
        yield _check(one, seen, age=sight.age, seconds=sight.seconds)


def _check(name: CheckName, seen: Seen, *, age: float, seconds: float) -> Check:
    status = CheckStatus.OK
    if seen.reason is not None:
        status = CheckStatus.FAILED if name in REQUIRED else CheckStatus.DEGRADED
    if seen.last_seen_at is not None:
        age = (clock.now() - seen.last_seen_at).total_seconds()
    return Check(name, status, seen.reason, max(0, round(age)), round(seconds * 1000))


def _look_at_database(app: Flask) -> Mapping[CheckName, Seen]:
    with app.app_context():
        try:
            is_read_only = _is_read_only()
        except (SQLAlchemyError, Unavailable):
            return {CheckName.DATABASE: Seen(CheckReason.UNAVAILABLE)}
        database = Seen(CheckReason.READ_ONLY if is_read_only else None)
        return {CheckName.DATABASE: database, CheckName.MIGRATIONS: _look_at_schema()}


def _is_read_only() -> bool:
    if db.engine.dialect.name == "postgresql":
        with unit_of_work(reading=True, guard=breaker):
            return bool(run(_IS_READ_ONLY).scalar_one())
    try:
        # SQLite only knows once it is asked to write.
        with unit_of_work(guard=breaker):
            roll_back_at_end()
            begin_without_waiting()
    except DBAPIError as error:
        if meaning_of(error) is Meaning.BUSY:
            # Another one is just writing.
            return False
        if _is_refused_to_write(error):
            return True
        raise
    return False


def _is_refused_to_write(error: DBAPIError) -> bool:
    return str(getattr(error.orig, "sqlite_errorname", "")).startswith("SQLITE_READONLY")


def _look_at_schema() -> Seen:
    try:
        with unit_of_work(reading=True, guard=breaker):
            is_ours = run(_REVISION).scalars().all() == [newest_revision()]
    except (SQLAlchemyError, Unavailable):
        # There is no schema at all.
        is_ours = False
    return Seen(None if is_ours else CheckReason.OTHER_SCHEMA)


def _look_for_workers(app: Flask) -> Mapping[CheckName, Seen]:
    with app.app_context():
        try:
            with unit_of_work(reading=True, guard=breaker):
                seen_at = run(select(func.max(WorkerProcess.seen_at))).scalar_one()
        except (SQLAlchemyError, Unavailable):
            # It is the database that is missing then.
            return {}
    return {CheckName.WORKER: _judge_worker(seen_at)}


def _judge_worker(seen_at: datetime | None) -> Seen:
    if seen_at is None:
        return Seen(CheckReason.NO_WORKER)
    is_silent = (clock.now() - seen_at).total_seconds() > SILENT_SECONDS
    return Seen(CheckReason.WORKER_SILENT if is_silent else None, seen_at)


def _look_at_media_store(store: ObjectStore) -> Mapping[CheckName, Seen]:
    try:
        store.check()
    except StoreUnavailable:
        return {CheckName.MEDIA_STORE: Seen(CheckReason.UNAVAILABLE)}
    return {CheckName.MEDIA_STORE: Seen()}


def _look_at_redis(windows: FallbackWindows) -> Mapping[CheckName, Seen]:
    return {CheckName.REDIS: Seen(None if windows.can_count() else CheckReason.UNAVAILABLE)}
