"""What comes before looking for jobs: sources make jobs due for what is in other tables, and periodic jobs are there.

Every worker does it at every poll, and any number of them at once: a job has one row, and one lease.
"""

import time
from collections.abc import Callable, Mapping, Sequence

import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from app.core import jobs
from app.core.jobs import Job, Task
from app.core.transactions import unit_of_work
from app.extensions import db

#: Turns what is in other tables into due jobs, in a unit of work of its own; called about once a second.
Source = Callable[[], None]
#: Seconds between two looks for a periodic job that is missing, such as after a restore.
ENSURE_SECONDS = 60

log = structlog.get_logger(__name__)


class Scheduler:
    """Calls the sources, and queues the periodic tasks that are not queued. Used by one thread at a time."""

    def __init__(self, tasks: Mapping[str, Task], sources: Sequence[Source] = ()) -> None:
        self._sources = sources
        self._periodic = {jobs.periodic_key(kind): kind for kind, task in tasks.items() if task.every is not None}
        self._tasks = tasks
        self._ensured_at = float("-inf")

    def tick(self) -> None:
        """Call each source, within a context of the application; one that fails is logged and stops nothing.

        Raises ``SQLAlchemyError`` where the database is not there for the periodic tasks.
        """
        for source in self._sources:
            _call(source)
        if self._periodic and time.monotonic() - self._ensured_at >= ENSURE_SECONDS:
            self._ensure_periodic()
            self._ensured_at = time.monotonic()

    def _ensure_periodic(self) -> None:
        with unit_of_work(reading=True):
            found = set(db.session.scalars(select(Job.key).where(Job.key.in_(self._periodic), jobs.IS_OPEN)))
        for key in self._periodic.keys() - found:
            kind = self._periodic[key]
            with unit_of_work():
                jobs.enqueue_periodic(kind, self._tasks[kind])


def _call(source: Source) -> None:
    name = getattr(source, "__qualname__", type(source).__name__)
    try:
        source()
    except SQLAlchemyError as error:
        # Once a second while the database is away: a line is enough.
        log.warning("source_failed", source=name, error=type(error).__name__)
    except Exception as error:  # whatever it is, the other sources and the jobs go on
        log.exception("source_failed", source=name, exc_info=error)
