"""What makes jobs due: sources, and the slots of periodic work."""

from collections.abc import Generator, Iterator
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from flask import Flask
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from app.core import clock, jobs
from app.core.jobs import Claim, Job, JobFailed, JobStatus, Task
from app.core.scheduling import ENSURE_SECONDS, Scheduler
from app.core.transactions import unit_of_work
from app.core.worker import Worker
from app.extensions import db

KIND = "tidy"
HOUR = timedelta(hours=1)
#: Half past the first slot of the test.
NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
SLOT = datetime(2026, 3, 1, 13, tzinfo=UTC)


@pytest.fixture(autouse=True)
def context(app: Flask) -> Iterator[None]:
    with app.app_context(), time_machine.travel(NOW, tick=False):
        yield


def rows() -> list[tuple[str, str | None, datetime]]:
    """The jobs: their status, their error, and when they are due."""
    with unit_of_work(reading=True):
        return [(job.status, job.error, job.due_at) for job in db.session.scalars(db.select(Job).order_by(Job.id))]


class Tidying:
    """Periodic work that can be made to fail."""

    def __init__(self) -> None:
        self.runs: list[datetime] = []
        self.ended: list[int] = []
        self.failure: Exception | None = None
        self.tasks = {KIND: Task(self.run, self.ended.append, every=HOUR)}

    def run(self, claim: Claim) -> Generator[None, None, None]:
        yield from ()
        self.runs.append(clock.now())
        if self.failure:
            raise self.failure

    def work(self, app: Flask) -> int:
        Scheduler(self.tasks).tick()
        return Worker(self.tasks, app.app_context).drain()


@pytest.fixture
def tidying() -> Tidying:
    return Tidying()


class TestPeriodicTask:
    def test_is_queued_once_for_its_next_slot(self, tidying: Tidying) -> None:
        for _ in range(3):
            Scheduler(tidying.tasks).tick()

        assert rows() == [("queued", None, SLOT)]

    def test_that_succeeds_is_queued_for_its_next_slot(self, app: Flask, tidying: Tidying) -> None:
        tidying.work(app)
        assert tidying.runs == []

        with time_machine.travel(SLOT, tick=False):
            assert tidying.work(app) == 1
            assert rows() == [("queued", None, SLOT + HOUR)]

    def test_makes_up_for_no_slot_that_was_missed(self, app: Flask, tidying: Tidying) -> None:
        tidying.work(app)

        with time_machine.travel(SLOT + timedelta(hours=5, minutes=10), tick=False):
            assert tidying.work(app) == 1

        assert rows() == [("queued", None, SLOT + timedelta(hours=6))]

    def test_that_fails_at_last_has_another_job_for_its_next_slot(self, app: Flask, tidying: Tidying) -> None:
        tidying.work(app)
        tidying.failure = JobFailed("no room")

        with time_machine.travel(SLOT, tick=False):
            tidying.work(app)

        assert [row[:2] for row in rows()] == [("failed", "no room"), ("queued", None)]
        assert rows()[1][2] == SLOT + HOUR
        assert len(tidying.ended) == 1

    def test_whose_last_worker_died_has_another_job_for_its_next_slot(self, app: Flask, tidying: Tidying) -> None:
        with unit_of_work():
            jobs.enqueue(KIND, {}, key=jobs.periodic_key(KIND), max_attempts=1)
            jobs.claim_job([KIND])

        with time_machine.travel(SLOT, tick=False):
            Worker(tidying.tasks, app.app_context).drain()

        assert [(status, due_at) for status, _, due_at in rows()][1:] == [("queued", SLOT + HOUR)]
        assert rows()[0][0] == JobStatus.FAILED

    def test_that_is_gone_is_queued_again_after_a_while(
        self, tidying: Tidying, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seconds = 0.0
        monkeypatch.setattr("time.monotonic", lambda: seconds)
        scheduler = Scheduler(tidying.tasks)
        scheduler.tick()
        with unit_of_work():
            db.session.execute(db.delete(Job))

        seconds = ENSURE_SECONDS - 1
        scheduler.tick()
        before = rows()
        seconds = ENSURE_SECONDS
        scheduler.tick()

        assert (before, rows()) == ([], [("queued", None, SLOT)])

    def test_may_run_before_its_next_slot_where_it_says_so(self, app: Flask) -> None:
        def run(claim: Claim) -> Generator[None, None, datetime]:
            yield from ()
            return NOW + timedelta(minutes=7)

        with unit_of_work():
            jobs.enqueue(KIND, {})
        Worker({KIND: Task(run, every=HOUR)}, app.app_context).drain()

        assert rows() == [("queued", None, NOW + timedelta(minutes=7))]


class TestSource:
    def test_is_called_at_each_tick(self) -> None:
        calls: list[int] = []
        scheduler = Scheduler({}, [lambda: calls.append(1)])

        scheduler.tick()
        scheduler.tick()

        assert calls == [1, 1]

    @pytest.mark.parametrize(
        "failure", [ZeroDivisionError(), OperationalError("SELECT", {}, Exception("gone"))], ids=["bug", "database"]
    )
    def test_that_fails_is_logged_and_stops_nothing(self, tidying: Tidying, failure: Exception) -> None:
        calls: list[int] = []

        def fail() -> None:
            raise failure

        with capture_logs() as logs:
            Scheduler(tidying.tasks, [fail, lambda: calls.append(1)]).tick()

        assert [(line["event"], line["source"].rpartition(".")[2]) for line in logs] == [("source_failed", "fail")]
        assert calls == [1]
        assert rows() == [("queued", None, SLOT)]
