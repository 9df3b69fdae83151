"""The threads of a worker process: how many jobs run at once, what wakes them, and how they stop."""

import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from flask import Flask
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from app.api.tasks import LANES
from app.core import jobs, lanes
from app.core.jobs import Claim, Job, JobFailed, JobStatus, Task
from app.core.lanes import Crew
from app.core.scheduling import Source
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.imports.service import KIND as IMPORT
from app.features.passwords.service import KIND as PASSWORD_RESET
from app.features.webhooks.service import DELIVER as WEBHOOK
from tests.live.wire import PATIENCE, wait_for

FAST, SLOW = "fast", "slow"


class Work:
    """Jobs that note that they run; those of the kind ``slow`` go on until they may end."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.may_end = threading.Event()

    def run(self, claim: Claim) -> Generator[None, None, None]:
        yield from ()
        self.begun.append(claim.kind)
        if claim.kind == SLOW:
            assert self.may_end.wait(PATIENCE)

    @property
    def lanes(self) -> dict[str, dict[str, Task]]:
        return {"one": {FAST: Task(self.run)}, "two": {SLOW: Task(self.run)}}


@pytest.fixture
def work() -> Iterator[Work]:
    work = Work()
    yield work
    work.may_end.set()


@contextmanager
def running(
    app: Flask, tasks: dict[str, dict[str, Task]], *, concurrency: int = 1, sources: tuple[Source, ...] = ()
) -> Iterator[None]:
    """A crew at work for the length of a block."""
    over = threading.Event()
    crew = Crew(tasks, app.app_context, concurrency=concurrency, sources=sources, stop=over.is_set)
    with ThreadPoolExecutor(1) as threads:
        at_work = threads.submit(crew.run, over.wait)
        try:
            yield
        finally:
            over.set()
            assert at_work.result(PATIENCE)


@pytest.fixture
def order(app: Flask) -> Callable[..., None]:
    def order(kind: str, number: int = 1) -> None:
        with app.app_context(), unit_of_work():
            for _ in range(number):
                jobs.enqueue(kind, {})

    return order


def count(app: Flask, status: JobStatus) -> int:
    with app.app_context(), unit_of_work(reading=True):
        return db.session.scalar(db.select(db.func.count()).select_from(Job).where(Job.status == status)) or 0


class TestLanesOfTheApplication:
    def test_let_no_letter_and_no_import_wait_for_endpoints_that_hang(
        self, app: Flask, order: Callable[..., None]
    ) -> None:
        begun: list[str] = []
        may_end = threading.Event()

        def run(claim: Claim) -> Generator[None, None, None]:
            yield from ()
            begun.append(claim.kind)
            if claim.kind == WEBHOOK:
                assert may_end.wait(PATIENCE)

        all_lanes = {name: {kind: Task(run) for kind in lane} for name, lane in LANES.items()}
        order(WEBHOOK, 3)
        with running(app, all_lanes):
            try:
                wait_for(lambda: begun == [WEBHOOK])
                order(PASSWORD_RESET)
                order(IMPORT)
                wait_for(lambda: sorted(begun) == sorted([WEBHOOK, PASSWORD_RESET, IMPORT]))
            finally:
                may_end.set()
            wait_for(lambda: count(app, JobStatus.SUCCEEDED) == 5)


class TestLanes:
    def test_run_as_many_jobs_at_once_as_they_have_threads(
        self, app: Flask, work: Work, order: Callable[..., None]
    ) -> None:
        order(SLOW, 5)

        with running(app, work.lanes, concurrency=3):
            wait_for(lambda: len(work.begun) == 3)
            at_once = count(app, JobStatus.RUNNING), count(app, JobStatus.QUEUED)
            work.may_end.set()
            wait_for(lambda: count(app, JobStatus.SUCCEEDED) == 5)

        assert at_once == (3, 2)

    def test_do_not_wait_for_each_other(self, app: Flask, work: Work, order: Callable[..., None]) -> None:
        order(SLOW, 2)
        order(FAST, 3)

        with running(app, work.lanes):
            wait_for(lambda: count(app, JobStatus.SUCCEEDED) == 3 and SLOW in work.begun)
            seen = work.begun.count(SLOW), count(app, JobStatus.QUEUED)
            work.may_end.set()

        assert seen == (1, 1)

    def test_find_what_comes_later(self, app: Flask, work: Work, order: Callable[..., None]) -> None:
        with running(app, work.lanes, concurrency=2):
            order(FAST)
            wait_for(lambda: count(app, JobStatus.SUCCEEDED) == 1)
            order(FAST)
            wait_for(lambda: count(app, JobStatus.SUCCEEDED) == 2)

    def test_survive_a_database_that_is_away(
        self, app: Flask, work: Work, order: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lanes, "POLL_INTERVAL", 0.01)
        has_due_jobs, failures = jobs.has_due_jobs, list[int]()

        def fail(kinds: object) -> bool:
            failures.append(1)
            raise OperationalError("SELECT", {}, Exception("gone"))

        monkeypatch.setattr(jobs, "has_due_jobs", fail)
        order(FAST)

        with capture_logs() as logs, running(app, work.lanes):
            wait_for(lambda: len(failures) > 3)
            monkeypatch.setattr(jobs, "has_due_jobs", has_due_jobs)
            wait_for(lambda: count(app, JobStatus.SUCCEEDED) == 1)

        assert {line["event"] for line in logs if line["log_level"] == "warning"} == {"polling_failed"}

    def test_survive_a_bug(self, app: Flask, order: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lanes, "POLL_INTERVAL", 0.01)
        ended: list[int] = []

        def run(claim: Claim) -> Generator[None, None, None]:
            yield from ()
            raise JobFailed("no such file")

        def end(job_id: int) -> None:
            ended.append(job_id)
            if len(ended) == 1:
                raise ZeroDivisionError  # the transaction that would have ended the job is rolled back

        order(FAST, 2)

        with capture_logs() as logs, running(app, {"one": {FAST: Task(run, end)}}):
            wait_for(lambda: count(app, JobStatus.FAILED) == 1)

        assert "lane_failed" in {line["event"] for line in logs}

    def test_call_the_sources_before_they_look_for_jobs(self, app: Flask, work: Work) -> None:
        def enqueue() -> None:
            with unit_of_work():
                jobs.enqueue(FAST, {}, key="one")

        with running(app, work.lanes, sources=(enqueue,)):
            wait_for(lambda: count(app, JobStatus.SUCCEEDED) >= 2)
