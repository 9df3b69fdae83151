"""The processes that run background jobs: each writes into its row every few seconds that it is there."""

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from enum import StrEnum

import structlog
from sqlalchemy import CheckConstraint, String, delete
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Mapped, mapped_column

from app.core import clock
from app.core.errors import Unavailable
from app.core.model import Moment
from app.core.pruning import delete_batch
from app.core.transactions import begin_without_waiting, run, unit_of_work
from app.core.upserts import insert_into
from app.extensions import Model

#: Seconds between two heartbeats.
BEAT_SECONDS = 10.0
#: Seconds without a heartbeat after which a process counts as dead.
SILENT_SECONDS = 30
#: How long the row of a process that died is kept.
WORKER_RETENTION = timedelta(days=1)

log = structlog.get_logger(__name__)


class WorkerKind(StrEnum):
    """What runs the jobs: ``flask worker``, a worker of Celery, or the server itself in development."""

    WORKER = "worker"
    CELERY = "celery"
    SERVER = "server"


class WorkerProcess(Model):
    """A process that runs jobs, or one that died within a day; one that ends in order deletes its row."""

    __tablename__ = "workers"
    __table_args__ = (CheckConstraint(f"kind IN ({', '.join(repr(kind.value) for kind in WorkerKind)})", name="kind"),)

    #: Random, because two machines may have the same name and the same process ids.
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    kind: Mapped[WorkerKind] = mapped_column(String(16))
    version: Mapped[str] = mapped_column(String(64))
    started_at: Mapped[Moment]
    seen_at: Mapped[Moment]


class Presence:
    """Tells the others that this process is there.

    A heartbeat costs nothing else: it waits 5 ms at most for another writer, and one that fails is made up for by the
    next. Thread-safe.
    """

    def __init__(self, kind: WorkerKind, *, version: str) -> None:
        self._row = {
            "id": secrets.token_hex(16), "kind": kind, "version": version, "started_at": clock.now(),
        }  # fmt: skip
        self._noted_at = float("-inf")

    def note(self) -> None:
        """Write that this process is there, unless that is a few seconds old; within a context of the application."""
        if time.monotonic() - self._noted_at < BEAT_SECONDS:
            return
        now = clock.now()
        insertion = insert_into(WorkerProcess).values(**self._row, seen_at=now)
        try:
            with unit_of_work():
                begin_without_waiting()
                run(insertion.on_conflict_do_update(index_elements=["id"], set_={"seen_at": now}))
        except (SQLAlchemyError, Unavailable) as error:
            log.info("heartbeat_failed", error=type(error).__name__)
        else:
            self._noted_at = time.monotonic()

    def withdraw(self) -> None:
        """Delete the row of this process, which ends in order; within a context of the application."""
        try:
            with unit_of_work():
                run(delete(WorkerProcess).where(WorkerProcess.id == self._row["id"]))
        except (SQLAlchemyError, Unavailable) as error:
            log.info("heartbeat_failed", error=type(error).__name__)

    @contextmanager
    def kept_up(self, context: Callable[[], AbstractContextManager[object]]) -> Iterator[None]:
        """Go on noting from a thread, for the length of a block in which nothing else does."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(BEAT_SECONDS):
                with context():
                    self.note()

        thread = threading.Thread(target=beat, name="presence", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(timeout=5)


def prune_workers(*, before: datetime) -> int:
    """Delete a batch of the processes that were not there any more since a moment; their number."""
    return delete_batch(WorkerProcess, WorkerProcess.seen_at < before)
