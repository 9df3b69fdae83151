"""A worker: claims jobs and runs them, one after the other, until it is stopped."""

import logging
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, closing
from datetime import datetime
from typing import Any

import structlog

from app.core import jobs, tracing
from app.core.jobs import Claim, JobFailed, JobStatus, LeaseLost, Task, TransientFailure
from app.core.leases import Heartbeat
from app.core.metrics import JOB_DURATION
from app.core.tracing import Kind, read_trace
from app.core.transactions import unit_of_work

log = structlog.get_logger(__name__)


class Worker:
    """Runs jobs of the kinds that it knows, each within a context of the application.

    Once ``stop`` returns true it finishes the current step, releases the job and returns. After ``lease`` seconds of a
    step another worker takes its job over, unless a ``heartbeat`` that runs renews the lease meanwhile. ``level`` is
    that of the lines in the log which say that a job begins and ends. Thread-safe.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task],
        context: Callable[[], AbstractContextManager[object]],
        *,
        stop: Callable[[], bool] = lambda: False,
        lease: int = jobs.LEASE_SECONDS,
        heartbeat: Heartbeat | None = None,
        level: int = logging.INFO,
    ) -> None:
        self._level = level
        self._tasks, self._context, self._stop, self._lease = tasks, context, stop, lease
        self._heartbeat = heartbeat or Heartbeat(context, lease=lease)

    def is_stopped(self) -> bool:
        """Whether it takes no more jobs."""
        return self._stop()

    def drain(self) -> int:
        """Run the jobs that are due; their number."""
        done = 0
        while not self._stop() and self.work():
            done += 1
        return done

    def has_due_jobs(self) -> bool:
        """Whether there is a job for it; one read."""
        with self._context(), unit_of_work(reading=True):
            return jobs.has_due_jobs(self._tasks)

    def work(self, on_claim: Callable[[], object] = lambda: None) -> bool:
        """Run a job that is due, after calling ``on_claim``; False where none is."""
        with self._context():
            claim = self._claim()
            if claim is None:
                return False
            on_claim()
            self._perform(claim, self._tasks[claim.kind])
            return True

    def _claim(self) -> Claim | None:
        with unit_of_work(reading=True):
            if not jobs.has_due_jobs(self._tasks):
                return None
        with unit_of_work():
            exhausted = jobs.fail_exhausted_jobs(self._tasks)
            for job_id, kind in exhausted:
                jobs.after_end(job_id, kind, self._tasks[kind])
            claim = jobs.claim_job(self._tasks, seconds=self._lease)
        for job_id, kind in exhausted:
            log.warning("job_ended", job_id=job_id, kind=kind, status=JobStatus.FAILED.value, reason="its workers died")
        return claim

    def _perform(self, claim: Claim, task: Task) -> None:
        attributes = {"catalog.job.id": claim.job_id, "catalog.job.attempt": claim.attempts}
        parent = read_trace(claim.traceparent)
        with (
            structlog.contextvars.bound_contextvars(**_log_members(claim)),
            tracing.entry(f"job {claim.kind}", kind=Kind.CONSUMER, parent=parent, attributes=attributes) as span,
        ):
            started = time.monotonic()
            log.log(self._level, "job_started", attempt=claim.attempts)
            try:
                status = self._try(claim, task)
            except LeaseLost:
                span.note("catalog.job.status", "left")
                log.log(self._level, "job_left")
                return
            seconds = time.monotonic() - started
            JOB_DURATION.labels(claim.kind, status.value).observe(seconds)
            span.note("catalog.job.status", status.value)
            log.log(self._level, "job_ended", status=status.value, seconds=round(seconds, 3))

    def _try(self, claim: Claim, task: Task) -> JobStatus:
        """The status of the job afterwards; it is queued where another worker, or another attempt, goes on."""
        try:
            return self._run(claim, task)
        except LeaseLost:
            raise
        except JobFailed as failure:
            return self._end(claim, task, str(failure))
        except TransientFailure as failure:
            return self._end(claim, task, str(failure), can_retry=True)
        except Exception as error:  # whatever it is, the worker survives and the job is retried
            log.warning("job_failed", attempt=claim.attempts, exc_info=error)
            # Its message might quote the data of the job.
            return self._end(claim, task, f"It failed unexpectedly ({type(error).__name__}).", can_retry=True)

    def _run(self, claim: Claim, task: Task) -> JobStatus:
        with self._heartbeat.holding(claim) as note_step, closing(task.run(claim)) as steps:
            is_over, moment = _next_step(steps)
            while not is_over:
                if self._stop():
                    with unit_of_work():
                        jobs.release(claim)
                    return JobStatus.QUEUED
                note_step()
                is_over, moment = _next_step(steps)
        return self._complete(claim, task, moment or task.next_slot())

    @staticmethod
    def _complete(claim: Claim, task: Task, next_at: datetime | None) -> JobStatus:
        with unit_of_work():
            if next_at is not None:
                jobs.queue_again(claim, next_at)
                return JobStatus.QUEUED
            # The job's row first and then what belongs to it, as cancelling does: one order of locks, so no deadlock.
            jobs.finish(claim)
            jobs.after_end(claim.job_id, claim.kind, task)
        return JobStatus.SUCCEEDED

    @staticmethod
    def _end(claim: Claim, task: Task, error: str, *, can_retry: bool = False) -> JobStatus:
        with unit_of_work():
            if can_retry and not claim.is_last:
                jobs.retry(claim, error)
                return JobStatus.QUEUED
            jobs.fail(claim, error)
            jobs.after_end(claim.job_id, claim.kind, task)
        return JobStatus.FAILED


def _log_members(claim: Claim) -> dict[str, Any]:
    """What each log line of a run has: the job, and the request that has enqueued it."""
    of_request = {} if claim.request_id is None else {"request_id": claim.request_id}
    return {"job_id": claim.job_id, "kind": claim.kind, **of_request}


def _next_step(steps: Generator[None, None, datetime | None]) -> tuple[bool, datetime | None]:
    """Do a step; whether there was none left, and the moment that the run then returned."""
    try:
        next(steps)
    except StopIteration as end:
        return True, end.value
    return False, None
