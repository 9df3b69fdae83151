"""The Celery entry point, for deployments with a broker: `celery --app worker worker --beat`."""

import sys
import time
from importlib import import_module
from typing import Any

from app.api.tasks import SOURCES, TASKS
from app.clients.broker import DRAIN_TASK, make_celery
from app.core.leases import Heartbeat
from app.core.scheduling import Scheduler
from app.core.worker import Worker
from app.core.workers import Presence, WorkerKind
from wsgi import app as catalog

#: Seconds after which a task passes its job on to a new task, which bounds the wait of a shutdown.
MAX_TASK_SECONDS = 60

if not catalog.config["CELERY_BROKER_URL"]:
    sys.exit("catalog-api: CELERY_BROKER_URL must be set for a Celery worker; `flask worker` does without")
app = make_celery(catalog.config["CELERY_BROKER_URL"])
scheduler = Scheduler(TASKS, SOURCES)
#: Of this worker: the processes of its pool have the same one, and each notes that it is there.
presence = Presence(WorkerKind.CELERY, version=catalog.config["VERSION"])


@app.task(name=DRAIN_TASK)  # type: ignore[untyped-decorator]  # Celery is published without types
def drain() -> None:
    """Run the jobs that are due."""
    with catalog.app_context():
        presence.note()
        scheduler.tick()
    deadline = time.monotonic() + MAX_TASK_SECONDS
    with Heartbeat(catalog.app_context) as heartbeat, presence.kept_up(catalog.app_context):
        Worker(TASKS, catalog.app_context, stop=lambda: time.monotonic() > deadline, heartbeat=heartbeat).drain()
    if time.monotonic() > deadline:
        drain.delay()


def _withdraw(**_: Any) -> None:
    with catalog.app_context():
        presence.withdraw()


# By its name, since Celery is published without types. The worker calls it, after its pool has ended.
import_module("celery.signals").worker_shutdown.connect(_withdraw, weak=False)
