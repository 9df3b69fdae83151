"""A step that takes longer than its lease: renewed while it runs, and given up when it hangs."""

import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest
from flask import Flask
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from app.core import jobs
from app.core.jobs import Claim, Job, JobStatus, Task
from app.core.leases import Heartbeat
from app.core.transactions import unit_of_work
from app.core.worker import Worker
from app.extensions import db
from app.web.logs import set_up_logs
from tests.live.wire import PATIENCE, wait_for

KIND, LEASE = "long", 1


class LongStep:
    """A task of one step that goes on until it may end."""

    def __init__(self) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.tasks = {KIND: Task(self.run)}

    def run(self, claim: Claim) -> Generator[None, None, None]:
        self.begun.set()
        assert self.may_end.wait(PATIENCE)
        with unit_of_work():
            jobs.advance(claim, {"by": claim.attempts})
        yield


@pytest.fixture
def step() -> LongStep:
    return LongStep()


@pytest.fixture
def job_id(app: Flask) -> int:
    with app.app_context(), unit_of_work():
        return jobs.enqueue(KIND, {}).id


@pytest.fixture
def look(app: Flask, job_id: int) -> Callable[[], Job]:
    def look() -> Job:
        with app.app_context(), unit_of_work(reading=True):
            job = db.session.get(Job, job_id)
            assert job is not None
            db.session.expunge(job)
        return job

    return look


def run_beside(
    app: Flask, step: LongStep, meanwhile: Callable[[], None], *, max_step: float = PATIENCE
) -> tuple[int, list[str]]:
    """Run the job with a heartbeat, call ``meanwhile`` during its step, and let it end; what ran, and was logged."""
    set_up_logs(level="INFO", as_json=False)
    with (
        capture_logs() as logs,
        Heartbeat(app.app_context, lease=LEASE, max_step=max_step) as heartbeat,
        ThreadPoolExecutor(1) as threads,
    ):
        worker = Worker(step.tasks, app.app_context, lease=LEASE, heartbeat=heartbeat)
        work = threads.submit(worker.drain)
        try:
            assert step.begun.wait(PATIENCE)
            meanwhile()
        finally:
            step.may_end.set()
        return work.result(PATIENCE), [line["event"] for line in logs]


def test_is_renewed_while_the_step_runs(app: Flask, step: LongStep, look: Callable[[], Job]) -> None:
    due: set[datetime] = set()

    def wait_for_renewals() -> None:
        wait_for(lambda: due.add(look().due_at), until=lambda _: len(due) > 4)
        with app.app_context():
            assert Worker(step.tasks, app.app_context).drain() == 0

    assert run_beside(app, step, wait_for_renewals)[0] == 1

    assert (look().status, look().attempts, look().progress) == (JobStatus.SUCCEEDED, 1, {"by": 1})


def test_is_renewed_after_a_renewal_that_failed(
    app: Flask, step: LongStep, look: Callable[[], Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    renew, failures, due = jobs.renew, list[int](), set[datetime]()

    def fail_at_first(claims: list[Claim]) -> None:
        if not failures:
            failures.append(1)
            raise OperationalError("UPDATE", {}, Exception("gone"))
        renew(claims)

    monkeypatch.setattr(jobs, "renew", fail_at_first)

    _, logged = run_beside(app, step, lambda: wait_for(lambda: due.add(look().due_at), until=lambda _: len(due) > 2))

    assert "renewal_failed" in logged
    assert look().status == JobStatus.SUCCEEDED


def test_of_a_step_that_hangs_is_taken_over(app: Flask, step: LongStep, look: Callable[[], Job]) -> None:
    heir: list[Claim] = []

    def take_over() -> None:
        def claim() -> Claim | None:
            with app.app_context(), unit_of_work():
                return jobs.claim_job([KIND])

        heir.extend(filter(None, [wait_for(claim)]))

    _, logged = run_beside(app, step, take_over, max_step=0.5)

    assert (heir[0].attempts, logged.count("job_hangs"), logged.count("job_left")) == (2, 1, 1)
    # What the first one did at last is rolled back.
    assert (look().status, look().progress) == (JobStatus.RUNNING, {})


def test_of_a_job_that_another_has_is_not_renewed(app: Flask, look: Callable[[], Job]) -> None:
    with app.app_context(), unit_of_work():
        mine = jobs.claim_job([KIND], seconds=LEASE)
        assert mine is not None
        jobs.release(mine)
    with app.app_context(), unit_of_work():
        other = jobs.claim_job([KIND])
    before = look().due_at

    with app.app_context(), unit_of_work():
        jobs.renew([mine])

    assert other is not None
    assert look().due_at == before


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_does_not_wait_for_a_step_that_is_being_committed(app: Flask, look: Callable[[], Job]) -> None:
    with app.app_context(), unit_of_work():
        claim = jobs.claim_job([KIND], seconds=LEASE)
    assert claim is not None
    with app.app_context(), unit_of_work():
        jobs.advance(claim, {"by": 1})
        with ThreadPoolExecutor(1) as threads:

            def renew() -> None:
                with app.app_context(), unit_of_work():
                    jobs.renew([claim])

            # It would wait for the lock until PostgreSQL's lock_timeout ends it with an error.
            threads.submit(renew).result(PATIENCE)

    assert look().progress == {"by": 1}
