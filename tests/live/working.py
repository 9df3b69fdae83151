"""Work for processes of their own: tasks whose effects are rows, so that a test can count what was done.

A process imports this before the commands of the application, and calls `register`.
"""

import os
import time
from collections.abc import Generator
from datetime import timedelta
from typing import Any, cast

from sqlalchemy import text

from app.core import clock, jobs

#: The length of a lease, here: the libraries of workers take over what stands in this module when they are imported.
jobs.LEASE_SECONDS = int(os.environ.get("LEASE_SECONDS", str(jobs.LEASE_SECONDS)))

from app.api import tasks  # noqa: E402
from app.core import lanes  # noqa: E402
from app.core.jobs import Claim, Task  # noqa: E402
from app.core.transactions import unit_of_work  # noqa: E402
from app.extensions import db  # noqa: E402

COUNT, TICK = "count", "tick"
STEPS = 3
#: Of a step, in seconds.
STEP = 0.03
SLOT = timedelta(seconds=0.5)
MAKE_TABLE = "CREATE TABLE effects (job_id BIGINT NOT NULL, number BIGINT NOT NULL, worker BIGINT NOT NULL)"


def note(job_id: int, number: int) -> None:
    """An effect, in the transaction at hand: the step of a job, or a slot of periodic work, and whose it was."""
    # A process of Celery's pool is known by the worker that it belongs to.
    worker = os.getppid() if "CELERY_BROKER_URL" in os.environ else os.getpid()
    values = {"job_id": job_id, "number": number, "worker": worker}
    db.session.execute(text("INSERT INTO effects VALUES (:job_id, :number, :worker)"), values)


def count(claim: Claim) -> Generator[None, None, None]:
    """Do the steps that are not done."""
    for number in range(claim.progress.get("done", 0), STEPS):
        with unit_of_work():
            note(claim.job_id, number)
            time.sleep(STEP)
            jobs.advance(claim, {"done": number + 1})
        yield


def tick(claim: Claim) -> Generator[None, None, None]:
    """Note in which slot it runs. A run that was stopped after its step begins again, and knows this slot."""
    slot = int(clock.now().timestamp() / SLOT.total_seconds())
    if claim.progress.get("slot") == slot:
        return
    with unit_of_work():
        note(0, slot)
        jobs.advance(claim, {"slot": slot})
    yield


def register(*, periodic: bool = False) -> None:
    """Give this process these tasks alone; periodic work too, where it is wanted, with polls that find each slot."""
    own = {COUNT: Task(count)} | ({TICK: Task(tick, every=SLOT)} if periodic else {})
    for table in (tasks.BATCHES, tasks.TASKS):
        changed = cast("dict[str, Any]", table)
        changed.clear()
        changed.update(own)
    for table in (tasks.LETTERS, tasks.WEBHOOKS):
        cast("dict[str, Any]", table).clear()
    if periodic:
        lanes.POLL_INTERVAL = 0.1
