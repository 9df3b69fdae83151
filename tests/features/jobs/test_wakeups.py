"""What ends a worker's pause: a commit that notifies, on a connection that may be lost."""

import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text
from structlog.testing import capture_logs

from app.core import clock, jobs, lanes, wakeups
from app.core.jobs import Claim, Job, JobStatus, Task
from app.core.lanes import Crew
from app.core.transactions import unit_of_work
from app.core.wakeups import Alarm, Listener
from app.extensions import db
from app.web.logs import set_up_logs
from tests.conftest import Caller
from tests.live.wire import PATIENCE, wait_for

KIND = "nothing"
LISTENERS = "FROM pg_stat_activity WHERE query LIKE 'LISTEN %' AND datname = current_database()"


def do_nothing(_claim: Claim) -> Generator[None, None, None]:
    yield from ()


def enqueue(app: Flask, **options: Any) -> int:
    with app.app_context(), unit_of_work():
        return jobs.enqueue(KIND, {}, **options).id


def status_of(app: Flask, job_id: int) -> JobStatus:
    with app.app_context(), unit_of_work(reading=True):
        job = db.session.get(Job, job_id)
        assert job is not None
        return job.status


def scalar(app: Flask, statement: str) -> Any:
    with app.app_context(), unit_of_work(reading=True):
        return db.session.scalar(text(statement))


class TestAlarm:
    def test_that_rang_before_ends_the_wait_once(self) -> None:
        alarm = Alarm()
        alarm.ring()
        alarm.ring()

        started = time.monotonic()
        alarm.wait(PATIENCE)
        first = time.monotonic() - started
        alarm.wait(0.05)

        assert first < PATIENCE
        assert time.monotonic() - started >= 0.05

    def test_rings_in_another_thread(self) -> None:
        alarm = Alarm()

        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(alarm.wait, 10 * PATIENCE)
            alarm.ring()

            waiting.result(PATIENCE)


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
class TestListener:
    @pytest.fixture
    def notes(self, app: Flask) -> Iterator[list[float]]:
        """When a listener was woken; the first time is when it begins to listen."""
        notes: list[float] = []
        with Listener(app.app_context, lambda: notes.append(time.monotonic())):
            wait_for(lambda: notes)
            yield notes

    def test_is_woken_by_a_commit_with_a_job(self, app: Flask, notes: list[float]) -> None:
        enqueue(app)
        wait_for(lambda: len(notes) == 2)
        enqueue(app)
        wait_for(lambda: len(notes) == 3)

    def test_is_not_woken_by_anything_else(self, app: Flask, notes: list[float], alice: Caller) -> None:
        with app.app_context(), unit_of_work():
            jobs.enqueue(KIND, {})
            db.session.rollback()
        late = enqueue(app, due_at=clock.now() + timedelta(hours=1), key="late")
        enqueue(app, key="late")
        assert alice.post("/categories", {"name": "Chairs"}).status_code == 201

        with app.app_context(), unit_of_work():
            jobs.wake([late])
        wait_for(lambda: len(notes) > 1)

        # Messages come in the order of the commits.
        assert len(notes) == 2

    def test_listens_again_after_its_connection_was_lost(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(wakeups, "MIN_BACKOFF", 0.05)
        notes: list[int] = []
        set_up_logs(level="INFO", as_json=False)

        with capture_logs() as logs, Listener(app.app_context, lambda: notes.append(1)):
            wait_for(lambda: notes)
            assert scalar(app, f"SELECT count(pg_terminate_backend(pid)) {LISTENERS}") == 1
            # It looks for what was committed while it did not listen.
            wait_for(lambda: len(notes) == 2)
            enqueue(app)
            wait_for(lambda: len(notes) == 3)

        assert [line["event"] for line in logs] == ["listening_failed", "listening_again"]

    def test_gives_its_connection_up_at_the_end(self, app: Flask) -> None:
        with Listener(app.app_context, lambda: None):
            wait_for(lambda: scalar(app, f"SELECT count(*) {LISTENERS}") == 1)

        wait_for(lambda: scalar(app, f"SELECT count(*) {LISTENERS}") == 0)

    def test_lets_a_crew_run_a_job_before_it_polls(self, app: Flask, at_work: Callable[..., Any]) -> None:
        with at_work():
            job_id = enqueue(app)
            wait_for(lambda: status_of(app, job_id) == JobStatus.SUCCEEDED)

    @pytest.fixture
    def at_work(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
        """A crew that polls once, and then when it is woken."""
        monkeypatch.setattr(lanes, "POLL_INTERVAL", 10 * PATIENCE)

        @contextmanager
        def at_work() -> Iterator[None]:
            alarm, is_over, polls = Alarm(), list[bool](), list[int]()

            def pause(seconds: float) -> None:
                polls.append(1)
                alarm.wait(seconds)

            crew = Crew({"one": {KIND: Task(do_nothing)}}, app.app_context, stop=lambda: bool(is_over))
            with ThreadPoolExecutor(1) as threads, Listener(app.app_context, alarm.ring):
                running = threads.submit(crew.run, pause)
                # The first poll, and that for what was committed before it listened.
                wait_for(lambda: len(polls) >= 2)
                try:
                    yield
                finally:
                    is_over.append(True)
                    alarm.ring()
                    assert running.result(PATIENCE)

        return at_work
