"""The threads of a worker process: so many in each lane, and one that looks for due jobs on behalf of all.

A lane is a set of kinds. No lane waits for another: a mail does not wait for a long import, nor an import for a mail
server that hangs.
"""

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from types import MappingProxyType

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.core import jobs
from app.core.jobs import Task
from app.core.leases import Heartbeat
from app.core.scheduling import Scheduler, Source
from app.core.worker import Worker
from app.core.workers import Presence

#: Seconds between two polls for jobs.
POLL_INTERVAL = 1.0
#: Seconds that a process which is stopped waits for the steps that its threads are in. What is not done by then is
#: rolled back with the process, and its job taken over when the lease has expired.
STOP_SECONDS = 25.0
MAX_CONCURRENCY = 64

log = structlog.get_logger(__name__)


class Lane:
    """Threads that run the jobs of one worker's kinds. Each sleeps until there may be a job for it."""

    def __init__(self, name: str, worker: Worker, *, threads: int) -> None:
        self._worker = worker
        # One token rouses one thread, which rouses the next one if it finds a job: so no idle thread polls, and all
        # are at work after as many claims as there are threads.
        self._tokens: queue.Queue[None] = queue.Queue(maxsize=1)
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}-{number}", daemon=True) for number in range(1, threads + 1)
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def poll(self) -> None:
        """Rouse a thread if there is a job for it; one read. Raises ``SQLAlchemyError``."""
        if self._worker.has_due_jobs():
            self._rouse()

    def join(self, deadline: float) -> bool:
        """Wait for the threads of a worker that is stopped until a ``time.monotonic()``; whether all have ended."""
        self._rouse()
        for thread in self._threads:
            thread.join(max(0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _rouse(self) -> None:
        with suppress(queue.Full):
            self._tokens.put_nowait(None)

    def _run(self) -> None:
        while not self._worker.is_stopped():
            self._tokens.get()
            self._work_off()
        self._rouse()

    def _work_off(self) -> None:
        try:
            while not self._worker.is_stopped() and self._worker.work(on_claim=self._rouse):
                pass
        except SQLAlchemyError as error:
            log.warning("polling_failed", error=type(error).__name__)
        except Exception as error:  # a thread that ended would leave its lane with one less, unnoticed
            log.exception("lane_failed", exc_info=error)


class Crew:
    """The lanes of a process. ``lanes`` has the tasks of each by its name.

    Each lane has ``concurrency`` threads, times its factor in ``widths``. Each poll notes the ``presence`` of this
    process, and calls ``on_poll``.
    Once ``stop`` returns true each thread finishes its current step, and gives its job back.
    """

    def __init__(
        self,
        lanes: Mapping[str, Mapping[str, Task]],
        context: Callable[[], AbstractContextManager[object]],
        *,
        concurrency: int = 1,
        widths: Mapping[str, int] = MappingProxyType({}),
        sources: Sequence[Source] = (),
        stop: Callable[[], bool],
        lease: int = jobs.LEASE_SECONDS,
        presence: Presence | None = None,
        on_poll: Callable[[], object] = lambda: None,
    ) -> None:
        self._context, self._stop = context, stop
        self._presence, self._on_poll = presence, on_poll
        tasks = {kind: task for lane in lanes.values() for kind, task in lane.items()}
        self._scheduler = Scheduler(tasks, sources)
        self._heartbeat = Heartbeat(context, lease=lease)
        self._lanes = [
            Lane(
                name,
                Worker(lane, context, stop=stop, lease=lease, heartbeat=self._heartbeat),
                threads=concurrency * widths.get(name, 1),
            )
            for name, lane in lanes.items()
        ]

    def run(self, pause: Callable[[float], object], *, grace: float = STOP_SECONDS) -> bool:
        """Run jobs until stopped, and then wait for the steps at hand; whether all were done within ``grace`` seconds.

        ``pause`` waits for so many seconds, or less when there may be a job.
        """
        with self._heartbeat:
            for lane in self._lanes:
                lane.start()
            self._poll(pause)
            deadline = time.monotonic() + grace
            have_ended = [lane.join(deadline) for lane in self._lanes]
        if self._presence is not None:
            with self._context():
                self._presence.withdraw()
        return all(have_ended)

    def _poll(self, pause: Callable[[float], object]) -> None:
        due_at = time.monotonic()
        while not self._stop():
            if time.monotonic() >= due_at:
                due_at = time.monotonic() + POLL_INTERVAL
                self._on_poll()
                self._try(self._tick)
            for lane in self._lanes:
                self._try(lane.poll)
            pause(max(0.0, due_at - time.monotonic()))

    def _tick(self) -> None:
        with self._context():
            if self._presence is not None:
                self._presence.note()
            self._scheduler.tick()

    @staticmethod
    def _try(poll: Callable[[], None]) -> None:
        """Poll; a database that is unavailable is polled again."""
        try:
            poll()
        except SQLAlchemyError as error:
            log.warning("polling_failed", error=type(error).__name__)


def start_crew(
    lanes: Mapping[str, Mapping[str, Task]],
    context: Callable[[], AbstractContextManager[object]],
    *,
    widths: Mapping[str, int],
    sources: Sequence[Source],
    presence: Presence | None = None,
) -> Callable[[], None]:
    """Run jobs in threads of this process; the result stops them at their next step, and waits 5 s for that."""
    over = threading.Event()
    crew = Crew(lanes, context, widths=widths, sources=sources, stop=over.is_set, presence=presence)
    thread = threading.Thread(target=crew.run, args=(over.wait,), kwargs={"grace": 5}, name="jobs", daemon=True)
    thread.start()

    def stop() -> None:
        over.set()
        thread.join(timeout=5)

    return stop
