"""Several workers, of which some are killed: in the end everything was done, and nothing twice."""

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text

from app.api import tasks
from app.clients.broker import DRAIN_TASK, make_celery
from app.core import jobs
from app.core.jobs import Job, JobStatus
from app.core.lanes import MAX_CONCURRENCY
from app.core.transactions import unit_of_work
from app.extensions import db
from tests.live import working
from tests.live.conftest import environment, process
from tests.live.wire import wait_for
from tests.servers import hung_postgres

pytestmark = pytest.mark.live

JOBS = 60
FLASK_WORKER = """
import sys
from tests.live import working
working.register(periodic={periodic})
from flask.cli import main
sys.argv = ["flask", "worker", "--lease", "1", "--concurrency", "4"]
main()
"""


@pytest.fixture(autouse=True)
def effects(app: Flask) -> Iterator[Callable[[], list[tuple[int, int, int]]]]:
    """What was done: the job, the step or slot, and the process."""

    def execute(statement: str) -> None:
        with app.app_context(), unit_of_work():
            db.session.execute(text(statement))

    def effects() -> list[tuple[int, int, int]]:
        with app.app_context(), unit_of_work(reading=True):
            return [(row.job_id, row.number, row.worker) for row in db.session.execute(text("SELECT * FROM effects"))]

    execute("DROP TABLE IF EXISTS effects")
    execute(working.MAKE_TABLE)
    yield effects
    execute("DROP TABLE effects")


@pytest.fixture
def order(app: Flask) -> list[int]:
    """The ids of jobs of several steps each."""
    with app.app_context(), unit_of_work():
        return [jobs.enqueue(working.COUNT, {}).id for _ in range(JOBS)]


def open_jobs(app: Flask) -> int:
    with app.app_context(), unit_of_work(reading=True):
        return db.session.scalar(db.select(db.func.count()).select_from(Job).where(jobs.IS_OPEN)) or 0


def statuses(app: Flask) -> set[JobStatus]:
    with app.app_context(), unit_of_work(reading=True):
        return set(db.session.scalars(db.select(Job.status)))


def kill_one(pids: list[int], effects: Callable[[], list[tuple[int, int, int]]], app: Flask) -> int:
    """Kill the first of these processes, with its children, once each has done something; what it had done by then."""
    wait_for(lambda: set(pids) <= {worker for *_, worker in effects()})
    assert open_jobs(app) > 0
    os.killpg(pids[0], signal.SIGKILL)
    return len(effects())


def every_step(ids: list[int]) -> Counter[tuple[int, int]]:
    return Counter((job_id, number) for job_id in ids for number in range(working.STEPS))


class TestFlaskWorkers:
    def test_of_which_one_is_killed_do_each_step_once(
        self, app: Flask, tmp_path: Path, order: list[int], effects: Callable[..., Any]
    ) -> None:
        env = environment(app.config["DATABASE_URL"])
        with ExitStack() as stack:
            script = FLASK_WORKER.format(periodic=False)
            workers = [
                stack.enter_context(process(["-c", script], env, tmp_path / f"{number}.log")) for number in range(3)
            ]
            done = kill_one([worker.pid for worker in workers], effects, app)
            wait_for(lambda: open_jobs(app) == 0)

        assert done < JOBS * working.STEPS
        assert Counter((job_id, number) for job_id, number, _ in effects()) == every_step(order)
        assert statuses(app) == {JobStatus.SUCCEEDED}

    @pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
    def test_whose_database_hangs_for_a_while_do_each_step_once(
        self, app: Flask, tmp_path: Path, order: list[int], effects: Callable[..., Any], postgres_url: str
    ) -> None:
        env, log = environment(app.config["DATABASE_URL"]), tmp_path / "worker.log"
        with process(["-c", FLASK_WORKER.format(periodic=False)], env, log):
            wait_for(effects)
            with hung_postgres(postgres_url):
                # Its threads give up one after the other, and it goes on looking.
                wait_for(lambda: log.read_text().count("polling_failed") > 4)
            wait_for(lambda: open_jobs(app) == 0)

        assert Counter((job_id, number) for job_id, number, _ in effects()) == every_step(order)
        assert statuses(app) == {JobStatus.SUCCEEDED}

    def test_do_periodic_work_once_for_each_slot(self, app: Flask, tmp_path: Path, effects: Callable[..., Any]) -> None:
        env = environment(app.config["DATABASE_URL"])
        with ExitStack() as stack:
            script = FLASK_WORKER.format(periodic=True)
            for number in range(4):
                stack.enter_context(process(["-c", script], env, tmp_path / f"{number}.log"))
            wait_for(lambda: len(effects()) >= 20)

        slots = Counter(number for _, number, _ in effects())
        assert set(slots.values()) == {1}
        # One row, whatever the number of workers and of slots.
        with app.app_context(), unit_of_work(reading=True):
            assert db.session.scalars(db.select(Job.key)).all() == [jobs.periodic_key(working.TICK)]


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_that_does_as_much_as_it_may_has_connections_for_it(app: Flask) -> None:
    options = app.config["SQLALCHEMY_ENGINE_OPTIONS"]
    threads = MAX_CONCURRENCY * sum(tasks.WIDTHS.get(lane, 1) for lane in tasks.LANES)

    assert options["pool_size"] + options["max_overflow"] >= threads


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
class TestCeleryWorkers:
    """On the database of production; the message is the same whatever the database."""

    def test_of_which_one_is_killed_do_each_step_once(
        self, app: Flask, tmp_path: Path, order: list[int], effects: Callable[..., Any], redis_url: str
    ) -> None:
        env = environment(app.config["DATABASE_URL"], CELERY_BROKER_URL=redis_url, LEASE_SECONDS="2")
        base = ["-m", "celery", "--app", "tests.live.celery_working", "worker", "--concurrency", "2"]
        with ExitStack() as stack:
            doomed = stack.enter_context(process([*base, "--hostname", "one@%h"], env, tmp_path / "one.log"))
            survivor = stack.enter_context(
                process([*base, "--hostname", "two@%h", "--beat"], env, tmp_path / "two.log")
            )
            broker = make_celery(redis_url)
            stack.callback(broker.close)
            # A message makes one process of the four look; the beat sends one a second besides.
            for _ in range(8):
                broker.send_task(DRAIN_TASK)
            done = kill_one([doomed.pid, survivor.pid], effects, app)
            wait_for(lambda: open_jobs(app) == 0)

        assert done < JOBS * working.STEPS
        assert Counter((job_id, number) for job_id, number, _ in effects()) == every_step(order)
        assert statuses(app) == {JobStatus.SUCCEEDED}
