"""Pruning beside other writers: small transactions, in an order that no reader of the feed misses anything by."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskCliRunner
from sqlalchemy import Engine, event, select, text, update

from app.api.pruning import EVERY, KIND
from app.api.tasks import TASKS
from app.core import clock, jobs
from app.core.changelog import MAX_AGE, LogRow
from app.core.jobs import Job, JobStatus
from app.core.pruning import ROWS_PER_BATCH
from app.core.transactions import unit_of_work
from app.core.worker import Worker
from app.extensions import db
from tests.conftest import Caller, body_of, code_of

Make = Callable[..., dict[str, Any]]

EVENTS = 20_000
OLD_EVENTS = text("""
    INSERT INTO change_events (created_at, type, resource_type, resource_id, row_version)
    WITH RECURSIVE numbers (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < :many)
    SELECT :created_at, 'product.updated', 'product', number, 1 FROM numbers
""").bindparams(many=EVENTS)
COUNT = text("SELECT count(*) FROM change_events")


@pytest.fixture
def cursor(app: Flask, root: Caller) -> str:
    """A position in the feed before a great many events that are too old to be kept."""
    cursor = body_of(root.get("/events?from=now"))["meta"]["next_cursor"]
    with app.app_context(), unit_of_work():
        db.session.execute(OLD_EVENTS, {"created_at": clock.now() - timedelta(days=60)})
    return str(cursor)


@contextmanager
def after_each(engine: Engine, statement: str, look: Callable[[int], None]) -> Iterator[None]:
    """Call ``look`` with the number of rows after each statement that begins so, within its transaction."""

    def note(_connection: object, cursor: Any, executed: str, *_: object) -> None:
        if executed.startswith(statement):
            look(cursor.rowcount)

    event.listen(engine, "after_cursor_execute", note)
    try:
        yield
    finally:
        event.remove(engine, "after_cursor_execute", note)


def engine_of(app: Flask) -> Engine:
    """The engine of an application."""
    with app.app_context():
        return db.engine


@pytest.mark.usefixtures("cursor")
def test_deletes_in_batches_that_hand_out_no_rows(app: Flask, runner: FlaskCliRunner) -> None:
    numbers: list[int] = []

    with after_each(engine_of(app), "DELETE FROM change_events", numbers.append):
        output = runner.invoke(args=["prune"]).output

    assert f"Deleted {EVENTS} events" in output
    assert max(numbers) <= ROWS_PER_BATCH
    # A DELETE with RETURNING has the number of rows that were fetched, and they are not.
    assert sum(numbers) == EVENTS


@pytest.mark.usefixtures("cursor")
def test_lets_others_write_meanwhile(app: Flask, runner: FlaskCliRunner, alice: Caller) -> None:
    written: list[int] = []

    def write() -> None:
        while not pruning.done():
            written.append(alice.post("/categories", {"name": f"Category {len(written)}"}).status_code)

    with ThreadPoolExecutor(1) as threads:
        pruning = threads.submit(runner.invoke, args=["prune"])
        write()

    assert pruning.result().exit_code == 0, pruning.result().output
    assert len(written) > 3
    assert set(written) == {201}


@pytest.mark.usefixtures("cursor")
@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_leaves_the_row_that_numbering_locks(app: Flask, runner: FlaskCliRunner) -> None:
    engine = engine_of(app)

    def lock(_number: int) -> None:
        with engine.connect() as other:
            other.execute(text("SELECT version FROM catalogue_state FOR UPDATE NOWAIT"))

    with after_each(engine, "DELETE FROM change_events", lock):
        pruned = runner.invoke(args=["prune"])

    assert pruned.exit_code == 0, pruned.output


def test_tells_readers_before_it_deletes(app: Flask, runner: FlaskCliRunner, root: Caller, cursor: str) -> None:
    answers: list[tuple[int, str]] = []

    def read(_number: int) -> None:
        # In a thread of its own, and so with a connection of its own.
        with ThreadPoolExecutor(1) as threads:
            answer = threads.submit(root.get, f"/events?cursor={cursor}").result()
        answers.append((answer.status_code, code_of(answer)))

    with after_each(engine_of(app), "DELETE FROM change_events", read):
        pruned = runner.invoke(args=["prune"])

    assert pruned.exit_code == 0, pruned.output
    assert set(answers) == {(410, "cursor_expired")}
    assert len(answers) == EVENTS // ROWS_PER_BATCH


def test_can_be_killed_and_run_again(app: Flask, runner: FlaskCliRunner, root: Caller, cursor: str) -> None:
    numbers: list[int] = []

    def kill(number: int) -> None:
        numbers.append(number)
        if len(numbers) == 3:
            raise KeyboardInterrupt

    with after_each(engine_of(app), "DELETE FROM change_events", kill):
        runner.invoke(args=["prune"])

    with app.app_context(), unit_of_work(reading=True):
        assert db.session.scalar(COUNT) == EVENTS - 2 * ROWS_PER_BATCH
    assert code_of(root.get(f"/events?cursor={cursor}")) == "cursor_expired"
    # Who starts anew does not begin within what is to go.
    assert body_of(root.get("/events"))["items"] == []

    assert runner.invoke(args=["prune"]).exit_code == 0
    with app.app_context(), unit_of_work(reading=True):
        assert db.session.scalar(COUNT) == 0


class TestPeriodicJob:
    @pytest.fixture(autouse=True)
    def job_id(self, app: Flask, cursor: str) -> int:
        """The job, which is due."""
        with app.app_context(), unit_of_work():
            return jobs.enqueue(KIND, {}, key=jobs.periodic_key(KIND)).id

    def test_deletes_what_the_command_deletes_and_comes_again(self, app: Flask, root: Caller, cursor: str) -> None:
        before = clock.now()

        assert Worker(TASKS, app.app_context).drain() == 1

        with app.app_context(), unit_of_work(reading=True):
            assert db.session.scalar(COUNT) == 0
            [job] = db.session.scalars(select(Job))
            assert (job.status, job.error) == (JobStatus.QUEUED, None)
            assert timedelta(0) < job.due_at - before <= EVERY
        assert code_of(root.get(f"/events?cursor={cursor}")) == "cursor_expired"

    def test_stops_after_the_batch_at_which_it_is_cancelled(self, app: Flask, root: Caller, job_id: int) -> None:
        numbers: list[int] = []

        def cancel(number: int) -> None:
            numbers.append(number)
            if len(numbers) == 1 and engine_of(app).dialect.name == "postgresql":
                with ThreadPoolExecutor(1) as threads:
                    assert threads.submit(root.post, f"/jobs/{job_id}/cancel").result().status_code == 200

        def stop() -> bool:
            # SQLite has one writer, so that its job is cancelled after the batch.
            if numbers and engine_of(app).dialect.name == "sqlite":
                root.post(f"/jobs/{job_id}/cancel")
            return False

        with after_each(engine_of(app), "DELETE FROM change_events", cancel):
            Worker(TASKS, app.app_context, stop=stop).drain()

        assert len(numbers) == 1
        with app.app_context(), unit_of_work(reading=True):
            assert db.session.scalar(COUNT) == EVENTS - ROWS_PER_BATCH
            assert db.session.scalars(select(Job.status).order_by(Job.id)).all() == ["cancelled", "queued"]


def test_leaves_the_log_that_caches_may_still_follow(
    app: Flask, runner: FlaskCliRunner, make_category: Callable[..., dict[str, Any]]
) -> None:
    ages = [timedelta(hours=2), timedelta(seconds=2 * MAX_AGE - 60), timedelta(days=1)]
    ids = [make_category()["id"] for _ in ages]
    with app.app_context(), unit_of_work():
        for row_id, age in zip(ids, ages, strict=True):
            db.session.execute(update(LogRow).where(LogRow.resource_id == row_id).values(created_at=clock.now() - age))

    assert runner.invoke(args=["prune"]).exit_code == 0

    with app.app_context():
        # The second is young enough, and from the last one the caches go on.
        assert db.session.scalars(select(LogRow.resource_id).order_by(LogRow.id)).all() == ids[1:]
