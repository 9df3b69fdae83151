"""The table of jobs: who gets one, how long they keep it, and how it ends."""

from collections.abc import Callable, Generator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from flask import Flask
from structlog.contextvars import clear_contextvars, merge_contextvars
from structlog.testing import capture_logs

from app.core import clock, jobs
from app.core.jobs import Claim, Job, JobFailed, JobStatus, LeaseLost, Task, TransientFailure
from app.core.metrics import JOB_DURATION
from app.core.transactions import unit_of_work
from app.core.worker import Worker
from app.extensions import db
from app.web.logs import set_up_logs
from tests.counting import counter_of

KIND = "count"
LATER = timedelta(seconds=jobs.LEASE_SECONDS + 1)
AGAIN = datetime(2099, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def context(app: Flask) -> Iterator[None]:
    with app.app_context():
        yield


def order(*, max_attempts: int = jobs.MAX_ATTEMPTS) -> int:
    with unit_of_work():
        return jobs.enqueue(KIND, {"to": 3}, max_attempts=max_attempts).id


def claim() -> Claim | None:
    with unit_of_work():
        return jobs.claim_job([KIND])


def claimed() -> Claim:
    got = claim()
    assert got is not None
    return got


def advance(held: Claim, count: int) -> None:
    with unit_of_work():
        jobs.advance(held, {"count": count})


def look(job_id: int) -> Job:
    with unit_of_work(reading=True):
        job = db.session.get(Job, job_id)
        assert job is not None
        db.session.expunge(job)
    return job


class TestEnqueue:
    def test_is_part_of_the_transaction(self) -> None:
        with unit_of_work():
            jobs.enqueue(KIND, {})
            db.session.rollback()

        assert claim() is None

    def test_for_later_is_not_due_before(self) -> None:
        later = clock.now() + timedelta(minutes=5)
        with unit_of_work():
            job_id = jobs.enqueue(KIND, {}, due_at=later).id

        assert claim() is None
        with time_machine.travel(later):
            assert claimed().job_id == job_id

    def test_with_a_key_that_is_open_returns_the_open_job_and_changes_nothing(self) -> None:
        with unit_of_work():
            first = jobs.enqueue(KIND, {"to": 3}, key="a").id
        before = look(first)

        with unit_of_work():
            again = jobs.enqueue("another", {"to": 4}, key="a", due_at=clock.now() + LATER, max_attempts=9)
            other = jobs.enqueue(KIND, {"to": 5}, key="b").id
        advance(claimed(), 1)
        with unit_of_work():
            while_running = jobs.enqueue(KIND, {"to": 6}, key="a").id

        assert (again.id, again.payload, while_running) == (first, {"to": 3}, first)
        assert other != first
        assert (look(first).kind, look(first).max_attempts) == (before.kind, before.max_attempts)

    def test_with_the_key_of_a_job_that_has_ended_adds_one(self) -> None:
        with unit_of_work():
            first = jobs.enqueue(KIND, {}, key="a").id
        with unit_of_work():
            jobs.cancel(first)
            second = jobs.enqueue(KIND, {}, key="a").id

        assert second != first
        assert look(first).status == JobStatus.CANCELLED
        assert claimed().job_id == second

    @pytest.mark.parametrize("length", [0, jobs.MAX_KEY_LENGTH + 1])
    def test_refuses_a_key_that_does_not_fit(self, length: int) -> None:
        with unit_of_work(), pytest.raises(ValueError, match="1 to 64 characters"):
            jobs.enqueue(KIND, {}, key="a" * length)

        assert claim() is None


class TestWake:
    def test_makes_a_job_due_that_is_queued_for_later(self) -> None:
        with unit_of_work():
            late, other = (jobs.enqueue(KIND, {}, due_at=clock.now() + LATER).id for _ in range(2))

        with unit_of_work():
            assert jobs.wake([late]) == 1
        with unit_of_work():
            assert jobs.wake(db.select(Job.id).where(Job.id == late)) == 0

        assert claimed().job_id == late
        assert claim() is None
        with unit_of_work():
            assert jobs.wake(db.select(Job.id).where(Job.id == other)) == 1

    def test_leaves_alone_what_runs_waits_for_its_retry_or_has_ended(self) -> None:
        running, retried, ended = order(), order(), order()
        claimed()
        held = claimed()
        with unit_of_work():
            jobs.retry(held, "no answer")
            jobs.cancel(ended)
        before = [look(job_id).due_at for job_id in (running, retried, ended)]

        with unit_of_work():
            assert jobs.wake([running, retried, ended]) == 0

        assert [look(job_id).due_at for job_id in (running, retried, ended)] == before


class TestClaim:
    def test_gets_the_job_as_it_was_ordered(self) -> None:
        job_id = order()

        held = claimed()

        assert (held.job_id, held.kind, held.payload, held.progress, held.attempts) == (job_id, KIND, {"to": 3}, {}, 1)
        assert look(job_id).status == JobStatus.RUNNING

    def test_gets_the_one_that_has_waited_longest(self) -> None:
        first, second = order(), order()

        assert [claimed().job_id, claimed().job_id] == [first, second]

    def test_gets_nothing_that_another_holds(self) -> None:
        order()
        claimed()

        assert claim() is None

    def test_gets_nothing_of_a_kind_that_it_does_not_know(self) -> None:
        order()

        with unit_of_work():
            assert jobs.claim_job(["another"]) is None

    def test_gets_what_somebody_left_behind_with_its_progress(self) -> None:
        order()
        dead = claimed()
        advance(dead, 2)

        with time_machine.travel(clock.now() + LATER):
            heir = claimed()

        assert (heir.job_id, heir.progress) == (dead.job_id, {"count": 2})
        assert heir.lease != dead.lease

    def test_gets_no_job_whose_last_attempt_was_somebody_elses(self) -> None:
        job_id = order(max_attempts=1)
        claimed()

        with time_machine.travel(clock.now() + LATER):
            assert claim() is None
            with unit_of_work():
                assert jobs.fail_exhausted_jobs([KIND]) == [(job_id, KIND)]

        assert look(job_id).status == JobStatus.FAILED
        assert look(job_id).error


DEEDS: dict[str, Callable[[Claim], None]] = {
    "advance": lambda held: jobs.advance(held, {"count": 9}),
    "finish": jobs.finish,
    "queue again": lambda held: jobs.queue_again(held, clock.now()),
    "release": jobs.release,
}


class TestLease:
    def test_is_renewed_by_progress(self) -> None:
        order()
        held = claimed()

        with time_machine.travel(clock.now() + timedelta(seconds=jobs.LEASE_SECONDS - 1)):
            advance(held, 1)
        with time_machine.travel(clock.now() + LATER):
            assert claim() is None

    @pytest.mark.parametrize("deed", DEEDS.values(), ids=DEEDS)
    def test_that_another_has_now_allows_nothing(self, deed: Callable[[Claim], None]) -> None:
        job_id = order()
        late = claimed()
        with time_machine.travel(clock.now() + LATER):
            advance(claimed(), 5)

        with pytest.raises(LeaseLost), unit_of_work():
            deed(late)

        assert (look(job_id).status, look(job_id).progress) == (JobStatus.RUNNING, {"count": 5})

    def test_of_a_cancelled_job_is_lost(self) -> None:
        job_id = order()
        held = claimed()
        with unit_of_work():
            assert jobs.cancel(job_id)

        with pytest.raises(LeaseLost):
            advance(held, 1)

    def test_does_not_hold_where_the_job_stands_further_on(self) -> None:
        order()
        held = claimed()
        advance(held, 1)

        with unit_of_work(reading=True):
            jobs.confirm(held, {"count": 1})
        with pytest.raises(LeaseLost), unit_of_work(reading=True):
            jobs.confirm(held, {})


class TestCancel:
    def test_takes_the_job_from_everybody(self) -> None:
        job_id = order()

        with unit_of_work():
            assert jobs.cancel(job_id)

        assert claim() is None
        assert look(job_id).status == JobStatus.CANCELLED

    def test_does_nothing_to_a_job_that_has_ended(self) -> None:
        job_id = order()
        with unit_of_work():
            jobs.finish(claimed())

        with unit_of_work():
            assert not jobs.cancel(job_id)

        assert look(job_id).status == JobStatus.SUCCEEDED


class Counting:
    """A task that counts to what it was told, and can be made to fail or to be interrupted."""

    def __init__(self) -> None:
        self.counted: list[int] = []
        self.ended: list[int] = []
        self.failure: Exception | None = None
        self.stopped = False

    def run(self, held: Claim) -> Generator[None, None, None]:
        for count in range(held.progress.get("count", 0), held.payload["to"]):
            if self.failure:
                raise self.failure
            advance(held, count + 1)
            self.counted.append(count + 1)
            yield

    def worker(self, app: Flask) -> Worker:
        return Worker({KIND: Task(self.run, self.ended.append)}, app.app_context, stop=lambda: self.stopped)


@pytest.fixture
def counting() -> Counting:
    return Counting()


class TestWorker:
    def test_does_what_is_due(self, app: Flask, counting: Counting) -> None:
        first, second = order(), order()

        assert counting.worker(app).drain() == 2

        assert counting.counted == [1, 2, 3, 1, 2, 3]
        assert counting.ended == [first, second]
        assert look(second).status == JobStatus.SUCCEEDED
        assert look(second).finished_at is not None

    def test_counts_runs_by_what_became_of_the_job(self, app: Flask, counting: Counting) -> None:
        grown = counter_of(JOB_DURATION)
        order()
        counting.worker(app).drain()
        order(max_attempts=2)
        counting.failure = ZeroDivisionError()
        counting.worker(app).drain()
        with time_machine.travel(clock.now() + LATER, tick=True):
            counting.worker(app).drain()

        assert grown() == {(KIND, "succeeded"): 1, (KIND, "queued"): 1, (KIND, "failed"): 1}

    def test_goes_on_where_another_died(self, app: Flask, counting: Counting) -> None:
        order()
        advance(claimed(), 2)

        with time_machine.travel(clock.now() + LATER, tick=True):
            counting.worker(app).drain()

        assert counting.counted == [3]

    def test_gives_a_job_back_when_told_to_stop(self, app: Flask, counting: Counting) -> None:
        job_id = order()
        counting.stopped = True
        worker = Worker(
            {KIND: Task(counting.run, counting.ended.append)}, app.app_context, stop=lambda: bool(counting.counted)
        )

        worker.drain()

        assert counting.counted == [1]
        assert counting.ended == []
        job = look(job_id)
        assert (job.status, job.progress, job.attempts) == (JobStatus.QUEUED, {"count": 1}, 0)

    def test_tries_again_later_what_failed(self, app: Flask, counting: Counting) -> None:
        job_id = order()
        counting.failure = ZeroDivisionError("secret")

        counting.worker(app).drain()
        failed = look(job_id)
        counting.failure = None
        with time_machine.travel(clock.now() + timedelta(seconds=5), tick=True):
            counting.worker(app).drain()

        assert (failed.status, failed.attempts) == (JobStatus.QUEUED, 1)
        assert failed.due_at > failed.created_at + timedelta(seconds=0.9)
        assert failed.error == "It failed unexpectedly (ZeroDivisionError)."
        assert look(job_id).status == JobStatus.SUCCEEDED
        assert look(job_id).error is None

    @pytest.mark.parametrize("failure", [ZeroDivisionError(), TransientFailure("no answer")], ids=repr)
    def test_gives_up_after_the_last_attempt(self, app: Flask, counting: Counting, failure: Exception) -> None:
        job_id = order(max_attempts=3)
        counting.failure = failure

        for number in range(6):
            with time_machine.travel(clock.now() + timedelta(hours=number), tick=True):
                counting.worker(app).drain()

        assert (look(job_id).status, look(job_id).attempts) == (JobStatus.FAILED, 3)
        assert counting.ended == [job_id]

    def test_says_why_it_tries_again(self, app: Flask, counting: Counting) -> None:
        job_id = order()
        counting.failure = TransientFailure("no answer")

        with capture_logs() as logs:
            counting.worker(app).drain()

        assert (look(job_id).status, look(job_id).error) == (JobStatus.QUEUED, "no answer")
        assert counting.ended == []
        assert logs == []

    def test_does_not_try_again_what_cannot_succeed(self, app: Flask, counting: Counting) -> None:
        job_id = order()
        counting.failure = JobFailed("no such file")

        counting.worker(app).drain()

        assert (look(job_id).status, look(job_id).error) == (JobStatus.FAILED, "no such file")
        assert counting.ended == [job_id]

    def test_clears_away_what_died_with_its_last_worker(self, app: Flask, counting: Counting) -> None:
        job_id = order(max_attempts=1)
        claimed()

        with time_machine.travel(clock.now() + LATER, tick=True):
            counting.worker(app).drain()

        assert look(job_id).status == JobStatus.FAILED
        assert counting.ended == [job_id]

    @pytest.mark.parametrize(
        ("failure", "status"),
        [
            (None, "succeeded"),
            (JobFailed("no such file"), "failed"),
            (TransientFailure("no answer"), "queued"),
            (ZeroDivisionError(), "queued"),
        ],
        ids=repr,
    )
    def test_logs_the_begin_and_the_end_of_each_job(
        self, app: Flask, counting: Counting, failure: Exception | None, status: str
    ) -> None:
        clear_contextvars()
        job_id = order()
        counting.failure = failure
        set_up_logs(level="INFO", as_json=False)

        with capture_logs(processors=[merge_contextvars]) as logs:
            counting.worker(app).drain()

        begin, *_, end = logs
        expected = {"job_id": job_id, "kind": KIND, "log_level": "info"}
        assert begin == {"event": "job_started", "attempt": 1, **expected}
        assert end.pop("seconds") >= 0
        assert end == {"event": "job_ended", "status": status, **expected}

    def test_logs_the_end_of_a_job_whose_last_worker_died(self, app: Flask, counting: Counting) -> None:
        job_id = order(max_attempts=1)
        claimed()

        with time_machine.travel(clock.now() + LATER, tick=True), capture_logs() as logs:
            counting.worker(app).drain()

        assert [(line["event"], line["job_id"], line["status"]) for line in logs] == [("job_ended", job_id, "failed")]

    def test_loses_the_step_at_which_its_job_was_cancelled(self, app: Flask, counting: Counting) -> None:
        job_id = order()

        def run(held: Claim) -> Generator[None, None, None]:
            for step in counting.run(held):
                yield step
                with unit_of_work():
                    jobs.cancel(job_id)

        Worker({KIND: Task(run, counting.ended.append)}, app.app_context).drain()

        assert counting.counted == [1]
        assert (look(job_id).status, look(job_id).progress) == (JobStatus.CANCELLED, {"count": 1})


class TestLastingJob:
    """One whose task returns when it is to run again."""

    def run(self, held: Claim) -> Generator[None, None, datetime]:
        advance(held, held.progress.get("count", 0) + 1)
        yield
        return AGAIN if clock.now() < AGAIN else AGAIN + LATER

    def test_is_queued_for_the_moment_that_its_task_returns(self, app: Flask) -> None:
        job_id, ended = order(), list[int]()
        worker = Worker({KIND: Task(self.run, ended.append)}, app.app_context)

        assert worker.drain() == 1
        first = look(job_id)
        with time_machine.travel(AGAIN, tick=True):
            assert worker.drain() == 1
        second = look(job_id)

        assert (first.status, first.attempts, first.progress, first.due_at) == ("queued", 0, {"count": 1}, AGAIN)
        assert (second.status, second.attempts, second.progress) == ("queued", 0, {"count": 2})
        times = [first.started_at, first.finished_at, second.started_at, second.finished_at]
        assert times == sorted(moment for moment in times if moment is not None)
        assert times[1] != times[3]
        assert ended == []

    def test_forgets_why_an_earlier_run_failed(self, app: Flask) -> None:
        job_id = order()
        with unit_of_work():
            jobs.retry(claimed(), "no answer")

        with time_machine.travel(clock.now() + timedelta(seconds=5), tick=True):
            Worker({KIND: Task(self.run)}, app.app_context).drain()

        assert look(job_id).error is None

    def test_that_was_cancelled_meanwhile_stays_cancelled(self, app: Flask) -> None:
        job_id = order()

        def run(held: Claim) -> Generator[None, None, datetime]:
            yield
            with unit_of_work():
                jobs.cancel(job_id)
            return AGAIN

        Worker({KIND: Task(run)}, app.app_context).drain()

        assert look(job_id).status == JobStatus.CANCELLED

    def test_is_not_pruned_while_it_waits(self, app: Flask) -> None:
        job_id = order()
        Worker({KIND: Task(self.run)}, app.app_context).drain()

        with unit_of_work():
            assert jobs.prune_jobs(before=clock.now() + LATER) == 0
            jobs.cancel(job_id)
            assert jobs.prune_jobs(before=clock.now() + LATER) == 1


def waits(attempts: int, monkeypatch: pytest.MonkeyPatch, spread: float) -> float:
    monkeypatch.setattr("random.uniform", lambda _least, _most: spread)
    job_id = order(max_attempts=100)
    with unit_of_work():
        held: Any = claimed()
    with time_machine.travel(clock.now(), tick=False), unit_of_work():
        before = clock.now()
        jobs.retry(Claim(**{**vars(held), "attempts": attempts}), "again")
    return (look(job_id).due_at - before).total_seconds()


class TestRetry:
    @pytest.mark.parametrize(("attempts", "seconds"), [(1, 2), (2, 4), (5, 32), (50, jobs.MAX_RETRY_DELAY)])
    def test_waits_longer_each_time(self, attempts: int, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
        assert waits(attempts, monkeypatch, 1) == seconds

    def test_spreads_the_waits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert waits(3, monkeypatch, 0.5) == 4
